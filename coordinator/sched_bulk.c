/* Bulk for peers. A link keeps a bounded amount for one that takes its time, and refuses
 * more: what has much to say says as much as there is room for, and goes on from where it
 * is when there is room again (R10). */
#include "coordinator/sched_state.h"

/* About what it costs its link: the body, and what is long of the envelope. */
static size_t bytes_of(const struct msg *m)
{
    size_t n = m->body.len;

    if (m->type == MSG_LEASE)
        n += m->lease.spec.len + 2 * m->lease.n_lens + 8 * m->lease.n_ranges;
    else if (m->type == MSG_RESULTS)
        n += 16 * (size_t)m->results.batch.n;
    return n;
}

static bool is_bulk(const struct fx *fx)
{
    return (fx->type == FX_SEND || fx->type == FX_SEND_NOW) && fx->send.msg.body.len;
}

void bulk_said(struct sched *s, const struct fx *fx)
{
    struct peer *p = sched_peer(s, fx->send.peer);

    if (!p || !is_bulk(fx))
        return;
    if (fx->type == FX_SEND)
        p->behind += bytes_of(&fx->send.msg);
    else
        p->said += bytes_of(&fx->send.msg);
}

void bulk_on_disk(struct sched *s, const struct fx *fx)
{
    struct peer *p = is_bulk(fx) ? sched_peer(s, fx->send.peer) : NULL;

    if (!p)
        return;
    p->behind -= MIN(p->behind, bytes_of(&fx->send.msg)); /* 0 after another Hello */
    p->said += bytes_of(&fx->send.msg);
}

void bulk_turn_begin(struct sched *s)
{
    for (struct peer *p = s->peers; p; p = p->hh.next)
        p->said = 0;
}

bool bulk_room(const struct peer *p)
{
    return p->queued + p->said + p->behind + p->reading * (size_t)FOLLOW_PAGE_BYTES <=
           PEER_QUEUED_MAX;
}

bool bulk_must_wait(struct sched *s, struct peer *p)
{
    if (bulk_room(p))
        return false;
    p->starved = true;
    s->again |= p->said > 0; /* its link may keep none of it */
    return true;
}

void bulk_pump(struct sched *s, struct peer *p)
{
    if (!p->starved || !bulk_room(p))
        return;
    p->starved = false;
    if (p->node)
        files_pump(s, p->node);
    query_pump(s, p);
    follow_pump_peer(s, p);
}

void sched_peer_queued(struct sched *s, peer_id peer, size_t bytes)
{
    struct peer *p = sched_peer(s, peer);

    if (!p)
        return;
    p->queued = bytes;
    bulk_pump(s, p);
}
