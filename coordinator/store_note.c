#include "coordinator/store_note.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/store_dir.h"

int note_read(const char *dir, const char *name, struct note *ret, struct err *err)
{
    AUTO_FREE char *file = xasprintf("%s/%s", dir, name);
    char text[PATH_MAX + sizeof(ret->when) + 2];
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    *ret = (struct note){ .path = xstrdup("") };
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    if (n < 0)
        return err_sys(err, 1, "cannot read %s", file);
    ret->there = true;
    text[n] = 0;
    /* The path is all between the first newline and the last: it may have some itself. */
    char *first = strchr(text, '\n'), *last = strrchr(text, '\n');
    if (!first || first == last || (size_t)(first - text) >= sizeof(ret->when))
        return 0;
    *first = *last = 0;
    strcpy(ret->when, text);
    free(ret->path);
    ret->path = xstrdup(first + 1);
    return 0;
}

void note_fini(struct note *n)
{
    free(n->path);
    n->path = NULL;
}

static int write_synced(const char *file, const char *text, struct err *err)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t len = (ssize_t)strlen(text);
    int rc = fd < 0 || write(fd, text, (size_t)len) != len || fsync(fd) < 0 ? -1 : 0;

    if (rc < 0)
        err_sys(err, 1, "cannot write %s", file);
    if (fd >= 0)
        close(fd);
    return rc;
}

int note_write(const char *dir, const char *name, const char *path, struct err *err)
{
    AUTO_FREE char *file = xasprintf("%s/%s", dir, name);
    AUTO_FREE char *fresh = xasprintf("%s.new", file);
    time_t now = time(NULL);
    struct tm utc;
    char when[sizeof(((struct note *)0)->when)];

    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    AUTO_FREE char *text = xasprintf("%s\n%s\n", when, path);
    if (write_synced(fresh, text, err) < 0)
        return -1;
    if (rename(fresh, file) < 0)
        return err_sys(err, 1, "cannot make %s", file);
    return dir_sync(dir, err);
}

int note_remove(const char *dir, const char *name, struct err *err)
{
    AUTO_FREE char *file = xasprintf("%s/%s", dir, name);

    if (unlink(file) < 0 && errno != ENOENT)
        return err_sys(err, 1, "cannot remove %s", file);
    return dir_sync(dir, err);
}

static int refuse_moved(const char *dir, const struct note *n, struct err *err)
{
    AUTO_FREE char *guard = xasprintf("%s/" NOTE_MOVING_FROM, n->path);

    if (!n->path[0]) {
        err_set(err, 1,
                "the state in %s was moved; its file " NOTE_MOVED_TO
                " does not say where to",
                dir);
        return -1;
    }
    err_set(err, 1, "the state in %s was moved to %s (%s)", dir, n->path, n->when);
    if (access(guard, F_OK) == 0)
        return err_hint(err, "tidemill-coordinator move --state %s --to %s finishes it",
                        dir, n->path);
    return err_hint(err, "go on with --state %s", n->path);
}

int note_refuse(const char *dir, struct err *err)
{
    struct note to = { 0 }, from = { 0 };
    int rc = note_read(dir, NOTE_MOVED_TO, &to, err);

    if (rc == 0)
        rc = note_read(dir, NOTE_MOVING_FROM, &from, err);
    if (rc == 0 && to.there) {
        rc = refuse_moved(dir, &to, err);
    } else if (rc == 0 && from.there) {
        const char *old = from.path[0] ? from.path : "OLD";
        err_set(err, 1, "the move of the state in %s to %s has not finished", old, dir);
        rc = err_hint(err, "tidemill-coordinator move --state %s --to %s finishes it",
                      old, dir);
    }
    note_fini(&to);
    note_fini(&from);
    return rc;
}
