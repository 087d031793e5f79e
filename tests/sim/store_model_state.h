/* What store_model.c and store_behind.c share, and nobody else. */
#ifndef SIM_STORE_MODEL_STATE_H
#define SIM_STORE_MODEL_STATE_H

#include "tests/sim/store_model.h"

/* As a row of the table `lost`. */
struct lost_row {
    uint64_t job, cursor, epoch;
};

struct store_model {
    struct stored_job *jobs;
    uint32_t n_jobs;
    struct {
        uint64_t job;
        uint8_t key[WIRE_KEY_BYTES];
    } * removed;
    uint32_t n_removed;
    int64_t run_ns;
    char nodes[NODES_MAX][8]; /* that come back after a restart; empty = none */
    uint64_t epoch;
    STAILQ_HEAD(, fx_group) waiting, done; /* done: committed, not told */
    size_t backlog;
    struct event commit, deliver;
    int64_t stalled_ns, full_ns;
    bool full, was_full;
    /* Of a store that writes behind: */
    bool gathers; /* for nothing that waits is waited for */
    struct lost_row *lost;
    uint32_t n_lost;
    int64_t run_disk_ns; /* run_ns, without what a kill loses of it */
};

/* The last of them goes. */
void stored_chunk_pop(struct stored_job *j);
void stored_batch_pop(struct stored_job *j);

/* store_behind.c */
void behind_epoch(struct world *w); /* of a start: notes what is lost */
void behind_load(struct world *w, struct sched *sched);

#endif
