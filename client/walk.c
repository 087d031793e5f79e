/* A directory is read whole before its first entry is given: one descriptor is open at a
 * time however deep the tree is. What an entry is says the directory; files are looked at
 * only for their size, through its descriptor: the kernel resolves a name, not a path. */
#include "client/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

enum { NAMES_BYTES = 64 * KIB }; /* that the kernel gives at once */

/* In a level's entries, followed by the name and a NUL. */
struct entry {
    uint64_t size;
    int error; /* errno; 0 = none */
    bool is_dir;
};

/* A directory on the way from the root to what is looked at. */
struct level {
    dev_t dev;
    ino_t ino;
    struct buf entries; /* as the file system has them */
    size_t at;          /* in them: what comes next */
    size_t path_len;    /* of its own name */
};

struct walker {
    unsigned flags;
    walk_fn *fn;
    void *arg;
    struct walk_counts *counts;
    size_t root_len;
    struct buf path; /* of what is looked at, with its NUL */
    struct level *levels;
    size_t n, cap;
    uint8_t *names; /* NAMES_BYTES */
};

char *walk_absolute(const char *path)
{
    if (path[0] == '/')
        return xstrdup(path);
    AUTO_FREE char *cwd = getcwd(NULL, 0);
    if (!cwd)
        return xstrdup(path); /* the working directory is gone; the open will say so */
    return xasprintf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
}

static int tell(const struct walker *w, uint64_t size, const char *error)
{
    const char *path = (const char *)w->path.data, *below = path + w->root_len;
    while (*below == '/')
        below++;
    struct walk_entry entry = { path, below, size, error };
    return w->fn(w->arg, &entry);
}

static int tell_file(const struct walker *w, uint64_t size)
{
    w->counts->files++;
    return tell(w, size, NULL);
}

/* ---- reading a directory ---- */

static bool is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static void read_entry(struct walker *w, struct level *l, int dir,
                       const struct dirent64 *d)
{
    struct entry e = { .size = 0 };
    unsigned type = d->d_type;
    struct stat st;

    if (type == DT_UNKNOWN || (type == DT_REG && w->flags & WALK_SIZES)) {
        if (fstatat(dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            type = IFTODT(st.st_mode);
            e.size = (uint64_t)st.st_size;
        } else {
            e.error = errno;
        }
    }
    if (!e.error && type != DT_REG && type != DT_DIR) {
        w->counts->skipped++;
        return;
    }
    e.is_dir = type == DT_DIR;
    buf_add(&l->entries, &e, sizeof(e));
    buf_add(&l->entries, d->d_name, strlen(d->d_name) + 1);
}

/* -1 with errno: not all of them. */
static int read_entries(struct walker *w, struct level *l, int dir)
{
    ssize_t n;

    while ((n = getdents64(dir, w->names, NAMES_BYTES)) > 0) {
        const struct dirent64 *d;
        for (ssize_t at = 0; at < n; at += d->d_reclen) {
            d = (const void *)(w->names + at);
            if (!is_dots(d->d_name))
                read_entry(w, l, dir, d);
        }
    }
    return (int)n;
}

static bool is_above(const struct walker *w, const struct stat *st)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->levels[i].dev == st->st_dev && w->levels[i].ino == st->st_ino)
            return true;
    return false;
}

static struct level *level_push(struct walker *w, const struct stat *st)
{
    if (w->n == w->cap) {
        w->cap = MAX(16, w->cap * 2);
        w->levels = xrealloc(w->levels, w->cap * sizeof(*w->levels));
    }
    struct level *l = &w->levels[w->n++];
    *l = (struct level){ st->st_dev, st->st_ino, BUF_INIT, 0, w->path.len - 1 };
    return l;
}

/* Goes into the directory that the path names. */
static int enter(struct walker *w)
{
    int follow = w->n ? O_NOFOLLOW : 0, rc = 0;
    int fd =
        open((const char *)w->path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow);
    struct stat st;

    if (fd < 0)
        return tell(w, 0, strerror(errno));
    if (fstat(fd, &st) < 0)
        rc = tell(w, 0, strerror(errno));
    else if (is_above(w, &st))
        rc = tell(w, 0, "directory is linked into itself");
    else if (read_entries(w, level_push(w, &st), fd) < 0)
        rc = tell(w, 0, strerror(errno)); /* what could be read is walked */
    close(fd);
    return rc;
}

/* ---- the walk ---- */

/* The next entry of the innermost directory. */
static int step(struct walker *w, struct level *l)
{
    const char *name = (const char *)l->entries.data + l->at + sizeof(struct entry);
    size_t len = strlen(name) + 1;
    struct entry e;

    memcpy(&e, l->entries.data + l->at, sizeof(e));
    l->at += sizeof(e) + len;
    w->path.len = l->path_len;
    if (w->path.data[l->path_len - 1] != '/')
        buf_add_u8(&w->path, '/');
    buf_add(&w->path, name, len);
    if (e.error)
        return tell(w, 0, strerror(e.error));
    return e.is_dir ? enter(w) : tell_file(w, e.size);
}

static int walk_below(struct walker *w)
{
    int rc = enter(w);

    while (rc == 0 && w->n) {
        struct level *l = &w->levels[w->n - 1];
        if (l->at < l->entries.len) {
            rc = step(w, l);
        } else {
            buf_fini(&l->entries);
            w->n--;
        }
    }
    while (w->n)
        buf_fini(&w->levels[--w->n].entries);
    return rc;
}

static int walk_root(struct walker *w, const char *root)
{
    struct stat st;

    if (stat(root, &st) < 0)
        return tell(w, 0, strerror(errno));
    if (S_ISREG(st.st_mode))
        return tell_file(w, (uint64_t)st.st_size);
    if (!S_ISDIR(st.st_mode))
        return tell(w, 0, "is not a regular file");
    if (w->flags & WALK_RECURSIVE)
        return walk_below(w);
    return tell(w, 0, "is a directory (-r walks it)");
}

int walk(const char *root, unsigned flags, walk_fn *fn, void *arg,
         struct walk_counts *counts)
{
    struct walker w = { .flags = flags, .fn = fn, .arg = arg, .counts = counts };
    int rc;

    w.root_len = strlen(root);
    buf_add(&w.path, root, w.root_len + 1);
    w.names = xmalloc(NAMES_BYTES);
    rc = walk_root(&w, root);
    free(w.names);
    free(w.levels);
    buf_fini(&w.path);
    return rc;
}
