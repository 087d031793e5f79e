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
    struct where where;
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
    WHERE_ON(OFF(where)),
    WHERE_REMOTE(OFF(where)),
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

static int hash(const struct options *o, const struct cli_args *call)
{
    uint32_t algos = TM_BIT(TM_SHA256);
    struct err err = { 0 };
    AUTO_FREE char *scratch = NULL;
    int from_stdin = feed_is_stdin(call->args, call->n, o->files_from, &err);

    if (from_stdin < 0)
        return cli_error(&err);
    if ((o->algos && manifest_algos_parse(o->algos, &algos, &err) < 0) ||
        where_check(&o->where, o->recursive, &err) < 0)
        return cli_error(&err);
    struct run run = { .follow_flags = o->order ? TM_TASK_ORDER : 0,
                       .where = &o->where,
                       .private_only = from_stdin };
    struct tm_open_options open = { 0 };
    struct tm_job_spec spec = { .command = "hash",
                                .source = TM_SOURCE_PATH,
                                .algos = algos };
    run.present.tag = o->tag || (__builtin_popcount(algos) > 1 && !o->out);
    run.present.manifest_dir = o->out ? xstrdup(o->out) : NULL;
    run.present.force = o->force;
    run.present.algos = algos;
    run.present.json = o->common.json || o->common.detach; /* then nothing is printed */
    run.present.by_node = where_each(&o->where);
    struct tm_error there = { 0 };
    if (present_check(&run.present, &there) < 0) {
        present_fini(&run.present);
        return cli_tm_error(&there);
    }
    if (from_stdin && feed_scratch("stdin", &scratch, &err) < 0)
        return cli_error(&err);
    open.scratch = scratch;
    run_key(&run, call, SPAN_NONE);
    struct feed feed = { .run = &run,
                         .paths = call->args,
                         .n = call->n,
                         .scratch = scratch,
                         .recursive = o->recursive,
                         .remote = o->where.remote,
                         .files_from = o->files_from,
                         .null_ended = o->null_ended,
                         .input = add,
                         .arg = &run };
    int code = run_job(&run, &open, &spec, feed_all, &feed);
    if (scratch)
        unlink(scratch);
    return code;
}

static int check(const struct options *o, const struct cli_args *call)
{
    struct check_options check = { o->check, o->status, o->ignore_missing, -1,
                                   &o->where };
    struct err err = { 0 };
    uint32_t mask = 0;

    if (where_each(&o->where))
        return usage("-c cannot say which node a line is about",
                     "one node at a time: -c DIR/NODE/SHA256SUMS --on NODE");
    if (where_check(&o->where, false, &err) < 0)
        return cli_error(&err);

    if (call->n)
        return usage("-c takes its names from the manifest",
                     "leave the other arguments away");
    if (o->algos && manifest_algos_parse(o->algos, &mask, &err) < 0)
        return cli_error(&err);
    if (mask)
        check.algo = __builtin_ctz(mask);
    return check_run(&check);
}

static int hash_or_check(void *options, const struct cli_args *call)
{
    const struct options *o = options;

    if (o->check)
        return check(o, call);
    if (call->n == 0 && !o->files_from)
        return usage("nothing to hash", "tidemill hash PATH..., or - for standard input");
    return hash(o, call);
}

int cmd_hash(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("hash", table, argc, argv, &o, hash_or_check);
}
