/* The store: what was committed, and nothing else. Groups are taken in order, several in
 * one transaction; a crash loses those that were not committed, and the acknowledgements
 * of those that were but had not been told yet. Groups that are written behind count as
 * committed before they are pushed; a crash loses those, too, that wait still. */
#ifndef SIM_STORE_MODEL_H
#define SIM_STORE_MODEL_H

#include "coordinator/sched.h"
#include "tests/sim/world.h"

struct stored_batch {
    struct batch_row row; /* pending: no cursor yet */
    char node[8];
    bool unpublished; /* shown as failed, though its node said ok at first */
};

struct stored_job {
    struct job_row row; /* spec, name and owner point into the blobs */
    struct blob *spec, *name, *owner;
    struct chunk_row *chunks;
    struct stored_batch *batches; /* in the order of their rows */
    uint32_t n_chunks, n_batches;
};

void store_model_new(struct world *w);
void store_model_free(struct world *w);
struct epoch store_model_epoch(struct world *w); /* of a new start: raised */
void store_model_load(struct world *w, struct sched *s);
void store_model_push(struct world *w, struct fx_group *g); /* takes it */
/* Saves a group that is written behind: it is pushed when its messages have left. */
void store_model_save(struct world *w, const struct fx_group *g);
size_t store_model_backlog(const struct world *w);
void store_model_lose(struct world *w); /* before a crash: what was told of, and waits */
void store_model_crash(struct world *w);

/* Faults. */
void store_model_stall(struct world *w, int64_t ns);
void store_model_fill(struct world *w, int64_t ns); /* no space */
bool store_model_was_full(const struct world *w);

/* For the checker. */
struct stored_job *stored_job(struct world *w, uint64_t id);
struct stored_job *stored_by_key(struct world *w, const uint8_t *key);
uint32_t stored_jobs(struct world *w, struct stored_job **ret_first);

#endif
