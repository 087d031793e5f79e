#include "proto/link.h"

#include <errno.h>
#include <unistd.h>

#include "proto/link_state.h"

enum {
    LINK_MESSAGE_MAX = 2 * MIB,   /* of all frames of one message together */
    LINK_DECODE_BUDGET = 8 * MIB, /* memory one envelope may decode to */
    LINK_BURST = 128,             /* messages taken in one turn of the loop */
    LINK_BURST_BYTES = 1 * MIB,   /* and bulk: what a turn saves is one transaction */
};
/* Heartbeats come every 2 s: who was silent for so long is not there any more. */
#define LINK_FORGET_NS (60 * NS_PER_S)

struct link_ctx *link_ctx_new(int io_threads)
{
    struct link_ctx *ctx = xcalloc(1, sizeof(*ctx));

    ctx->zmq = zmq_ctx_new();
    CHECK(ctx->zmq);
    zmq_ctx_set(ctx->zmq, ZMQ_IO_THREADS, io_threads);
    zmq_ctx_set(ctx->zmq, ZMQ_MAX_SOCKETS, 64);
    zmq_ctx_set(ctx->zmq, ZMQ_IPV6, 1);
    return ctx;
}

void link_ctx_free(struct link_ctx *ctx)
{
    if (!ctx)
        return;
    while (zmq_ctx_term(ctx->zmq) < 0 && errno == EINTR)
        ;
    free(ctx);
}

/* ---- receiving ---- */

static void refuse(struct link *l, struct link_peer *p, const char *why)
{
    struct msg m = { .type = MSG_ERROR };

    m.error.code = 1;
    m.error.text = span_str(why);
    if (STAILQ_EMPTY(&p->queue.list)) /* who does not read needs not be told again */
        link_send(l, p->id, &m);
    if (l->ev->garbage)
        l->ev->garbage(l->arg, p->id, why);
}

static void deliver(struct link *l, struct link_peer *p, struct span envelope,
                    struct span body)
{
    struct err err = { 0 };
    struct msg m;

    arena_reset(&l->arena);
    if (wire_decode(envelope, body, &l->arena, &m, &err) < 0) {
        refuse(l, p, err.text);
        return;
    }
    if (m.type == MSG_TAKEN) {
        link_window_taken(&p->window, m.taken.bytes, loop_now_ns(l->loop));
        link_flush_peer(l, p);
    }
    l->ev->message(l->arg, p->id, span_str(p->user), &m);
}

static struct span frame_span(zmq_msg_t *f)
{
    return span_of(zmq_msg_data(f), zmq_msg_size(f));
}

/* Joins the body frames that follow the first one. False: together they are too long. */
static bool join(struct link *l, zmq_msg_t *first, size_t *ret_bytes)
{
    bool fits = true;
    int more = 1;

    *ret_bytes = zmq_msg_size(first);
    buf_clear(&l->joined);
    buf_add_span(&l->joined, frame_span(first));
    while (more) {
        zmq_msg_t f;
        zmq_msg_init(&f);
        if (zmq_msg_recv(&f, l->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&f);
            return false;
        }
        *ret_bytes += zmq_msg_size(&f);
        fits = fits && l->joined.len + zmq_msg_size(&f) <= LINK_MESSAGE_MAX;
        if (fits)
            buf_add_span(&l->joined, frame_span(&f));
        more = zmq_msg_more(&f);
        zmq_msg_close(&f);
    }
    return fits;
}

static struct link_peer *sender(struct link *l, struct span rid)
{
    struct link_peer *p;

    if (!l->router)
        return l->peers;
    if (rid.len > LINK_RID_MAX)
        return NULL;
    HASH_FIND(hh_rid, l->peers_by_rid, rid.data, rid.len, p);
    return p ? p : link_peer_new(l, rid.data, rid.len);
}

/* Of an encrypted ROUTER. A routing id is what a peer likes to call itself: that of
 * somebody who left makes nobody his heir. NULL: nobody vouches for the message. */
static struct link_peer *sender_of(struct link *l, struct span rid, zmq_msg_t *payload)
{
    /* In 4.3.4 the frame of the routing id may have lost it. */
    const char *user = zmq_msg_gets(payload, "User-Id");
    struct link_peer *p = user && strlen(user) < KEY_TEXT ? sender(l, rid) : NULL;

    if (p && p->user[0] && strcmp(p->user, user) != 0) {
        peer_id id = p->id;
        link_peer_free(l, p);
        if (l->ev->gone)
            l->ev->gone(l->arg, id);
        p = sender(l, rid);
    }
    if (p)
        strcpy(p->user, user);
    return p;
}

/* Takes one message and adds its bulk; false when there is none. */
static bool receive(struct link *l, size_t *taken)
{
    zmq_msg_t rid, envelope, body;
    struct link_peer *p;
    struct span bytes = SPAN_NONE;
    size_t bulk = 0;
    bool fits = true;

    zmq_msg_init(&rid);
    zmq_msg_init(&envelope);
    zmq_msg_init(&body);
    if (zmq_msg_recv(l->router ? &rid : &envelope, l->socket, ZMQ_DONTWAIT) < 0) {
        l->touched = errno != EAGAIN; /* else ZMQ_FD tells what comes from here on */
        return false;
    }
    l->touched = true;
    if (l->router && zmq_msg_more(&rid))
        zmq_msg_recv(&envelope, l->socket, ZMQ_DONTWAIT);
    p = l->router && l->keys ? sender_of(l, frame_span(&rid), &envelope)
                             : sender(l, l->router ? frame_span(&rid) : SPAN_NONE);
    if (zmq_msg_more(&envelope)) {
        zmq_msg_recv(&body, l->socket, ZMQ_DONTWAIT);
        bytes = frame_span(&body);
        bulk = bytes.len;
        if (zmq_msg_more(&body)) {
            fits = join(l, &body, &bulk);
            bytes = buf_span(&l->joined);
        }
    }
    *taken += bulk;
    if (l->monitor) /* else the answer to Hello could precede its own connection */
        link_monitor_tell(l->monitor);
    if (p) {
        p->heard_ns = loop_now_ns(l->loop);
        p->gone = false;
        link_window_got(&p->window, bulk);
        link_flush_peer(l, p);
        if (fits)
            deliver(l, p, frame_span(&envelope), bytes);
        else
            refuse(l, p, "message too long");
    }
    zmq_msg_close(&rid);
    zmq_msg_close(&envelope);
    zmq_msg_close(&body);
    return true;
}

static void tell_gone(struct link *l)
{
    struct link_peer *p, *tmp;

    l->any_gone = false;
    HASH_ITER (hh, l->peers, p, tmp) {
        if (!l->router || !p->gone)
            continue;
        peer_id id = p->id;
        link_peer_free(l, p);
        if (l->ev->gone)
            l->ev->gone(l->arg, id);
    }
}

static void sweep(struct link *l)
{
    int64_t now = loop_now_ns(l->loop);
    struct link_peer *p, *tmp;

    if (!l->router || now - l->swept_ns < LINK_FORGET_NS / 4)
        return;
    l->swept_ns = now;
    HASH_ITER (hh, l->peers, p, tmp)
        if (now - p->heard_ns > LINK_FORGET_NS)
            link_peer_lost(l, p);
}

static void on_again(void *arg)
{
    link_flush(arg);
}

static int socket_events(const struct link *l)
{
    int events = 0;
    size_t len = sizeof(events);

    if (zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &len) < 0)
        return ZMQ_POLLIN; /* a signal came in between: to be asked again */
    return events;
}

/* ZMQ_FD is edge-triggered and every call may eat the edge: ask before each wait, if
 * there was one since the socket was asked, or had nothing to receive. */
static bool before_wait(void *arg)
{
    struct link *l = arg;

    if (l->touched) {
        int events = socket_events(l);
        l->touched = (events & ZMQ_POLLIN) ||
                     (!l->router && l->any_queued && (events & ZMQ_POLLOUT));
    }
    return l->touched || l->any_gone;
}

static void after_wait(void *arg)
{
    struct link *l = arg;
    size_t taken = 0;

    if (l->touched) {
        if (!l->router)
            link_flush(l);
        for (int i = 0; i < LINK_BURST && taken < LINK_BURST_BYTES && receive(l, &taken);
             i++)
            ;
        if (!l->router)
            link_flush(l);
    }
    sweep(l);
    if (l->any_gone)
        tell_gone(l);
}

static void on_fd(void *arg, int events)
{
    struct link *l = arg;

    (void)events;
    l->touched = true; /* after_wait, which comes next, does the work */
}

/* ---- life ---- */

static void watch(struct link *l)
{
    int fd;
    size_t len = sizeof(fd);

    CHECK(zmq_getsockopt(l->socket, ZMQ_FD, &fd, &len) == 0);
    l->io = loop_io_new(l->loop, fd, LOOP_READ | LOOP_FIRST, on_fd, l);
    l->touched = true;
}

static void on_connection(void *arg, unsigned event, int value)
{
    struct link *l = arg;

    l->up = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    if (event != ZMQ_EVENT_DISCONNECTED)
        link_shook(l, event, value);
    if (!l->up)
        return;
    /* The other side is a new one. Who said bulk to the old one says it again once he has
     * a session. */
    link_queue_clear(&l->peers->queue, true);
    l->peers->window = (struct link_window){ 0 };
    link_flush_peer(l, l->peers);
    if (l->ev->connected)
        l->ev->connected(l->arg);
}

static void monitor(struct link *l)
{
    l->monitor = link_monitor_new(
        l->loop, l->ctx->zmq, l->socket,
        ZMQ_EVENT_CONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
            ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
            ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_DISCONNECTED,
        on_connection, l);
}

static struct link *link_new(struct link_ctx *ctx, struct loop *loop,
                             const struct link_curve *curve, uint32_t frame_max,
                             const struct link_events *ev, void *arg)
{
    struct link *l = xcalloc(1, sizeof(*l));

    l->ctx = ctx;
    l->loop = loop;
    l->keys = link_keys_new(curve);
    l->frame_max = frame_max;
    l->ev = ev;
    l->arg = arg;
    arena_init(&l->arena, LINK_DECODE_BUDGET);
    return l;
}

int link_listen(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                const struct link_curve *curve, unsigned connections_max,
                uint32_t frame_max_bytes, const struct link_events *ev, void *arg,
                struct link **ret_link, struct err *err)
{
    struct link *l;
    char bound[512];
    size_t len = sizeof(bound);

    if (link_endpoint_check(endpoint, curve != NULL, err) < 0)
        return -1;
    if (strncmp(endpoint, "ipc://", 6) == 0 && link_somebody_listens(endpoint + 6))
        return err_set(err, 1, "%s: another process listens here already", endpoint);
    l = link_new(ctx, loop, curve, frame_max_bytes, ev, arg);
    l->router = true;
    l->again = loop_timer_new(loop, on_again, l);
    l->socket = link_socket_of(l);
    l->door = link_door_new(loop, l->ctx->zmq, l->socket, endpoint, connections_max);
    if (zmq_bind(l->socket, endpoint) < 0) {
        err_set(err, 1, "cannot listen on %s: %s", endpoint, zmq_strerror(errno));
        link_free(l);
        return -1;
    }
    CHECK(zmq_getsockopt(l->socket, ZMQ_LAST_ENDPOINT, bound, &len) == 0);
    link_endpoint_unmap(bound, sizeof(bound));
    l->endpoint = xstrdup(bound);
    watch(l);
    l->hook = loop_hook_new(loop, before_wait, after_wait, l);
    *ret_link = l;
    return 0;
}

int link_connect(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                 const struct link_curve *curve, uint32_t frame_max_bytes,
                 const struct link_events *ev, void *arg, struct link **ret_link,
                 struct err *err)
{
    struct link *l;

    if (link_endpoint_check(endpoint, curve != NULL, err) < 0)
        return -1;
    l = link_new(ctx, loop, curve, frame_max_bytes, ev, arg);
    l->endpoint = xstrdup(endpoint);
    link_peer_new(l, "", 0);
    link_shake_init(l);
    l->socket = link_socket_of(l);
    monitor(l);
    if (zmq_connect(l->socket, endpoint) < 0) {
        err_set(err, 2, "cannot connect to %s: %s", endpoint, zmq_strerror(errno));
        link_free(l);
        return -1;
    }
    watch(l);
    l->hook = loop_hook_new(loop, before_wait, after_wait, l);
    *ret_link = l;
    return 0;
}

void link_reset(struct link *l)
{
    l->shake.told = false;
    link_renew(l);
}

void link_renew(struct link *l)
{
    CHECK(!l->router);
    link_queue_clear(&l->peers->queue, false);
    l->peers->gone = false;
    l->peers->window = (struct link_window){ 0 };
    l->up = false;
    loop_io_free(l->io);
    link_monitor_free(l->monitor);
    link_socket_close_now(l->socket);
    l->socket = link_socket_of(l);
    monitor(l);
    zmq_connect(l->socket, l->endpoint);
    watch(l);
}

const char *link_endpoint(const struct link *l)
{
    return l->endpoint;
}

void link_free(struct link *l)
{
    struct link_peer *p, *tmp;

    if (!l)
        return;
    loop_hook_free(l->hook);
    loop_timer_free(l->again);
    loop_io_free(l->io);
    link_monitor_free(l->monitor);
    link_shake_fini(l);
    link_door_free(l->door);
    HASH_ITER (hh, l->peers, p, tmp)
        link_peer_free(l, p);
    zmq_close(l->socket);
    if (l->router && l->endpoint && strncmp(l->endpoint, "ipc://", 6) == 0)
        unlink(l->endpoint + 6); /* the library leaves it */
    buf_fini(&l->joined);
    arena_fini(&l->arena);
    link_keys_free(l->keys);
    free(l->endpoint);
    free(l);
}
