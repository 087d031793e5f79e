#include "worker/ops/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failpoint.h"

enum {
    KNOWN = 1024, /* directories remembered, 32 bytes each; what is forgotten is synced */
    LEVELS_KEPT = 64, /* of one call */
};

char *dirs_real(int fd)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    if (n < 0 || n >= (ssize_t)sizeof(path) - 1)
        return NULL;
    path[n] = 0;
    return xstrdup(path);
}

/* ---- making ---- */

static int cannot_make(struct err *err)
{
    return err_set(err, 1, "cannot make its directory: %s", strerror(errno));
}

/* One directory below `at`, which is closed; its descriptor, -1 with errno. */
static int make_one(int at, const char *name)
{
    int fd = -1, error;

    if (mkdirat(at, name, 0777) == 0 || errno == EEXIST)
        fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    error = errno;
    close(at);
    errno = error;
    return fd;
}

int dirs_make(const char *real, const char *rest, struct err *err)
{
    struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                            .resolve = RESOLVE_NO_SYMLINKS };
    AUTO_FREE char *names = xstrdup(rest);
    char *save, *name;
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, real, &how, sizeof(how));

    for (name = strtok_r(names, "/", &save); name && fd >= 0;
         name = strtok_r(NULL, "/", &save)) {
        if (strcmp(name, "..") == 0) {
            close(fd);
            errno = EINVAL;
            return err_set(err, 1, "'..' behind a directory that does not exist");
        }
        if (strcmp(name, ".") != 0)
            fd = make_one(fd, name);
    }
    if (fd < 0)
        return cannot_make(err);
    close(fd);
    return 0;
}

/* ---- making durable ---- */

/* A directory for ever: its number is given to another one when it is removed, but not
 * with the time of its birth. */
struct dir_id {
    uint64_t dev, ino;
    int64_t born_s;
    uint32_t born_ns;
};

struct dirs_durable {
    pthread_mutex_t lock;
    struct dir_id known[KNOWN]; /* each at one place; ino 0: empty */
};

struct dirs_durable *dirs_durable_new(void)
{
    struct dirs_durable *d = xcalloc(1, sizeof(*d));

    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void dirs_durable_free(struct dirs_durable *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* False: the file system does not say when it was born. */
static bool id_of(int fd, struct dir_id *ret)
{
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0 ||
        !(st.stx_mask & STATX_BTIME))
        return false;
    *ret = (struct dir_id){ (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor,
                            st.stx_ino, st.stx_btime.tv_sec, st.stx_btime.tv_nsec };
    return true;
}

static bool same(const struct dir_id *a, const struct dir_id *b)
{
    return a->ino == b->ino && a->dev == b->dev && a->born_s == b->born_s &&
           a->born_ns == b->born_ns;
}

static bool is_known(struct dirs_durable *d, const struct dir_id *id)
{
    pthread_mutex_lock(&d->lock);
    bool is = same(&d->known[id->ino % KNOWN], id);
    pthread_mutex_unlock(&d->lock);
    return is;
}

static void remember(struct dirs_durable *d, const struct dir_id *ids, size_t n)
{
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < n; i++)
        d->known[ids[i].ino % KNOWN] = ids[i];
    pthread_mutex_unlock(&d->lock);
}

static int sync_names(int dir)
{
    FAILPOINT("dir_sync_before");
    int rc = fsync(dir);
    FAILPOINT("dir_sync_after");
    return rc < 0 && errno == EINVAL ? 0 : rc; /* EINVAL: it has nothing to sync */
}

int dirs_sync(struct dirs_durable *d, int fd, unsigned levels)
{
    struct dir_id ids[LEVELS_KEPT], id;
    size_t n = 0;
    int at = fd, rc = sync_names(fd), error;

    for (; rc == 0 && levels; levels--) {
        bool has_id = id_of(at, &id);
        if (has_id && is_known(d, &id))
            break;
        int up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up < 0) { /* one that may be entered only cannot be synced by anybody */
            rc = errno == EACCES ? 0 : -1;
            break;
        }
        rc = sync_names(up);
        error = errno;
        if (at != fd)
            close(at);
        errno = error;
        at = up;
        if (has_id && n < LEVELS_KEPT)
            ids[n++] = id;
    }
    error = errno;
    if (at != fd)
        close(at);
    errno = error;
    if (rc == 0)
        remember(d, ids, n);
    return rc;
}
