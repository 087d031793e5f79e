/* Nodes: what they may run, who comes, comes back and goes. */
#include "coordinator/sched_state.h"

/* May this node run this job? R18: decrypting needs one of its identities. */
bool node_fits(const struct sched_node *n, const struct job *j)
{
    struct span has = blob_span(n->identities);

    if (j->spec.transform != TRANSFORM_DECRYPT)
        return true;
    for (uint32_t i = 0; i < j->spec.n_recipients; i++)
        if (memmem(has.data, has.len, j->spec.recipients[i].data,
                   j->spec.recipients[i].len))
            return true;
    return false;
}

bool job_placeable(struct sched *s, const struct job *j)
{
    struct sched_node *n;

    if (j->spec.transform != TRANSFORM_DECRYPT)
        return true;
    TAILQ_FOREACH (n, &s->nodes, node)
        if (node_fits(n, j))
            return true;
    return false;
}

/* Tells those who wait for a job that nobody can run it. The job stays: a node that can
 * may still come. */
static void tell_unplaceable(struct sched *s)
{
    struct follower *f;
    struct job *j;

    TAILQ_FOREACH (j, &s->all, node) {
        if (j->spec.transform != TRANSFORM_DECRYPT || j->row.ended_wall_ns)
            continue;
        j->placeable = job_placeable(s, j);
        if (j->placeable)
            continue;
        LIST_FOREACH (f, &j->followers, job_node)
            sched_error(s, f->peer, 10, j->row.id, MSG_FOLLOW,
                        "cannot be placed: no node has an identity for these files",
                        "start a worker with --identity FILE");
    }
}

static bool holds(const struct msg_hello *h, uint64_t lease)
{
    for (uint32_t i = 0; i < h->n_held; i++)
        if (h->held[i].lease == lease)
            return true;
    return false;
}

/* The same process over a new connection keeps the leases that both sides know of. */
static void node_keeps(struct sched *s, struct sched_node *n, const struct msg_hello *h)
{
    struct lease *l, *tmp;

    LIST_FOREACH_SAFE (l, &n->leases, node_node, tmp)
        if (!holds(h, l->id))
            lease_end(s, l);
    for (uint32_t i = 0; i < h->n_held; i++) {
        HASH_FIND(hh, s->leases, &h->held[i].lease, sizeof(uint64_t), l);
        if (!l || l->node != n)
            sched_send_now(s, n->peer, MSG_REVOKE)->send.msg.revoke.lease =
                h->held[i].lease;
    }
}

static struct sched_node *node_by_name(struct sched *s, const char *name)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &s->nodes, node)
        if (strcmp(n->name, name) == 0)
            return n;
    return NULL;
}

void sched_node_hello(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_hello *h = &m->hello;
    struct sched_node *n = node_by_name(s, p->name);
    bool same = n && memcmp(n->nonce, h->nonce, sizeof(n->nonce)) == 0;

    if (n && !same && n->peer && n->peer != p->id) {
        struct peer *old = sched_peer(s, n->peer);
        if (old && s->now - old->heard_ns < s->config.silence_ns / 2) {
            sched_error(s, p->id, 1, 0, MSG_HELLO,
                        "another worker with this name is connected",
                        "give each worker its own --name");
            return;
        }
    }
    if (!n) {
        n = xcalloc(1, sizeof(*n));
        n->name = xstrdup(p->name);
        LIST_INIT(&n->leases);
        TAILQ_INSERT_TAIL(&s->nodes, n, node);
    }
    if (n->peer && n->peer != p->id) {
        struct peer *old = sched_peer(s, n->peer);
        if (old)
            old->node = NULL;
    }
    n->peer = p->id;
    p->node = n;
    n->cpu_slots = MAX(1u, h->cpu_slots);
    n->io_slots = h->io_slots;
    n->n_specs = 0;
    memcpy(n->nonce, h->nonce, sizeof(n->nonce));
    blob_unref(n->identities);
    n->identities = blob_new(h->identities);
    if (same)
        node_keeps(s, n, h);
    else
        sched_node_lost(s, n);
    tell_unplaceable(s);
}

/* The job is gone: what the node was told of it and how fast it went there. */
void node_forget_job(struct sched_node *n, uint64_t job)
{
    struct pace *p;

    HASH_FIND(hh, n->paces, &job, sizeof(job), p);
    if (p) {
        HASH_DEL(n->paces, p);
        free(p);
    }
    for (uint32_t i = 0; i < n->n_specs; i++)
        if (n->specs[i] == job)
            n->specs[i] = n->specs[--n->n_specs];
}

void sched_node_lost(struct sched *s, struct sched_node *n)
{
    struct lease *l;

    while ((l = LIST_FIRST(&n->leases)))
        lease_end(s, l);
}

void sched_drain_node(struct sched *s, struct peer *p, const struct msg *m)
{
    AUTO_FREE char *name = span_dup(m->drain.node);
    struct sched_node *n = node_by_name(s, name);

    if (!n) {
        sched_error(s, p->id, 9, 0, MSG_DRAIN, "no such node", "tidemill node ls");
        return;
    }
    n->draining = true;
}
