/* What a mill and its pool agree on: descriptor numbers and the shape of the memory they
 * share. Both are the same program, so the structs are the format.
 *
 *   pool --work ring--> SPEC, RUN            (slot of a spec; a run of tasks)
 *   mill --done ring--> one record a task    (mill_done_head, packed task_value)
 *   control             what the mill is on; which runs are cancelled; what of each run
 *                       is still to be begun, which the pool may give to another mill */
#ifndef WORKER_MILLSHM_H
#define WORKER_MILLSHM_H

#include "worker/procpool.h"
#include "worker/ring.h"

/* Descriptors of a mill beside 0 to 2. */
enum {
    MILL_FD_SHM = 3,    /* memfd of struct mill_shm, sealed */
    MILL_FD_WORK,       /* eventfd: look at the work ring, or room in the done ring */
    MILL_FD_DONE,       /* eventfd: the pool's */
    MILL_FD_SOCKET,     /* unix stream: body files come here; it closes with the parent */
    MILL_FD_IDENTITIES, /* if there are any */
    MILL_FD_END,
};

enum {
    MILL_SPEC_SLOTS = 32,           /* specs a mill keeps: at most 1 MiB */
    MILL_FLUSH_BYTES = 64 * KIB,    /* results wait for so many, */
    MILL_FLUSH_NS = 50 * NS_PER_MS, /* or so long, before the pool is woken */
};

/* Written by the mill but for cancelled and unbegun. */
struct mill_control {
    /* Serial of the run << 32 | index of the task begun last. */
    alignas(64) _Atomic uint64_t on;
    _Atomic int64_t since_ns; /* of it, CLOCK_MONOTONIC_COARSE; 0 = in no task */
    _Atomic uint32_t ready;   /* it has come up */
    _Atomic uint64_t moved;   /* counts tasks begun and blocks read: it is not stuck */
    /* By mill_run_head.place; true for as long as a cancelled run holds it. */
    alignas(64) atomic_bool cancelled[PROCPOOL_AHEAD];
    /* By place as well: what is not begun of the run, see mill_unbegun. Both sides change
     * it, by compare-and-exchange alone, so that each task is the mill's or the pool's:
     * the mill takes the first, the pool what is from some task on, for another mill. */
    _Atomic uint64_t unbegun[PROCPOOL_AHEAD];
};

/* Tasks of a run from one on and before another. That the first is 0 says that the mill
 * has not taken any. */
static inline uint64_t mill_unbegun(uint32_t first, uint32_t end)
{
    return (uint64_t)first << 32 | end;
}
static inline uint32_t mill_unbegun_first(uint64_t unbegun)
{
    return (uint32_t)(unbegun >> 32);
}
static inline uint32_t mill_unbegun_end(uint64_t unbegun)
{
    return (uint32_t)unbegun;
}

struct mill_shm {
    struct mill_control control;
    struct ring_shared work, done;
    alignas(64) uint8_t work_bytes[PROCPOOL_RING_BYTES];
    alignas(64) uint8_t done_bytes[PROCPOOL_RING_BYTES];
};

enum mill_request { MILL_SPEC = 1, MILL_RUN };
enum mill_body { MILL_BODY_NONE, MILL_BODY_BYTES, MILL_BODY_FD, MILL_BODY_PART };

/* Followed by the packed spec. Replaces what was in the slot. */
struct mill_spec_head {
    uint32_t kind; /* MILL_SPEC */
    uint32_t slot;
};

/* Followed by: bits of tasks already done (as uint32_t), task numbers, lengths, those of
 * bodies with MILL_BODY_BYTES, inputs, body: a part, or one body a task. */
struct mill_run_head {
    uint32_t kind; /* MILL_RUN */
    uint32_t serial;
    uint32_t place, spec_slot;
    uint32_t n, inputs_len;
    uint32_t body; /* enum mill_body */
    uint32_t body_len;
    uint64_t epoch, lease;
};

/* Where the parts of a run lie after its head. */
struct mill_run {
    uint32_t *done_bits, *tasks, *lens, *body_lens;
    uint8_t *inputs, *body;
    size_t bytes; /* of the whole record */
};

static inline struct mill_run mill_run_parts(struct mill_run_head *head)
{
    struct mill_run run;
    run.done_bits = (uint32_t *)(head + 1);
    run.tasks = run.done_bits + (head->n + 31) / 32;
    run.lens = run.tasks + head->n;
    run.body_lens = run.lens + head->n;
    run.inputs =
        (uint8_t *)(run.body_lens + (head->body == MILL_BODY_BYTES ? head->n : 0));
    run.body = run.inputs + head->inputs_len;
    run.bytes = (size_t)(run.body + head->body_len - (uint8_t *)head);
    return run;
}

static inline bool mill_run_is_done(const struct mill_run *run, uint32_t index)
{
    return run->done_bits[index / 32] & BIT(index % 32);
}

/* Followed by the packed value. */
struct mill_done_head {
    uint32_t serial, index;
    uint32_t status; /* enum task_status */
    uint32_t zero;
};

#endif
