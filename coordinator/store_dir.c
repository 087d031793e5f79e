#include "coordinator/store_dir.h"
#include "coordinator/segment.h"
#include "coordinator/server_key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int dir_lock(const char *dir, int *ret_fd, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/lock", dir);
    char pid[32] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_sys(err, 1, "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = read(fd, pid, sizeof(pid) - 1);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
        close(fd);
        err_set(err, 1, "another coordinator (pid %s) uses the state directory %s",
                pid[0] ? pid : "unknown", dir);
        return err_hint(err, "stop it first, or give this one its own --state");
    }
    /* The pid is for people: a full disk must not keep the coordinator from starting. */
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
        pid[0] = 0;
    *ret_fd = fd;
    return 0;
}

int dir_sync(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (rc < 0)
        err_sys(err, 1, "cannot write the directory %s to disk", dir);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The entry of a new directory in the one above it, on disk. */
static int sync_above(const char *path, struct err *err)
{
    AUTO_FREE char *above = xstrdup(path);
    char *slash = strrchr(above, '/');

    if (slash)
        slash[slash == above] = 0;
    return dir_sync(slash ? above : ".", err);
}

static int make_one(const char *path, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) == 0)
        return sync_above(path, err);
    return errno == EEXIST ? 0 : err_sys(err, 1, "cannot make the directory %s", path);
}

int dir_make(const char *dir, struct err *err)
{
    AUTO_FREE char *path = xstrdup(dir);

    for (char *p = path + 1; *p; p++) {
        if (*p != '/' || p[1] == 0)
            continue;
        *p = 0;
        if (make_one(path, 0755, err) < 0)
            return -1;
        *p = '/';
    }
    return make_one(path, 0700, err);
}

static bool is_data(const char *name)
{
    return strncmp(name, "tidemill.db", 11) == 0 || strcmp(name, "reserve") == 0 ||
           strcmp(name, SERVER_KEY) == 0 || strcmp(name, SERVER_KEY_NEXT) == 0 ||
           strcmp(name, SERVER_KEY_OLD) == 0 || segment_number(name);
}

void dir_clear(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (is_data(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
}

void dir_remove(const char *dir)
{
    AUTO_FREE char *lock = xasprintf("%s/lock", dir);

    dir_clear(dir);
    unlink(lock);
    rmdir(dir);
}
