/* The tail of a job: a node without work runs tasks that are out elsewhere a second time.
 * The first good result is recorded, the other changes nothing (R4). Only local bytes: a
 * server is never asked twice at once. */
#include "coordinator/sched_state.h"

/* Could this node take over from the lease? Only when nothing else of the job is to be
 * leased, and never what a third would do. */
static bool is_straggler(struct sched *s, const struct lease *l,
                         const struct sched_node *n)
{
    const struct job *j = l->chunk->job;
    struct stream *st = l->chunk->stream;

    return l->node != n && !l->chunk->hedge_off && !j->io && !j->cancelling &&
           !j->row.paused && s->now - l->given_ns >= HEDGE_NS && stream_fits(st, n) &&
           TAILQ_EMPTY(&st->ready) && stream_all_open(st) && node_fits(n, j);
}

/* The last max of its tasks that one node alone is on: it does them mostly in
 * order, so those are what it gets to last. */
static uint32_t choose(const struct lease *l, uint32_t *indexes, uint32_t max)
{
    const struct chunk *c = l->chunk;
    uint32_t n = 0;

    for (uint32_t i = c->n; i-- > 0 && n < max;)
        if ((l->live[i / 8] & BIT(i % 8)) && c->state[i] == TASK_LEASED &&
            c->holders[i] == 1 && c->deaths[i] == 0)
            indexes[n++] = i;
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t t = indexes[i];
        indexes[i] = indexes[n - 1 - i];
        indexes[n - 1 - i] = t;
    }
    return n;
}

bool hedge(struct sched *s, struct sched_node *n)
{
    struct lease *l, *tmp;

    if (n->cpu_leases >= n->cpu_slots)
        return false; /* it is not idle */
    HASH_ITER (hh, s->leases, l, tmp) {
        struct chunk *c = l->chunk;
        if (!is_straggler(s, l, n))
            continue;
        uint32_t max = MAX(1u, lease_shard_tasks(s, n, c));
        uint32_t *indexes = arena_alloc(&s->g->arena, max * sizeof(*indexes));
        uint32_t count = choose(l, indexes, max);
        if (count == 0)
            continue;
        struct lease *second = lease_new(s, n, c, s->next_lease++);
        for (uint32_t i = 0; i < count; i++)
            lease_take_task(second, indexes[i]);
        c->hedged = true;
        lease_say(s, second, indexes, count);
        lease_give_end(s, second);
        return true;
    }
    return false;
}

/* True: all that it still owes has been recorded by others. */
static bool is_over(const struct lease *l)
{
    const struct chunk *c = l->chunk;

    for (uint32_t i = 0; i < c->n; i++)
        if ((l->live[i / 8] & BIT(i % 8)) && c->state[i] != TASK_RECORDED)
            return false;
    return true;
}

void hedge_over(struct sched *s, struct chunk *c)
{
    struct lease *l, *tmp;

    if (!c->hedged)
        return;
    HASH_ITER (hh, s->leases, l, tmp)
        if (l->chunk == c && is_over(l))
            lease_revoke(s, l);
}
