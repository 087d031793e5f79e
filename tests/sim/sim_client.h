/* Clients: what client/lib does on a connection, driven by a plan of jobs. What a client
 * would keep on disk (its keys and cursors) survives it; the rest dies with it. */
#ifndef SIM_CLIENT_H
#define SIM_CLIENT_H

#include "base/buf.h"
#include "proto/link.h"
#include "tests/sim/ground.h"
#include "tests/sim/world.h"

/* A job a client means to do, and what it knows of it. */
struct plan {
    uint32_t index, client;
    uint8_t key[WIRE_KEY_BYTES];
    struct buf spec;
    uint32_t n_chunks,
        first[CHUNKS_MAX + 1]; /* first task of each chunk, and their sum */
    bool file, io, force, task_order, inputs, failed_only;
    char on[16];                 /* which nodes: "" = any, a name, or a label */
    int8_t node[CHUNKS_MAX];     /* of each chunk: the only one; -1 = any of them */
    bool slow;                   /* its inputs come slowly */
    bool abandons;               /* its client goes for good before the seal */
    int64_t start_ns, cancel_ns; /* 0 = never cancelled */
    uint32_t retries;
    int32_t priority;
    /* Kept by the client, whatever happens to it. */
    uint64_t job; /* 0 = not told yet */
    uint32_t acked;
    bool seal_acked, cancel_acked, ended;
    uint64_t cursor, cursor_epoch; /* epoch: in which it was told, as tm_cursor has it */
    enum job_state heard;
    uint32_t reading; /* 0: for the first time; then again from the start */
    uint32_t resumes; /* checker's: that are not committed yet */
    bool removes, remove_sent, removed; /* by its client, once it has read all */
    int64_t ended_ns;                   /* checker's: when the store was told so */
    bool hurt;        /* checker's: a kill took something of it that was written behind */
    uint64_t lost_in; /* checker's: in which epoch chunks were lost; 0 = none, or told */
    uint8_t version[CHUNKS_MAX]; /* of a chunk's inputs: others, when it was lost */
    /* Of this session. */
    bool asked, accepted, seal_sent, follow_sent, cancel_sent;
    uint32_t sent;
    int64_t next_chunk_ns, up_ns; /* up: since when it is connected and accepted */
    int64_t credit_due;
    uint32_t window;
};

struct sim_client {
    struct host host;
    struct loop loop;
    struct link *link;
    struct event tick, restart;
    bool up, forget; /* forget: the session is to start over */
    bool gone;       /* for good */
    struct epoch epoch;
    bool epoch_known;
    int64_t heard_ns, greeted_ns, beat_ns, operate_ns;
    char name[16];
    uint32_t life; /* counts its processes */
    struct plan *plans[JOBS_MAX];
    uint32_t n_plans;
};

void clients_new(struct world *w);
void clients_free(struct world *w);
/* Ends at once and comes back after a while; 0 = never. */
void client_kill(struct world *w, uint32_t i, int64_t away_ns);
bool clients_done(struct world *w);
struct plan *plan_by_key(struct world *w, const uint8_t *key);
struct plan *plan_by_job(struct world *w, uint64_t job);
struct plan *plan_at(struct world *w, uint32_t index);
/* The packed input of a task of a plan, appended to out. */
void plan_input(struct world *w, const struct plan *p, uint32_t task, struct buf *out);
void plan_out(const struct plan *p, uint32_t task, char *to); /* its output's name */
/* May a task of this chunk run on this node? */
bool plan_allows(const struct plan *p, uint32_t chunk, uint32_t node);

#endif
