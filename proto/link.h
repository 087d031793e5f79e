/* ROUTER and DEALER on the loop (with zap, the only user of zmq.h). A link sends and
 * receives whole messages of wire.h; it splits bodies into frames and joins them. One
 * thread: the loop's. */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

#include "base/loop.h"
#include "base/pins.h"
#include "proto/wire.h"
#include "proto/zap.h"

struct link_ctx;
struct link;
typedef uint64_t
    peer_id; /* of a ROUTER's peer, never reused; 0 for a DEALER's one peer */

struct link_ctx *link_ctx_new(int io_threads);
/* Waits at most 1 s for what was sent. Links must be freed before. Takes NULL. */
void link_ctx_free(struct link_ctx *ctx);

/* The keys of an encrypted link; copied. */
struct link_curve {
    const struct keypair *own;
    enum zap_domain domain; /* a listener's: whose keys it lets in; there is a zap */
    /* Whom to connect to: has one of these keys, at most PINS_MAX; tried in turn. */
    const uint8_t (*servers)[KEY_BYTES];
    size_t n_servers;
};

/* Why a DEALER will not get in, however often it tries. */
enum link_refusal {
    LINK_KEY_UNKNOWN,    /* the other side does not know our key */
    LINK_SERVER_UNKNOWN, /* it encrypts, and has none of the keys that we know */
    LINK_IS_PLAIN,       /* we encrypt and it does not */
    LINK_IS_ENCRYPTED,   /* it encrypts and we do not */
};

struct link_events {
    /* user: on an encrypted ROUTER the text of the key (key_text) that the connection of
     * this very message was made with; else empty. All are valid during the call only. */
    void (*message)(void *arg, peer_id peer, struct span user, const struct msg *m);
    /* A peer's message could not be decoded; it was told by Error. */
    void (*garbage)(void *arg, peer_id peer, const char *why);
    /* A ROUTER's peer cannot be reached any more (its queue was dropped). */
    void (*gone)(void *arg, peer_id peer);
    /* A DEALER has a connection, the first one or another: who is at its end may be new
     * and know nothing. May be NULL. */
    void (*connected)(void *arg);
    /* A DEALER's: told within 2 s of a first answer, once for each link_reset at most; it
     * goes on trying. May be NULL. */
    void (*refused)(void *arg, enum link_refusal why);
};

/* ROUTER bound to endpoint: ipc://, tcp:// with curve, or on loopback without (NULL);
 * else err with a hint, code 2. At connections_max others wait outside until some have
 * left. */
int link_listen(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                const struct link_curve *curve, unsigned connections_max,
                uint32_t frame_max_bytes, const struct link_events *ev, void *arg,
                struct link **ret_link, struct err *err);
/* DEALER connecting to endpoint; reconnects by itself. Same refusal as link_listen. */
int link_connect(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                 const struct link_curve *curve, uint32_t frame_max_bytes,
                 const struct link_events *ev, void *arg, struct link **ret_link,
                 struct err *err);
/* The key an encrypted DEALER takes the other side's to be: once connected, it is. */
const uint8_t *link_server_key(const struct link *link);
/* Of a connected DEALER: the keys for its next connections, the first of which is the one
 * it has now. */
void link_set_servers(struct link *link, const uint8_t (*servers)[KEY_BYTES], size_t n);
/* Drops the old connection of a DEALER and makes a new socket (stale messages die with
 * it). */
void link_reset(struct link *link);
/* Sends, or queues up to a bounded number of bytes per peer; -1 when the peer is gone or
 * its queue is full (the message is dropped: ids and cursors make it safe to say again).
 * Bulk, which is whatever has a body, goes as far as link_window.h lets it, the rest
 * waits here in its order; Beat waits behind nothing that waits here (R10). */
int link_send(struct link *link, peer_id peer, const struct msg *m);
/* err code 2 with a hint when it is none of ours: ipc://path, and tcp:// that is
 * encrypted or on loopback. */
int link_endpoint_check(const char *endpoint, bool encrypted, struct err *err);
/* tcp:// and an address of this host alone. */
bool link_endpoint_is_loopback(const char *endpoint);
size_t link_queued_bytes(const struct link *link, peer_id peer);
/* What waits here for the peer is not for it any more: it is never sent. */
void link_drop_queued(struct link *link, peer_id peer);
const char *link_endpoint(const struct link *link); /* as bound: with the real port */
void link_free(struct link *link);                  /* takes NULL */

#endif
