/* The scheduler: jobs, chunks, leases, nodes, followers. Pure: a turn's time and events
 * come in, effects go out (fx.h); no socket, clock, log or database in here, so a whole
 * cluster can be simulated from one seed. One thread.
 *
 * A turn: sched_turn_begin, any events, sched_turn_end. */
#ifndef COORDINATOR_SCHED_H
#define COORDINATOR_SCHED_H

#include "coordinator/fx.h"

struct sched;

/* Bytes that may wait for the store; at half of it no credit is given and nothing is
 * leased (R10). */
enum { STORE_BACKLOG_MAX = 64 * MIB };

/* How much an owner may have, unless it is an admin or on this host. */
struct sched_quota {
    uint64_t jobs;         /* kept ones, ended or not; 0 = any number */
    uint64_t tasks;        /* accepted and without a record; 0 = any number */
    uint64_t stored_bytes; /* of inputs and results; 0 = any number */
    int32_t priority;      /* the highest; INT32_MAX = any */
};

/* What invitations and Welcome say of this coordinator's encrypted links. */
struct sched_server {
    uint8_t public_key[WIRE_PUBLIC_KEY_BYTES];
    uint8_t next_key[WIRE_PUBLIC_KEY_BYTES];
    bool has_next;           /* it will have next_key some day */
    const char *endpoint[2]; /* by ROLE_CLIENT, ROLE_WORKER: where they come; or NULL */
};

struct sched_config {
    struct epoch epoch;
    int64_t silence_ns;     /* a peer not heard for so long is gone; 0 = 10 s */
    int64_t abandon_ns;     /* an open job without its client ends then; 0 = 1 h */
    int64_t lease_ns;       /* a lease without progress for so long ends; 0 = 60 s */
    int64_t unpublished_ns; /* a won file not published by then is an error; 0 = 10 min */
    int64_t keep_ns;        /* an ended job is removed after it; 0 = never by itself */
    uint64_t reserve_bytes; /* that stay free on the disk (R13); 0 = no marks */
    size_t open_bytes;      /* of chunks kept in memory; 0 = 64 MiB */
    size_t recent_bytes;    /* of records kept for followers; 0 = 16 MiB */
    struct sched_quota quota;
    uint32_t seed; /* of the jitter */
};

struct sched *sched_new(const struct sched_config *config);
void sched_free(struct sched *s); /* takes NULL */
/* It has encrypted links. What it points to must outlive the scheduler. */
void sched_set_server(struct sched *s, const struct sched_server *server);

/* At start, before the first turn: what the store knows (store_load's events). */
void sched_load_job(struct sched *s, const struct job_row *row);
void sched_load_chunk(struct sched *s, const struct chunk_row *row, uint32_t recorded);
void sched_load_pending(struct sched *s, const struct batch_row *row);
/* After its job. */
void sched_load_lost(struct sched *s, uint64_t job, uint64_t cursor, uint64_t epoch);
void sched_load_removed(struct sched *s, uint64_t job, const uint8_t key[WIRE_KEY_BYTES]);
void sched_load_run(struct sched *s, int64_t ns);
void sched_load_node(struct sched *s, struct span name);
void sched_load_key(struct sched *s, const struct key_row *row);
/* That was all; next_row: from store_load. */
void sched_loaded(struct sched *s, uint64_t next_row);

/* now_ns: monotonic; advances the scheduler's own clock by at most 1 s (R9). Effects of
 * the turn go to g. */
void sched_turn_begin(struct sched *s, int64_t now_ns, int64_t wall_ns,
                      struct fx_group *g);
/* Expires, gives leases, serves followers. */
void sched_turn_end(struct sched *s);
/* When a turn is needed though nothing happens: monotonic, as given to turns. */
int64_t sched_next_ns(const struct sched *s);

/* Events. user: the public key that the link knows the sender by, as text; empty = a peer
 * on this host, whose link needs none. */
void sched_message(struct sched *s, peer_id peer, struct span user, const struct msg *m);
void sched_peer_gone(struct sched *s, peer_id peer);
/* A message to one that is there had no room: its session ends. */
void sched_peer_unsent(struct sched *s, peer_id peer);
/* What is queued towards a peer, in bytes: who has much gets no leases and no results. */
void sched_peer_queued(struct sched *s, peer_id peer, size_t bytes);
/* A group is durable and its reads are answered. */
void sched_committed(struct sched *s, struct fx_group *g);
/* The store cannot keep up or the disk is full: intake and leasing stop (R10, R13). */
void sched_set_backlog(struct sched *s, size_t bytes, bool full);
bool sched_pressed(const struct sched *s); /* it was so much that others wait */
/* What is free on the store's disk: below the marks nothing comes in (R13). */
void sched_set_room(struct sched *s, uint64_t free_bytes);
bool sched_low(const struct sched *s); /* no job is taken for want of room */
/* No lease any more; the process is about to end. True when none is out. */
bool sched_drain(struct sched *s);

/* The name of the key that the peer came with; empty = none, or it has no session. */
struct span sched_key_name(const struct sched *s, peer_id peer);

/* Calls fn for every peer that has said Hello. */
void sched_each_peer(const struct sched *s, void (*fn)(void *arg, peer_id peer),
                     void *arg);

#endif
