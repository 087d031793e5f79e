/* What the process pool's files share, and nobody else: procpool.c (the pool, and what is
 * submitted to it), procpool_run.c (a run's way through a mill), procpool_mill.c (life
 * and death of the mills). */
#ifndef WORKER_PROCPOOL_STATE_H
#define WORKER_PROCPOOL_STATE_H

#include "base/queue.h"
#include "worker/millproc.h"
#include "worker/procpool.h"
#include <uthash.h>

struct pool_spec {
    uint64_t id;
    struct buf packed;
    UT_hash_handle hh;
};

/* A run that was accepted, or what one mill has of it: several with one id share its
 * tasks, and to each those of the others are done. Its record is kept: another mill gets
 * it when one dies. */
struct run {
    uint64_t id, spec_id;
    uint32_t left;
    int64_t timeout_ns;
    int body_fd; /* owned; -1 = none */
    bool cancelled;
    int64_t given_ns;           /* when its mill got it, or half of it was taken away */
    struct mill *mill;          /* NULL = in pool->homeless */
    struct mill_run_head *head; /* owned: the whole record */
    struct mill_run parts;
    TAILQ_ENTRY(run) run_node;  /* in mill->runs or pool->homeless */
    TAILQ_ENTRY(run) pool_node; /* in pool->runs */
};
TAILQ_HEAD(run_list, run);

struct mill {
    struct procpool *pool;
    struct millproc proc;
    bool up, timed_out;
    bool mad; /* it said nonsense, and nothing it says is heard any more */
    struct run_list runs;
    uint32_t n_runs;
    uint64_t slots[MILL_SPEC_SLOTS]; /* spec + 1; 0 = empty */
    uint32_t next_slot;
    unsigned failures; /* deaths in a row before it was up */
    uint64_t moved;    /* as it was when last asked */
    struct loop_io *done_io, *pid_io;
    struct loop_timer *respawn;
};

struct procpool {
    struct loop *loop;
    struct procpool_config config;
    char **roots; /* owned copies, NULL-ended */
    char *program;
    const struct procpool_events *ev;
    void *arg;
    struct pool_spec *specs;
    struct run_list runs, homeless;
    uint32_t next_serial;
    bool room_wanted;
    struct loop_timer *watch; /* armed while there are runs */
    struct loop_timer *share; /* armed while a mill has nothing to do, others too much */
    uint64_t oom_kills;       /* of the whole host, when it was looked at last */
    int64_t oom_ns;           /* when one more was seen; 0 = never */
    uint32_t n;
    struct mill mills[];
};

/* procpool_run.c */
void run_free(struct procpool *pool, struct run *run);
void run_leave(struct procpool *pool, struct run *run); /* from where it is */
struct run *run_of_serial(struct mill *m, uint32_t serial);
/* Ends a task with an error, and the run with its last one: true, and run is gone. */
bool run_task_error(struct procpool *pool, struct run *run, uint32_t index,
                    enum task_status status, const char *why);
/* Ends what is left of a run. */
void run_abandon(struct procpool *pool, struct run *run, enum task_status status,
                 const char *why);
/* Takes the results that are in a mill's ring; kills it when they are nonsense. */
void run_take_results(struct mill *m);
/* Is there a running mill with fewer runs than it may hold? */
bool run_has_place(struct procpool *pool);
/* Gives a run to the running mill with the least to do; false: none has room for it. */
bool run_place(struct procpool *pool, struct run *run);
void run_place_homeless(struct procpool *pool);
/* Gives mills without work half of what another has not begun, unless it is too early. */
void run_share(struct procpool *pool);

/* procpool_mill.c */
int mill_init(struct procpool *pool, struct mill *m, struct err *err);
void mill_fini(struct mill *m); /* reaps it, once it was killed */
/* Looks after time limits and the memory from now on, while there are runs. */
void mill_watch(struct procpool *pool);
void mill_on_watch(void *arg); /* of pool->watch */

#endif
