#include "worker/litter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define EPHEMERAL "orphan"
enum { JOURNAL_LONG = 4 * MIB, JOURNAL_READ_MAX = 64 * MIB };

/* One attempt's files in one directory. In the journal: "EPOCH LEASE DIR\0", hex. */
struct entry {
    uint64_t epoch, lease;
    char *dir;
};

struct taken {
    int fd; /* holds the lock, so that nobody else sweeps */
    char *name;
};

struct kept {
    uint64_t epoch, lease;
    uint32_t task;
};

struct litter {
    int spool, fd;
    char *prefix, name[128];
    size_t written;
    struct buf notes; /* to be written */
    uint64_t epoch, lease;
    char *dir; /* of the last note: neighbours share one */
    struct entry *stale;
    size_t n_stale, cap_stale;
    struct kept *kept;
    size_t n_kept, cap_kept;
    struct taken *taken; /* journals that were taken over */
    size_t n_taken;
};

/* ---- journals of others ---- */

static void take_entry(struct litter *l, const char *text)
{
    unsigned long long epoch, lease;
    int at = 0;

    if (sscanf(text, "%llx %llx %n", &epoch, &lease, &at) < 2 || text[at] != '/')
        return;
    if (l->n_stale == l->cap_stale) {
        l->cap_stale = MAX(64, l->cap_stale * 2);
        l->stale = xrealloc(l->stale, l->cap_stale * sizeof(*l->stale));
    }
    l->stale[l->n_stale++] =
        (struct entry){ .epoch = epoch, .lease = lease, .dir = xstrdup(text + at) };
}

/* Whole entries only: the last may have been cut by the end of its writer. */
static void take_entries(struct litter *l, int fd)
{
    AUTO_BUF text = BUF_INIT;
    size_t at = 0;
    ssize_t n;

    while (text.len < JOURNAL_READ_MAX &&
           (n = read(fd, buf_reserve(&text, 64 * KIB), 64 * KIB)) > 0)
        text.len += (size_t)n;
    while (at < text.len) {
        const uint8_t *end = memchr(text.data + at, 0, text.len - at);
        if (!end)
            return;
        take_entry(l, (const char *)text.data + at);
        at = (size_t)(end - text.data) + 1;
    }
}

/* Somebody else's file under such a name would make us remove what he likes. */
static bool is_ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & 077) == 0 && st.st_nlink == 1;
}

/* False: it is held. */
static bool take_over(struct litter *l, const char *name)
{
    int fd = openat(l->spool, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return true;
    if (!is_ours(fd) || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        bool held = errno == EWOULDBLOCK;
        close(fd);
        return !held;
    }
    take_entries(l, fd);
    l->taken = xrealloc(l->taken, (l->n_taken + 1) * sizeof(*l->taken));
    l->taken[l->n_taken++] = (struct taken){ fd, xstrdup(name) };
    return true;
}

/* How the names of all journals with this key begin. Caller frees. */
static char *prefix_of(const char *key)
{
    return xasprintf("tidemill-%u-%s-", (unsigned)geteuid(), key);
}

static bool begins(const char *name, const char *prefix)
{
    return prefix && strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool take_over_all(struct litter *l)
{
    AUTO_FREE char *orphans = prefix_of(EPHEMERAL);
    DIR *dir = fdopendir(openat(l->spool, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *e;
    bool all = true;

    while (dir && (e = readdir(dir))) {
        if (strcmp(e->d_name, l->name) == 0)
            continue;
        if (begins(e->d_name, l->prefix))
            all &= take_over(l, e->d_name);
        else if (begins(e->d_name, orphans))
            take_over(l, e->d_name);
    }
    if (dir)
        closedir(dir);
    return all || begins(l->name, orphans); /* held orphans are just alive */
}

/* ---- life ---- */

static int make(struct litter *l, const char *spool_dir, const char *key, struct err *err)
{
    l->prefix = prefix_of(key ? key : EPHEMERAL);
    l->spool = open(spool_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->spool < 0)
        return err_sys(err, 1, "%s", spool_dir);
    snprintf(l->name, sizeof(l->name), "%s%ld.%llx", l->prefix, (long)getpid(),
             (unsigned long long)clock_wall_ns());
    /* Locked before anybody can see its name. */
    l->fd = openat(l->spool, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (l->fd < 0 || flock(l->fd, LOCK_EX | LOCK_NB) < 0)
        return err_sys(err, 1, "a journal in %s", spool_dir);
    AUTO_FREE char *self = xasprintf("/proc/self/fd/%d", l->fd);
    if (linkat(AT_FDCWD, self, l->spool, l->name, AT_SYMLINK_FOLLOW) < 0)
        return err_sys(err, 1, "a journal in %s", spool_dir);
    return 0;
}

int litter_new(const char *spool_dir, const char *key, struct litter **ret,
               struct err *err)
{
    struct litter *l = xcalloc(1, sizeof(*l));

    l->spool = l->fd = -1;
    if (make(l, spool_dir, key, err) < 0) {
        l->name[0] = 0;
        litter_free(l, true);
        return -1;
    }
    *ret = l;
    return 0;
}

static void forget_stale(struct litter *l)
{
    for (size_t i = 0; i < l->n_stale; i++)
        free(l->stale[i].dir);
    for (size_t i = 0; i < l->n_taken; i++) {
        close(l->taken[i].fd);
        free(l->taken[i].name);
    }
    free(l->stale);
    free(l->taken);
    l->stale = NULL;
    l->taken = NULL;
    l->n_stale = l->cap_stale = l->n_taken = 0;
}

void litter_free(struct litter *l, bool keep)
{
    if (!l)
        return;
    if (!keep)
        unlinkat(l->spool, l->name, 0);
    forget_stale(l); /* not swept: whoever comes next takes them over */
    if (l->fd >= 0)
        close(l->fd);
    if (l->spool >= 0)
        close(l->spool);
    buf_fini(&l->notes);
    free(l->kept);
    free(l->prefix);
    free(l->dir);
    free(l);
}

/* ---- our own journal ---- */

void litter_note(struct litter *l, uint64_t epoch, uint64_t lease, struct span out)
{
    const uint8_t *slash = out.len ? memrchr(out.data, '/', out.len) : NULL;
    size_t len = slash ? (size_t)(slash - out.data) + 1 : 0;

    if (!l || !len)
        return;
    if (l->dir && l->epoch == epoch && l->lease == lease && strlen(l->dir) == len &&
        memcmp(l->dir, out.data, len) == 0)
        return;
    free(l->dir);
    l->dir = span_dup(span_of(out.data, len));
    l->epoch = epoch;
    l->lease = lease;
    buf_printf(&l->notes, "%llx %llx ", (unsigned long long)epoch,
               (unsigned long long)lease);
    buf_add(&l->notes, l->dir, len + 1);
}

void litter_flush(struct litter *l)
{
    ssize_t n;

    if (!l || !l->notes.len)
        return;
    /* What cannot be noted may stay behind after a kill; the work goes on. */
    n = pwrite(l->fd, l->notes.data, l->notes.len, (off_t)l->written);
    l->written += n > 0 ? (size_t)n : 0;
    buf_clear(&l->notes);
}

void litter_clear(struct litter *l)
{
    if (!l || !l->written)
        return;
    if (ftruncate(l->fd, 0) == 0)
        l->written = 0;
    free(l->dir);
    l->dir = NULL;
}

bool litter_is_long(const struct litter *l)
{
    return l && l->written > JOURNAL_LONG;
}

/* ---- sweeping ---- */

void litter_keep(struct litter *l, uint64_t epoch, uint64_t lease, uint32_t task)
{
    if (!l)
        return;
    if (l->n_kept == l->cap_kept) {
        l->cap_kept = MAX(64, l->cap_kept * 2);
        l->kept = xrealloc(l->kept, l->cap_kept * sizeof(*l->kept));
    }
    l->kept[l->n_kept++] = (struct kept){ epoch, lease, task };
}

static int kept_cmp(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;

    if (x->epoch != y->epoch)
        return x->epoch < y->epoch ? -1 : 1;
    if (x->lease != y->lease)
        return x->lease < y->lease ? -1 : 1;
    return x->task == y->task ? 0 : x->task < y->task ? -1 : 1;
}

static bool is_kept(const struct litter *l, const struct kept *of)
{
    return l->n_kept && bsearch(of, l->kept, l->n_kept, sizeof(*l->kept), kept_cmp);
}

static int attempt_cmp(const struct entry *a, const struct entry *b)
{
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    return a->lease == b->lease ? 0 : a->lease < b->lease ? -1 : 1;
}

static int entry_cmp(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int dirs = strcmp(x->dir, y->dir);

    return dirs ? dirs : attempt_cmp(x, y);
}

static int attempt_cmp_void(const void *a, const void *b)
{
    return attempt_cmp(a, b);
}

/* The attempt in ".NAME.tm-EPOCH-LEASE-TASK". */
static bool attempt_of(const char *name, struct kept *ret)
{
    const char *mark = NULL;
    unsigned long long epoch, lease;
    unsigned task;
    int end = 0;

    if (name[0] != '.')
        return false;
    for (const char *at = name; (at = strstr(at, ".tm-")); at++)
        mark = at;
    if (!mark || sscanf(mark, ".tm-%llx-%llx-%x%n", &epoch, &lease, &task, &end) < 3 ||
        mark[end])
        return false;
    *ret = (struct kept){ epoch, lease, task };
    return true;
}

/* entries: of one directory, in order. */
static void sweep_dir(const struct litter *l, const struct entry *entries, size_t n)
{
    DIR *dir = opendir(entries[0].dir);
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        struct kept of;
        if (!attempt_of(e->d_name, &of))
            continue;
        struct entry key = { .epoch = of.epoch, .lease = of.lease };
        if (bsearch(&key, entries, n, sizeof(*entries), attempt_cmp_void) &&
            !is_kept(l, &of))
            unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir)
        closedir(dir);
}

bool litter_sweep(struct litter *l)
{
    size_t end;
    bool all;

    if (!l)
        return true;
    all = take_over_all(l);
    if (l->n_stale)
        qsort(l->stale, l->n_stale, sizeof(*l->stale), entry_cmp);
    if (l->n_kept)
        qsort(l->kept, l->n_kept, sizeof(*l->kept), kept_cmp);
    for (size_t at = 0; at < l->n_stale; at = end) {
        for (end = at + 1; end < l->n_stale; end++)
            if (strcmp(l->stale[end].dir, l->stale[at].dir) != 0)
                break;
        sweep_dir(l, l->stale + at, end - at);
    }
    for (size_t i = 0; i < l->n_taken; i++)
        unlinkat(l->spool, l->taken[i].name, 0);
    forget_stale(l);
    return all;
}
