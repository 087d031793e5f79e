#include "worker/procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/queue.h"
#include "proto/pack.h"
#include "worker/millproc.h"
#include "worker/oom.h"
#include <uthash.h>

enum { RESPAWN_MAX_S = 5, FAILURES_TOLD = 5 };
#define WATCH_NS (100 * NS_PER_MS) /* how often limits and kills are looked at */
/* An end is noticed when the memory is given back: so long after the kill at most. */
#define OOM_NS     NS_PER_S
#define RESPAWN_NS (100 * NS_PER_MS) /* doubled while mills die before they are up */

struct pool_spec {
    uint64_t id;
    struct buf packed;
    UT_hash_handle hh;
};

/* A run that was accepted. Its record is kept: another mill gets it when one dies. */
struct run {
    uint64_t id, spec_id;
    uint32_t left;
    int64_t timeout_ns;
    int body_fd; /* owned; -1 = none */
    bool cancelled;
    struct mill *mill;          /* NULL = in pool->homeless */
    struct mill_run_head *head; /* owned: the whole record */
    struct mill_run parts;
    TAILQ_ENTRY(run) run_node; /* in mill->runs or pool->homeless */
    UT_hash_handle hh;
};
TAILQ_HEAD(run_list, run);

struct mill {
    struct procpool *pool;
    struct millproc proc;
    bool up, timed_out;
    struct run_list runs;
    uint32_t n_runs;
    uint64_t slots[MILL_SPEC_SLOTS]; /* spec + 1; 0 = empty */
    uint32_t next_slot;
    unsigned failures; /* deaths in a row before it was up */
    uint64_t moved;    /* as it was when last asked */
    struct loop_io *done_io, *pid_io;
    struct loop_timer *respawn;
};

struct procpool {
    struct loop *loop;
    struct procpool_config config;
    char **roots; /* owned copies, NULL-ended */
    char *program;
    const struct procpool_events *ev;
    void *arg;
    struct pool_spec *specs;
    struct run *runs;
    struct run_list homeless;
    uint32_t next_serial;
    bool room_wanted;
    struct loop_timer *watch; /* armed while there are runs */
    uint64_t oom_kills;       /* of the whole host, when it was looked at last */
    int64_t oom_ns;           /* when one more was seen; 0 = never */
    uint32_t n;
    struct mill mills[];
};

/* ---- ends of tasks and runs ---- */

static void run_free(struct procpool *pool, struct run *run)
{
    HASH_DEL(pool->runs, run);
    if (run->body_fd >= 0)
        close(run->body_fd);
    free(run->head);
    free(run);
}

static void tell_room(struct procpool *pool)
{
    if (!pool->room_wanted)
        return;
    pool->room_wanted = false;
    pool->ev->room(pool->arg);
}

/* Takes a run from where it is. */
static void run_leave(struct procpool *pool, struct run *run)
{
    if (run->mill) {
        atomic_store(&run->mill->proc.shm->control.cancelled[run->head->place], false);
        TAILQ_REMOVE(&run->mill->runs, run, run_node);
        run->mill->n_runs--;
        run->mill = NULL;
    } else {
        TAILQ_REMOVE(&pool->homeless, run, run_node);
    }
}

/* One task's end. True: it was the run's last, and the run is gone. */
static bool task_end(struct procpool *pool, struct run *run, uint32_t index,
                     enum task_status status, struct span value)
{
    uint64_t id = run->id;

    run->parts.done_bits[index / 32] |= BIT(index % 32);
    run->left--;
    if (run->left) {
        pool->ev->result(pool->arg, id, index, status, value);
        return false;
    }
    run_leave(pool, run);
    run_free(pool, run);
    pool->ev->result(pool->arg, id, index, status, value);
    pool->ev->run_end(pool->arg, id);
    tell_room(pool);
    return true;
}

static bool task_error(struct procpool *pool, struct run *run, uint32_t index,
                       enum task_status status, const char *why)
{
    struct task_value v = { .error = span_str(why) };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    return task_end(pool, run, index, status, buf_span(&packed));
}

/* Ends what is left of a run. */
static void run_abandon(struct procpool *pool, struct run *run, enum task_status status,
                        const char *why)
{
    for (uint32_t i = 0, n = run->head->n; i < n; i++)
        if (!mill_run_is_done(&run->parts, i) && task_error(pool, run, i, status, why))
            return;
}

/* ---- results ---- */

static struct run *run_of_serial(struct mill *m, uint32_t serial)
{
    struct run *run;

    TAILQ_FOREACH (run, &m->runs, run_node)
        if (run->head->serial == serial)
            return run;
    return NULL;
}

/* One record of the done ring; -1 when it is nonsense. */
static int take_result(struct mill *m, struct span record)
{
    struct mill_done_head head;
    struct run *run;

    if (record.len < sizeof(head))
        return -1;
    memcpy(&head, record.data, sizeof(head));
    run = run_of_serial(m, head.serial);
    if (!run || head.index >= run->head->n || head.status >= TASK_STATUS_COUNT ||
        mill_run_is_done(&run->parts, head.index))
        return -1;
    task_end(m->pool, run, head.index, (enum task_status)head.status,
             span_of(record.data + sizeof(head), record.len - sizeof(head)));
    return 0;
}

static void drain(struct mill *m)
{
    struct span record;
    int rc;

    do {
        while ((rc = ring_next(&m->proc.done, &record)) == 1) {
            if (take_result(m, record) < 0) {
                log_error("mill_nonsense", "pid=%d", (int)m->proc.pid);
                millproc_kill(&m->proc);
                return;
            }
            ring_release(&m->proc.done);
        }
        if (rc < 0) {
            millproc_kill(&m->proc);
            return;
        }
        millproc_wake_room(&m->proc);
    } while (!ring_sleep(&m->proc.done));
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
    }
    drain(m);
}

/* ---- giving ---- */

/* The slot of a spec in a mill, sent when it is not there; -1 = no room in the ring. */
static int spec_slot(struct mill *m, const struct pool_spec *spec)
{
    struct mill_spec_head *head;
    uint32_t slot;

    for (uint32_t i = 0; i < MILL_SPEC_SLOTS; i++)
        if (m->slots[i] == spec->id + 1)
            return (int)i;
    /* In turn: far more slots than runs, so none that is in use is replaced. */
    slot = m->next_slot++ % MILL_SPEC_SLOTS;
    head = ring_reserve(&m->proc.work, sizeof(*head) + spec->packed.len);
    if (!head)
        return -1;
    head->kind = MILL_SPEC;
    head->slot = slot;
    memcpy(head + 1, spec->packed.data, spec->packed.len);
    ring_push(&m->proc.work);
    m->slots[slot] = spec->id + 1;
    return (int)slot;
}

static uint32_t free_place(const struct mill *m)
{
    uint32_t used = 0, place = 0;
    const struct run *run;

    TAILQ_FOREACH (run, &m->runs, run_node)
        used |= BIT(run->head->place);
    while (used & BIT(place))
        place++;
    return place;
}

/* Pushes a run to a mill; false: it has no room for it. */
static bool give(struct mill *m, struct run *run)
{
    struct pool_spec *spec;
    struct mill_run_head *at;
    int slot;

    HASH_FIND(hh, m->pool->specs, &run->spec_id, sizeof(run->spec_id), spec);
    slot = spec ? spec_slot(m, spec) : -1;
    if (slot < 0)
        return false;
    at = ring_reserve(&m->proc.work, run->parts.bytes);
    if (!at || (run->body_fd >= 0 && millproc_send_fd(&m->proc, run->body_fd) < 0))
        return false;
    run->head->serial = ++m->pool->next_serial;
    run->head->place = free_place(m);
    run->head->spec_slot = (uint32_t)slot;
    atomic_store(&m->proc.shm->control.cancelled[run->head->place], run->cancelled);
    memcpy(at, run->head, run->parts.bytes);
    ring_push(&m->proc.work);
    millproc_wake_work(&m->proc);
    run->mill = m;
    m->n_runs++;
    TAILQ_INSERT_TAIL(&m->runs, run, run_node);
    if (!loop_timer_armed(m->pool->watch)) {
        m->pool->oom_kills = oom_kills(); /* whatever was before is no matter of ours */
        loop_timer_arm(m->pool->watch, WATCH_NS);
    }
    return true;
}

/* To the running mill with the least to do. */
static bool place(struct procpool *pool, struct run *run)
{
    struct mill *best = NULL;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (m->proc.pid && !m->timed_out && m->n_runs < PROCPOOL_AHEAD &&
            (!best || m->n_runs < best->n_runs))
            best = m;
    }
    return best && give(best, run);
}

static void place_homeless(struct procpool *pool)
{
    struct run *run;

    while ((run = TAILQ_FIRST(&pool->homeless))) {
        TAILQ_REMOVE(&pool->homeless, run, run_node);
        if (!place(pool, run)) {
            TAILQ_INSERT_HEAD(&pool->homeless, run, run_node);
            return;
        }
    }
    tell_room(pool);
}

/* ---- life and death of a mill ---- */

static void mill_start(struct mill *m);

static void mill_stop(struct mill *m)
{
    loop_io_free(m->done_io);
    loop_io_free(m->pid_io);
    m->done_io = m->pid_io = NULL;
    millproc_close(&m->proc);
    memset(m->slots, 0, sizeof(m->slots));
    m->up = m->timed_out = false;
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
        task_error(m->pool, run, index, TASK_CANCELLED, "cancelled");
    } else if (m->timed_out) {
        snprintf(why, sizeof(why), "over its time limit of %lld ms",
                 (long long)(run->timeout_ns / NS_PER_MS));
        task_error(m->pool, run, index, TASK_POISON, why);
    } else {
        snprintf(why, sizeof(why), "its process died: %s", end->text);
        task_error(m->pool, run, index, own ? TASK_POISON : TASK_LOST, why);
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
    if (!m->proc.done.broken)
        drain(m);
    m->up = m->up || atomic_load(&m->proc.shm->control.ready);
    log_warn("mill_died", "how=\"%s\"%s", end.text,
             m->up ? "" : " when=\"before it was up\"");
    run = blamed(m, &index);
    if (run)
        blame(m, run, index, &end);
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
    place_homeless(pool);
}

static void on_respawn(void *arg)
{
    struct mill *m = arg;

    mill_start(m);
    place_homeless(m->pool);
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

static void on_watch(void *arg)
{
    struct procpool *pool = arg;

    look_for_oom(pool);
    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (m->proc.pid && !m->timed_out && over_limit(m)) {
            m->timed_out = true;
            millproc_kill(&m->proc);
        }
    }
    if (pool->runs)
        loop_timer_arm(pool->watch, WATCH_NS);
}

/* ---- the pool ---- */

int procpool_new(struct loop *loop, const struct procpool_config *config,
                 const struct procpool_events *ev, void *arg, struct procpool **ret_pool,
                 struct err *err)
{
    struct procpool *pool =
        xcalloc(1, sizeof(*pool) + config->procs * sizeof(struct mill));
    size_t n_roots = 0;

    pool->loop = loop;
    pool->config = *config;
    pool->ev = ev;
    pool->arg = arg;
    pool->program = config->program ? xstrdup(config->program) : NULL;
    while (config->roots && config->roots[n_roots])
        n_roots++;
    pool->roots = xcalloc(n_roots + 1, sizeof(*pool->roots));
    for (size_t i = 0; i < n_roots; i++)
        pool->roots[i] = xstrdup(config->roots[i]);
    TAILQ_INIT(&pool->homeless);
    pool->watch = loop_timer_new(loop, on_watch, pool);
    for (; pool->n < config->procs; pool->n++) {
        struct mill *m = &pool->mills[pool->n];
        m->pool = pool;
        TAILQ_INIT(&m->runs);
        m->respawn = loop_timer_new(loop, on_respawn, m);
        if (mill_try_start(m, err) < 0) {
            loop_timer_free(m->respawn);
            procpool_free(pool);
            return -1;
        }
    }
    *ret_pool = pool;
    return 0;
}

void procpool_free(struct procpool *pool)
{
    struct pool_spec *spec, *stmp;
    struct run *run, *rtmp;

    if (!pool)
        return;
    for (uint32_t i = 0; i < pool->n; i++)
        if (pool->mills[i].proc.pid)
            millproc_kill(&pool->mills[i].proc);
    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        struct millproc_end end;
        if (m->proc.pid) {
            millproc_reap(&m->proc, true, &end);
            mill_stop(m);
        }
        loop_timer_free(m->respawn);
    }
    HASH_ITER (hh, pool->runs, run, rtmp)
        run_free(pool, run);
    HASH_ITER (hh, pool->specs, spec, stmp) {
        HASH_DEL(pool->specs, spec);
        buf_fini(&spec->packed);
        free(spec);
    }
    loop_timer_free(pool->watch);
    for (char **r = pool->roots; *r; r++)
        free(*r);
    free(pool->roots);
    free(pool->program);
    free(pool);
}

void procpool_spec(struct procpool *pool, uint64_t spec_id, struct span packed)
{
    struct pool_spec *spec;

    HASH_FIND(hh, pool->specs, &spec_id, sizeof(spec_id), spec);
    if (spec)
        return;
    spec = xcalloc(1, sizeof(*spec));
    spec->id = spec_id;
    buf_add_span(&spec->packed, packed);
    HASH_ADD(hh, pool->specs, id, sizeof(spec->id), spec);
}

void procpool_forget_spec(struct procpool *pool, uint64_t spec_id)
{
    struct pool_spec *spec;

    HASH_FIND(hh, pool->specs, &spec_id, sizeof(spec_id), spec);
    if (!spec)
        return;
    HASH_DEL(pool->specs, spec);
    buf_fini(&spec->packed);
    free(spec);
}

static struct run *run_new(struct procpool *pool, const struct procpool_run *from,
                           size_t bytes)
{
    struct run *run = xcalloc(1, sizeof(*run));
    struct mill_run_head *head = xcalloc(1, bytes);

    *head = (struct mill_run_head){
        .kind = MILL_RUN,
        .n = from->n,
        .inputs_len = (uint32_t)from->inputs.len,
        .body = !from->has_body      ? MILL_BODY_NONE
                : from->body_fd >= 0 ? MILL_BODY_FD
                                     : MILL_BODY_BYTES,
        .body_len = from->has_body && from->body_fd < 0 ? (uint32_t)from->body.len : 0,
        .epoch = from->epoch,
        .lease = from->lease,
    };
    run->id = from->id;
    run->spec_id = from->spec_id;
    run->left = from->n;
    run->timeout_ns = from->task_timeout_ns;
    run->body_fd = -1;
    run->head = head;
    run->parts = mill_run_parts(head);
    CHECK(run->parts.bytes == bytes);
    memcpy(run->parts.tasks, from->tasks, from->n * sizeof(uint32_t));
    memcpy(run->parts.lens, from->lens, from->n * sizeof(uint32_t));
    memcpy(run->parts.inputs, from->inputs.data, from->inputs.len);
    if (head->body_len)
        memcpy(run->parts.body, from->body.data, head->body_len);
    HASH_ADD(hh, pool->runs, id, sizeof(run->id), run);
    return run;
}

int procpool_submit(struct procpool *pool, const struct procpool_run *from)
{
    size_t body = from->has_body && from->body_fd < 0 ? from->body.len : 0;
    size_t bytes = sizeof(struct mill_run_head) + (from->n + 31) / 32 * 4 + from->n * 8 +
                   from->inputs.len + body;
    struct run *run;

    if (bytes > PROCPOOL_RING_BYTES / 2 - 64) {
        errno = E2BIG;
        return -1;
    }
    if (!TAILQ_EMPTY(&pool->homeless)) {
        pool->room_wanted = true;
        errno = EAGAIN;
        return -1;
    }
    run = run_new(pool, from, bytes);
    if (from->body_fd >= 0)
        run->body_fd = fcntl(from->body_fd, F_DUPFD_CLOEXEC, 0);
    if ((from->body_fd < 0 || run->body_fd >= 0) && place(pool, run))
        return 0;
    run_free(pool, run);
    pool->room_wanted = true;
    errno = EAGAIN;
    return -1;
}

void procpool_cancel(struct procpool *pool, uint64_t id)
{
    struct run *run;

    HASH_FIND(hh, pool->runs, &id, sizeof(id), run);
    if (!run || run->cancelled)
        return;
    run->cancelled = true;
    if (run->mill)
        atomic_store(&run->mill->proc.shm->control.cancelled[run->head->place], true);
    else
        run_abandon(pool, run, TASK_CANCELLED, "cancelled");
}

void procpool_each_moving(struct procpool *pool, void (*fn)(void *arg, uint64_t run),
                          void *arg)
{
    struct run *run;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        uint64_t moved = m->proc.pid ? atomic_load(&m->proc.shm->control.moved) : 0;
        if (m->proc.pid && moved == m->moved)
            continue;
        m->moved = moved;
        TAILQ_FOREACH (run, &m->runs, run_node)
            fn(arg, run->id);
    }
    TAILQ_FOREACH (run, &pool->homeless, run_node)
        fn(arg, run->id);
}

uint32_t procpool_busy(const struct procpool *pool)
{
    uint32_t busy = 0;

    for (uint32_t i = 0; i < pool->n; i++)
        busy += pool->mills[i].n_runs > 0;
    return busy;
}
