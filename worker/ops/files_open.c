/* Sources on disk: files that are read, directories that are walked. */
#include "worker/ops/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/ops/dirs.h"
#include "worker/ops/files_roots.h"

static int must_be_regular(const struct stat *st, struct err *err)
{
    if (S_ISDIR(st->st_mode))
        return err_set(err, 1, "%s", strerror(EISDIR));
    if (!S_ISREG(st->st_mode))
        return err_set(err, 1, "not a regular file");
    return 0;
}

/* Of what was looked at before: a FIFO would block, a device might do worse. -1 with err;
 * *ret_fd -1, errno: it cannot be opened. */
static int open_regular(const char *real, int *ret_fd, struct stat *ret_st,
                        struct err *err)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                            .resolve = RESOLVE_NO_SYMLINKS };

    *ret_fd = (int)syscall(SYS_openat2, AT_FDCWD, real, &how, sizeof(how));
    if (*ret_fd < 0)
        return 0;
    if (fstat(*ret_fd, ret_st) < 0)
        err_set(err, 1, "cannot be looked at");
    else if (must_be_regular(ret_st, err) == 0)
        return 0;
    close(*ret_fd);
    return -1;
}

/* Without a link on the way, three calls are enough. *ret_fd -1: it needs the long way.
 */
static int open_plain(const struct files_roots *roots, const char *name, int *ret_fd,
                      struct stat *ret_st, struct err *err)
{
    *ret_fd = -1;
    if (!roots_plain(name) || !roots_of(roots, name) ||
        fstatat(AT_FDCWD, name, ret_st, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISREG(ret_st->st_mode))
        return 0;
    return open_regular(name, ret_fd, ret_st, err);
}

int files_open(const struct files_roots *roots, struct span path, int *ret_fd,
               struct stat *ret_st, struct err *err)
{
    AUTO_FREE char *name = roots_path(path, err);
    AUTO_FREE char *real = NULL;
    int fd, rc;

    errno = 0; /* which says whether another try is worth it */
    if (!name || open_plain(roots, name, ret_fd, ret_st, err) < 0)
        return -1;
    if (*ret_fd >= 0)
        return 0;
    fd = open(name, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, 1, "%s", strerror(errno));
    real = dirs_real(fd);
    rc = fstat(fd, ret_st);
    close(fd);
    if (rc < 0 || !real)
        return err_set(err, 1, "cannot be looked at");
    if (!roots_of(roots, real))
        return roots_outside(err);
    if (must_be_regular(ret_st, err) < 0 || open_regular(real, ret_fd, ret_st, err) < 0)
        return -1;
    return *ret_fd < 0 ? err_set(err, 1, "%s", strerror(errno)) : 0;
}

/* What a descriptor that was opened to look at (O_PATH) is, and whether it may be. */
static int look(const struct files_roots *roots, int fd, struct stat *ret_st,
                struct err *err)
{
    AUTO_FREE char *real = dirs_real(fd);

    if (fstat(fd, ret_st) < 0 || !real)
        return err_set(err, 1, "cannot be looked at");
    return roots_of(roots, strcmp(real, "/") == 0 ? "" : real) ? 0 : roots_outside(err);
}

int files_open_dir(const struct files_roots *roots, struct span path, bool named,
                   int *ret_fd, struct stat *ret_st, struct err *err)
{
    AUTO_FREE char *name = roots_path(path, err);
    int fd, rc;

    errno = 0;
    if (!name)
        return -1;
    fd = open(name, O_PATH | O_CLOEXEC | (named ? 0 : O_NOFOLLOW));
    if (fd < 0)
        return err_set(err, 1, "%s", strerror(errno));
    *ret_fd = -1;
    rc = look(roots, fd, ret_st, err);
    if (rc == 0 && S_ISDIR(ret_st->st_mode)) { /* the very one that was looked at */
        *ret_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = *ret_fd < 0 ? err_set(err, 1, "%s", strerror(errno)) : 0;
    } else if (rc == 0 && !(named && S_ISREG(ret_st->st_mode))) {
        errno = 0;
        rc =
            err_set(err, 1, named ? "is not a regular file" : "is no directory any more");
    }
    close(fd);
    return rc;
}
