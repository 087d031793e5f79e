/* ROUTER and DEALER on the loop (only user of zmq.h). A link sends and receives whole
 * messages of wire.h; it splits bodies into frames and joins them. One thread: the
 * loop's. */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

#include "base/loop.h"
#include "proto/wire.h"

struct link_ctx;
struct link;
typedef uint64_t
    peer_id; /* of a ROUTER's peer, never reused; 0 for a DEALER's one peer */

struct link_ctx *link_ctx_new(int io_threads);
/* Waits at most 1 s for what was sent. Links must be freed before. Takes NULL. */
void link_ctx_free(struct link_ctx *ctx);

struct link_events {
    /* m and what it points to are valid during the call only. */
    void (*message)(void *arg, peer_id peer, const struct msg *m);
    /* A peer's message could not be decoded; it was told by Error. */
    void (*garbage)(void *arg, peer_id peer, const char *why);
    /* A ROUTER's peer cannot be reached any more (its queue was dropped). */
    void (*gone)(void *arg, peer_id peer);
    /* A DEALER has a connection, the first one or another: who is at its end may be new
     * and know nothing. May be NULL. */
    void (*connected)(void *arg);
};

/* ROUTER bound to endpoint (ipc:// or tcp:// on loopback; else err with a hint, code 2).
 * At connections_max others wait outside until some have left. */
int link_listen(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                unsigned connections_max, uint32_t frame_max_bytes,
                const struct link_events *ev, void *arg, struct link **ret_link,
                struct err *err);
/* DEALER connecting to endpoint; reconnects by itself. Same refusal as link_listen. */
int link_connect(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                 uint32_t frame_max_bytes, const struct link_events *ev, void *arg,
                 struct link **ret_link, struct err *err);
/* Drops the old connection of a DEALER and makes a new socket (stale messages die with
 * it). */
void link_reset(struct link *link);
/* Sends, or queues up to a bounded number of bytes per peer; -1 when the peer is gone or
 * its queue is full (the message is dropped: ids and cursors make it safe to say again).
 * Bulk, which is whatever has a body, goes as far as link_window.h lets it, the rest
 * waits here in its order; Beat waits behind nothing that waits here (R10). */
int link_send(struct link *link, peer_id peer, const struct msg *m);
size_t link_queued_bytes(const struct link *link, peer_id peer);
const char *link_endpoint(const struct link *link); /* as bound: with the real port */
void link_free(struct link *link);                  /* takes NULL */

#endif
