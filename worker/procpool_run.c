/* A run's way: to a mill, task by task to its end, and to another mill when one dies, or
 * half of it when that has nothing to do. */
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "proto/pack.h"
#include "worker/ops/part.h"
#include "worker/procpool_state.h"

/* A run is with its mill for so long before half of it is taken away: what is done within
 * that time is not worth the copies and wake-ups, some 0.1 ms. */
#define SHARE_NS (5 * NS_PER_MS)

/* ---- ends of tasks and runs ---- */

void run_free(struct procpool *pool, struct run *run)
{
    TAILQ_REMOVE(&pool->runs, run, pool_node);
    if (run->body_fd >= 0)
        close(run->body_fd);
    if (run->head->body == MILL_BODY_PART)
        crypto_zero(run->parts.body, run->head->body_len);
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
void run_leave(struct procpool *pool, struct run *run)
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
    run_place_homeless(pool);
    run_share(pool);
    return true;
}

bool run_task_error(struct procpool *pool, struct run *run, uint32_t index,
                    enum task_status status, const char *why)
{
    struct task_value v = { .error = span_str(why) };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    return task_end(pool, run, index, status, buf_span(&packed));
}

/* Ends what is left of a run. */
void run_abandon(struct procpool *pool, struct run *run, enum task_status status,
                 const char *why)
{
    for (uint32_t i = 0, n = run->head->n; i < n; i++)
        if (!mill_run_is_done(&run->parts, i) &&
            run_task_error(pool, run, i, status, why))
            return;
}

/* ---- results ---- */

struct run *run_of_serial(struct mill *m, uint32_t serial)
{
    struct run *run;

    TAILQ_FOREACH (run, &m->runs, run_node)
        if (run->head->serial == serial)
            return run;
    return NULL;
}

/* Of a part: what it says is looked at, so the mill, which may still write where it
 * stands, has no hand in it any more. It may be a key, of which nothing stays. */
static int take_part(struct mill *m, struct run *run, enum task_status status,
                     struct span value)
{
    AUTO_BUF own = BUF_INIT;
    struct part part;
    int rc = 0;

    buf_add_span(&own, value);
    crypto_zero((uint8_t *)value.data, value.len);
    memcpy(&part, run->parts.body, sizeof(part));
    if (status == TASK_OK && !part_answer_ok(&part, buf_span(&own)))
        rc = -1;
    else
        task_end(m->pool, run, 0, status, buf_span(&own));
    crypto_zero(&part, sizeof(part));
    crypto_zero(own.data, own.len);
    return rc;
}

/* One record of the done ring; -1 when it is nonsense. */
static int take_result(struct mill *m, struct span record)
{
    struct mill_done_head head;
    struct run *run;

    if (record.len < sizeof(head) || record.len > sizeof(head) + VALUE_MAX_BYTES)
        return -1;
    memcpy(&head, record.data, sizeof(head));
    run = run_of_serial(m, head.serial);
    if (!run || head.index >= run->head->n || head.status >= TASK_STATUS_COUNT ||
        mill_run_is_done(&run->parts, head.index))
        return -1;
    record = span_of(record.data + sizeof(head), record.len - sizeof(head));
    if (run->head->body == MILL_BODY_PART)
        return take_part(m, run, (enum task_status)head.status, record);
    task_end(m->pool, run, head.index, (enum task_status)head.status, record);
    return 0;
}

static void gone_mad(struct mill *m)
{
    log_error("mill_nonsense", "pid=%d", (int)m->proc.pid);
    m->mad = true;
    millproc_kill(&m->proc);
}

void run_take_results(struct mill *m)
{
    struct span record;
    int rc;

    do {
        while (!m->mad && (rc = ring_next(&m->proc.done, &record)) != 0) {
            if (rc < 0 || take_result(m, record) < 0)
                gone_mad(m);
            else
                ring_release(&m->proc.done);
        }
        if (m->mad)
            return;
        millproc_wake_room(&m->proc);
    } while (!ring_sleep(&m->proc.done));
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

static bool is_well(const struct mill *m)
{
    return m->proc.pid && !m->timed_out && !m->mad;
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
    run->given_ns = loop_now_ns(m->pool->loop);
    atomic_store(&m->proc.shm->control.cancelled[run->head->place], run->cancelled);
    atomic_store(&m->proc.shm->control.unbegun[run->head->place],
                 mill_unbegun(0, run->head->n));
    memcpy(at, run->head, run->parts.bytes);
    ring_push(&m->proc.work);
    millproc_wake_work(&m->proc);
    run->mill = m;
    m->n_runs++;
    TAILQ_INSERT_TAIL(&m->runs, run, run_node);
    mill_watch(m->pool);
    return true;
}

/* The running mill with the least to do; NULL: all hold as many runs as they may. */
static struct mill *least_busy(struct procpool *pool)
{
    struct mill *best = NULL;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (is_well(m) && m->n_runs < PROCPOOL_AHEAD &&
            (!best || m->n_runs < best->n_runs))
            best = m;
    }
    return best;
}

bool run_has_place(struct procpool *pool)
{
    return least_busy(pool) != NULL;
}

bool run_place(struct procpool *pool, struct run *run)
{
    struct mill *m = least_busy(pool);

    return m && give(m, run);
}

void run_place_homeless(struct procpool *pool)
{
    struct run *run;

    while ((run = TAILQ_FIRST(&pool->homeless))) {
        TAILQ_REMOVE(&pool->homeless, run, run_node);
        if (!run_place(pool, run)) {
            TAILQ_INSERT_HEAD(&pool->homeless, run, run_node);
            return;
        }
    }
    tell_room(pool);
}

/* ---- sharing ---- */

/* One that is up and has nothing to do; NULL = none. */
static struct mill *idle_mill(struct procpool *pool)
{
    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (is_well(m) && m->up && m->n_runs == 0)
            return m;
    }
    return NULL;
}

/* The later half of what a mill has not begun of a run: how many tasks, and from where
 * on. What the mill says of it is not believed: tasks with a result are no part of
 * it. One at least stays, which the mill is on or begins with. */
static uint32_t later_half(const struct run *run, uint64_t unbegun, uint32_t *ret_from)
{
    uint32_t n = 0, from = run->head->n;

    for (uint32_t i = mill_unbegun_first(unbegun); i < run->head->n; i++)
        n += !mill_run_is_done(&run->parts, i);
    n = (n + 1) / 2; /* so one at least stays of two or more */
    for (uint32_t left = n; left > 0;)
        left -= !mill_run_is_done(&run->parts, --from);
    *ret_from = from;
    return n;
}

static _Atomic uint64_t *unbegun_of(const struct run *run)
{
    return &run->mill->proc.shm->control.unbegun[run->head->place];
}

/* What was taken from a run's mill becomes a run of the same id. */
static struct run *run_divide(struct run *run, uint32_t n, uint32_t from)
{
    struct run *half = xmalloc(sizeof(*half));

    *half = *run;
    half->mill = NULL;
    half->left = n;
    half->head = xmalloc(run->parts.bytes);
    memcpy(half->head, run->head, run->parts.bytes);
    half->parts = mill_run_parts(half->head);
    for (uint32_t i = 0; i < run->head->n; i++)
        (i < from ? half : run)->parts.done_bits[i / 32] |= BIT(i % 32);
    run->left -= n;
    return half;
}

/* False: nothing is left, or its mill takes a task at this moment. */
static bool share(struct procpool *pool, struct mill *idle, struct run *run)
{
    uint64_t seen = atomic_load(unbegun_of(run));
    uint32_t from, n = later_half(run, seen, &from);
    struct run *half;

    if (n == 0 ||
        !atomic_compare_exchange_strong(unbegun_of(run), &seen,
                                        mill_unbegun(mill_unbegun_first(seen), from)))
        return false;
    half = run_divide(run, n, from);
    run->given_ns = loop_now_ns(pool->loop);
    TAILQ_INSERT_TAIL(&pool->runs, half, pool_node);
    if (!give(idle, half))
        TAILQ_INSERT_TAIL(&pool->homeless, half, run_node);
    return true;
}

/* The run of which most can be taken. *ret_early: of another it is too early. */
static struct run *most_to_share(struct procpool *pool, bool *ret_early)
{
    int64_t now = loop_now_ns(pool->loop);
    struct run *run, *most = NULL;
    uint32_t n_most = 0, n, from;
    uint64_t unbegun;

    *ret_early = false;
    TAILQ_FOREACH (run, &pool->runs, pool_node) {
        if (run->left < 2 || run->cancelled || !run->mill || !is_well(run->mill))
            continue;
        if (now - run->given_ns < SHARE_NS) {
            *ret_early = true;
            continue;
        }
        unbegun = atomic_load(unbegun_of(run));
        if ((mill_unbegun_end(unbegun) - mill_unbegun_first(unbegun) + 1) / 2 <= n_most)
            continue; /* no more, even if none of them has a result */
        n = later_half(run, unbegun, &from);
        if (n > n_most) {
            n_most = n;
            most = run;
        }
    }
    return most;
}

void run_share(struct procpool *pool)
{
    bool early;
    struct mill *idle;
    struct run *run;

    while (TAILQ_EMPTY(&pool->homeless) && (idle = idle_mill(pool))) {
        run = most_to_share(pool, &early);
        if (run && share(pool, idle, run))
            continue;
        if ((run || early) && !loop_timer_armed(pool->share))
            loop_timer_arm(pool->share, SHARE_NS);
        return;
    }
}
