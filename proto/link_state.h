/* What a link is made of, for link.c (its life, and what comes in), link_send.c (its
 * peers, and what goes out) and link_curve.c (encryption). Nobody else looks at it. */
#ifndef PROTO_LINK_STATE_H
#define PROTO_LINK_STATE_H

#include <sys/queue.h>
#include <uthash.h>
#include <zmq.h>

#include "proto/link.h"
#include "proto/link_door.h"
#include "proto/link_queue.h"
#include "proto/link_socket.h"
#include "proto/link_window.h"

enum {
    LINK_RID_MAX = 255,
};

struct link_ctx {
    void *zmq;
};

struct link_keys {
    struct keypair *own;
    enum zap_domain domain;
    uint8_t servers[PINS_MAX][KEY_BYTES];
    size_t n_servers, at, tried; /* at: the one in use */
};

/* What is at a tcp endpoint (link_ask.c). */
enum link_there { LINK_NOBODY, LINK_PLAIN, LINK_ENCRYPTED };
struct link_ask;
typedef void link_ask_fn(void *arg, enum link_there there);
/* Calls fn once, from the loop, which must not free it then. NULL: it cannot be asked. */
struct link_ask *link_ask_new(struct loop *loop, const char *endpoint, link_ask_fn *fn,
                              void *arg);
void link_ask_free(struct link_ask *a); /* takes NULL */

/* A DEALER's handshakes (link_curve.c). */
struct link_shake {
    unsigned hang_ups, mismatches; /* in a row; hang_ups: on the key in use */
    int64_t since_ns, later_ns;    /* of the connection; no question before */
    bool told;                     /* that it is refused */
    bool broken;                   /* the socket is to be made anew */
    enum link_there there;         /* as it was answered */
    struct link_ask *asking;
    struct loop_timer *timer; /* for another socket, or the end of the question */
};

struct link_peer {
    peer_id id;
    uint8_t rid[LINK_RID_MAX]; /* as the ROUTER gave it */
    unsigned rid_len;
    char user[KEY_TEXT]; /* of an encrypted link: whose connection it is */
    int64_t heard_ns;
    bool gone;
    struct link_window window;
    struct link_queue queue;
    UT_hash_handle hh, hh_rid;
};

struct link {
    struct link_ctx *ctx;
    struct loop *loop;
    const struct link_events *ev;
    void *arg;
    char *endpoint;
    struct link_keys *keys; /* NULL: not encrypted */
    uint32_t frame_max;
    bool router, any_gone;
    bool up;         /* a DEALER has a connection, as far as it was told */
    bool any_queued; /* for the socket, not for a window; a ROUTER's `again` is armed */
    bool touched;    /* the library may have taken in what ZMQ_FD was to tell */
    void *socket;
    struct link_monitor *monitor; /* a DEALER's */
    struct link_shake shake;      /* a DEALER's */
    struct link_door *door;       /* a ROUTER's */
    struct loop_hook *hook;
    struct loop_io *io;
    struct loop_timer *again; /* a ROUTER's: to try those whose pipe was full */
    int64_t swept_ns;
    peer_id next_id;
    struct link_peer *peers, *peers_by_rid; /* a DEALER has one, with id 0 */
    struct arena arena;
    struct buf joined;
};

struct link_peer *link_peer_new(struct link *l, const void *rid, size_t rid_len);
struct link_peer *link_peer_find(const struct link *l, peer_id id); /* NULL: none */
void link_peer_free(struct link *l, struct link_peer *p);
/* Drops its queue; it is told of, and freed, from the loop. */
void link_peer_lost(struct link *l, struct link_peer *p);
/* Sends what window and socket allow: of one peer, or of all if any waits. */
void link_flush_peer(struct link *l, struct link_peer *p);
void link_flush(struct link *l);

void link_renew(struct link *l); /* a new socket for a DEALER */

struct link_keys *link_keys_new(const struct link_curve *curve); /* NULL of NULL */
void link_keys_free(struct link_keys *k);                        /* takes NULL */
void *link_socket_of(const struct link *l);
void link_shake_init(struct link *l);
void link_shake_fini(struct link *l);
/* How a connection begins: ZMQ_EVENT_CONNECTED, ZMQ_EVENT_HANDSHAKE_*. */
void link_shook(struct link *l, unsigned event, int value);

#endif
