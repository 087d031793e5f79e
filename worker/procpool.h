/* The process pool: N mills, each this program re-executed (`--mill`), fed through two
 * rings of one shared memfd with an eventfd each way. Runs of tasks go in, results come
 * out in batches. A mill that dies is replaced; the task it was on is blamed, the others
 * of its run are lost (to be given again), nothing else is touched. A mill that has
 * nothing to do gets half of what another has not begun, but never all of a run: one that
 * has a single task stays where it waits. The loop's thread only. */
#ifndef WORKER_PROCPOOL_H
#define WORKER_PROCPOOL_H

#include "base/loop.h"
#include "proto/wire.h"

enum {
    PROCPOOL_RING_BYTES = 1 * MIB, /* each way; a run's record must fit into half */
    PROCPOOL_AHEAD = 2,            /* runs a mill holds: one it is on, one waiting */
};

struct procpool;
struct part; /* ops/part.h */

struct procpool_config {
    uint32_t procs;
    const char *program;      /* executable of the mill; NULL = /proc/self/exe */
    const char *const *roots; /* NULL-ended "DIR[:ro]"; borrowed during the call */
    int identity_fd;          /* age identities, passed to each mill; -1 = none */
};

/* One task's end, in any order. value: packed task_value, valid during the call. index:
 * in its run. */
struct procpool_events {
    void (*result)(void *arg, uint64_t run, uint32_t index, enum task_status status,
                   struct span value);
    /* A run may be submitted again after EAGAIN. */
    void (*room)(void *arg);
};

int procpool_new(struct loop *loop, const struct procpool_config *config,
                 const struct procpool_events *ev, void *arg, struct procpool **ret_pool,
                 struct err *err);
/* Kills and reaps the mills; no event is called any more. Takes NULL. */
void procpool_free(struct procpool *pool);

/* A job's packed spec, known to the pool under a number until procpool_forget_spec. */
void procpool_spec(struct procpool *pool, uint64_t spec_id, struct span packed);
void procpool_forget_spec(struct procpool *pool, uint64_t spec_id);

struct procpool_run {
    uint64_t id; /* of the caller's choice, unique among those under way */
    uint64_t spec_id, epoch, lease;
    uint32_t n;            /* tasks */
    const uint32_t *tasks; /* their numbers */
    const uint32_t *lens;  /* of their packed inputs, */
    struct span inputs;    /* which stand here one after another */
    const bool *skip;      /* by index: not to be run; NULL = run all. One at least is */
    int64_t task_timeout_ns;   /* 0 = none; a mill over it is killed, its task blamed */
    const struct span *bodies; /* fetched, one a task, copied; NULL = none */
    int body_fd;               /* n = 1 only: one in a file, dup'ed; -1 = none */
    /* n = 1 only, without bodies: a part of the task, copied; NULL = all of it. */
    const struct part *part;
};
/* Copies the run to the mill with the least to do. -1 with EAGAIN when all are full (room
 * is called later), E2BIG when it can never fit, another when body_fd cannot be dup'ed.
 */
int procpool_submit(struct procpool *pool, const struct procpool_run *run);
/* Its tasks not yet done end as TASK_CANCELLED, the one under way within a second. */
void procpool_cancel(struct procpool *pool, uint64_t run);
/* Calls fn for each run that went on since the last call: one of a mill that moved, or
 * one that has no mill yet. */
void procpool_each_moving(struct procpool *pool, void (*fn)(void *arg, uint64_t run),
                          void *arg);
/* Mills that have something to do. */
uint32_t procpool_busy(const struct procpool *pool);

/* The mill's side: main of `tidemill-worker --mill`; returns the exit status. */
int mill_main(int argc, char **argv);

#endif
