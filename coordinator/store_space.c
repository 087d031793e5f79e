#include "coordinator/store_space.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"

uint64_t space_free(const char *dir)
{
    struct statvfs fs;

    if (statvfs(dir, &fs) < 0)
        return UINT64_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

bool reserve_take(const char *dir, uint64_t bytes)
{
    AUTO_FREE char *path = xasprintf("%s/reserve", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    bool held;

    if (fd < 0)
        return false;
    held = fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= bytes;
    if (!held)
        held = posix_fallocate(fd, 0, (off_t)bytes) == 0;
    if (held)
        held = ftruncate(fd, (off_t)bytes) == 0; /* it may have been larger */
    else if (ftruncate(fd, 0) < 0)
        held = false; /* what it got of it stays */
    close(fd);
    return held;
}

void reserve_let_go(const char *dir)
{
    AUTO_FREE char *path = xasprintf("%s/reserve", dir);

    if (truncate(path, 0) < 0)
        unlink(path);
}
