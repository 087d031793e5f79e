/* The names of a page are the least of those behind `after` that fit: a heap with the
 * greatest on top, which goes when there are too many. So a page is continued from its
 * last name, by any process, after any time, whatever order the file system has. */
#include "worker/ops/walkdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/page.h"

enum {
    PAGE_BYTES_MAX = VALUE_MAX_BYTES - 4 * KIB, /* the rest of the value is small */
    AHEAD_BYTES_MAX = 16 * PAGE_BYTES_MAX,
    LOOK_EVERY = 1024, /* names, between two looks at whether it is still wanted */
};

struct name {
    uint8_t type; /* DT_* as the directory says it */
    char text[];
};

struct names {
    struct name **heap; /* the greatest first, until it is sorted */
    size_t n, cap;
    size_t bytes;       /* that they take in pages at most */
    struct name *bound; /* owned; no name from here on is among them; NULL = none */
};

/* What the process has chosen last, sorted: all names of the directory behind `from`, up
 * to the bound. */
struct ahead {
    struct names names;
    char *from;      /* owned; NULL = nothing is kept */
    struct stat dir; /* as it was before they were read */
    uint64_t skipped;
};
static _Thread_local struct ahead ahead;

/* ---- the heap ---- */

static void swap(struct names *t, size_t a, size_t b)
{
    struct name *x = t->heap[a];
    t->heap[a] = t->heap[b];
    t->heap[b] = x;
}

static bool greater(const struct names *t, size_t a, size_t b)
{
    return strcmp(t->heap[a]->text, t->heap[b]->text) > 0; /* as bytes, without a sign */
}

static void push(struct names *t, struct name *name)
{
    size_t i = t->n++;

    if (t->n > t->cap) {
        t->cap = MAX(256, t->cap * 2);
        t->heap = xrealloc(t->heap, t->cap * sizeof(struct name *));
    }
    t->heap[i] = name;
    for (; i && greater(t, i, (i - 1) / 2); i = (i - 1) / 2)
        swap(t, i, (i - 1) / 2);
}

static struct name *pop(struct names *t)
{
    struct name *top = t->heap[0];
    size_t i = 0;

    t->heap[0] = t->heap[--t->n];
    for (;;) {
        size_t most = i, l = 2 * i + 1, r = l + 1;
        if (l < t->n && greater(t, l, most))
            most = l;
        if (r < t->n && greater(t, r, most))
            most = r;
        if (most == i)
            return top;
        swap(t, i, most);
        i = most;
    }
}

static void ahead_clear(struct ahead *a)
{
    struct names *t = &a->names;

    while (t->n)
        free(t->heap[--t->n]);
    free(t->heap);
    free(t->bound);
    free(a->from);
    *a = (struct ahead){ .from = NULL };
}

/* ---- choosing ---- */

static void names_add(struct names *t, const char *text, uint8_t type)
{
    size_t len = strlen(text);
    struct name *name;

    if (t->bound && strcmp(text, t->bound->text) >= 0)
        return;
    name = xmalloc(sizeof(*name) + len + 1);
    name->type = type;
    memcpy(name->text, text, len + 1);
    push(t, name);
    t->bytes += page_entry_bytes(len);
    while (t->bytes > AHEAD_BYTES_MAX) {
        free(t->bound);
        t->bound = pop(t);
        t->bytes -= page_entry_bytes(strlen(t->bound->text));
    }
}

static bool is_wanted(uint8_t type)
{
    return type == DT_REG || type == DT_DIR || type == DT_UNKNOWN;
}

static int compare(const void *a, const void *b)
{
    const struct name *const *x = a, *const *y = b;
    return strcmp((*x)->text, (*y)->text);
}

/* Reads all names of the open directory. after: "" = from the beginning. */
static enum task_status choose(const struct task_env *env, DIR *d, const char *after,
                               struct ahead *a, struct err *err)
{
    struct names *t = &a->names;
    struct dirent *e;

    rewinddir(d);
    for (unsigned n = 0; errno = 0, (e = readdir(d)); n++) {
        if (n % LOOK_EVERY == 0 && task_cancelled(env)) {
            err_set(err, 1, "cancelled");
            return TASK_CANCELLED;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!is_wanted(e->d_type))
            a->skipped += !*after;
        else if (!*after || strcmp(e->d_name, after) > 0)
            names_add(t, e->d_name, e->d_type);
    }
    if (errno != 0) {
        err_set(err, 1, "cannot be read: %s", strerror(errno));
        return task_status_of(errno);
    }
    if (t->n)
        qsort(t->heap, t->n, sizeof(struct name *), compare);
    return TASK_OK;
}

/* The first that is kept behind a name. */
static size_t place_of(const struct names *t, const char *after)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(t->heap[mid]->text, after) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool same_dir(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* What comes behind `after` is among what is kept, or there is nothing more. */
static bool has_ahead(const struct ahead *a, const struct stat *dir, const char *after)
{
    return a->from && same_dir(&a->dir, dir) && strcmp(a->from, after) <= 0 &&
           (!a->names.bound || place_of(&a->names, after) < a->names.n);
}

static enum task_status look_ahead(const struct task_env *env, DIR *d,
                                   const struct stat *dir, const char *after,
                                   struct ahead *a, struct err *err)
{
    enum task_status status;

    if (has_ahead(a, dir, after))
        return TASK_OK;
    ahead_clear(a);
    status = choose(env, d, after, a, err);
    if (status != TASK_OK) {
        ahead_clear(a);
        return status;
    }
    a->from = xstrdup(after);
    a->dir = *dir;
    return TASK_OK;
}

/* ---- the page ---- */

/* A file's size is worth a look: large ones are shared by processes. One that cannot be
 * looked at is listed, so that whoever opens it says why not. */
static void list_one(int dir, const struct name *name, struct buf *page,
                     uint64_t *skipped)
{
    struct page_entry e = { PAGE_DIR, span_str(name->text), 0 };
    struct stat st;

    if (name->type != DT_DIR) {
        int rc = fstatat(dir, name->text, &st, AT_SYMLINK_NOFOLLOW);
        if (rc < 0 && errno == ENOENT)
            return; /* it is gone */
        if (rc == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
            ++*skipped;
            return;
        }
        e.kind = rc == 0 && S_ISDIR(st.st_mode) ? PAGE_DIR : PAGE_FILE;
        e.size = rc == 0 && e.kind == PAGE_FILE ? (uint64_t)st.st_size : 0;
    }
    page_add(page, &e);
}

/* Pages on which nothing is left are passed over: there is no name to go on from. */
static enum task_status make_page(const struct task_env *env, DIR *d,
                                  const struct stat *dir, struct span from,
                                  struct buf *page, struct task_value *ret,
                                  struct err *err)
{
    AUTO_FREE char *after = from.len ? span_dup(from) : xstrdup("");
    const struct names *t = &ahead.names;

    do {
        enum task_status status = look_ahead(env, d, dir, after, &ahead, err);
        size_t i, bytes = 0;
        if (status != TASK_OK)
            return status;
        ret->skipped += *after ? 0 : ahead.skipped;
        for (i = place_of(t, after); i < t->n; i++) {
            bytes += page_entry_bytes(strlen(t->heap[i]->text));
            if (bytes > PAGE_BYTES_MAX)
                break;
            list_one(dirfd(d), t->heap[i], page, &ret->skipped);
        }
        ret->more = i < t->n || t->bound;
        free(after);
        after = xstrdup(i ? t->heap[i - 1]->text : "");
    } while (ret->more && page->len == 0);
    if (!ret->more)
        ahead_clear(&ahead);
    return TASK_OK;
}

enum task_status walkdir_run(const struct task_env *env, const struct task_input *in,
                             struct buf *mem, struct task_value *ret, struct err *err)
{
    enum task_status status;
    struct stat st;
    DIR *d;
    int fd;

    if (files_open_dir(env->roots, in->path, in->named, &fd, &st, err) < 0)
        return task_status_of(errno);
    if (fd < 0) {
        ret->is_file = true;
        ret->bytes = (uint64_t)st.st_size;
        return TASK_OK;
    }
    d = fdopendir(fd);
    CHECK(d);
    status = make_page(env, d, &st, in->after, mem, ret, err);
    closedir(d);
    ret->has_body = status == TASK_OK;
    return status;
}
