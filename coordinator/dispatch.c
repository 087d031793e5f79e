#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"

enum { FROM_CLIENT = BIT(ROLE_CLIENT), FROM_WORKER = BIT(ROLE_WORKER) };
enum { BEAT_MS = 2000 };

static void on_beat(struct sched *s, struct peer *p, const struct msg *m)
{
    struct msg_beat *beat;

    if (m->beat.leaving && p->node) {
        sched_peer_leave(s, p); /* its leases are for others, its name is free */
        return;
    }
    beat = &sched_send_now(s, p->id, MSG_BEAT)->send.msg.beat;
    beat->session = m->beat.session;
    if (p->node) {
        p->node->cpu_busy = m->beat.cpu_busy;
        p->node->io_busy = m->beat.io_busy;
        lease_moved(s, p->node, &m->beat);
    }
}

static void on_error(struct sched *s, struct peer *p, const struct msg *m)
{
    (void)s, (void)p, (void)m; /* a peer's complaint; it will say Hello again */
}

static const struct {
    unsigned from;
    void (*fn)(struct sched *s, struct peer *p, const struct msg *m);
} table[MSG_TYPE_COUNT] = {
    [MSG_BEAT] = { FROM_CLIENT | FROM_WORKER, on_beat },
    [MSG_SUBMIT] = { FROM_CLIENT, sched_submit },
    [MSG_CHUNK] = { FROM_CLIENT, sched_chunk },
    [MSG_SEAL] = { FROM_CLIENT, sched_seal },
    [MSG_DONE] = { FROM_WORKER, sched_done },
    [MSG_PUBLISHED] = { FROM_WORKER, sched_published },
    [MSG_FOLLOW] = { FROM_CLIENT, sched_follow },
    [MSG_CREDIT] = { FROM_CLIENT, sched_credit },
    [MSG_PAUSE] = { FROM_CLIENT, sched_pause },
    [MSG_CANCEL] = { FROM_CLIENT, sched_cancel },
    [MSG_REMOVE] = { FROM_CLIENT, sched_remove },
    [MSG_DRAIN] = { FROM_CLIENT, sched_drain_node },
    [MSG_QUERY] = { FROM_CLIENT, sched_query },
    [MSG_ERROR] = { FROM_CLIENT | FROM_WORKER, on_error },
};

void dispatch_welcome(struct sched *s, struct peer *p)
{
    struct msg_welcome *w = &sched_send_now(s, p->id, MSG_WELCOME)->send.msg.welcome;

    w->version = WIRE_VERSION;
    w->epoch = s->config.epoch;
    w->session = ++s->session;
    w->frame_max = p->role == ROLE_CLIENT ? WIRE_CLIENT_FRAME_MAX : WIRE_WORKER_FRAME_MAX;
    w->chunk_tasks_max = WIRE_CHUNK_TASKS_MAX;
    w->chunk_bytes_max = WIRE_CHUNK_BYTES_MAX;
    w->input_max = INPUT_MAX_BYTES;
    w->value_max = VALUE_MAX_BYTES;
    w->beat_ms = BEAT_MS;
    w->silence_ms = (uint32_t)(s->config.silence_ns / NS_PER_MS);
}

static void on_hello(struct sched *s, peer_id id, const struct msg *m)
{
    const struct msg_hello *h = &m->hello;
    struct peer *p = sched_peer(s, id);

    if (h->version_min > WIRE_VERSION || h->version_max < WIRE_VERSION) {
        sched_error(s, id, 1, 0, MSG_HELLO, "no protocol version in common",
                    "use the same release of tidemill on both sides");
        return;
    }
    /* R5: who has seen a later epoch than ours belongs to another, newer coordinator. */
    if (h->epoch.counter > s->config.epoch.counter) {
        sched_error(s, id, 1, 0, MSG_HELLO, "this coordinator runs on an old state",
                    "another one has taken its place");
        return;
    }
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->id = id;
        TAILQ_INIT(&p->askers);
        HASH_ADD(hh, s->peers, id, sizeof(p->id), p);
    }
    if (p->node && (h->role != ROLE_WORKER || !span_eq(span_str(p->name), h->name))) {
        node_lost(s, p->node); /* it was another one until now */
        p->node = NULL;
    }
    query_forget(p); /* it asks again */
    memcpy(p->nonce, h->nonce, sizeof(p->nonce));
    free(p->name);
    p->name = span_dup(h->name);
    p->role = h->role;
    p->heard_ns = s->now;
    if (p->role == ROLE_WORKER)
        sched_node_hello(s, p, m); /* welcomes it in time */
    else
        dispatch_welcome(s, p);
}

void dispatch_message(struct sched *s, peer_id id, const struct msg *m)
{
    struct peer *p = sched_peer(s, id);

    if (p)
        p->heard_ns = s->now;
    if (m->type == MSG_TAKEN) /* between links; it proves life */
        return;
    if (m->type == MSG_HELLO) {
        on_hello(s, id, m);
        return;
    }
    if (!p) {
        sched_error(s, id, 1, 0, m->type, WIRE_NO_SESSION, "say Hello first");
        return;
    }
    /* Another connection of this node came after: an old Hello, read late. */
    if (p->role == ROLE_WORKER && !p->node) {
        sched_error(s, id, 1, 0, m->type, WIRE_NO_SESSION, "say Hello first");
        return;
    }
    if (!table[m->type].fn || !(table[m->type].from & BIT(p->role))) {
        sched_error(s, id, 5, 0, m->type, "not allowed in this role", "");
        return;
    }
    /* Said before Welcome, it is said again after it: by then it is known what counts. */
    if ((m->type == MSG_DONE || m->type == MSG_PUBLISHED) &&
        (!p->node || !p->node->welcomed))
        return;
    table[m->type].fn(s, p, m);
}
