/* What a node still works on when it says Hello: leases that are not known here, because
 * this coordinator is younger than they are or had given the node up. They are adopted
 * unless their tasks are recorded or were given to another since (R4). The node is
 * welcomed when that is settled: what it says before is said again after Welcome. */
#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"

static void revoke(struct sched *s, const struct sched_node *n, uint64_t lease)
{
    sched_send_now(s, n->peer, MSG_REVOKE)->send.msg.revoke.lease = lease;
}

static void settled(struct sched *s, struct sched_node *n)
{
    struct peer *p = sched_peer(s, n->peer);

    if (n->adopting || n->welcomed || !p)
        return;
    n->welcomed = n->settled = true;
    dispatch_welcome(s, p);
    files_pump(s, n);
}

/* The job goes on and has this very chunk. */
static struct job *job_of(struct sched *s, const struct held_lease *h)
{
    struct job *j = sched_job(s, h->job);

    if (!j || j->cancelling || job_ended(j) || h->chunk >= j->row.chunks)
        return NULL;
    return memcmp(j->chunks[h->chunk].digest, h->digest, WIRE_DIGEST_BYTES) == 0 ? j
                                                                                 : NULL;
}

static struct lease *lease_known(struct sched *s, uint64_t id)
{
    struct lease *l;

    HASH_FIND(hh, s->leases, &id, sizeof(id), l);
    return l;
}

/* Gives the node those of the tasks that are nobody's. */
static void adopt(struct sched *s, struct sched_node *n, struct chunk *c, uint64_t id,
                  const struct range *ranges, uint32_t n_ranges)
{
    struct lease *l = lease_known(s, id);

    if (l && l->node != n) /* two say that they hold it: the first does */
        revoke(s, n, id);
    if (l)
        return;
    l = lease_new(s, n, c, id);
    for (uint32_t r = 0; r < n_ranges; r++)
        for (uint32_t k = 0; k < ranges[r].count; k++) {
            uint64_t i = (uint64_t)ranges[r].first + k - c->first;
            if (i < c->n && c->state[i] == TASK_WAITING)
                lease_take_task(l, (uint32_t)i);
        }
    if (l->left == 0) {
        revoke(s, n, id);
        lease_end(s, l);
        return;
    }
    lease_give_end(s, l);
}

static void adopt_later(struct sched *s, struct sched_node *n, struct job *j,
                        const struct held_lease *h)
{
    size_t size = h->n_ranges * sizeof(*h->ranges);
    struct adoptee *a = xcalloc(1, sizeof(*a) + size);

    a->lease = h->lease;
    a->job = h->job;
    a->holder = n;
    a->chunk = h->chunk;
    a->n_ranges = h->n_ranges;
    memcpy(a->ranges, h->ranges, size);
    TAILQ_INSERT_TAIL(&s->adoptees, a, adoptee_node);
    n->adopting++;
    job_read_chunk(s, j, h->chunk);
}

void adopt_held(struct sched *s, struct sched_node *n, const struct msg_hello *hello)
{
    for (uint32_t i = 0; i < hello->n_held; i++) {
        const struct held_lease *h = &hello->held[i];
        struct job *j = job_of(s, h);
        struct lease *l = lease_known(s, h->lease);

        if (l && l->node == n)
            continue;
        struct chunk_info *info = j ? &j->chunks[h->chunk] : NULL;
        /* Nobody was given one of the future, which will be another's. Once settled, what
         * is not known any more was ended, if only by a Done whose answer is still on its
         * way. */
        if (l || h->lease >= s->next_lease || n->settled || !j ||
            !stream_fits(info->stream, n) || (!info->open && info->recorded == info->n))
            revoke(s, n, h->lease);
        else if (info->open && info->open->committed)
            adopt(s, n, info->open, h->lease, h->ranges, h->n_ranges);
        else
            adopt_later(s, n, j, h);
    }
    settled(s, n);
}

static void adoptee_free(struct sched *s, struct adoptee *a)
{
    TAILQ_REMOVE(&s->adoptees, a, adoptee_node);
    a->holder->adopting--;
    free(a);
}

void adopt_read(struct sched *s, uint64_t job, uint32_t seq)
{
    struct job *j = sched_job(s, job);
    struct adoptee *a, *tmp;

    TAILQ_FOREACH_SAFE (a, &s->adoptees, adoptee_node, tmp) {
        struct sched_node *n = a->holder;
        if (a->job != job || a->chunk != seq)
            continue;
        struct chunk *c = j ? j->chunks[seq].open : NULL;
        if (c && !j->cancelling)
            adopt(s, n, c, a->lease, a->ranges, a->n_ranges);
        else
            revoke(s, n, a->lease);
        adoptee_free(s, a);
        settled(s, n);
    }
}

void adopt_drop(struct sched *s, struct sched_node *n)
{
    struct adoptee *a, *tmp;

    TAILQ_FOREACH_SAFE (a, &s->adoptees, adoptee_node, tmp)
        if (a->holder == n)
            adoptee_free(s, a);
}
