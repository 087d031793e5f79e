/* Moving a state. The order of the steps, each on disk before the next:
 *
 *     moving-from is in NEW           NEW is refused     OLD can be used
 *     keys, segments and database are in NEW, whole
 *     moved-to is in OLD              both are refused   "move" again finishes it
 *     OLD's database, segments and keys get other names
 *     moving-from is gone             NEW can be used    OLD is refused for ever
 *
 * Before moved-to is there, a second call copies anew: OLD may have gone on meanwhile.
 * After it nothing is copied any more. */
#include "coordinator/store_move.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/failpoint.h"
#include "coordinator/segment.h"
#include "coordinator/server_key.h"
#include "coordinator/store_dir.h"
#include "coordinator/store_note.h"
#include "coordinator/store_space.h"
#include "coordinator/store_state.h"

#define DB    "tidemill.db"
#define ASIDE ".moved"

static const char *const key_files[] = { SERVER_KEY, SERVER_KEY_NEXT, SERVER_KEY_OLD };

struct move {
    char *old, *to;        /* absolute, without symbolic links; owned */
    int old_lock, to_lock; /* -1: not held */
    bool made;             /* NEW, by this call */
    bool marked;           /* OLD, by an earlier call or this one */
};

/* What is done with a file of OLD. */
typedef int move_fn(const struct move *m, const char *name, struct err *err);

static bool has(const char *dir, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static int is_path(const char *dir, const char *name, const char *path, bool *ret,
                   struct err *err)
{
    struct note n;
    int rc = note_read(dir, name, &n, err);

    *ret = rc == 0 && n.there && strcmp(n.path, path) == 0;
    note_fini(&n);
    return rc;
}

/* ---- what may be moved, and where to ---- */

static int take_old(struct move *m, const char *old, struct err *err)
{
    m->old = realpath(old, NULL);
    if (!m->old || (!has(m->old, DB) && !has(m->old, NOTE_MOVED_TO) &&
                    !has(m->old, NOTE_MOVING_FROM)))
        return err_sys(err, 1, "no state of a coordinator: %s/" DB, old);
    if (dir_lock(m->old, &m->old_lock, err) < 0)
        return -1;
    m->marked = has(m->old, NOTE_MOVED_TO);
    return m->marked ? 0 : note_refuse(m->old, err);
}

/* Nothing is in NEW but what an interrupted move from OLD left there. */
static int check_free(const struct move *m, struct err *err)
{
    bool ours;
    DIR *d;

    if (is_path(m->to, NOTE_MOVING_FROM, m->old, &ours, err) < 0)
        return -1;
    if (ours)
        return 0;
    if (!(d = opendir(m->to)))
        return err_sys(err, 1, "cannot read the directory %s", m->to);
    const char *other = NULL;
    for (struct dirent *e; !other && (e = readdir(d));)
        /* The last two: what comes before the note is in its place. */
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, "lock") != 0 &&
            strcmp(e->d_name, NOTE_MOVING_FROM ".new") != 0)
            other = e->d_name;
    if (other) {
        err_set(err, 1, "%s is not empty: '%s' is in it", m->to, other);
        err_hint(err, "move the state to a directory that is empty or not there");
    }
    closedir(d);
    return other ? -1 : 0;
}

static int take_new(struct move *m, const char *to, struct err *err)
{
    m->made = access(to, F_OK) < 0;
    if (dir_make(to, err) < 0)
        return -1;
    m->to = realpath(to, NULL);
    if (!m->to)
        return err_sys(err, 1, "cannot find %s", to);
    /* Before the lock, so that nothing is made in a directory that is refused; and again
     * under it, as a coordinator may have begun there in between. */
    if (check_free(m, err) < 0 || dir_lock(m->to, &m->to_lock, err) < 0)
        return -1;
    return check_free(m, err);
}

/* OLD was marked by a call that did not come to its end, with this very NEW. */
static int take_up(struct move *m, const char *to, struct err *err)
{
    bool there = false, from = false;

    m->to = realpath(to, NULL);
    if (m->to && (is_path(m->old, NOTE_MOVED_TO, m->to, &there, err) < 0 ||
                  is_path(m->to, NOTE_MOVING_FROM, m->old, &from, err) < 0))
        return -1;
    if (!there || !from) {
        note_refuse(m->old, err);
        return -1;
    }
    return dir_lock(m->to, &m->to_lock, err);
}

/* ---- copying ---- */

static int copy_range(int from, int to, off_t at, off_t end, char *piece, size_t size)
{
    while (at < end) {
        ssize_t n = pread(from, piece, MIN(size, (size_t)(end - at)), at);
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = pwrite(to, piece + done, (size_t)(n - done), at + done)) < 0)
                return -1;
        if (n <= 0)
            return n < 0 ? -1 : 0;
        at += n;
    }
    return 0;
}

/* Holes stay holes: of a segment they may be nearly all. */
static int copy_data(int from, int to, off_t len, char *piece, size_t size)
{
    for (off_t at = 0, end; at < len; at = end) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0) /* the file system cannot tell */
            data = at;
        end = lseek(from, data, SEEK_HOLE);
        end = end <= data ? len : end;
        if (copy_range(from, to, data, end, piece, size) < 0)
            return -1;
    }
    return ftruncate(to, len);
}

static int copy_bytes(int from, int to, off_t len)
{
    enum { PIECE = MIB };
    AUTO_FREE char *piece = xmalloc(PIECE);
    int rc = copy_data(from, to, len, piece, PIECE);

    crypto_zero(piece, PIECE); /* it may have been a key */
    if (FAILPOINT_ERROR("move_copy")) {
        errno = ENOSPC;
        return -1;
    }
    if (rc < 0 || fsync(to) < 0)
        return -1;
    /* What is read of it from now on is what is on the disk. */
    posix_fadvise(to, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int copy_file(const struct move *m, const char *name, struct err *err)
{
    AUTO_FREE char *source = xasprintf("%s/%s", m->old, name);
    AUTO_FREE char *target = xasprintf("%s/%s", m->to, name);
    int from = open(source, O_RDONLY | O_CLOEXEC), to = -1, rc = -1;
    struct stat st;

    if (from < 0 || fstat(from, &st) < 0) {
        err_sys(err, 1, "cannot read %s", source);
        goto out;
    }
    to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
    if (to < 0 || copy_bytes(from, to, st.st_size) < 0) {
        err_sys(err, 1, "cannot copy %s to %s", source, target);
        goto out;
    }
    rc = 0;
out:
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

/* Who pinned the coordinator's key finds it at the new place. */
static int each_key(const struct move *m, move_fn *fn, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(key_files); i++)
        if (has(m->old, key_files[i]) && fn(m, key_files[i], err) < 0)
            return -1;
    return 0;
}

static int each_segment(const struct move *m, move_fn *fn, struct err *err)
{
    DIR *d = opendir(m->old);
    int rc = d ? 0 : err_sys(err, 1, "cannot read the directory %s", m->old);

    for (struct dirent *e; rc == 0 && (e = readdir(d));)
        if (segment_number(e->d_name))
            rc = fn(m, e->d_name, err);
    if (d)
        closedir(d);
    return rc;
}

/* With the names of all directories above, whoever made them. */
static int sync_new(const struct move *m, struct err *err)
{
    int fd = open(m->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || syncfs(fd) < 0
                 ? err_sys(err, 1, "cannot write the directory %s to disk", m->to)
                 : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

static int copy(const struct move *m, struct err *err)
{
    if (note_write(m->to, NOTE_MOVING_FROM, m->old, err) < 0)
        return -1;
    FAILPOINT("move_guarded");
    dir_clear(m->to); /* an interrupted copy */
    reserve_let_go(m->old);
    if (sql_empty_log(m->old, err) < 0 || each_key(m, copy_file, err) < 0 ||
        each_segment(m, copy_file, err) < 0 || copy_file(m, DB, err) < 0 ||
        sync_new(m, err) < 0)
        return -1;
    FAILPOINT("move_copied");
    return 0;
}

static int verify(const struct move *m, FILE *out, struct check_totals *ret,
                  struct err *err)
{
    int rc = store_check_locked(m->to, out, ret, err);

    if (rc == 0 && ret->findings)
        rc = err_set(err, 1, "%s is damaged: %llu findings", m->marked ? m->to : m->old,
                     (unsigned long long)ret->findings);
    if (rc < 0 && m->marked)
        err_hint(err, "the database as it was is still in %s", m->old);
    else if (rc < 0)
        err_hint(err, "nothing was moved");
    return rc;
}

/* Nothing was moved: NEW is as it was before. */
static void withdraw(const struct move *m)
{
    AUTO_FREE char *lock = xasprintf("%s/lock", m->to);

    dir_clear(m->to);
    note_remove(m->to, NOTE_MOVING_FROM, NULL);
    if (m->made) {
        unlink(lock);
        rmdir(m->to);
    }
}

/* ---- from OLD to NEW ---- */

static int rename_aside(const struct move *m, const char *name, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/%s", m->old, name);
    AUTO_FREE char *aside = xasprintf("%s/%s" ASIDE, m->old, name);

    if (rename(path, aside) < 0 && errno != ENOENT)
        return err_sys(err, 1, "cannot rename %s", path);
    return 0;
}

static int set_aside(const struct move *m, struct err *err)
{
    AUTO_FREE char *reserve = xasprintf("%s/reserve", m->old);

    if (rename_aside(m, DB, err) < 0 || each_segment(m, rename_aside, err) < 0 ||
        each_key(m, rename_aside, err) < 0)
        return -1;
    unlink(reserve);
    return dir_sync(m->old, err);
}

static int hand_over(struct move *m, struct err *err)
{
    int rc = 0;

    if (!m->marked) {
        rc = note_write(m->old, NOTE_MOVED_TO, m->to, err);
        FAILPOINT("move_marked");
    }
    if (rc == 0)
        rc = set_aside(m, err);
    FAILPOINT("move_aside");
    if (rc == 0)
        rc = note_remove(m->to, NOTE_MOVING_FROM, err);
    FAILPOINT("move_done");
    if (rc < 0)
        err_hint(err, "the same command again finishes the move");
    return rc;
}

int store_move(const char *old, const char *to, FILE *out, struct check_totals *ret,
               struct err *err)
{
    struct move m = { .old_lock = -1, .to_lock = -1 };
    int rc = take_old(&m, old, err);

    *ret = (struct check_totals){ 0 };
    if (rc == 0)
        rc = m.marked ? take_up(&m, to, err) : take_new(&m, to, err);
    if (rc == 0) {
        if (!m.marked)
            rc = copy(&m, err);
        if (rc == 0)
            rc = verify(&m, out, ret, err);
        if (rc < 0 && !m.marked)
            withdraw(&m);
    }
    if (rc == 0)
        rc = hand_over(&m, err);
    if (m.to_lock >= 0)
        close(m.to_lock);
    if (m.old_lock >= 0)
        close(m.old_lock);
    free(m.old);
    free(m.to);
    return rc;
}
