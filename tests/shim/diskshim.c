/* LD_PRELOAD: stands between a program and the files of one directory.
 *
 *   TM_SHIM_DIR    the directory, absolute; nothing else is touched
 *   TM_SHIM_FAIL   sync:N or write:N: the Nth such call (from 1) and all after it fail
 * (EIO) TM_SHIM_STALL  while this file exists, syncs do not return TM_SHIM_LOG    every
 * change is appended there, for powerloss.py to make of it what is left after a power
 * loss
 *
 * A record of the log: struct record, then name_len bytes (a path in the directory) and
 * data_len bytes. It is written when the call has returned, under one lock with the call,
 * so that the order is that of the changes. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FDS = 4096 };
enum op {
    OP_CREATE = 1,
    OP_WRITE,
    OP_TRUNCATE,
    OP_SYNC,
    OP_SYNC_DIR,
    OP_RENAME,
    OP_UNLINK
};

struct record {
    uint64_t time_ns; /* monotonic */
    uint64_t file;    /* inode */
    uint64_t offset;  /* of a write; the size of a truncate */
    uint32_t op, name_len, data_len, zero;
};

static struct {
    const char *dir, *stall;
    size_t dir_len;
    int log_fd;
    long fail_sync, fail_write; /* 0 = never */
    long syncs, writes;
    uint64_t file[FDS]; /* inode + 1 of those in the directory; the directory itself: 1 */
    pthread_mutex_t mutex;
} shim = { .log_fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER };

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);
    if (!fn)
        abort();
    return fn;
}

__attribute__((constructor)) static void shim_start(void)
{
    const char *fail = getenv("TM_SHIM_FAIL"), *log = getenv("TM_SHIM_LOG");

    shim.dir = getenv("TM_SHIM_DIR");
    shim.stall = getenv("TM_SHIM_STALL");
    if (!shim.dir)
        return;
    shim.dir_len = strlen(shim.dir);
    if (fail && strncmp(fail, "sync:", 5) == 0)
        shim.fail_sync = atol(fail + 5);
    else if (fail && strncmp(fail, "write:", 6) == 0)
        shim.fail_write = atol(fail + 6);
    if (log)
        shim.log_fd = (int)syscall(SYS_openat, AT_FDCWD, log,
                                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The name in the directory, "" for itself, NULL for all else. */
static const char *inside(const char *path)
{
    if (!shim.dir || strncmp(path, shim.dir, shim.dir_len) != 0)
        return NULL;
    path += shim.dir_len;
    if (*path == 0)
        return path;
    return *path == '/' ? path + 1 : NULL;
}

static uint64_t file_of(int fd)
{
    return fd >= 0 && fd < FDS ? shim.file[fd] : 0;
}

static void record(enum op op, uint64_t file, uint64_t offset, const char *name,
                   const void *data, size_t len)
{
    struct record r = { .file = file, .offset = offset, .op = op };
    struct timespec ts;

    if (shim.log_fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    r.time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    r.name_len = name ? (uint32_t)strlen(name) : 0;
    r.data_len = (uint32_t)len;
    struct iovec parts[] = { { &r, sizeof(r) },
                             { (void *)name, r.name_len },
                             { (void *)data, len } };
    if (syscall(SYS_writev, shim.log_fd, parts, 3) < 0)
        abort();
}

static int opened(int fd, const char *path, int existed)
{
    const char *name = inside(path);
    struct stat st;

    if (fd < 0 || !name || fd >= FDS || fstat(fd, &st) < 0)
        return fd;
    shim.file[fd] = *name ? st.st_ino + 1 : 1;
    if (*name && !existed)
        record(OP_CREATE, st.st_ino + 1, 0, name, NULL, 0);
    return fd;
}

static int open_any(const char *path, int flags, mode_t mode)
{
    int existed, fd;

    if (!inside(path))
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    pthread_mutex_lock(&shim.mutex);
    existed = faccessat(AT_FDCWD, path, F_OK, 0) == 0;
    fd = opened((int)syscall(SYS_openat, AT_FDCWD, path, flags, mode), path, existed);
    if (fd >= 0 && (flags & O_TRUNC))
        record(OP_TRUNCATE, file_of(fd), 0, NULL, NULL, 0);
    pthread_mutex_unlock(&shim.mutex);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return open_any(path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS)
        shim.file[fd] = 0;
    return REAL(close)(fd);
}

static ssize_t write_at(int fd, const void *data, size_t len, off_t at)
{
    ssize_t n = -1;

    pthread_mutex_lock(&shim.mutex);
    if (shim.fail_write && ++shim.writes >= shim.fail_write)
        errno = EIO;
    else
        n = syscall(SYS_pwrite64, fd, data, len, at);
    if (n > 0)
        record(OP_WRITE, file_of(fd), (uint64_t)at, NULL, data, (size_t)n);
    pthread_mutex_unlock(&shim.mutex);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return file_of(fd) ? write_at(fd, data, len, at) : REAL(pwrite)(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    return file_of(fd) ? write_at(fd, data, len, at) : REAL(pwrite64)(fd, data, len, at);
}

ssize_t write(int fd, const void *data, size_t len)
{
    off_t at = file_of(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t n;

    if (!file_of(fd))
        return REAL(write)(fd, data, len);
    n = write_at(fd, data, len, at);
    if (n > 0)
        lseek(fd, at + n, SEEK_SET);
    return n;
}

/* A hole is a write of zeros, of which a power loss may leave any part. */
static int fallocate_any(int fd, int mode, off_t at, off_t len)
{
    int rc;

    pthread_mutex_lock(&shim.mutex);
    rc = (int)syscall(SYS_fallocate, fd, mode, at, len);
    if (rc == 0 && file_of(fd) && mode & FALLOC_FL_PUNCH_HOLE) {
        void *zeros = calloc(1, (size_t)len);
        record(OP_WRITE, file_of(fd), (uint64_t)at, NULL, zeros, (size_t)len);
        free(zeros);
    }
    pthread_mutex_unlock(&shim.mutex);
    return rc;
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
    return fallocate_any(fd, mode, at, len);
}

int fallocate64(int fd, int mode, off64_t at, off64_t len)
{
    return fallocate_any(fd, mode, at, len);
}

static int truncate_any(int fd, off_t size)
{
    int rc;

    pthread_mutex_lock(&shim.mutex);
    rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0 && file_of(fd))
        record(OP_TRUNCATE, file_of(fd), (uint64_t)size, NULL, NULL, 0);
    pthread_mutex_unlock(&shim.mutex);
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return truncate_any(fd, size);
}

int ftruncate64(int fd, off_t size)
{
    return truncate_any(fd, size);
}

static int sync_any(int fd, int number)
{
    uint64_t file = file_of(fd);
    int rc = -1;

    if (!file)
        return (int)syscall(number, fd);
    while (shim.stall && faccessat(AT_FDCWD, shim.stall, F_OK, 0) == 0)
        usleep(10000);
    pthread_mutex_lock(&shim.mutex);
    if (shim.fail_sync && ++shim.syncs >= shim.fail_sync)
        errno = EIO;
    else
        rc = (int)syscall(number, fd);
    if (rc == 0)
        record(file == 1 ? OP_SYNC_DIR : OP_SYNC, file, 0, NULL, NULL, 0);
    pthread_mutex_unlock(&shim.mutex);
    return rc;
}

int fsync(int fd)
{
    return sync_any(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_any(fd, SYS_fdatasync);
}

int rename(const char *from, const char *to)
{
    int rc;

    pthread_mutex_lock(&shim.mutex);
    rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (rc == 0 && inside(from) && inside(to))
        record(OP_RENAME, 0, 0, inside(from), inside(to), strlen(inside(to)));
    pthread_mutex_unlock(&shim.mutex);
    return rc;
}

int unlink(const char *path)
{
    int rc;

    pthread_mutex_lock(&shim.mutex);
    rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (rc == 0 && inside(path))
        record(OP_UNLINK, 0, 0, inside(path), NULL, 0);
    pthread_mutex_unlock(&shim.mutex);
    return rc;
}
