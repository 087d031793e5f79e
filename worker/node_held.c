/* The leases that a node says it has: in Hello those that it would go on with, in Beat
 * those that go on. Each is named once, first what waits for an answer only. */
#include "worker/node_state.h"
#include "worker/split.h"

/* In one Hello: they fit a frame; more are not adopted. */
enum { HELD_RANGES_MAX = 64 * 1024 };

/* ---- Hello ---- */

struct held {
    struct held_lease *list;
    uint32_t n;
    size_t ranges;
};

static void hold(struct node *n, struct held *h, struct node_lease *l)
{
    if (l->revoked || l->hello == n->hellos || h->n == WIRE_LIST_MAX ||
        h->ranges + l->n_ranges > HELD_RANGES_MAX)
        return;
    l->hello = n->hellos;
    h->ranges += l->n_ranges;
    h->list[h->n] = (struct held_lease){ .lease = l->id,
                                         .job = l->job->id,
                                         .chunk = l->chunk,
                                         .ranges = l->ranges,
                                         .n_ranges = l->n_ranges };
    memcpy(h->list[h->n].digest, l->digest, WIRE_DIGEST_BYTES);
    h->n++;
}

uint32_t held_list(struct node *n, struct held_lease *list)
{
    struct held h = { .list = list };
    struct node_lease *l;
    struct batch *b;

    n->hellos++;
    for (l = n->leases; l; l = l->hh.next)
        hold(n, &h, l);
    TAILQ_FOREACH (b, &n->batches, node_entry)
        if (b->state <= BATCH_SENT)
            hold(n, &h, b->lease);
    return h.n;
}

/* ---- Beat ---- */

struct moving {
    struct node *node;
    uint64_t *list;
    uint32_t n;
};

static void moving_add(void *arg, struct node_lease *l)
{
    struct moving *m = arg;

    if (!l || l->beat == m->node->beats || m->n == WIRE_LIST_MAX)
        return;
    l->beat = m->node->beats;
    m->list[m->n++] = l->id;
}

/* run: a lease, or a run that has one. */
static void moving_add_run(void *arg, uint64_t run)
{
    struct moving *m = arg;

    moving_add(m,
               lease_find(m->node, run < FIRST_IO_RUN ? run : split_lease(m->node, run)));
}

uint32_t held_moving(struct node *n, uint64_t *list)
{
    struct moving m = { .node = n, .list = list };
    struct node_lease *l;
    struct batch *b;

    n->beats++;
    TAILQ_FOREACH (b, &n->batches, node_entry)
        if (b->state <= BATCH_SENT)
            moving_add(&m, b->lease);
    for (l = n->leases; l; l = l->hh.next)
        if (l->waiting || l->job->spec.source == SOURCE_URL)
            moving_add(&m, l);
    split_each_waiting(n, moving_add, &m);
    procpool_each_moving(n->pool, moving_add_run, &m);
    return m.n;
}
