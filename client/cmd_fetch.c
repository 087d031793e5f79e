/* tidemill fetch: URLs to files, digests, or standard output. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/agekey.h"
#include "client/cmd.h"
#include "client/feed.h"
#include "client/manifest.h"
#include "client/names.h"
#include "client/outputs.h"
#include "client/walk.h"

struct options {
    struct common common;
    struct where where;
    struct opt_list lists, recipients;
    const char *out, *hash, *ca_file, *sync;
    int64_t timeout_ns, connect_timeout_ns, stall_ns, max_size, per_host;
    double rate;
    bool force;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "input", 'i', OPT_LIST, OFF(lists), "FILE", NULL, 0, 0, NULL,
      "also the URLs listed here, one a line; - is standard input" },
    { "out", 'o', OPT_STR, OFF(out), "DIR", NULL, 0, 0, NULL,
      "store bodies as DIR/HOST/PATH" },
    { "hash", 0, OPT_STR, OFF(hash), "LIST", NULL, 0, 0, NULL,
      "print digests: md5 sha1 sha256 sha512 blake2b" },
    { "recipient", 'r', OPT_LIST, OFF(recipients), "age1...", NULL, 0, 0, NULL,
      "with -o: encrypt what is stored; repeatable" },
    { "timeout", 0, OPT_DURATION, OFF(timeout_ns), "TIME", NULL, 0, 0, NULL,
      "for a whole transfer" },
    { "connect-timeout", 0, OPT_DURATION, OFF(connect_timeout_ns), "TIME", "10s", 1,
      INT64_MAX, NULL, "for a connection" },
    { "stall", 0, OPT_DURATION, OFF(stall_ns), "TIME", "30s", 1, INT64_MAX, NULL,
      "a transfer without a byte for so long fails" },
    { "max-size", 0, OPT_SIZE, OFF(max_size), "SIZE", "0", 0, 0, NULL,
      "larger bodies fail" },
    { "per-host", 0, OPT_INT, OFF(per_host), "N", "8", 1, 1024, NULL,
      "transfers at once from one server" },
    { "rate", 0, OPT_RATE, OFF(rate), "N/s", NULL, 0, 0, NULL,
      "new transfers a second from one server" },
    { "ca-file", 0, OPT_STR, OFF(ca_file), "FILE", NULL, 0, 0, NULL,
      "trust these certificates instead of the system's" },
    { "force", 0, OPT_FLAG, OFF(force), NULL, NULL, 0, 0, NULL,
      "replace files that exist" },
    { "sync", 0, OPT_CHOICE, OFF(sync), "HOW", "full", 0, 0, "full|none",
      "none: outputs are not brought to disk, a power loss may take them" },
    WHERE_ON(OFF(where)),
    { 0 },
};

struct fetching {
    const struct options *o;
    const struct cli_args *call;
    struct run run;
    const char *list; /* being read */
    const char *suffix;
    struct outputs outputs; /* their names only */
    char *out_abs, *temp;   /* temp: one body on its way to standard output */
    FILE *body;             /* the same */
};

static int add_url(struct fetching *f, const char *url)
{
    AUTO_FREE char *name = NULL, *out = NULL;
    struct tm_input in = { .url = url };

    if (names_of_url(span_str(url), f->suffix, &name) < 0) {
        AUTO_FREE char *why = xasprintf("not an http or https URL");
        run_refuse(&f->run, url, why);
        return f->run.stop ? -1 : 0;
    }
    if (f->out_abs)
        in.out = out = xasprintf("%s/%s", f->out_abs, name);
    else if (f->temp)
        in.out = f->temp;
    if (out && !outputs_claim(&f->outputs, out)) {
        AUTO_FREE char *why = xasprintf("another URL goes to %s/%s too", f->o->out, name);
        run_refuse(&f->run, url, why);
        return f->run.stop ? -1 : 0;
    }
    return run_add(&f->run, &in);
}

static int on_line(void *arg, const char *text, size_t len, size_t line)
{
    struct fetching *f = arg;
    struct span item = names_list_url(span_of(text, len));
    AUTO_FREE char *url = span_dup(item);
    AUTO_FREE char *name = NULL;

    if (item.len == 0)
        return 0;
    if (names_of_url(item, "", &name) < 0) {
        AUTO_FREE char *where = xasprintf("%s:%zu", f->list, line);
        AUTO_FREE char *why = xasprintf("not an http or https URL: '%s'", url);
        run_refuse(&f->run, where, why);
        return f->run.stop ? -1 : 0;
    }
    return add_url(f, url);
}

static int feed(void *arg)
{
    struct fetching *f = arg;
    struct err err = { 0 };

    for (size_t i = 0; i < f->call->n; i++)
        if (add_url(f, f->call->args[i]) != 0)
            return -1;
    for (size_t i = 0; i < f->o->lists.n; i++) {
        f->list = f->o->lists.items[i];
        if (feed_list(&f->run, f->list, false, on_line, f, &err) != 0) {
            if (err.code && !f->run.stop)
                f->run.stop = cli_error(&err);
            return -1;
        }
    }
    return 0;
}

static int refuse_binary(struct err *err)
{
    err_set(err, EXIT_USAGE, "refusing to write binary to a terminal");
    return err_hint(err, "redirect it, or -o DIR");
}

/* While the cluster is there: it takes the file away when it ends. */
static void open_body(void *arg)
{
    struct fetching *f = arg;
    f->body = f->temp ? fopen(f->temp, "re") : NULL;
}

static int temp_copy(FILE *in)
{
    bool tty = isatty(STDOUT_FILENO);
    char chunk[64 * KIB];
    struct err err = { 0 };
    size_t n;

    while (in && (n = fread(chunk, 1, sizeof(chunk), in)) > 0) {
        if (tty && !span_is_text(span_of(chunk, n))) {
            refuse_binary(&err);
            break;
        }
        if (fwrite(chunk, 1, n, stdout) != n)
            break;
    }
    if (err.code)
        fflush(stdout);
    else if (!in || ferror(in) || fflush(stdout) != 0 || ferror(stdout))
        err_sys(&err, EXIT_ERROR, "cannot write to standard output");
    return err.code ? cli_error(&err) : EXIT_OK;
}

static int check(const struct options *o, size_t n, struct err *err)
{
    uint8_t key[AGEKEY_BYTES];

    if (n == 0 && o->lists.n == 0) {
        err_set(err, EXIT_USAGE, "nothing to fetch");
        return err_hint(err, "tidemill fetch URL..., or -i FILE");
    }
    if (!o->out && !o->hash && (n != 1 || o->lists.n)) {
        err_set(err, EXIT_USAGE, "where shall the bodies go?");
        return err_hint(err, "-o DIR stores them, --hash sha256 digests and drops them");
    }
    if (!o->out && !o->hash && o->common.detach) {
        err_set(err, EXIT_USAGE, "-d leaves nobody to take the body");
        return err_hint(err, "-o DIR stores it");
    }
    if (!o->out && !o->hash && o->where.on.n)
        return err_set(err, EXIT_USAGE,
                       "a body for standard output is fetched here: "
                       "--on needs -o or --hash");
    if (o->recipients.n && !o->out)
        return err_set(err, EXIT_USAGE, "-r needs -o DIR");
    for (size_t i = 0; i < o->recipients.n; i++)
        if (agekey_recipient_parse(span_str(o->recipients.items[i]), key, err) < 0)
            return -1;
    return 0;
}

static int spec_of(const struct options *o, struct tm_job_spec *ret, struct err *err)
{
    uint32_t algos = 0;

    if (o->hash && manifest_algos_parse(o->hash, &algos, err) < 0)
        return -1;
    *ret = (struct tm_job_spec){
        .command = "fetch",
        .source = TM_SOURCE_URL,
        .sink = o->out || !o->hash ? TM_SINK_FILE : TM_SINK_NONE,
        .algos = algos,
        .force = o->force || !o->out,                       /* without: a file of ours, */
        .no_sync = strcmp(o->sync, "none") == 0 || !o->out, /* and for a moment only */
        .connect_timeout_ns = o->connect_timeout_ns,
        .stall_timeout_ns = o->stall_ns,
        .transfer_timeout_ns = o->timeout_ns,
        .max_bytes = (uint64_t)o->max_size,
        .per_host = (uint32_t)o->per_host,
        .rate = o->rate,
    };
    if (o->recipients.n) {
        ret->transform = TM_TRANSFORM_ENCRYPT;
        ret->recipients = o->recipients.items;
        ret->n_recipients = o->recipients.n;
        ret->out_algos = algos;
    }
    return 0;
}

/* Where the bodies go. */
static int place(struct fetching *f, struct tm_open_options *open, struct err *err)
{
    const struct options *o = f->o;

    if (o->out) {
        f->out_abs = walk_absolute(o->out);
        f->run.present.out_dir = xstrdup(o->out);
        f->run.present.out_abs = xstrdup(f->out_abs);
    } else if (!o->hash) {
        /* One body of any length, by way of a private file. */
        if (feed_scratch("body", &f->temp, err) < 0)
            return -1;
        open->scratch = f->temp;
        f->run.private_only = true;
        f->run.present.to_stdout = true;
        f->run.on_end = open_body;
        f->run.arg = f;
    }
    return 0;
}

static void fetching_fini(struct fetching *f)
{
    if (f->body)
        fclose(f->body);
    if (f->temp)
        unlink(f->temp);
    free(f->temp);
    free(f->out_abs);
    outputs_fini(&f->outputs);
}

static int fetch(void *options, const struct cli_args *call)
{
    const struct options *o = options;
    struct fetching f = { .o = o,
                          .call = call,
                          .suffix = o->recipients.n ? ".age" : "",
                          .run.where = &o->where,
                          .run.present.by_node = where_each(&o->where),
                          .outputs.force = o->force };
    struct tm_open_options open = { 0 };
    AUTO_FREE char *ca = o->ca_file ? walk_absolute(o->ca_file) : NULL;
    struct tm_job_spec spec;
    struct err err = { 0 };

    if (where_check(&o->where, false, &err) < 0 || check(o, call->n, &err) < 0 ||
        spec_of(o, &spec, &err) < 0 || place(&f, &open, &err) < 0)
        return cli_error(&err);
    spec.ca_file = ca;
    struct tm_error there = { 0 };
    f.run.present.algos = spec.algos;
    f.run.present.json = o->common.json || o->common.detach; /* then nothing is printed */
    if (present_check(&f.run.present, &there) < 0) {
        present_fini(&f.run.present);
        fetching_fini(&f);
        return cli_tm_error(&there);
    }
    run_key(&f.run, call, SPAN_NONE);
    int code = run_job(&f.run, &open, &spec, feed, &f);
    if (code == 0 && f.body && !o->common.json)
        code = temp_copy(f.body);
    fetching_fini(&f);
    return code;
}

int cmd_fetch(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("fetch", table, argc, argv, &o, fetch);
}
