/* A run's way: to a mill, task by task to its end, and to another mill when one dies. */
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "proto/pack.h"
#include "worker/ops/part.h"
#include "worker/procpool_state.h"

/* ---- ends of tasks and runs ---- */

void run_free(struct procpool *pool, struct run *run)
{
    HASH_DEL(pool->runs, run);
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
    pool->ev->run_end(pool->arg, id);
    tell_room(pool);
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
    mill_watch(m->pool);
    return true;
}

/* To the running mill with the least to do. */
bool run_place(struct procpool *pool, struct run *run)
{
    struct mill *best = NULL;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        if (m->proc.pid && !m->timed_out && !m->mad && m->n_runs < PROCPOOL_AHEAD &&
            (!best || m->n_runs < best->n_runs))
            best = m;
    }
    return best && give(best, run);
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
