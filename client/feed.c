#include "client/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "base/tmpdir.h"
#include "client/remote.h"
#include "client/walk.h"

struct walking {
    struct feed *feed;
    const char *root;
    struct buf abs;  /* of the entry */
    size_t root_abs; /* bytes of it: the root made absolute, once for all */
};

static int on_entry(void *arg, const struct walk_entry *e)
{
    struct walking *w = arg;
    const char *rest = e->shown + strlen(w->root);

    if (e->error) {
        run_refuse(w->feed->run, e->shown, e->error);
        return w->feed->run->stop ? -1 : 0;
    }
    w->abs.len = w->root_abs;
    buf_add(&w->abs, rest, strlen(rest) + 1);
    return w->feed->input(w->feed->arg, e->shown, (const char *)w->abs.data, w->root,
                          e->below, e->size);
}

int feed_scratch(const char *what, char **ret_path, struct err *err)
{
    char *path = xasprintf("%s/tidemill-%s.XXXXXX", tmpdir(PATH_MAX), what);
    int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0) {
        err_sys(err, EXIT_ERROR, "%s", path);
        free(path);
        return -1;
    }
    close(fd);
    *ret_path = path;
    return 0;
}

static int write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, data, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        data += done;
        n -= (size_t)done;
    }
    return 0;
}

/* All of standard input to fd. -1 with errno, or the run is over. */
static int copy_stdin(struct run *run, int fd, uint64_t *ret_size)
{
    char chunk[64 * KIB];
    ssize_t n;

    *ret_size = 0;
    for (;;) {
        if (run_await(run, STDIN_FILENO) < 0)
            return -1;
        n = read(STDIN_FILENO, chunk, sizeof(chunk));
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return (int)n;
        if (write_all(fd, chunk, (size_t)n) < 0)
            return -1;
        *ret_size += (uint64_t)n;
    }
}

/* A worker reads files, and may read one twice. */
static int feed_stdin(struct feed *f)
{
    int fd = open(f->scratch, O_WRONLY | O_CLOEXEC);
    uint64_t size = 0;
    int rc = fd < 0 ? -1 : copy_stdin(f->run, fd, &size), error = errno;

    if (fd >= 0)
        close(fd);
    if (f->run->stop || f->run->over)
        return -1;
    if (rc == 0)
        return f->input(f->arg, "-", f->scratch, "-", "", size);
    run_refuse(f->run, "-", strerror(error));
    return f->run->stop ? -1 : 0;
}

static int feed_remote(struct feed *f, const char *path)
{
    AUTO_FREE char *abs = NULL;

    if (f->walk)
        return remote_add(f->walk, path);
    abs = walk_absolute(path);
    return f->input(f->arg, path, abs, path, "", 0);
}

static int feed_one(struct feed *f, const char *path)
{
    struct walking w = { f, path, BUF_INIT, 0 };
    struct walk_counts counts = { 0 };
    unsigned flags = (f->recursive ? WALK_RECURSIVE : 0) | (f->sizes ? WALK_SIZES : 0);
    AUTO_FREE char *abs = NULL;
    int rc;

    if (f->remote)
        return feed_remote(f, path);

    abs = walk_absolute(path);
    w.root_abs = strlen(abs);
    buf_add(&w.abs, abs, w.root_abs);
    rc = walk(path, flags, on_entry, &w, &counts);
    buf_fini(&w.abs);
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

/* A list being read: results are printed while its writer takes his time. */
struct reader {
    int fd;
    bool ended;
    struct buf bytes;
    size_t at; /* items before it are done */
};

/* Reads more; -1: the run is over, or errno says why. */
static int read_more(struct reader *r, struct run *run)
{
    ssize_t n;

    buf_drop(&r->bytes, r->at);
    r->at = 0;
    do {
        if (run_await(run, r->fd) < 0)
            return -1;
        n = read(r->fd, buf_reserve(&r->bytes, 64 * KIB), 64 * KIB);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n < 0)
        return -1;
    r->bytes.len += (size_t)n;
    r->ended = n == 0;
    return 0;
}

/* The next item, NUL-ended in place; NULL at the end and on errors. */
static char *next_item(struct reader *r, uint8_t end, struct run *run, size_t *ret_len)
{
    size_t from = r->at;

    for (;;) {
        uint8_t *at = r->bytes.data ? r->bytes.data + from : NULL;
        uint8_t *found = at ? memchr(at, end, r->bytes.len - from) : NULL;
        if (!found && r->ended && r->at < r->bytes.len) {
            *buf_reserve(&r->bytes, 1) = end; /* the last one may lack it */
            found = r->bytes.data + r->bytes.len++;
        }
        if (found) {
            char *item = (char *)r->bytes.data + r->at;
            *ret_len = (size_t)(found - r->bytes.data) - r->at;
            *found = 0;
            r->at += *ret_len + 1;
            return item;
        }
        if (r->ended)
            return NULL;
        from = r->bytes.len - r->at;
        if (read_more(r, run) < 0)
            return NULL;
    }
}

int feed_list(struct run *run, const char *path, bool null_ended,
              int (*fn)(void *arg, const char *item, size_t len, size_t line), void *arg,
              struct err *err)
{
    bool from_stdin = strcmp(path, "-") == 0;
    struct reader r = { .fd = from_stdin ? STDIN_FILENO
                                         : open(path, O_RDONLY | O_CLOEXEC) };
    size_t line = 0, len;
    char *item;
    int rc = 0;

    if (r.fd < 0)
        return err_sys(err, 1, "%s", path);
    while (rc == 0 && (item = next_item(&r, null_ended ? 0 : '\n', run, &len)))
        rc = fn(arg, item, len, ++line);
    if (rc == 0 && !r.ended)
        rc = run->stop || run->over ? -1 : err_sys(err, 1, "%s", path);
    buf_fini(&r.bytes);
    if (!from_stdin)
        close(r.fd);
    return rc;
}

int feed_is_stdin(const char *const *args, size_t n, const char *files_from,
                  struct err *err)
{
    size_t at = 0;

    while (at < n && strcmp(args[at], "-") != 0)
        at++;
    if (at == n)
        return 0;
    if (n > 1 || files_from)
        return err_set(err, EXIT_USAGE, "- is standard input, and stands alone");
    if (cli_common_now()->detach) {
        err_set(err, EXIT_USAGE, "-d cannot leave standard input behind");
        return err_hint(err, "name a file");
    }
    return 1;
}

static int feed_named(struct feed *f)
{
    struct err err = { 0 };

    for (size_t i = 0; i < f->n; i++)
        if (feed_one(f, f->paths[i]) != 0)
            return -1;
    if (f->files_from &&
        feed_list(f->run, f->files_from, f->null_ended, on_item, f, &err) != 0) {
        if (err.code && !f->run->stop)
            f->run->stop = cli_error(&err);
        return -1;
    }
    return 0;
}

int feed_all(void *arg)
{
    struct feed *f = arg;
    int rc;

    if (f->scratch)
        return feed_stdin(f);
    if (!f->remote || !f->recursive)
        return feed_named(f);
    f->walk = remote_new(f);
    if (!f->walk)
        return -1;
    rc = feed_named(f);
    if (rc == 0)
        rc = remote_finish(f->walk);
    remote_free(f->walk);
    f->walk = NULL;
    return rc;
}
