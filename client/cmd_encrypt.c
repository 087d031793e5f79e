/* tidemill encrypt: files to age recipients. */
#include <unistd.h>

#include "base/agekey.h"
#include "client/cmd.h"
#include "client/outputs.h"
#include "client/walk.h"

enum { RECIPIENTS_MAX = 64, RECIPIENTS_FILE_MAX = MIB };

struct options {
    struct common common;
    struct where where;
    struct opt_list recipients, recipient_files;
    const char *out, *output, *files_from, *sync;
    bool recursive, armor, force, null_ended;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "recipient", 'r', OPT_LIST, OFF(recipients), "age1...", NULL, 0, 0, NULL,
      "who may open the files; repeatable" },
    { "recipients-file", 'R', OPT_LIST, OFF(recipient_files), "FILE", NULL, 0, 0, NULL,
      "recipients, one a line; repeatable" },
    { "recursive", 0, OPT_FLAG, OFF(recursive), NULL, NULL, 0, 0, NULL,
      "walk directories" },
    { "out", 'o', OPT_STR, OFF(out), "DIR", NULL, 0, 0, NULL,
      "put the outputs here, not beside the inputs" },
    { "output", 0, OPT_STR, OFF(output), "FILE", NULL, 0, 0, NULL,
      "the output of the only input" },
    { "armor", 0, OPT_FLAG, OFF(armor), NULL, NULL, 0, 0, NULL, "write text (PEM)" },
    { "force", 0, OPT_FLAG, OFF(force), NULL, NULL, 0, 0, NULL,
      "replace outputs that exist" },
    { "sync", 0, OPT_CHOICE, OFF(sync), "HOW", "full", 0, 0, "full|none",
      "none: outputs are not brought to disk, a power loss may take them" },
    { "files-from", 0, OPT_STR, OFF(files_from), "FILE", NULL, 0, 0, NULL,
      "also the files listed here; - is standard input" },
    { "null", '0', OPT_FLAG, OFF(null_ended), NULL, NULL, 0, 0, NULL,
      "names in --files-from end with NUL" },
    WHERE_ON(OFF(where)),
    WHERE_REMOTE(OFF(where)),
    { 0 },
};

struct recipients {
    char *list[RECIPIENTS_MAX];
    size_t n;
};

static int recipient_add(struct recipients *r, const char *text, struct err *err)
{
    uint8_t key[AGEKEY_BYTES];

    if (agekey_recipient_parse(span_str(text), key, err) < 0)
        return -1;
    if (r->n == RECIPIENTS_MAX)
        return err_set(err, EXIT_USAGE, "more than %d recipients", RECIPIENTS_MAX);
    r->list[r->n++] = xstrdup(text);
    return 0;
}

static int recipient_file(struct recipients *r, const char *path, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    unsigned line = 0;

    if (cli_read_file(path, RECIPIENTS_FILE_MAX, &text, err) < 0)
        return -1;
    buf_str(&text);
    for (char *at = (char *)text.data, *s; (s = strsep(&at, "\n"));) {
        line++;
        s[strcspn(s, "\r")] = 0;
        if (!*s || *s == '#')
            continue;
        if (recipient_add(r, s, err) < 0)
            return err_prefix(err, "%s:%u", path, line);
    }
    return 0;
}

static int recipients_of(const struct options *o, struct recipients *r, struct err *err)
{
    for (size_t i = 0; i < o->recipients.n; i++)
        if (recipient_add(r, o->recipients.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < o->recipient_files.n; i++)
        if (recipient_file(r, o->recipient_files.items[i], err) < 0)
            return -1;
    if (r->n)
        return 0;
    err_set(err, EXIT_USAGE, "no recipient");
    return err_hint(err,
                    "-r age1..., or -R FILE; tidemill key identity FILE makes a key");
}

static int stream(const struct options *o, const struct recipients *r)
{
    const char *args[2 * RECIPIENTS_MAX + 2];
    size_t n = 0;

    if (!o->armor && isatty(STDOUT_FILENO)) {
        struct err err = { 0 };
        err_set(&err, EXIT_USAGE, "refusing to write binary to a terminal");
        err_hint(&err, "redirect it, or --armor");
        return cli_error(&err);
    }
    for (size_t i = 0; i < r->n; i++) {
        args[n++] = "--recipient";
        args[n++] = r->list[i];
    }
    if (o->armor)
        args[n++] = "--armor";
    args[n] = NULL;
    return stream_run("encrypt", args, SPAN_NONE);
}

static int encrypt(const struct options *o, const struct recipients *r,
                   const struct cli_args *call)
{
    struct run run = { .where = &o->where, .present.by_node = where_each(&o->where) };
    struct tm_open_options open = { 0 };
    uint32_t algos = o->common.json ? TM_BIT(TM_SHA256) : 0; /* nothing else shows them */
    struct tm_job_spec spec = { .command = "encrypt",
                                .source = TM_SOURCE_PATH,
                                .transform = TM_TRANSFORM_ENCRYPT,
                                .recipients = (const char *const *)r->list,
                                .n_recipients = r->n,
                                .sink = TM_SINK_FILE,
                                .algos = algos,
                                .out_algos = algos,
                                .armor = o->armor,
                                .force = o->force,
                                .no_sync = strcmp(o->sync, "none") == 0 };
    struct outputs outputs = {
        .run = &run,
        .dir = o->out,
        .file = o->output,
        .add_age = true,
        .force = o->force,
    };
    struct feed feed = { .run = &run,
                         .paths = call->args,
                         .n = call->n,
                         .recursive = o->recursive,
                         .sizes = true,
                         .remote = o->where.remote,
                         .files_from = o->files_from,
                         .null_ended = o->null_ended,
                         .input = outputs_add,
                         .arg = &outputs };
    run_key(&run, call, SPAN_NONE);
    int code = run_job(&run, &open, &spec, feed_all, &feed);
    outputs_fini(&outputs);
    return code;
}

static int encrypt_or_stream(void *options, const struct cli_args *call)
{
    const struct options *o = options;
    struct recipients r = { .n = 0 };
    struct err err = { 0 };
    int from_stdin = outputs_usage(call, o->files_from, o->output, o->recursive, &err);

    if (from_stdin >= 0 && where_check(&o->where, o->recursive, &err) == 0)
        recipients_of(o, &r, &err);
    int code = err.code     ? cli_error(&err)
               : from_stdin ? stream(o, &r)
                            : encrypt(o, &r, call);
    for (size_t i = 0; i < r.n; i++)
        free(r.list[i]);
    return code;
}

int cmd_encrypt(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("encrypt", table, argc, argv, &o, encrypt_or_stream);
}
