/* Nodes: who comes, comes back and goes. What they may run: sched_place.c. */
#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"

static struct sched_node *node_by_name(struct sched *s, const char *name)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &s->nodes, node)
        if (strcmp(n->name, name) == 0)
            return n;
    return NULL;
}

static struct sched_node *node_new(struct sched *s, struct span name)
{
    struct sched_node *n = xcalloc(1, sizeof(*n));

    n->name = span_dup(name);
    n->place = place_get(s, name);
    n->place->node = n;
    n->number = ++s->next_node;
    LIST_INIT(&n->leases);
    TAILQ_INSERT_TAIL(&s->nodes, n, node);
    return n;
}

/* The job has ended: what the node was told of it, which it can forget too (P4), and how
 * fast it went there. */
void node_forget_job(struct sched *s, struct sched_node *n, uint64_t job)
{
    struct pace *p;

    HASH_FIND(hh, n->paces, &job, sizeof(job), p);
    if (!p)
        return;
    if (n->peer && p->told == n->sessions)
        sched_send(s, n->peer, MSG_REVOKE)->send.msg.revoke.job = job;
    HASH_DEL(n->paces, p);
    free(p);
}

void node_free(struct sched *s, struct sched_node *n)
{
    struct pace *pace, *tmp;

    HASH_ITER (hh, n->paces, pace, tmp) {
        HASH_DEL(n->paces, pace);
        free(pace);
    }
    TAILQ_REMOVE(&s->nodes, n, node);
    n->place->node = NULL;
    place_put(s, n->place);
    blob_unref(n->identities);
    blob_unref(n->labels);
    free(n->name);
    free(n);
}

static void leases_end(struct sched *s, struct sched_node *n)
{
    struct lease *l;

    while ((l = LIST_FIRST(&n->leases)))
        lease_end(s, l);
}

static void store(struct sched *s, const struct sched_node *n, bool gone)
{
    struct fx *fx = fx_add(s->g, FX_NODE);

    fx->node_known.name = fx_keep(s->g, span_str(n->name));
    fx->node_known.gone = gone;
}

void node_lost(struct sched *s, struct sched_node *n)
{
    adopt_drop(s, n);
    leases_end(s, n);
    store(s, n, true);
    n->peer = 0;
    node_free(s, n);
    place_jobs(s);
}

void sched_load_node(struct sched *s, struct span name)
{
    node_new(s, name)->stored = true;
}

bool node_awaited(struct sched *s)
{
    struct sched_node *n;

    if (s->now >= s->wait_until_ns)
        return false;
    TAILQ_FOREACH (n, &s->nodes, node)
        if (!n->peer)
            return true;
    return false;
}

/* Those that did not come back after a restart. */
void node_expire(struct sched *s)
{
    struct sched_node *n, *tmp;

    if (s->now < s->config.silence_ns)
        return;
    TAILQ_FOREACH_SAFE (n, &s->nodes, node, tmp)
        if (!n->peer)
            node_lost(s, n);
}

static bool holds(const struct msg_hello *h, uint64_t lease)
{
    for (uint32_t i = 0; i < h->n_held; i++)
        if (h->held[i].lease == lease)
            return true;
    return false;
}

/* A node of this name is connected, and was heard of just now; or has another key, or
 * none: then the name is its own for as long as it is known, or whoever has a worker's
 * key could wait for a pause to take what it works on. Keys are compared and not their
 * names, which those who come by an invitation may choose. */
static bool name_is_taken(struct sched *s, const struct sched_node *n,
                          const struct peer *p, const struct msg_hello *h)
{
    const struct peer *old = n->peer && n->peer != p->id ? sched_peer(s, n->peer) : NULL;

    if (old && old->key != p->key)
        return true;
    return old && memcmp(n->nonce, h->nonce, sizeof(n->nonce)) != 0 &&
           s->now - old->heard_ns < s->config.silence_ns / 2;
}

/* The node is at the end of this connection now, and as it says. */
static void node_take(struct sched *s, struct sched_node *n, struct peer *p,
                      const struct msg_hello *h)
{
    struct peer *old = n->peer && n->peer != p->id ? sched_peer(s, n->peer) : NULL;

    if (old)
        old->node = NULL;
    n->peer = p->id;
    p->node = n;
    n->cpu_slots = MAX(1u, h->cpu_slots);
    n->io_slots = h->io_slots;
    n->sessions++;
    n->files = h->files;
    n->draining = h->draining;
    n->welcomed = false;
    memcpy(n->nonce, h->nonce, sizeof(n->nonce));
    blob_unref(n->identities);
    n->identities = blob_new(h->identities);
    blob_unref(n->labels);
    n->labels = blob_new(h->labels);
    if (!n->stored)
        store(s, n, false);
    n->stored = true;
}

void sched_node_hello(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_hello *h = &m->hello;
    struct sched_node *n = node_by_name(s, p->name);
    struct lease *l, *tmp;

    if (n && name_is_taken(s, n, p, h)) {
        sched_error(s, p->id, 1, 0, MSG_HELLO, WIRE_NAME_TAKEN,
                    "give each worker its own --name");
        return;
    }
    if (!n) {
        n = node_new(s, span_str(p->name));
        place_node_came(s);
    }
    if (memcmp(n->nonce, h->nonce, sizeof(n->nonce)) != 0)
        n->settled = false;
    files_forgotten(s, n);
    node_take(s, n, p, h);
    adopt_drop(s, n);
    LIST_FOREACH_SAFE (l, &n->leases, node_node, tmp)
        if (!holds(h, l->id))
            lease_revoke(s, l); /* it may have come after this Hello was said */
    adopt_held(s, n, h);
    place_jobs(s);
}

/* ---- draining ---- */

void sched_drain_node(struct sched *s, struct peer *p, const struct msg *m)
{
    AUTO_FREE char *name = span_dup(m->drain.node);
    struct sched_node *n = node_by_name(s, name);

    if (!n || !n->peer) {
        sched_error(s, p->id, 9, 0, MSG_DRAIN, "no such node", "tidemill node ls");
        return;
    }
    n->draining = !m->drain.undo;
    place_jobs(s);
    /* The node keeps it: it says so after a restart of this coordinator. */
    sched_send(s, n->peer, MSG_DRAIN)->send.msg.drain.undo = m->drain.undo;
    sched_answer(s, p->id, m->drain.id);
}
