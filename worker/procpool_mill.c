/* Life and death of the mills: one that dies is replaced, and who is to blame for it is
 * found (R12). */
#include <sys/eventfd.h>
#include <time.h>

#include "base/log.h"
#include "worker/oom.h"
#include "worker/procpool_state.h"

enum { RESPAWN_MAX_S = 5, FAILURES_TOLD = 5 };
#define WATCH_NS (100 * NS_PER_MS) /* how often limits, kills, results are seen */
/* An end is noticed when the memory is given back: so long after the kill at most. */
#define OOM_NS     NS_PER_S
#define RESPAWN_NS (100 * NS_PER_MS) /* doubled while mills die before they are up */

/* ---- life and death of a mill ---- */

static void mill_start(struct mill *m);

static void mill_stop(struct mill *m)
{
    loop_io_free(m->done_io);
    loop_io_free(m->pid_io);
    m->done_io = m->pid_io = NULL;
    millproc_close(&m->proc);
    memset(m->slots, 0, sizeof(m->slots));
    m->up = m->timed_out = m->mad = false;
}

static void on_done(void *arg, int events)
{
    struct mill *m = arg;
    eventfd_t n;

    (void)events;
    eventfd_read(m->proc.done_fd, &n);
    if (!m->up && atomic_load(&m->proc.shm->control.ready)) {
        m->up = true;
        m->failures = 0;
        run_share(m->pool);
    }
    run_take_results(m);
}

/* The run and the task the mill was on when it ended; NULL: between two. */
static struct run *blamed(struct mill *m, uint32_t *ret_index)
{
    struct mill_control *control = &m->proc.shm->control;
    uint64_t on = atomic_load(&control->on);
    struct run *run;

    if (atomic_load(&control->since_ns) == 0)
        return NULL;
    run = run_of_serial(m, (uint32_t)(on >> 32));
    *ret_index = (uint32_t)on;
    if (!run || *ret_index >= run->head->n || mill_run_is_done(&run->parts, *ret_index))
        return NULL;
    return run;
}

static void look_for_oom(struct procpool *pool)
{
    uint64_t kills = oom_kills();

    if (kills > pool->oom_kills)
        pool->oom_ns = loop_now_ns(pool->loop);
    pool->oom_kills = kills;
}

/* Who was killed is not said: it was the mill that was killed at about that time. */
static bool was_oom(struct procpool *pool, const struct millproc_end *end)
{
    look_for_oom(pool);
    return end->killed && pool->oom_ns &&
           loop_now_ns(pool->loop) - pool->oom_ns <= OOM_NS;
}

/* R12: only its own fault, and its own time limit, count against a task. */
static void blame(struct mill *m, struct run *run, uint32_t index,
                  const struct millproc_end *end)
{
    bool own = end->own || was_oom(m->pool, end);
    char why[128];

    if (run->cancelled) {
        run_task_error(m->pool, run, index, TASK_CANCELLED, "cancelled");
    } else if (m->timed_out) {
        snprintf(why, sizeof(why), "over its time limit of %lld ms",
                 (long long)(run->timeout_ns / NS_PER_MS));
        run_task_error(m->pool, run, index, TASK_POISON, why);
    } else {
        snprintf(why, sizeof(why), "its process died: %s", end->text);
        run_task_error(m->pool, run, index, own ? TASK_POISON : TASK_LOST, why);
    }
}

/* A part that was begun is never run again, be it that only its result is missing: its
 * bytes may be others by now, and its key is the same (R19). What a mill gone mad has
 * begun, nobody knows. */
static bool may_have_begun(const struct mill *m, const struct run *run)
{
    uint64_t on = atomic_load(&m->proc.shm->control.on);

    return run->head->body == MILL_BODY_PART &&
           (m->mad || run->head->serial == (uint32_t)(on >> 32));
}

static void lose_parts(struct mill *m, const struct millproc_end *end)
{
    struct run *run, *next;
    char why[128];

    snprintf(why, sizeof(why), "its process died: %s", end->text);
    for (run = TAILQ_FIRST(&m->runs); run; run = next) {
        next = TAILQ_NEXT(run, run_node);
        if (!may_have_begun(m, run))
            continue;
        run_task_error(m->pool, run, 0, TASK_LOST, why);
        next = TAILQ_FIRST(&m->runs); /* who was told may have changed the list */
    }
}

static void on_death(void *arg, int events)
{
    struct mill *m = arg;
    struct procpool *pool = m->pool;
    struct millproc_end end;
    struct run *run;
    uint32_t index;

    (void)events;
    if (!millproc_reap(&m->proc, false, &end))
        return;
    run_take_results(m);
    m->up = m->up || atomic_load(&m->proc.shm->control.ready);
    log_warn("mill_died", "how=\"%s\"%s", end.text,
             m->up ? "" : " when=\"before it was up\"");
    run = blamed(m, &index);
    if (run)
        blame(m, run, index, &end);
    lose_parts(m, &end);
    while ((run = TAILQ_FIRST(&m->runs))) {
        run_leave(pool, run);
        TAILQ_INSERT_TAIL(&pool->homeless, run, run_node);
    }
    m->failures = m->up ? 0 : m->failures + 1;
    if (m->failures == FAILURES_TOLD)
        log_error("mills_do_not_start", "how=\"%s\"", end.text);
    mill_stop(m);
    if (m->failures == 0)
        mill_start(m);
    else
        loop_timer_arm(m->respawn, MIN(RESPAWN_NS << MIN(m->failures, 10u),
                                       RESPAWN_MAX_S * NS_PER_S));
    run_place_homeless(pool);
}

static void on_respawn(void *arg)
{
    struct mill *m = arg;

    mill_start(m);
    run_place_homeless(m->pool);
}

static int mill_try_start(struct mill *m, struct err *err)
{
    struct procpool *pool = m->pool;

    if (millproc_start(&m->proc, pool->program, (const char *const *)pool->roots,
                       pool->config.identity_fd, err) < 0)
        return -1;
    m->done_io = loop_io_new(pool->loop, m->proc.done_fd, LOOP_READ, on_done, m);
    m->pid_io = loop_io_new(pool->loop, m->proc.pidfd, LOOP_READ, on_death, m);
    return 0;
}

static void mill_start(struct mill *m)
{
    struct err err = { 0 };

    if (mill_try_start(m, &err) == 0)
        return;
    log_error("mill_not_started", "why=\"%s\"", err.text);
    loop_timer_arm(m->respawn, RESPAWN_MAX_S * NS_PER_S);
}

/* ---- time limits, and want of memory ---- */

static int64_t coarse_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static bool over_limit(struct mill *m)
{
    struct mill_control *control = &m->proc.shm->control;
    uint64_t on = atomic_load(&control->on);
    int64_t since = atomic_load(&control->since_ns);
    struct run *run = run_of_serial(m, (uint32_t)(on >> 32));

    return run && run->timeout_ns && since && on == atomic_load(&control->on) &&
           coarse_ns() - since > run->timeout_ns;
}

void mill_on_watch(void *arg)
{
    struct procpool *pool = arg;

    look_for_oom(pool);
    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (m->proc.pid)
            run_take_results(m); /* which wait for company while a task takes long */
        if (m->proc.pid && !m->timed_out && over_limit(m)) {
            m->timed_out = true;
            millproc_kill(&m->proc);
        }
    }
    if (!TAILQ_EMPTY(&pool->runs))
        loop_timer_arm(pool->watch, WATCH_NS);
}

void mill_watch(struct procpool *pool)
{
    if (loop_timer_armed(pool->watch))
        return;
    pool->oom_kills = oom_kills(); /* whatever was before is no matter of ours */
    loop_timer_arm(pool->watch, WATCH_NS);
}

/* ---- of the pool ---- */

int mill_init(struct procpool *pool, struct mill *m, struct err *err)
{
    m->pool = pool;
    TAILQ_INIT(&m->runs);
    m->respawn = loop_timer_new(pool->loop, on_respawn, m);
    if (mill_try_start(m, err) == 0)
        return 0;
    loop_timer_free(m->respawn);
    return -1;
}

void mill_fini(struct mill *m)
{
    struct millproc_end end;

    if (m->proc.pid) {
        millproc_reap(&m->proc, true, &end);
        mill_stop(m);
    }
    loop_timer_free(m->respawn);
}
