/* tidemill hash -c: the files of a manifest are hashed by a job, compared here; the
 * output is that of sha256sum -c. */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "base/crypto.h"
#include "client/cmd.h"
#include "client/feed.h"
#include "client/manifest.h"
#include "client/run.h"
#include "client/walk.h"

enum { MANIFEST_LINE_MAX = 64 * KIB };

/* The entries of a manifest one after another; each line but those that no system call
 * takes is a task, in their order. */
struct lines {
    FILE *file;
    int algo; /* of GNU lines; -1 = by their length */
    struct buf line;
    struct manifest_entry entry; /* the last one, */
    bool possible;               /* and whether it can be a task */
    size_t cwd_len;              /* with the slash behind it */
    uint64_t bad;
};

/* The manifest is gone through three times: which algorithms are needed must be known
 * before the job begins; then its lines are added; and results are compared with what
 * is expected of them, in the same order, so that nothing of it is kept in memory. */
struct check {
    const struct check_options *o;
    struct run run;
    struct lines added, expected;
    uint64_t n_expected; /* tasks up to the entry that `expected` is at */
    uint8_t digest[32];  /* of the manifest's bytes */
    uint64_t mismatched, unreadable, missing, ok;
    bool quiet;
};

/* ---- the manifest ---- */

/* One line without its end; of one that is too long there is one byte too many. */
static bool read_line(FILE *file, struct buf *line)
{
    uint8_t *to;
    int c;

    buf_clear(line);
    to = buf_reserve(line, MANIFEST_LINE_MAX + 1);
    while ((c = getc_unlocked(file)) != EOF && c != '\n')
        if (line->len <= MANIFEST_LINE_MAX)
            to[line->len++] = (uint8_t)c;
    if (line->len && line->data[line->len - 1] == '\r')
        line->len--;
    return c != EOF || line->len;
}

static bool next_entry(struct lines *l)
{
    buf_fini(&l->entry.name);
    while (read_line(l->file, &l->line)) {
        if (l->line.len == 0 || l->line.data[0] == '#')
            continue;
        l->entry = (struct manifest_entry){ .name = BUF_INIT };
        if (l->line.len <= MANIFEST_LINE_MAX &&
            manifest_parse(buf_span(&l->line), l->algo, &l->entry) == 0) {
            const char *name = buf_str(&l->entry.name);
            l->possible = (name[0] == '/' ? 0 : l->cwd_len) + strlen(name) < PATH_MAX;
            return true;
        }
        buf_fini(&l->entry.name);
        l->bad++;
    }
    return false;
}

static void lines_fini(struct lines *l)
{
    if (l->file)
        fclose(l->file);
    buf_fini(&l->line);
    buf_fini(&l->entry.name);
}

/* Copies all of it; its digest is what makes "the same command again". */
static int copy_manifest(struct check *c, FILE *to, struct err *err)
{
    bool from_stdin = strcmp(c->o->manifest, "-") == 0;
    FILE *from = from_stdin ? stdin : fopen(c->o->manifest, "re");
    struct crypto_hash_state *hash;
    char piece[64 * KIB];
    size_t n;

    if (!from)
        return err_sys(err, 1, "%s", c->o->manifest);
    hash = crypto_hash_new(CRYPTO_SHA256);
    while ((n = fread(piece, 1, sizeof(piece), from)) > 0 && fwrite(piece, 1, n, to) == n)
        crypto_hash_update(hash, piece, n);
    crypto_hash_final(hash, c->digest);
    if (ferror(from))
        err_sys(err, 1, "%s", c->o->manifest);
    else if (fflush(to) != 0 || ferror(to))
        err_sys(err, 1, "a temporary file");
    if (!from_stdin)
        fclose(from);
    return err->code ? -1 : 0;
}

/* A copy of ours, so that it is the same three times, whatever it comes from. */
static int open_manifest(struct check *c, struct err *err)
{
    AUTO_FREE char *path = NULL;
    FILE *copy;

    if (feed_scratch("manifest", &path, err) < 0)
        return -1;
    copy = fopen(path, "we");
    c->added.file = fopen(path, "re");
    c->expected.file = fopen(path, "re");
    if (!copy || !c->added.file || !c->expected.file)
        err_sys(err, 1, "%s", path);
    else
        copy_manifest(c, copy, err);
    if (copy)
        fclose(copy);
    unlink(path);
    return err->code ? -1 : 0;
}

/* ---- results ---- */

static void say(struct check *c, struct span name, const char *what)
{
    AUTO_BUF line = BUF_INIT;

    if (c->o->status || (c->quiet && strcmp(what, "OK") == 0))
        return;
    manifest_verdict(&line, name, what);
    fwrite(line.data, 1, line.len, stdout);
}

/* What is expected of a task; results come in the order of tasks. */
static const struct manifest_entry *entry_of(struct check *c, uint64_t task)
{
    while (c->n_expected <= task)
        if (!next_entry(&c->expected)) {
            struct err err = { 0 };
            err_set(&err, EXIT_ERROR, "%s: its copy cannot be read", c->o->manifest);
            c->run.stop = cli_error(&err);
            return NULL;
        } else {
            c->n_expected += c->expected.possible;
        }
    return &c->expected.entry;
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
    const struct manifest_entry *e = entry_of(c, r->task);
    for (uint32_t i = 0; e && i < r->n_digests; i++) {
        if (r->digests[i].algo != (enum tm_algo)e->algo)
            continue;
        bool same =
            memcmp(r->digests[i].bytes.data, e->digest, r->digests[i].bytes.len) == 0;
        c->ok += same;
        c->mismatched += !same;
        say(c, name, same ? "OK" : "FAILED");
    }
}

static int add_entries(void *arg)
{
    struct check *c = arg;
    struct lines *l = &c->added;

    rewind(l->file);
    while (next_entry(l)) {
        AUTO_FREE char *abs = walk_absolute(buf_str(&l->entry.name));
        struct tm_input in = { .path = abs, .shown = buf_str(&l->entry.name) };
        if (!l->possible)
            run_refuse(&c->run, in.shown, strerror(ENAMETOOLONG));
        else if (run_add(&c->run, &in) != 0)
            return -1;
    }
    return 0;
}

/* ---- the end ---- */

static void warn(uint64_t n, const char *one, const char *many)
{
    if (n)
        fprintf(stderr, "tidemill: WARNING: %llu %s\n", (unsigned long long)n,
                n == 1 ? one : many);
}

static int verdict(struct check *c, uint64_t bad_lines, int code)
{
    if (!c->o->status) {
        warn(bad_lines, "line is improperly formatted", "lines are improperly formatted");
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

static int check(struct check *c, struct err *err)
{
    struct tm_open_options open = { 0 };
    struct tm_job_spec spec = { .command = "hash", .source = TM_SOURCE_PATH };
    AUTO_BUF more = BUF_INIT;

    if (open_manifest(c, err) < 0)
        return -1;
    while (next_entry(&c->added))
        spec.algos |= BIT(c->added.entry.algo);
    uint64_t bad_lines = c->added.bad;
    if (!spec.algos)
        return err_set(err, EXIT_ERROR, "%s: no properly formatted checksum lines found",
                       c->o->manifest);
    buf_printf(&more, "hash -c %d ", c->o->algo);
    buf_add(&more, c->digest, sizeof(c->digest));
    c->run = (struct run){
        .on_result = compare,
        .arg = c,
        .counted = true,
        .follow_flags = TM_TASK_ORDER,
        .where = c->o->where,
    };
    run_key(&c->run, NULL, buf_span(&more));
    int code = run_job(&c->run, &open, &spec, add_entries, c);
    return cli_common_now()->dry_run ? code : verdict(c, bad_lines, code);
}

int check_run(const struct check_options *o)
{
    AUTO_FREE char *cwd = walk_absolute(".");
    struct lines lines = { .algo = o->algo, .cwd_len = strlen(cwd) - 1 };
    struct check c = {
        .o = o, .added = lines, .expected = lines, .quiet = cli_common_now()->quiet
    };
    struct err err = { 0 };

    crypto_init();
    int code = check(&c, &err);
    lines_fini(&c.added);
    lines_fini(&c.expected);
    return err.code ? cli_error(&err) : code;
}
