/* The peers of a link, and what goes out to them: queues, windows, Beat first. */
#include <errno.h>

#include "proto/link_state.h"

enum {
    LINK_QUEUE_MAX = 8 * MIB, /* bulk waiting for one peer; twice as much in all */
    LINK_BEATS_MAX = 1 * MIB, /* and Beats above that */
};
/* A ROUTER does not say whose pipe has room again: ZMQ_POLLOUT is about all of them. */
#define LINK_AGAIN_NS (20 * NS_PER_MS)

/* ---- peers and their queues ---- */

struct link_peer *link_peer_new(struct link *l, const void *rid, size_t rid_len)
{
    struct link_peer *p = xcalloc(1, sizeof(*p));

    p->id = l->router ? ++l->next_id : 0;
    p->rid_len = (unsigned)rid_len;
    memcpy(p->rid, rid, rid_len);
    p->heard_ns = loop_now_ns(l->loop);
    link_queue_init(&p->queue);
    HASH_ADD(hh, l->peers, id, sizeof(p->id), p);
    HASH_ADD(hh_rid, l->peers_by_rid, rid, p->rid_len, p);
    return p;
}

struct link_peer *link_peer_find(const struct link *l, peer_id id)
{
    struct link_peer *p;

    HASH_FIND(hh, l->peers, &id, sizeof(id), p);
    return p;
}

void link_peer_free(struct link *l, struct link_peer *p)
{
    link_queue_clear(&p->queue, false);
    HASH_DEL(l->peers, p);
    HASH_DELETE(hh_rid, l->peers_by_rid, p);
    free(p);
}

/* ---- sending ---- */

/* Every frame of a message, or none: -1 with EAGAIN or EHOSTUNREACH. */
static int send_frames(struct link *l, struct link_peer *p, zmq_msg_t *frames, unsigned n)
{
    int flags = ZMQ_DONTWAIT | ZMQ_SNDMORE;

    l->touched = true;
    if (l->router && zmq_send(l->socket, p->rid, p->rid_len, flags) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        /* After the first frame the rest is taken too; a pipe that dies in between is
         * rolled back by the library, and the message is lost: ids make it repeatable. */
        if (zmq_msg_send(&frames[i], l->socket, i + 1 < n ? flags : ZMQ_DONTWAIT) < 0)
            return -1;
    }
    return 0;
}

void link_peer_lost(struct link *l, struct link_peer *p)
{
    link_queue_clear(&p->queue, false);
    p->gone = true;
    l->any_gone = true;
}

static void no_room(struct link *l)
{
    l->any_queued = true;
    if (l->router && !loop_timer_armed(l->again))
        loop_timer_arm(l->again, LINK_AGAIN_NS);
}

/* Sends and removes the first of the queue: -1 when it cannot be now, or the peer is
 * lost, with its own queue. */
static int send_first(struct link *l, struct link_peer *p, struct link_queue *q)
{
    struct link_out *o = STAILQ_FIRST(&q->list);

    if (send_frames(l, p, o->frames, o->n) < 0) {
        if (errno == EAGAIN)
            no_room(l);
        else
            link_peer_lost(l, p);
        return -1;
    }
    link_queue_pop(q);
    return 0;
}

/* What was taken of the peer's bulk is said before all that waits and has no place in the
 * queue, so that nothing keeps it back for good: the peer waits for it. */
static int say_taken(struct link *l, struct link_peer *p)
{
    struct msg m = { .type = MSG_TAKEN };
    struct link_queue one;
    int rc;

    if (!link_window_untold(&p->window))
        return 0;
    m.taken.bytes = p->window.got;
    link_queue_init(&one);
    link_queue_add(&one, &m, false);
    rc = send_first(l, p, &one);
    if (rc == 0)
        p->window.told = m.taken.bytes;
    else
        link_queue_clear(&one, false);
    return rc;
}

/* Bulk is for the connection it was said on (see on_connection). A DEALER that has lost
 * one may have another before it hears of either: nothing is sent then. */
static bool takes_bulk(struct link *l, struct link_peer *p)
{
    bool news = l->monitor && link_monitor_waits(l->monitor);

    l->any_queued |= news;
    l->touched |= news;
    return (l->router || l->up) && !news &&
           link_window_open(&p->window, loop_now_ns(l->loop)); /* R10 */
}

/* Sends what the window and the socket allow. */
void link_flush_peer(struct link *l, struct link_peer *p)
{
    struct link_out *o;

    if (say_taken(l, p) < 0)
        return;
    while ((o = STAILQ_FIRST(&p->queue.list))) {
        size_t bulk = o->bulk;
        if (bulk && !takes_bulk(l, p))
            return;
        if (send_first(l, p, &p->queue) < 0)
            return;
        p->window.sent += bulk;
    }
}

void link_flush(struct link *l)
{
    struct link_peer *p, *tmp;

    if (!l->any_queued)
        return;
    l->any_queued = false;
    HASH_ITER (hh, l->peers, p, tmp)
        link_flush_peer(l, p);
}

/* What says that we live waits behind nothing. */
static bool is_urgent(const struct msg *m)
{
    return m->type == MSG_BEAT;
}

/* Bytes that may wait for a peer when this is added. Others leave room for a Beat. */
static size_t queue_most(const struct msg *m)
{
    if (is_urgent(m))
        return 2 * LINK_QUEUE_MAX + LINK_BEATS_MAX;
    return m->body.len ? LINK_QUEUE_MAX : 2 * LINK_QUEUE_MAX;
}

int link_send(struct link *l, peer_id peer, const struct msg *m)
{
    struct link_peer *p = link_peer_find(l, peer);
    bool first = p && STAILQ_EMPTY(&p->queue.list);

    if (!p || p->gone || p->queue.bytes + m->body.len > queue_most(m))
        return -1;
    link_queue_add(&p->queue, m, is_urgent(m));
    if (first || is_urgent(m))
        link_flush_peer(l, p);
    return p->gone ? -1 : 0;
}

size_t link_queued_bytes(const struct link *l, peer_id peer)
{
    const struct link_peer *p = link_peer_find(l, peer);
    return p ? p->queue.bytes : 0;
}

void link_drop_queued(struct link *l, peer_id peer)
{
    struct link_peer *p = link_peer_find(l, peer);

    if (p)
        link_queue_clear(&p->queue, false);
}
