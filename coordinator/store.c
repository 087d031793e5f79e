#include "coordinator/store_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "coordinator/store_dir.h"

enum { TRANSACTION_BYTES = 4 * MIB, RETRY_FULL_MS = 250 };

STAILQ_HEAD(group_list, fx_group);

struct store {
    char *dir;
    int lock_fd;
    struct epoch epoch;
    struct sql *sql; /* the thread's, once it runs */
    bool trim_later; /* the thread's */
    struct loop_wake *wake;
    const struct store_events *ev;
    void *arg;
    size_t backlog; /* the loop's thread only */
    bool failed_told, full_told;
    pthread_t thread;
    bool running;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    /* Under the mutex: */
    struct group_list waiting, done;
    bool stop, failed, full;
    struct err err;
};

int store_open(const char *dir, enum durability durability, struct store **ret,
               struct err *err)
{
    struct store *s = xcalloc(1, sizeof(*s));

    s->dir = xstrdup(dir);
    s->lock_fd = -1;
    STAILQ_INIT(&s->waiting);
    STAILQ_INIT(&s->done);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->cond, NULL);
    if (dir_make(dir, err) < 0 || dir_lock(dir, &s->lock_fd, err) < 0 ||
        sql_open(dir, durability, &s->epoch, &s->sql, err) < 0) {
        store_close(s, false);
        return -1;
    }
    *ret = s;
    return 0;
}

struct epoch store_epoch(const struct store *s)
{
    return s->epoch;
}

int store_load(struct store *s, const struct store_load_events *ev, void *arg,
               uint64_t *ret_next_row, struct err *err)
{
    return sql_load(s->sql, ev, arg, ret_next_row, err);
}

/* ---- the thread ---- */

static enum sql_result save_groups(struct store *s, struct group_list *groups,
                                   struct err *err)
{
    FAILPOINT("store_save_before");
    enum sql_result rc = sql_begin(s->sql, err);
    struct fx_group *g;
    struct fx *fx;

    STAILQ_FOREACH (g, groups, node)
        STAILQ_FOREACH (fx, &g->list, node)
            if (rc == SQL_OK && fx->type < FX_READ_CHUNK)
                rc = sql_save(s->sql, fx, err);
    if (rc == SQL_OK)
        rc = sql_commit(s->sql, err);
    if (rc != SQL_OK)
        sql_rollback(s->sql);
    return rc;
}

static int answer_reads(struct store *s, struct group_list *groups, struct err *err)
{
    struct fx_group *g;
    struct fx *fx;

    STAILQ_FOREACH (g, groups, node) {
        if (!g->reads)
            continue;
        STAILQ_FOREACH (fx, &g->list, node)
            if ((fx->type == FX_READ_CHUNK || fx->type == FX_READ_RESULTS) &&
                sql_read(s->sql, fx, err) < 0)
                return -1;
    }
    return 0;
}

static void tell_full(struct store *s, bool full, const struct err *err)
{
    pthread_mutex_lock(&s->mutex);
    s->full = full;
    if (full)
        s->err = *err;
    pthread_mutex_unlock(&s->mutex);
    loop_wake_post(s->wake);
}

static bool stopping(struct store *s)
{
    pthread_mutex_lock(&s->mutex);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->mutex);
    return stop;
}

static void fail(struct store *s, const struct err *err)
{
    pthread_mutex_lock(&s->mutex);
    s->failed = true;
    s->err = *err;
    pthread_mutex_unlock(&s->mutex);
    loop_wake_post(s->wake);
}

/* R2: with no space the same groups are tried again; any other failure is final. */
static int execute(struct store *s, struct group_list *groups, bool saves)
{
    struct err err = { 0 };
    bool full = false;

    while (saves) {
        enum sql_result rc = save_groups(s, groups, &err);
        if (rc == SQL_OK)
            break;
        if (rc == SQL_FAILED)
            goto failed;
        if (!full)
            tell_full(s, true, &err);
        full = true;
        if (stopping(s))
            goto failed; /* nothing of it was acknowledged */
        usleep(RETRY_FULL_MS * 1000);
    }
    if (full)
        tell_full(s, false, NULL);
    if (answer_reads(s, groups, &err) == 0)
        return 0;
failed:
    fail(s, &err);
    return -1;
}

static bool may_trim(const struct store *s, bool idle)
{
    return !s->trim_later && sql_trim_due(s->sql, idle);
}

/* Takes the groups of one transaction, or none when removed jobs leave something to do
 * meanwhile; false: the store is to stop and nothing waits. */
static bool take(struct store *s, struct group_list *groups, bool *saves)
{
    size_t bytes = 0;
    struct fx_group *g;

    STAILQ_INIT(groups);
    *saves = false;
    pthread_mutex_lock(&s->mutex);
    while (STAILQ_EMPTY(&s->waiting) && !s->stop && !may_trim(s, true))
        pthread_cond_wait(&s->cond, &s->mutex);
    while ((g = STAILQ_FIRST(&s->waiting)) && bytes < TRANSACTION_BYTES) {
        STAILQ_REMOVE_HEAD(&s->waiting, node);
        STAILQ_INSERT_TAIL(groups, g, node);
        bytes += g->bytes;
        *saves |= g->saves;
    }
    bool on = !s->stop || !STAILQ_EMPTY(groups);
    pthread_mutex_unlock(&s->mutex);
    return on;
}

/* One slice of what removed jobs leave behind. With no space it waits for the next
 * group: that finds out whether there is any. */
static int trim(struct store *s, bool idle)
{
    struct err err = { 0 };

    if (!may_trim(s, idle))
        return 0;
    enum sql_result rc = sql_trim(s->sql, &err);
    if (rc == SQL_FAILED)
        fail(s, &err);
    s->trim_later = rc == SQL_NO_SPACE;
    return rc == SQL_FAILED ? -1 : 0;
}

static void *store_thread(void *arg)
{
    struct store *s = arg;
    struct group_list groups;
    bool saves;

    while (take(s, &groups, &saves)) {
        bool idle = STAILQ_EMPTY(&groups);
        int rc = idle ? 0 : execute(s, &groups, saves);
        s->trim_later &= idle;
        pthread_mutex_lock(&s->mutex);
        if (rc == 0) {
            STAILQ_CONCAT(&s->done, &groups);
        } else { /* given back for freeing only: nothing of them is acknowledged */
            STAILQ_CONCAT(&groups, &s->waiting);
            STAILQ_CONCAT(&s->waiting, &groups);
        }
        pthread_mutex_unlock(&s->mutex);
        if (rc < 0)
            break;
        if (!idle)
            loop_wake_post(s->wake);
        if (trim(s, idle) < 0)
            break;
    }
    return NULL;
}

/* ---- the loop's side ---- */

static void deliver(void *arg)
{
    struct store *s = arg;
    struct group_list done;
    struct fx_group *g;
    bool failed, full;
    struct err err;

    STAILQ_INIT(&done);
    pthread_mutex_lock(&s->mutex);
    STAILQ_CONCAT(&done, &s->done);
    failed = s->failed;
    full = s->full;
    err = s->err;
    pthread_mutex_unlock(&s->mutex);
    if (full != s->full_told) {
        s->full_told = full;
        s->ev->full(s->arg, full, &err);
    }
    while ((g = STAILQ_FIRST(&done))) {
        STAILQ_REMOVE_HEAD(&done, node);
        s->backlog -= g->bytes;
        s->ev->committed(s->arg, g);
    }
    if (failed && !s->failed_told) {
        s->failed_told = true;
        s->ev->failed(s->arg, &err);
    }
}

int store_start(struct store *s, struct loop *loop, const struct store_events *ev,
                void *arg, struct err *err)
{
    sigset_t all, old;
    int rc;

    s->ev = ev;
    s->arg = arg;
    s->wake = loop_wake_new(loop, deliver, s);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&s->thread, NULL, store_thread, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        errno = rc;
        return err_sys(err, 1, "cannot start the store's thread");
    }
    s->running = true;
    return 0;
}

void store_push(struct store *s, struct fx_group *g)
{
    s->backlog += g->bytes;
    pthread_mutex_lock(&s->mutex);
    STAILQ_INSERT_TAIL(&s->waiting, g, node);
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mutex);
}

size_t store_backlog_bytes(const struct store *s)
{
    return s->backlog;
}

void store_close(struct store *s, bool remove)
{
    struct fx_group *g;

    if (!s)
        return;
    if (s->running) {
        pthread_mutex_lock(&s->mutex);
        s->stop = true;
        pthread_cond_signal(&s->cond);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
        deliver(s);
    }
    loop_wake_free(s->wake);
    while ((g = STAILQ_FIRST(&s->waiting))) {
        STAILQ_REMOVE_HEAD(&s->waiting, node);
        fx_group_free(g);
    }
    sql_close(s->sql);
    if (remove)
        dir_remove(s->dir);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->mutex);
    free(s->dir);
    free(s);
}
