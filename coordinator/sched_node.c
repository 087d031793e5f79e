/* Nodes: what they may run, who comes, comes back and goes. */
#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"

/* May this node run this job? One without roots has no files; decrypting needs one of its
 * identities (R18). */
bool node_fits(const struct sched_node *n, const struct job *j)
{
    struct span has = blob_span(n->identities);

    if ((j->spec.source == SOURCE_PATH || j->spec.sink == SINK_FILE) && !n->files)
        return false;
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

    TAILQ_FOREACH (n, &s->nodes, node)
        if (!n->peer || node_fits(n, j)) /* one that is away may fit when it comes */
            return true;
    return TAILQ_EMPTY(&s->nodes);
}

void job_refuse(struct sched *s, peer_id peer, const struct job *j, enum msg_type about)
{
    bool identity = j->spec.transform == TRANSFORM_DECRYPT;

    sched_error(s, peer, 10, about == MSG_SUBMIT ? 0 : j->row.id, about,
                identity ? "cannot be placed: no node has an identity for these files"
                         : "cannot be placed: no node may use files",
                identity ? "start a worker with --identity FILE"
                         : "start a worker with --root DIR");
}

/* Which jobs some node may run: asked when nodes come and go. */
static void place_jobs(struct sched *s)
{
    struct job *j;

    TAILQ_FOREACH (j, &s->live, live_node) {
        bool can = job_placeable(s, j);
        if (j->placeable && !can)
            j->unplaceable_ns = s->now;
        j->placeable = can;
        j->refused &= !can;
    }
}

bool job_is_stuck(const struct sched *s, const struct job *j)
{
    return !j->placeable && s->now - j->unplaceable_ns >= s->config.silence_ns;
}

/* Tells those who wait for it. The job stays: a node that can may still come. */
void job_tell_stuck(struct sched *s, struct job *j)
{
    struct follower *f;

    if (j->refused || !job_is_stuck(s, j))
        return;
    j->refused = true;
    LIST_FOREACH (f, &j->followers, job_node)
        job_refuse(s, f->peer, j, MSG_FOLLOW);
}

/* ---- coming and going ---- */

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
    blob_unref(n->identities);
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

/* A node of this name is connected, and was heard of just now. */
static bool name_is_taken(struct sched *s, const struct sched_node *n,
                          const struct peer *p, const struct msg_hello *h)
{
    const struct peer *old = n->peer && n->peer != p->id ? sched_peer(s, n->peer) : NULL;

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
    if (!n)
        n = node_new(s, span_str(p->name));
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
    /* The node keeps it: it says so after a restart of this coordinator. */
    sched_send(s, n->peer, MSG_DRAIN)->send.msg.drain.undo = m->drain.undo;
    sched_answer(s, p->id, m->drain.id);
}
