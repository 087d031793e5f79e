#include "client/feed.h"

#include <errno.h>
#include <unistd.h>

#include "client/walk.h"

struct walking {
    struct feed *feed;
    const char *root;
};

static int on_entry(void *arg, const struct walk_entry *e)
{
    struct walking *w = arg;
    AUTO_FREE char *abs = NULL;

    if (e->error) {
        run_refuse(w->feed->run, e->shown, e->error);
        return w->feed->run->stop ? -1 : 0;
    }
    abs = walk_absolute(e->shown);
    return w->feed->input(w->feed->arg, e->shown, abs, w->root, e->below, e->size);
}

/* Standard input becomes a file, since a worker reads files. */
static int feed_stdin(struct feed *f)
{
    const char *tmp = getenv("TMPDIR");
    char chunk[64 * KIB];
    ssize_t n;
    int fd, rc = 0;

    f->spooled =
        xasprintf("%s/tidemill-stdin.XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    fd = mkostemp(f->spooled, 0);
    while (fd >= 0 && (n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0)
        if (n < 0 || write(fd, chunk, (size_t)n) != n) {
            rc = -1;
            break;
        }
    if (fd < 0 || rc < 0)
        run_refuse(f->run, "-", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (fd < 0 || rc < 0)
        return 0;
    return f->input(f->arg, "-", f->spooled, "-", "", 0);
}

static int feed_one(struct feed *f, const char *path)
{
    struct walking w = { f, path };
    struct walk_counts counts = { 0 };
    int rc;

    if (strcmp(path, "-") == 0 && !f->spooled)
        return feed_stdin(f);
    rc = walk(path, f->recursive, on_entry, &w, &counts);
    if (counts.skipped && cli_common_now()->verbose)
        cli_note("%s: %llu entries skipped: neither files nor directories", path,
                 (unsigned long long)counts.skipped);
    return rc;
}

static int on_item(void *arg, const char *item, size_t len, size_t line)
{
    struct feed *f = arg;

    if (strlen(item) != len) {
        AUTO_FREE char *where = xasprintf("%s:%zu", f->files_from, line);
        run_refuse(f->run, where,
                   "a NUL inside of a name: names that end in NUL need -0");
        return f->run->stop ? -1 : 0;
    }
    return item[0] ? feed_one(arg, item) : 0;
}

int feed_list(const char *path, bool null_ended,
              int (*fn)(void *arg, const char *item, size_t len, size_t line), void *arg,
              struct err *err)
{
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *item = NULL;
    size_t cap = 0, line = 0;
    ssize_t len;
    int rc = 0;

    if (!in)
        return err_sys(err, 1, "%s", path);
    while (rc == 0 && (len = getdelim(&item, &cap, null_ended ? 0 : '\n', in)) >= 0) {
        if (len && item[len - 1] == (null_ended ? 0 : '\n'))
            item[--len] = 0;
        rc = fn(arg, item, (size_t)len, ++line);
    }
    if (rc == 0 && ferror(in))
        rc = err_sys(err, 1, "%s", path);
    free(item);
    if (in != stdin)
        fclose(in);
    return rc;
}

int feed_paths(struct feed *f, const char *const *paths, size_t n)
{
    struct err err = { 0 };

    for (size_t i = 0; i < n; i++)
        if (feed_one(f, paths[i]) != 0)
            return -1;
    if (f->files_from && feed_list(f->files_from, f->null_ended, on_item, f, &err) != 0) {
        if (err.code && !f->run->stop)
            f->run->stop = cli_error(&err);
        return -1;
    }
    return 0;
}

void feed_fini(struct feed *f)
{
    if (f->spooled)
        unlink(f->spooled);
    free(f->spooled);
    f->spooled = NULL;
}
