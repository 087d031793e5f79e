/* tidemill decrypt: age files back to what they were. */
#include <unistd.h>

#include "base/agekey.h"
#include "base/crypto.h"
#include "client/cmd.h"
#include "client/outputs.h"
#include "client/walk.h"

enum { IDENTITIES_MAX = 64, IDENTITY_FILE_MAX = MIB };

struct options {
    struct common common;
    struct where where;
    struct opt_list identities;
    const char *out, *output, *files_from, *sync;
    bool recursive, force, null_ended;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "identity", 'i', OPT_LIST, OFF(identities), "FILE", NULL, 0, 0, NULL,
      "age identities that may open the files; repeatable" },
    { "recursive", 'r', OPT_FLAG, OFF(recursive), NULL, NULL, 0, 0, NULL,
      "walk directories" },
    { "out", 'o', OPT_STR, OFF(out), "DIR", NULL, 0, 0, NULL,
      "put the outputs here, not beside the inputs" },
    { "output", 0, OPT_STR, OFF(output), "FILE", NULL, 0, 0, NULL,
      "the output of the only input" },
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

struct keys {
    struct buf text; /* all identity files, one after another */
    char *recipients[IDENTITIES_MAX];
    size_t n;
};

static int add_recipient(void *arg, const uint8_t secret[AGEKEY_BYTES])
{
    struct keys *k = arg;
    uint8_t public_key[AGEKEY_BYTES];

    if (k->n == IDENTITIES_MAX)
        return -1;
    k->recipients[k->n] = xmalloc(AGEKEY_TEXT);
    agekey_public(secret, public_key);
    agekey_recipient_text(public_key, k->recipients[k->n++]);
    return 0;
}

static int keys_read(const struct options *o, struct keys *k, struct err *err)
{
    for (size_t i = 0; i < o->identities.n; i++) {
        size_t before = k->text.len;
        const char *path = o->identities.items[i];
        if (cli_read_file(path, IDENTITY_FILE_MAX, &k->text, err) < 0)
            return -1;
        struct span own = span_of(k->text.data + before, k->text.len - before);
        if (agekey_identities_each(own, add_recipient, k, err) < 0) {
            if (!err->text[0])
                err_set(err, EXIT_USAGE, "more than %d identities", IDENTITIES_MAX);
            return err_prefix(err, "%s", path);
        }
        buf_add_u8(&k->text, '\n');
    }
    if (k->n)
        return 0;
    err_set(err, EXIT_USAGE, "no identity");
    return err_hint(err, "-i FILE names a file with AGE-SECRET-KEY-1...");
}

static void keys_fini(struct keys *k)
{
    if (k->text.data)
        crypto_zero(k->text.data, k->text.cap);
    buf_fini(&k->text);
    for (size_t i = 0; i < k->n; i++)
        free(k->recipients[i]);
}

/* The job names recipients only; the identities go to the private worker by descriptor,
 * and nowhere when there is a coordinator (R18). */
static int decrypt(const struct options *o, const struct keys *k,
                   const struct cli_args *call)
{
    struct run run = { .where = &o->where, .present.by_node = where_each(&o->where) };
    uint32_t algos = o->common.json ? TM_BIT(TM_SHA256) : 0; /* nothing else shows them */
    struct tm_open_options open = { .identity = k->text.data,
                                    .identity_len = k->text.len };
    struct tm_job_spec spec = { .command = "decrypt",
                                .source = TM_SOURCE_PATH,
                                .transform = TM_TRANSFORM_DECRYPT,
                                .recipients = (const char *const *)k->recipients,
                                .n_recipients = k->n,
                                .sink = TM_SINK_FILE,
                                .out_algos = algos,
                                .force = o->force,
                                .no_sync = strcmp(o->sync, "none") == 0 };
    struct outputs outputs = {
        .run = &run, .dir = o->out, .file = o->output, .force = o->force
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

static int decrypt_or_stream(void *options, const struct cli_args *call)
{
    static const char *const none[] = { NULL };
    const struct options *o = options;
    struct keys k = { .n = 0 };
    struct err err = { 0 };
    int from_stdin = outputs_usage(call, o->files_from, o->output, o->recursive, &err);

    if (from_stdin >= 0 && where_check(&o->where, o->recursive, &err) == 0 &&
        keys_read(o, &k, &err) < 0 && !err.code)
        err.code = EXIT_ERROR;
    int code = err.code     ? cli_error(&err)
               : from_stdin ? stream_run("decrypt", none, buf_span(&k.text))
                            : decrypt(o, &k, call);
    keys_fini(&k);
    return code;
}

int cmd_decrypt(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("decrypt", table, argc, argv, &o, decrypt_or_stream);
}
