/* tidemill hash -c: the files of a manifest are hashed by a job, compared here; the
 * output is that of sha256sum -c. */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "client/cmd.h"
#include "client/feed.h"
#include "client/manifest.h"
#include "client/run.h"
#include "client/walk.h"

enum { MANIFEST_LINE_MAX = 64 * KIB };

/* One line that is to be checked: its number is its task's. */
struct expected {
    uint8_t algo, digest[64];
};

struct check {
    const struct check_options *o;
    struct run run;
    struct expected *list;
    size_t n, cap;
    uint64_t bad_lines, mismatched, unreadable, missing, ok;
    bool quiet;
};

static void say(struct check *c, struct span name, const char *what)
{
    AUTO_BUF line = BUF_INIT;

    if (c->o->status || (c->quiet && strcmp(what, "OK") == 0))
        return;
    manifest_verdict(&line, name, what);
    fwrite(line.data, 1, line.len, stdout);
}

static void compare(void *arg, const struct tm_result *r)
{
    struct check *c = arg;
    struct span name = span_of(r->shown.data, r->shown.len);

    if (r->status != TM_OK) {
        bool gone = memmem(r->error.data, r->error.len, "No such file", 12) != NULL;
        if (gone && c->o->ignore_missing) {
            c->missing++;
            return;
        }
        AUTO_FREE char *why = span_dup(span_of(r->error.data, r->error.len));
        cli_input_error(name.data, name.len, why);
        c->unreadable++;
        say(c, name, "FAILED open or read");
        return;
    }
    const struct expected *e = &c->list[r->task];
    for (uint32_t i = 0; i < r->n_digests; i++) {
        if ((uint8_t)r->digests[i].algo != e->algo)
            continue;
        bool same =
            memcmp(r->digests[i].bytes.data, e->digest, r->digests[i].bytes.len) == 0;
        c->ok += same;
        c->mismatched += !same;
        say(c, name, same ? "OK" : "FAILED");
    }
}

/* Which algorithms are needed, and what is expected of every task, must be known before
 * the job begins, whose first results may be those of an earlier run: the lines are gone
 * through twice. */
struct lines {
    struct check *c;
    uint32_t algos;
    bool adding;
};

static void expect(struct check *c, const struct manifest_entry *e)
{
    if (c->n == c->cap) {
        c->cap = MAX(256, c->cap * 2);
        c->list = xrealloc(c->list, c->cap * sizeof(*c->list));
    }
    c->list[c->n].algo = (uint8_t)e->algo;
    memcpy(c->list[c->n].digest, e->digest, sizeof(e->digest));
    c->n++;
}

/* Each line but those that no system call takes is a task, in their order. */
static int on_entry(struct lines *l, struct manifest_entry *e)
{
    struct check *c = l->c;
    const char *name = buf_str(&e->name);
    AUTO_FREE char *abs = walk_absolute(name);
    struct tm_input in = { .path = abs, .shown = name };
    bool possible = strlen(abs) < PATH_MAX;

    l->algos |= BIT(e->algo);
    if (!l->adding && possible)
        expect(c, e);
    else if (l->adding && !possible)
        run_refuse(&c->run, name, strerror(ENAMETOOLONG));
    return l->adding && possible ? run_add(&c->run, &in) : 0;
}

static int on_line(void *arg, const char *text, size_t len, size_t number)
{
    struct lines *l = arg;
    struct check *c = l->c;
    struct manifest_entry e = { .name = BUF_INIT };
    int rc = 0;

    (void)number;
    if (len && text[len - 1] == '\r')
        len--;
    if (len == 0 || text[0] == '#')
        return 0;
    if (len > MANIFEST_LINE_MAX ||
        manifest_parse(span_of(text, len), c->o->algo, &e) < 0) {
        c->bad_lines += !l->adding;
        buf_fini(&e.name);
        return 0;
    }
    rc = on_entry(l, &e);
    buf_fini(&e.name);
    return rc;
}

static int each_line(struct lines *l, const struct buf *text)
{
    size_t at = 0, line = 0;

    while (at < text->len) {
        const uint8_t *nl = memchr(text->data + at, '\n', text->len - at);
        size_t end = nl ? (size_t)(nl - text->data) : text->len;
        int rc = on_line(l, (const char *)text->data + at, end - at, ++line);
        if (rc != 0)
            return rc;
        at = end + 1;
    }
    return 0;
}

static void warn(uint64_t n, const char *one, const char *many)
{
    if (n)
        fprintf(stderr, "tidemill: WARNING: %llu %s\n", (unsigned long long)n,
                n == 1 ? one : many);
}

static int verdict(struct check *c, int code)
{
    if (!c->o->status) {
        warn(c->bad_lines, "line is improperly formatted",
             "lines are improperly formatted");
        warn(c->unreadable, "listed file could not be read",
             "listed files could not be read");
        warn(c->mismatched, "computed checksum did NOT match",
             "computed checksums did NOT match");
    }
    if (code != EXIT_OK && code != EXIT_SOME_FAILED)
        return code;
    if (c->mismatched)
        return EXIT_MISMATCH;
    if (c->unreadable)
        return EXIT_SOME_FAILED;
    if (c->ok == 0) {
        struct err err = { 0 };
        err_set(&err, EXIT_ERROR, "%s: no file was verified", c->o->manifest);
        return cli_error(&err);
    }
    return EXIT_OK;
}

int check_run(const struct check_options *o)
{
    struct check c = { .o = o, .quiet = cli_common_now()->quiet };
    struct lines lines = { .c = &c };
    struct tm_open_options open = { 0 };
    struct tm_job_spec spec = { .command = "hash", .source = TM_SOURCE_PATH };
    AUTO_BUF text = BUF_INIT;
    AUTO_BUF key = BUF_INIT;
    AUTO_FREE char *cwd = walk_absolute(".");
    struct err err = { 0 };
    int code;

    if (cli_read_file(o->manifest, (size_t)1 << 32, &text, &err) < 0)
        return cli_error(&err);
    each_line(&lines, &text);
    buf_printf(&key, "%s%c%d%c", cwd, 0, o->algo, 0);
    buf_add(&key, text.data, text.len);
    spec.algos = lines.algos;
    if (!spec.algos) {
        err_set(&err, EXIT_ERROR, "%s: no properly formatted checksum lines found",
                o->manifest);
        return cli_error(&err);
    }
    c.run.on_result = compare;
    c.run.arg = &c;
    c.run.counted = true;
    c.run.follow_flags = TM_TASK_ORDER;
    code = run_begin(&c.run, &open, &spec, &key);
    if (code == 0) {
        lines.adding = true;
        each_line(&lines, &text);
        code = verdict(&c, run_end(&c.run));
    }
    free(c.list);
    return code;
}
