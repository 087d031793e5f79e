#include "worker/ops/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "worker/ops/dirs.h"
#include "worker/ops/files_roots.h"

/* From so many files of one group on, one syncfs is cheaper than an fsync each. */
enum { SYNCFS_FROM = 32 };

/* ---- outputs ---- */

/* An output's directory, held open, and the names in it. */
struct place {
    int dir;
    char name[256], temp[256];
};

/* The first part of a path that exists, links resolved: where missing parents would be
 * made; *ret_rest: what follows it. Caller frees. */
static char *existing_part(const char *dir, const char **ret_rest)
{
    AUTO_FREE char *path = xstrdup(dir);

    for (;;) {
        char *real = realpath(path[0] ? path : "/", NULL);
        char *slash = strrchr(path, '/');
        *ret_rest = dir + strlen(path);
        if (real || errno != ENOENT || !slash)
            return real;
        *slash = 0;
    }
}

/* Says whether a directory, all links of its name resolved, may be written to. */
static int may_write(const struct files_roots *roots, const char *real, struct err *err)
{
    const struct root *root =
        real ? roots_of(roots, strcmp(real, "/") == 0 ? "" : real) : NULL;

    if (!root)
        return roots_outside(err);
    if (root->read_only)
        return err_set(err, 5, "its root is read-only (:ro)");
    return 0;
}

/* Of a directory that cannot be opened: makes it where that is allowed, and says why not.
 */
static int dir_make(const struct files_roots *roots, const char *dir, bool make,
                    struct err *err)
{
    const char *rest;
    AUTO_FREE char *real = existing_part(dir, &rest);

    if (may_write(roots, real, err) < 0)
        return -1;
    return make ? dirs_make(real, rest, err) : 0;
}

/* Opened first and looked at then: it is there for all files but the first of a
 * directory, and what was opened is what was looked at. Without a link on its way it is
 * where its name says. */
static int dir_open(const struct files_roots *roots, const char *dir, bool make,
                    struct err *err)
{
    enum { FLAGS = O_RDONLY | O_DIRECTORY | O_CLOEXEC };
    struct open_how how = { .flags = FLAGS, .resolve = RESOLVE_NO_SYMLINKS };
    AUTO_FREE char *real = NULL;
    int fd = -1;

    if (roots_plain(dir) && may_write(roots, dir, NULL) == 0)
        fd = (int)syscall(SYS_openat2, AT_FDCWD, dir, &how, sizeof(how));
    if (fd >= 0)
        return fd;
    fd = open(dir, FLAGS);
    if (fd < 0) {
        if (dir_make(roots, dir, make, err) < 0)
            return -1;
        fd = open(dir, FLAGS);
    }
    if (fd < 0)
        return err_set(err, 1, "%s", strerror(errno));
    real = dirs_real(fd);
    if (may_write(roots, real, err) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* The names of an attempt's output; *ret_dir, which the caller frees, is its directory.
 */
static int place_names(struct span out, const struct files_attempt *at, char **ret_dir,
                       struct place *ret, struct err *err)
{
    AUTO_FREE char *path = roots_path(out, err);
    char *slash;
    int n;

    if (!path)
        return -1;
    slash = strrchr(path, '/');
    snprintf(ret->name, sizeof(ret->name), "%s", slash + 1);
    if (strlen(slash + 1) > 255 || !ret->name[0] || strcmp(ret->name, ".") == 0 ||
        strcmp(ret->name, "..") == 0)
        return err_set(err, 1, "not a file's name");
    *slash = 0;
    /* The name is cut so that the whole fits 255 bytes; lease and task make it unique. */
    n = snprintf(NULL, 0, ".tm-%llx-%llx-%x", (unsigned long long)at->epoch,
                 (unsigned long long)at->lease, at->task);
    snprintf(ret->temp, sizeof(ret->temp), ".%.*s.tm-%llx-%llx-%x", 254 - 1 - n,
             ret->name, (unsigned long long)at->epoch, (unsigned long long)at->lease,
             at->task);
    *ret_dir = path[0] ? STEAL(path) : xstrdup("/");
    return 0;
}

/* Opens the directory of `out`, making it when asked to. */
static int place_open(const struct files_roots *roots, struct span out,
                      const struct files_attempt *at, bool make, struct place *ret,
                      struct err *err)
{
    AUTO_FREE char *dir = NULL;

    if (place_names(out, at, &dir, ret, err) < 0)
        return -1;
    ret->dir = dir_open(roots, dir, make, err);
    return ret->dir < 0 ? -1 : 0;
}

static int exists(struct err *err)
{
    return err_set(err, 1, "output exists (--force replaces it)");
}

int files_create(const struct files_roots *roots, struct span out,
                 const struct files_attempt *attempt, bool force, int *ret_fd,
                 struct err *err)
{
    enum { FLAGS = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW };
    struct place p;
    struct stat st;
    int fd;

    if (place_open(roots, out, attempt, true, &p, err) < 0)
        return -1;
    if (!force && fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        close(p.dir);
        return exists(err);
    }
    FAILPOINT("mill_file_create_before");
    fd = openat(p.dir, p.temp, FLAGS, 0600);
    if (fd < 0 && errno == EEXIST) { /* of this same attempt, by a mill that died */
        unlinkat(p.dir, p.temp, 0);
        fd = openat(p.dir, p.temp, FLAGS, 0600);
    }
    if (fd < 0)
        err_set(err, 1, "cannot make the output: %s", strerror(errno));
    FAILPOINT("mill_file_create_after");
    close(p.dir);
    if (fd < 0)
        return -1;
    *ret_fd = fd;
    return 0;
}

static int not_opened(struct err *err)
{
    if (errno == ENOENT)
        return err_set(err, 1, "its temporary file is gone");
    return err_set(err, 1, "its temporary file cannot be opened: %s", strerror(errno));
}

int files_reopen(const struct files_roots *roots, struct span out,
                 const struct files_attempt *attempt, int *ret_fd, struct err *err)
{
    struct place p;
    int fd;

    if (place_open(roots, out, attempt, false, &p, err) < 0)
        return -1;
    fd = openat(p.dir, p.temp, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    close(p.dir);
    if (fd < 0)
        return not_opened(err);
    *ret_fd = fd;
    return 0;
}

int files_mode(const struct files_roots *roots, struct span out,
               const struct files_attempt *attempt, mode_t mode, struct err *err)
{
    int fd;

    if (files_reopen(roots, out, attempt, &fd, err) < 0)
        return -1;
    fchmod(fd, mode & 0777); /* not every file system has modes */
    close(fd);
    return 0;
}

void files_discard(const struct files_roots *roots, struct span out,
                   const struct files_attempt *attempt)
{
    struct place p;

    if (place_open(roots, out, attempt, false, &p, NULL) < 0)
        return;
    unlinkat(p.dir, p.temp, 0);
    close(p.dir);
}

/* ---- groups ---- */

/* The directory of one item, kept open for the next, whose it mostly is too. */
struct neighbours {
    char *path; /* owned; NULL = none yet, or none that opens */
    int dir;
    size_t first; /* item */
};

static void neighbours_fini(struct neighbours *of)
{
    if (of->path)
        close(of->dir);
    free(of->path);
    of->path = NULL;
}

/* Takes path, the directory of items[first]. */
static int neighbours_open(const struct files_roots *roots, struct neighbours *of,
                           char *path, size_t first, struct err *err)
{
    neighbours_fini(of);
    of->first = first;
    of->dir = dir_open(roots, path, false, err);
    if (of->dir < 0)
        free(path);
    else
        of->path = path;
    return of->dir < 0 ? -1 : 0;
}

static bool neighbours_share(const struct neighbours *of, const char *path)
{
    return of->path && strcmp(of->path, path) == 0;
}

/* 1: in another directory than the one before; 0: in the same; -1 with err. */
static int place_next(const struct files_roots *roots, struct neighbours *of,
                      const struct files_item *item, struct place *ret, struct err *err)
{
    AUTO_FREE char *dir = NULL;
    int rc = 0;

    if (place_names(item->out, &item->attempt, &dir, ret, err) < 0)
        return -1;
    if (!neighbours_share(of, dir))
        rc = neighbours_open(roots, of, STEAL(dir), 0, err) < 0 ? -1 : 1;
    ret->dir = of->dir;
    return rc;
}

static int not_durable(struct err *err)
{
    return err_set(err, 1, "cannot be made durable: %s", strerror(errno));
}

static int sync_one(const struct files_roots *roots, struct neighbours *of,
                    struct files_item *item, bool start)
{
    struct place p;
    int fd, rc;

    if (place_next(roots, of, item, &p, &item->err) < 0)
        return -1;
    fd = openat(p.dir, p.temp, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 &&
        errno == EACCES) /* its mode keeps us out: all of its file system then */
        return start || syncfs(p.dir) == 0 ? 0 : not_durable(&item->err);
    if (fd < 0)
        return not_opened(&item->err);
    rc = start ? sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) : fsync(fd);
    if (!start && FAILPOINT_ERROR("file_sync_error")) {
        errno = EIO;
        rc = -1;
    }
    if (rc < 0 && !start)
        not_durable(&item->err);
    close(fd);
    return start ? 0 : rc;
}

/* One syncfs for all, when they are on one file system. */
static bool sync_together(const struct files_roots *roots, struct files_item *items,
                          size_t n)
{
    struct neighbours of = { .path = NULL };
    struct stat first, st;
    struct place p;
    bool done = n > 0;

    for (size_t i = 0; i < n && done; i++) {
        int rc = place_next(roots, &of, &items[i], &p, NULL);
        if (rc == 1)
            done = fstat(p.dir, &st) == 0 && (i == 0 || st.st_dev == first.st_dev);
        done = done && rc >= 0;
        if (i == 0)
            first = st;
    }
    done = done && syncfs(of.dir) == 0;
    neighbours_fini(&of);
    return done;
}

void files_sync(const struct files_roots *roots, struct files_item *items, size_t n)
{
    struct neighbours of = { .path = NULL };

    if (n >= SYNCFS_FROM && sync_together(roots, items, n))
        return;
    for (size_t i = 0; n > 1 && i < n; i++)
        sync_one(roots, &of, &items[i], true); /* the disk gets all of it at once */
    for (size_t i = 0; i < n; i++)
        if (!items[i].err.code)
            sync_one(roots, &of, &items[i], false);
    neighbours_fini(&of);
}

/* Was the target put there by this attempt already? Its temporary is gone then, and what
 * stands there was not there when it was made. */
static int rename_one(const struct place *p, bool force, struct err *err)
{
    unsigned flags = force ? 0 : RENAME_NOREPLACE;

    if (renameat2(p->dir, p->temp, p->dir, p->name, flags) == 0)
        return 0;
    if (errno == EINVAL && !force) { /* a file system without RENAME_NOREPLACE */
        if (linkat(p->dir, p->temp, p->dir, p->name, 0) == 0)
            return unlinkat(p->dir, p->temp, 0);
    }
    if (errno == ENOENT && faccessat(p->dir, p->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (errno != EEXIST)
        return err_set(err, 1, "cannot be put in place: %s", strerror(errno));
    unlinkat(p->dir, p->temp, 0);
    return exists(err);
}

/* Makes the renames of items[first..end) durable: a directory is synced once for all of
 * its neighbours, with what leads to it from its root. */
static void neighbours_sync(const struct files_roots *roots, const struct neighbours *of,
                            struct files_item *items, size_t end)
{
    AUTO_FREE char *real = of->path ? dirs_real(of->dir) : NULL;
    const struct root *root = real ? roots_of(roots, real) : NULL;
    unsigned levels = 0;

    if (!of->path)
        return;
    for (const char *c = root ? real + strlen(root->dir) : ""; *c; c++)
        levels += *c == '/' && c[1];
    FAILPOINT("dirs_sync_before");
    if (dirs_sync(roots->durable, of->dir, levels) < 0)
        for (size_t i = of->first; i < end; i++)
            if (!items[i].err.code)
                not_durable(&items[i].err);
}

void files_publish(const struct files_roots *roots, struct files_item *items, size_t n,
                   bool sync)
{
    struct neighbours of = { .path = NULL };

    for (size_t i = 0; i < n; i++) {
        struct files_item *item = &items[i];
        AUTO_FREE char *dir = NULL;
        struct place p;
        if (place_names(item->out, &item->attempt, &dir, &p, &item->err) < 0)
            continue;
        if (!neighbours_share(&of, dir)) {
            if (sync)
                neighbours_sync(roots, &of, items, i);
            if (neighbours_open(roots, &of, STEAL(dir), i, &item->err) < 0)
                continue;
        }
        p.dir = of.dir;
        FAILPOINT("file_rename_before");
        rename_one(&p, item->force, &item->err);
        FAILPOINT("file_rename_after");
    }
    if (sync)
        neighbours_sync(roots, &of, items, n);
    neighbours_fini(&of);
}
