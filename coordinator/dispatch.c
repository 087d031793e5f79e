#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"

#include "base/text.h"
#include "proto/select.h"

enum {
    CLIENT = BIT(ROLE_CLIENT),
    WORKER = BIT(ROLE_WORKER),
    ADMIN = BIT(ROLE_ADMIN),
    INVITE = BIT(ROLE_INVITE),
};
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

/* Who may say what; everything else is denied. Who holds an invitation may bring his key,
 * and live until he has. Hello and Taken are not answered by a function of this table. */
static const struct {
    unsigned from;
    void (*fn)(struct sched *s, struct peer *p, const struct msg *m);
} table[MSG_TYPE_COUNT] = {
    [MSG_HELLO] = { CLIENT | WORKER | ADMIN | INVITE, NULL },
    [MSG_BEAT] = { CLIENT | WORKER | ADMIN | INVITE, on_beat },
    [MSG_SUBMIT] = { CLIENT | ADMIN, sched_submit },
    [MSG_CHUNK] = { CLIENT | ADMIN, sched_chunk },
    [MSG_SEAL] = { CLIENT | ADMIN, sched_seal },
    [MSG_DONE] = { WORKER, sched_done },
    [MSG_PUBLISHED] = { WORKER, sched_published },
    [MSG_FOLLOW] = { CLIENT | ADMIN, sched_follow },
    [MSG_CREDIT] = { CLIENT | ADMIN, sched_credit },
    [MSG_PAUSE] = { CLIENT | ADMIN, sched_pause },
    [MSG_CANCEL] = { CLIENT | ADMIN, sched_cancel },
    [MSG_REMOVE] = { CLIENT | ADMIN, sched_remove },
    [MSG_DRAIN] = { ADMIN, sched_drain_node },
    [MSG_QUERY] = { CLIENT | ADMIN, sched_query },
    [MSG_ERROR] = { CLIENT | WORKER | ADMIN | INVITE, on_error },
    [MSG_TAKEN] = { CLIENT | WORKER | ADMIN | INVITE, NULL },
    [MSG_ENROL] = { INVITE, sched_enrol },
    [MSG_KEY] = { ADMIN, sched_key },
};

bool dispatch_may(enum peer_role role, enum msg_type type)
{
    return (table[type].from & BIT(role)) != 0;
}

void dispatch_deny(struct sched *s, struct peer *p, enum msg_type type)
{
    AUTO_FREE char *text = xasprintf("not allowed for role %s", role_name(p->rights));

    sched_denied(s, p->id, 0, type, text, "");
}

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
    if (s->server && s->server->has_next)
        w->next_server = span_of(s->server->next_key, sizeof(s->server->next_key));
}

/* A key comes as what it is for, an invitation as anything; who is on this host comes as
 * what he says. */
static bool key_may_come(struct sched *s, peer_id id, const struct key *k,
                         enum peer_role as)
{
    enum peer_role role = k->row.role;

    if (key_wrong(s, k)) {
        key_error(s, id, k);
        return false;
    }
    if (role == ROLE_INVITE || (role == ROLE_WORKER) == (as == ROLE_WORKER))
        return true;
    AUTO_FREE char *text = xasprintf("this key is for role %s, not for role %s",
                                     role_name(role), role_name(as));
    sched_denied(s, id, 0, MSG_HELLO, text, "");
    return false;
}

/* What this peer is from now on. */
static void take_hello(struct sched *s, struct peer *p, struct key *k,
                       const struct msg_hello *h)
{
    struct owner *before = p->owner;

    memcpy(p->nonce, h->nonce, sizeof(p->nonce));
    free(p->name);
    p->name = span_dup(h->name);
    p->key = k;
    p->rights = k ? k->row.role : (h->role == ROLE_CLIENT ? ROLE_ADMIN : ROLE_WORKER);
    p->role = p->rights == ROLE_WORKER ? ROLE_WORKER : ROLE_CLIENT;
    p->owner = k ? owner_get(s, key_owner(k)) : owner_local(s, p->name);
    owner_put(s, before);
    p->heard_ns = s->now;
}

/* NULL, or why nobody can come with this Hello: others see its name and its labels. */
static const char *bad_hello(const struct msg_hello *h)
{
    struct span label;
    size_t pos = 0;

    if (h->role != ROLE_WORKER)
        return text_is_plain(h->name) ? NULL : "a name has no control characters";
    if (select_check_name(h->name, NULL) < 0)
        return "no node can be called so";
    while (select_next(h->labels, &pos, &label))
        if (select_check_label(label, NULL) < 0)
            return "not a label";
    return NULL;
}

static void on_hello(struct sched *s, peer_id id, struct key *k, const struct msg *m)
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
    if (k && !key_may_come(s, id, k, h->role))
        return;
    const char *bad = bad_hello(h);
    if (bad) {
        sched_error(s, id, 2, 0, MSG_HELLO, bad, "");
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
    take_hello(s, p, k, h);
    if (p->role == ROLE_WORKER)
        sched_node_hello(s, p, m); /* welcomes it in time */
    else
        dispatch_welcome(s, p);
}

/* What comes from somebody without a session, or outside of it. */
static void on_stranger(struct sched *s, peer_id id, struct span user,
                        const struct msg *m)
{
    struct key *k = user.len ? key_of(s, user) : NULL;

    if (user.len && !k)
        sched_denied(s, id, 0, MSG_HELLO, "the coordinator does not know this key", "");
    else if (m->type == MSG_HELLO)
        on_hello(s, id, k, m);
    else if (k && key_wrong(s, k))
        key_error(s, id, k);
    else
        sched_error(s, id, 1, 0, m->type, WIRE_NO_SESSION, "say Hello first");
}

static bool is_from(const struct peer *p, struct span user)
{
    return p->key ? span_eq(user, span_str(p->key->user)) : user.len == 0;
}

void dispatch_message(struct sched *s, peer_id id, struct span user, const struct msg *m)
{
    struct peer *p = sched_peer(s, id);

    if (p && !is_from(p, user)) { /* somebody else, under the number of one who left */
        sched_peer_leave(s, p);
        p = NULL;
    }
    if (p)
        p->heard_ns = s->now;
    if (p && p->key && key_wrong(s, p->key)) {
        key_refuse(s, p);
        return;
    }
    if (m->type == MSG_TAKEN) /* between links; it proves life */
        return;
    /* Another connection of this node came after: an old Hello, read late. */
    if (!p || m->type == MSG_HELLO || (p->role == ROLE_WORKER && !p->node)) {
        on_stranger(s, id, user, m);
        return;
    }
    if (!dispatch_may(p->rights, m->type)) {
        dispatch_deny(s, p, m->type);
        return;
    }
    /* Said before Welcome, it is said again after it: by then it is known what counts. */
    if ((m->type == MSG_DONE || m->type == MSG_PUBLISHED) &&
        (!p->node || !p->node->welcomed))
        return;
    table[m->type].fn(s, p, m);
}
