#include "coordinator/store_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/queue.h"
#include "coordinator/store_dir.h"
#include "coordinator/store_note.h"
#include "coordinator/store_space.h"

enum { TRANSACTION_MAX = 4 * MIB, TRANSACTION_MIN = 256 * KIB };
#define RETRY_FULL_NS    (250 * NS_PER_MS)
#define RESERVE_AGAIN_NS (1 * NS_PER_S)
/* How long groups that nobody waits for are gathered into one transaction, and how much
 * of them comes back to the loop's thread before it is woken for it. */
#define GATHER_NS (10 * NS_PER_MS)
enum { DONE_MAX = 4 * MIB };
/* What a group costs in memory beside its blobs: its arena's block. */
enum { GROUP_BYTES = 16 * KIB };

STAILQ_HEAD(group_list, fx_group);

struct store {
    char *dir;
    int lock_fd;
    struct epoch epoch;
    struct sql *sql; /* the thread's, once it runs */
    bool trim_later; /* the thread's, as what follows */
    bool overtakes;  /* pages of results may, while the disk is full */
    uint64_t reserve_bytes;
    size_t transaction_bytes; /* what is committed together */
    bool reserve_held;
    int64_t reserve_again_ns; /* when to try to take it again */
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
    size_t waiting_bytes, done_bytes;
    bool hurry;        /* of what waits something is waited for, or it is much */
    int64_t gather_ns; /* else: when to take it */
    bool stop, failed, full;
    struct err err;
};

int store_open(const char *dir, enum durability durability, struct store **ret,
               struct err *err)
{
    struct store *s = xcalloc(1, sizeof(*s));

    s->dir = xstrdup(dir);
    s->lock_fd = -1;
    s->transaction_bytes = TRANSACTION_MAX;
    s->overtakes = durability != DURABILITY_NONE;
    STAILQ_INIT(&s->waiting);
    STAILQ_INIT(&s->done);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
    if (dir_make(dir, err) < 0 || dir_lock(dir, &s->lock_fd, err) < 0 ||
        note_refuse(dir, err) < 0)
        goto failed;
    /* On a full disk an earlier coordinator's reserve makes the start possible. */
    reserve_let_go(dir);
    if (sql_open(dir, durability, &s->epoch, &s->sql, err) < 0)
        goto failed;
    *ret = s;
    return 0;
failed:
    store_close(s, false);
    return -1;
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

/* ---- groups ---- */

static enum sql_result save_groups(struct store *s, struct group_list *groups,
                                   struct err *err)
{
    FAILPOINT("store_save_before");
    if (STAILQ_FIRST(groups)->behind)
        FAILPOINT("store_behind_before");
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

/* ---- a full disk (R2, R13) ---- */

static void reserve_hold(struct store *s)
{
    s->reserve_held = s->reserve_bytes && reserve_take(s->dir, s->reserve_bytes);
    s->reserve_again_ns = clock_mono_ns() + RESERVE_AGAIN_NS;
}

/* Something is to be tried again after a while. */
static bool wants_room(const struct store *s)
{
    return s->trim_later || (s->reserve_bytes && !s->reserve_held);
}

static void reserve_drop(struct store *s)
{
    if (s->reserve_held)
        reserve_let_go(s->dir);
    s->reserve_held = false;
}

static bool removes_wait(struct store *s, const struct group_list *groups)
{
    const struct fx_group *g;
    bool wait = false;

    STAILQ_FOREACH (g, groups, node)
        wait |= g->removes;
    pthread_mutex_lock(&s->mutex);
    STAILQ_FOREACH (g, &s->waiting, node)
        wait |= g->removes;
    pthread_mutex_unlock(&s->mutex);
    return wait;
}

/* What gives room back runs with the reserve let go: the log is copied into the database
 * and removed jobs are deleted. It is taken again, unless a removal is yet to be saved.
 */
static enum sql_result make_room(struct store *s, const struct group_list *groups,
                                 struct err *err)
{
    struct err why;

    reserve_drop(s);
    enum sql_result rc = sql_checkpoint(s->sql, &why);
    while (rc == SQL_OK && sql_trim_due(s->sql, false))
        rc = sql_trim(s->sql, &why);
    if (rc == SQL_FAILED)
        *err = why;
    else if (!removes_wait(s, groups))
        reserve_hold(s);
    return rc;
}

/* Under the mutex. */
static bool pages_wait(const struct store *s)
{
    const struct fx_group *g;

    STAILQ_FOREACH (g, &s->waiting, node)
        if (s->overtakes && g->only_pages)
            return true;
    return false;
}

/* While nothing can be saved, pages of results are read: those groups that ask for
 * nothing else overtake the ones that wait. All others keep their order (R1). Where
 * groups are written behind, their records may be what a page is of: then none do. */
static int serve_pages(struct store *s, struct err *err)
{
    struct group_list pages;
    struct fx_group *g, *tmp;
    int rc;

    STAILQ_INIT(&pages);
    pthread_mutex_lock(&s->mutex);
    STAILQ_FOREACH_SAFE(g, &s->waiting, node, tmp)
    if (s->overtakes && g->only_pages) {
        s->waiting_bytes -= g->bytes + GROUP_BYTES;
        s->done_bytes += g->bytes + GROUP_BYTES;
        STAILQ_REMOVE(&s->waiting, g, fx_group, node);
        STAILQ_INSERT_TAIL(&pages, g, node);
    }
    pthread_mutex_unlock(&s->mutex);
    if (STAILQ_EMPTY(&pages))
        return 0;
    rc = answer_reads(s, &pages, err);
    pthread_mutex_lock(&s->mutex);
    STAILQ_CONCAT(&s->done, &pages);
    pthread_mutex_unlock(&s->mutex);
    loop_wake_post(s->wake);
    return rc;
}

/* Until `ns` from now, or the next push. Under the mutex. */
static void wait_push(struct store *s, int64_t ns)
{
    int64_t until = clock_mono_ns() + ns;
    struct timespec ts = { until / NS_PER_S, until % NS_PER_S };

    pthread_cond_timedwait(&s->cond, &s->mutex, &ts);
}

/* Some time, and what can be done in it. */
static int wait_for_room(struct store *s, struct err *err)
{
    int64_t until = clock_mono_ns() + RETRY_FULL_NS;
    int rc = 0;

    while (rc == 0 && clock_mono_ns() < until && !stopping(s)) {
        rc = serve_pages(s, err);
        pthread_mutex_lock(&s->mutex);
        if (rc == 0 && !s->stop && !pages_wait(s))
            wait_push(s, until - clock_mono_ns());
        pthread_mutex_unlock(&s->mutex);
    }
    return rc;
}

/* What was told of already is lost when these groups are. */
static bool some_behind(const struct group_list *groups)
{
    const struct fx_group *g;

    STAILQ_FOREACH (g, groups, node)
        if (g->behind)
            return true;
    return false;
}

/* Stopped while there is no room, with what was told of already: it has the reserve,
 * which is not taken again. */
static enum sql_result save_last(struct store *s, struct group_list *groups,
                                 struct err *err)
{
    s->reserve_bytes = 0;
    if (make_room(s, groups, err) == SQL_FAILED)
        return SQL_FAILED;
    return save_groups(s, groups, err);
}

/* The same groups are tried again until they are saved; any error but a full disk is
 * final. Of those that are waited for nothing was acknowledged: a stop ends that. */
static enum sql_result save_with_room(struct store *s, struct group_list *groups,
                                      struct err *err)
{
    enum sql_result rc = save_groups(s, groups, err);
    bool full = rc == SQL_NO_SPACE;

    if (full)
        tell_full(s, true, err);
    while (rc == SQL_NO_SPACE && !stopping(s)) {
        if (make_room(s, groups, err) == SQL_FAILED)
            return SQL_FAILED;
        rc = save_groups(s, groups, err);
        if (rc == SQL_NO_SPACE && wait_for_room(s, err) < 0)
            return SQL_FAILED;
    }
    if (rc == SQL_NO_SPACE && some_behind(groups))
        rc = save_last(s, groups, err);
    if (full && rc == SQL_OK)
        tell_full(s, false, NULL);
    return rc;
}

static int execute(struct store *s, struct group_list *groups, bool saves)
{
    struct err err = { 0 };

    if ((!saves || save_with_room(s, groups, &err) == SQL_OK) &&
        answer_reads(s, groups, &err) == 0)
        return 0;
    fail(s, &err);
    return -1;
}

/* ---- the thread ---- */

static bool may_trim(const struct store *s, bool idle)
{
    return !s->trim_later && sql_trim_due(s->sql, idle);
}

/* What is taken together. Under the mutex. */
static void take_groups(struct store *s, struct group_list *groups, bool *saves)
{
    size_t bytes = 0;
    struct fx_group *g;

    while ((g = STAILQ_FIRST(&s->waiting)) &&
           (bytes == 0 || bytes + g->bytes <= s->transaction_bytes)) {
        STAILQ_REMOVE_HEAD(&s->waiting, node);
        STAILQ_INSERT_TAIL(groups, g, node);
        bytes += g->bytes;
        s->waiting_bytes -= g->bytes + GROUP_BYTES;
        *saves |= g->saves;
    }
    s->hurry = !STAILQ_EMPTY(&s->waiting);
}

/* Takes the groups of one transaction, or none when removed jobs leave something to do
 * meanwhile; false: the store is to stop and nothing waits. */
static bool take(struct store *s, struct group_list *groups, bool *saves)
{
    STAILQ_INIT(groups);
    *saves = false;
    pthread_mutex_lock(&s->mutex);
    while (STAILQ_EMPTY(&s->waiting) && !s->stop && !may_trim(s, true)) {
        if (!wants_room(s))
            pthread_cond_wait(&s->cond, &s->mutex);
        else if (clock_mono_ns() < s->reserve_again_ns)
            wait_push(s, s->reserve_again_ns - clock_mono_ns());
        else
            break;
    }
    while (!STAILQ_EMPTY(&s->waiting) && !s->hurry && !s->stop &&
           clock_mono_ns() < s->gather_ns)
        wait_push(s, s->gather_ns - clock_mono_ns());
    take_groups(s, groups, saves);
    bool on = !s->stop || !STAILQ_EMPTY(groups);
    pthread_mutex_unlock(&s->mutex);
    return on;
}

/* One slice of what removed jobs leave behind. With no space it may have the reserve, and
 * is then tried again after a while. */
static int trim(struct store *s, bool idle)
{
    struct err err = { 0 };
    enum sql_result rc = SQL_OK;

    if (may_trim(s, idle)) {
        rc = sql_trim(s->sql, &err);
        s->trim_later = rc == SQL_NO_SPACE && !s->reserve_held;
        if (s->trim_later)
            s->reserve_again_ns = clock_mono_ns() + RESERVE_AGAIN_NS;
        else if (rc == SQL_NO_SPACE)
            reserve_drop(s);
    } else if (wants_room(s) && clock_mono_ns() >= s->reserve_again_ns) {
        s->trim_later = false;
        if (!sql_trim_due(s->sql, true))
            reserve_hold(s);
    }
    if (rc == SQL_FAILED)
        fail(s, &err);
    return rc == SQL_FAILED ? -1 : 0;
}

/* Gives groups back that are done. True: the loop's thread is to be woken for them. Under
 * the mutex. */
static bool give_back(struct store *s, struct group_list *groups)
{
    const struct fx_group *g;
    bool wake = false;

    STAILQ_FOREACH (g, groups, node) {
        s->done_bytes += g->bytes + GROUP_BYTES;
        wake |= !g->behind || s->done_bytes > DONE_MAX;
    }
    STAILQ_CONCAT(&s->done, groups);
    return wake;
}

static void *store_thread(void *arg)
{
    struct store *s = arg;
    struct group_list groups;
    bool saves, wake = false;

    while (take(s, &groups, &saves)) {
        bool idle = STAILQ_EMPTY(&groups);
        int rc = idle ? 0 : execute(s, &groups, saves);
        pthread_mutex_lock(&s->mutex);
        if (rc == 0) {
            wake = give_back(s, &groups);
        } else { /* store_close frees them, and says whether some had been told of */
            STAILQ_CONCAT(&groups, &s->waiting);
            STAILQ_CONCAT(&s->waiting, &groups);
        }
        pthread_mutex_unlock(&s->mutex);
        if (rc < 0)
            break;
        if (wake)
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
    s->done_bytes = 0;
    failed = s->failed;
    full = s->full;
    err = s->err;
    pthread_mutex_unlock(&s->mutex);
    if (full != s->full_told) {
        s->full_told = full;
        s->ev->full(s->arg, full, &err);
    }
    STAILQ_FOREACH (g, &done, node) /* first, as they are asked for it */
        s->backlog -= g->bytes + GROUP_BYTES;
    while ((g = STAILQ_FIRST(&done))) {
        STAILQ_REMOVE_HEAD(&done, node);
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

void store_reserve(struct store *s, uint64_t bytes)
{
    /* The log and one transaction fit into what is let go, so that the log can be copied
     * into the database, whatever of it is new there. */
    s->reserve_bytes = bytes;
    if (bytes) {
        s->transaction_bytes = MAX(MIN(bytes / 4, TRANSACTION_MAX), TRANSACTION_MIN);
        sql_limit_log(s->sql, bytes / 2);
    }
    reserve_hold(s);
}

uint64_t store_room_bytes(const struct store *s)
{
    return space_free(s->dir);
}

void store_push(struct store *s, struct fx_group *g)
{
    bool wake = !g->behind;

    s->backlog += g->bytes + GROUP_BYTES;
    pthread_mutex_lock(&s->mutex);
    if (STAILQ_EMPTY(&s->waiting)) {
        s->gather_ns = clock_mono_ns() + GATHER_NS;
        wake = true;
    }
    STAILQ_INSERT_TAIL(&s->waiting, g, node);
    s->waiting_bytes += g->bytes + GROUP_BYTES;
    wake |= s->waiting_bytes > s->transaction_bytes;
    s->hurry |= !g->behind || s->waiting_bytes > s->transaction_bytes;
    pthread_mutex_unlock(&s->mutex);
    if (wake)
        pthread_cond_signal(&s->cond); /* its thread need not wait for the mutex then */
}

size_t store_backlog_bytes(const struct store *s)
{
    return s->backlog;
}

bool store_close(struct store *s, bool remove)
{
    struct fx_group *g;
    struct err err; /* of a mark that stays: then the next start is careful for nothing */

    if (!s)
        return true;
    if (s->running) {
        pthread_mutex_lock(&s->mutex);
        s->stop = true;
        pthread_cond_signal(&s->cond);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
        deliver(s);
    }
    bool saved = !some_behind(&s->waiting);
    if (s->sql && saved)
        sql_settle(s->sql, &err);
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
    return saved;
}
