/* tidemill hash: digests of files as GNU manifests. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cmd.h"
#include "client/feed.h"
#include "client/manifest.h"
#include "client/walk.h"

struct options {
    struct common common;
    const char *algos, *check, *out, *files_from;
    bool recursive, order, tag, null_ended, status, ignore_missing, force;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "algorithm", 'a', OPT_STR, OFF(algos), "LIST", NULL, 0, 0, NULL,
      "md5 sha1 sha256 sha512 blake2b (b2); several with commas; sha256 by default" },
    { "recursive", 'r', OPT_FLAG, OFF(recursive), NULL, NULL, 0, 0, NULL,
      "walk directories" },
    { "keep-order", 'k', OPT_FLAG, OFF(order), NULL, NULL, 0, 0, NULL,
      "print in the order of the inputs" },
    { "tag", 0, OPT_FLAG, OFF(tag), NULL, NULL, 0, 0, NULL,
      "lines with the algorithm's name" },
    { "out", 'o', OPT_STR, OFF(out), "DIR", NULL, 0, 0, NULL,
      "write DIR/SHA256SUMS, DIR/B2SUMS ..." },
    { "force", 0, OPT_FLAG, OFF(force), NULL, NULL, 0, 0, NULL,
      "with -o: replace manifests that exist" },
    { "check", 'c', OPT_STR, OFF(check), "MANIFEST", NULL, 0, 0, NULL,
      "check files as sha256sum -c does" },
    { "status", 0, OPT_FLAG, OFF(status), NULL, NULL, 0, 0, NULL,
      "with -c: print nothing, only exit" },
    { "ignore-missing", 0, OPT_FLAG, OFF(ignore_missing), NULL, NULL, 0, 0, NULL,
      "with -c: files that are not there are no failure" },
    { "files-from", 0, OPT_STR, OFF(files_from), "FILE", NULL, 0, 0, NULL,
      "also hash the files listed here; - is standard input" },
    { "null", '0', OPT_FLAG, OFF(null_ended), NULL, NULL, 0, 0, NULL,
      "names in --files-from end with NUL" },
    { 0 },
};

static int add(void *arg, const char *shown, const char *abs, const char *root,
               const char *below, uint64_t size)
{
    struct tm_input in = { .path = abs, .shown = shown, .size = size };

    (void)root, (void)below;
    return run_add(arg, &in);
}

static int usage(const char *text, const char *hint)
{
    struct err err = { 0 };

    err_set(&err, EXIT_USAGE, "%s", text);
    if (hint)
        err_hint(&err, "%s", hint);
    return cli_error(&err);
}

static int hash(const struct options *o, const char *const *args, size_t n, int argc,
                char **argv)
{
    uint32_t algos = TM_BIT(TM_SHA256);
    struct err err = { 0 };
    AUTO_BUF key = BUF_INIT;
    AUTO_FREE char *scratch = NULL;
    int from_stdin = feed_is_stdin(args, n, o->files_from, &err);

    if (from_stdin < 0)
        return cli_error(&err);
    if (o->algos && manifest_algos_parse(o->algos, &algos, &err) < 0)
        return cli_error(&err);
    AUTO_FREE char *cwd = walk_absolute(".");
    buf_printf(&key, "%s", cwd);
    for (int i = 0; i < argc; i++)
        buf_add(&key, argv[i], strlen(argv[i]) + 1);
    struct run run = { .follow_flags = o->order ? TM_TASK_ORDER : 0,
                       .private_only = from_stdin };
    struct tm_open_options open = { 0 };
    struct tm_job_spec spec = { .command = "hash",
                                .source = TM_SOURCE_PATH,
                                .algos = algos };
    run.present.tag = o->tag || (__builtin_popcount(algos) > 1 && !o->out);
    run.present.manifest_dir = o->out ? xstrdup(o->out) : NULL;
    run.present.force = o->force;
    run.present.algos = algos;
    struct tm_error there = { 0 };
    if (present_check(&run.present, &there) < 0) {
        present_fini(&run.present);
        return cli_tm_error(&there);
    }
    if (from_stdin && feed_scratch("stdin", &scratch, &err) < 0)
        return cli_error(&err);
    open.scratch = scratch;
    int code = run_begin(&run, &open, &spec, &key);
    struct feed feed = { .run = &run,
                         .recursive = o->recursive,
                         .files_from = o->files_from,
                         .null_ended = o->null_ended,
                         .input = add,
                         .arg = &run };
    if (code == 0) {
        if (from_stdin)
            feed_stdin(&feed, scratch);
        else
            feed_paths(&feed, args, n);
        code = run_end(&run);
    }
    if (scratch)
        unlink(scratch);
    return code;
}

int cmd_hash(int argc, char **argv)
{
    const struct command *cmd = cli_command("hash");
    struct options o = { 0 };
    const char **args = NULL;
    size_t n = 0;
    int code = 0;

    if (cli_parse(cmd, table, argc, argv, &o, &args, &n, &code) == 0) {
        struct check_options check = { o.check, o.status, o.ignore_missing, -1 };
        uint32_t mask = 0;
        struct err err = { 0 };
        if (o.check && n)
            code = usage("-c takes its names from the manifest",
                         "leave the other arguments away");
        else if (o.check && o.algos && manifest_algos_parse(o.algos, &mask, &err) < 0)
            code = cli_error(&err);
        else if (o.check) {
            check.algo = mask ? __builtin_ctz(mask) : -1;
            code = check_run(&check);
        } else if (n == 0 && !o.files_from)
            code = usage("nothing to hash",
                         "tidemill hash PATH..., or - for standard input");
        else
            code = hash(&o, args, n, argc, argv);
    }
    free(args);
    opt_fini((const struct opt *const[]){ cli_common, table, NULL }, &o);
    return code;
}
