#include "coordinator/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/failpoint.h"

struct segments {
    char *path; /* of the directory */
    int dir;
    uint32_t next; /* the first number that may be free */
    bool sync;
    int fd; /* of the current one; -1 = none */
    uint32_t current;
    uint64_t kept, end; /* of it: what stays, what is written */
    bool dirty;         /* something of it is not on disk */
    bool unnamed;       /* its name may not be */
};

void segment_name(uint32_t number, char ret[SEGMENT_NAME_BYTES])
{
    snprintf(ret, SEGMENT_NAME_BYTES, "segment.%08x", number);
}

uint32_t segment_number(const char *name)
{
    static const char prefix[] = "segment.";
    char again[SEGMENT_NAME_BYTES];

    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return 0;
    unsigned long number = strtoul(name + strlen(prefix), NULL, 16);
    if (number > SEGMENT_NUMBER_MAX)
        return 0;
    segment_name((uint32_t)number, again);
    return strcmp(name, again) == 0 ? (uint32_t)number : 0;
}

int segments_found(const struct segments *g, uint32_t **ret, size_t *ret_n)
{
    DIR *d = opendir(g->path);
    size_t cap = 0;

    *ret = NULL;
    *ret_n = 0;
    if (!d)
        return -1;
    for (struct dirent *e; errno = 0, (e = readdir(d));) {
        uint32_t number = segment_number(e->d_name);
        if (!number)
            continue;
        if (*ret_n == cap) {
            cap = MAX(16, cap * 2);
            *ret = xrealloc(*ret, cap * sizeof(**ret));
        }
        (*ret)[(*ret_n)++] = number;
    }
    int why = errno;
    closedir(d);
    errno = why;
    return why ? -1 : 0;
}

void segments_free(struct segments *g)
{
    if (!g)
        return;
    if (g->fd >= 0)
        close(g->fd);
    if (g->dir >= 0)
        close(g->dir);
    free(g->path);
    free(g);
}

struct segments *segments_new(const char *dir, bool sync)
{
    AUTO_FREE uint32_t *found = NULL;
    struct segments *g = xcalloc(1, sizeof(*g));
    size_t n;

    *g = (struct segments){
        .path = xstrdup(dir),
        .dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .next = 1,
        .sync = sync,
        .fd = -1,
    };
    if (g->dir < 0 || segments_found(g, &found, &n) < 0) {
        segments_free(g);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        g->next = MAX(g->next, found[i] + 1);
    return g;
}

static int open_segment(const struct segments *g, uint32_t number, int flags)
{
    char name[SEGMENT_NAME_BYTES];

    segment_name(number, name);
    AUTO_FREE char *path = xasprintf("%s/%s", g->path, name);
    return open(path, flags | O_CLOEXEC, 0600);
}

int segments_sync_found(const struct segments *g)
{
    AUTO_FREE uint32_t *found = NULL;
    size_t n;
    int rc = segments_found(g, &found, &n);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        int fd = open_segment(g, found[i], O_RDONLY);
        rc = fd < 0 ? -1 : fdatasync(fd);
        if (fd >= 0)
            close(fd);
    }
    return rc == 0 && n ? fsync(g->dir) : rc;
}

/* ---- appending ---- */

int segments_sync(struct segments *g)
{
    if (!g->dirty)
        return 0;
    FAILPOINT("segment_sync_before");
    if (FAILPOINT_ERROR("segment_sync_error")) {
        errno = EIO;
        return -1;
    }
    if (g->sync && fdatasync(g->fd) < 0)
        return -1;
    if (g->sync && g->unnamed && fsync(g->dir) < 0)
        return -1;
    g->dirty = g->unnamed = false;
    return 0;
}

/* The one before is on disk: a transaction may have a part of its bodies there. */
static int begin_next(struct segments *g)
{
    int fd;

    if (segments_sync(g) < 0)
        return -1;
    if (g->next > SEGMENT_NUMBER_MAX) {
        errno = EOVERFLOW;
        return -1;
    }
    fd = open_segment(g, g->next, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return -1;
    if (g->fd >= 0)
        close(g->fd);
    g->fd = fd;
    g->current = g->next++;
    g->kept = g->end = 0;
    g->unnamed = true;
    return 0;
}

int segment_put(struct segments *g, struct span body, uint64_t *ret_at)
{
    if ((g->fd < 0 || g->end >= SEGMENT_BYTES) && begin_next(g) < 0)
        return -1;
    g->dirty = true;
    for (size_t done = 0; done < body.len;) {
        ssize_t n =
            pwrite(g->fd, body.data + done, body.len - done, (off_t)(g->end + done));
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    *ret_at = segment_begin(g->current) | g->end;
    g->end = segment_after(g->end, body.len);
    return 0;
}

void segments_keep(struct segments *g)
{
    g->kept = g->end;
}

/* What was not synced is cut off, or else written over: for want of room, a body may be
 * there in part. What was synced is not cut. A COMMIT whose own sync failed may be found
 * in the database's log, and its rows need their bodies: the process ends then. One that
 * found no room has not written its last frame, and the next try writes over its bodies;
 * those in a segment before the current one stay there for nothing. */
void segments_back(struct segments *g)
{
    g->end = g->kept;
    if (g->dirty)
        g->dirty = ftruncate(g->fd, (off_t)g->kept) < 0 || g->unnamed;
}

uint32_t segments_current(const struct segments *g)
{
    return g->current;
}

/* ---- the others ---- */

static int read_all(int fd, uint64_t offset, struct blob *to)
{
    for (size_t done = 0; done < to->len;) {
        ssize_t n = pread(fd, to->data + done, to->len - done, (off_t)(offset + done));
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return 1;
}

int segment_read(const struct segments *g, uint64_t at, uint64_t size, struct blob **ret)
{
    uint64_t offset = (uint32_t)at;
    int fd = open_segment(g, segment_of(at), O_RDONLY), rc = -1;
    struct stat st;

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (fstat(fd, &st) == 0) {
        /* The size may be damaged: no memory for what cannot be there. */
        rc = offset + size >= size && offset + size <= (uint64_t)st.st_size;
        if (rc == 1) {
            *ret = blob_alloc(size);
            rc = read_all(fd, offset, *ret);
            if (rc < 1)
                blob_unref(STEAL(*ret));
        }
    }
    int why = errno;
    close(fd);
    errno = why;
    return rc;
}

void segment_punch(const struct segments *g, uint64_t from, uint64_t to)
{
    int fd = open_segment(g, segment_of(from), O_WRONLY);

    if (fd < 0)
        return;
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(uint32_t)from,
              (off_t)(to - from));
    close(fd);
}

bool segment_is_hole(const struct segments *g, uint32_t number)
{
    int fd = open_segment(g, number, O_RDONLY);

    if (fd < 0)
        return false;
    bool hole = lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
    close(fd);
    return hole;
}

void segment_unlink(const struct segments *g, uint32_t number)
{
    char name[SEGMENT_NAME_BYTES];

    segment_name(number, name);
    AUTO_FREE char *path = xasprintf("%s/%s", g->path, name);
    unlink(path);
}
