/* What the node's files share, and nobody else:
 *   node.c        session: Hello, Beat, Lease, Revoke
 *   node_batch.c  results on their way: batches, Done, Committed, files, Published
 *   node_lease.c  leases, and the jobs they are of
 *   node_held.c   which leases Hello and Beat name
 *   node_journal.c  which temporaries there may be, for after a kill
 *   split.c       tasks whose file is shared by several mills
 *   node_io.c     tasks that fetch: a coroutine each; node_hosts.c: what a server bears
 *   node_grist.c  what was fetched, on its way through a mill
 */
#ifndef WORKER_NODE_STATE_H
#define WORKER_NODE_STATE_H

#include "base/queue.h"
#include "proto/pack.h"
#include "worker/coropool.h"
#include "worker/node.h"
#include "worker/litter.h"
#include "worker/ops/files.h"
#include "worker/procpool.h"
#include "worker/threadpool.h"
#include <uthash.h>

enum {
    BATCH_VALUE_BYTES = 200 * KIB, /* then it is sent */
    BODY_IN_MEMORY = 64 * KIB,     /* of a fetched body; then it goes to a file */
};
/* Runs of fetched bodies, or of a part of a task, are numbered above all leases. */
#define FIRST_IO_RUN (1ull << 63)
/* Results of slow tasks do not wait longer than this for company. */
#define BATCH_NS (100 * NS_PER_MS)

/* A job's spec, kept for the session: it is sent once in each. */
struct node_job {
    uint64_t id;
    uint32_t leases; /* that stand, as struct node_lease */
    bool old;        /* it goes with the last of them, unless its spec is sent again */
    uint8_t *bytes;
    struct job_spec spec; /* borrows from bytes */
    UT_hash_handle hh;
};

struct batch;

struct node_lease {
    uint64_t id;
    struct node *node;
    struct node_job *job;
    struct epoch epoch;      /* in which it was given */
    uint64_t attempt_epoch;  /* as in the names of its files: with node->place */
    uint32_t chunk, n, left; /* left: tasks whose result is not in a batch yet */
    struct range *ranges;    /* its tasks, as they were given */
    uint32_t n_ranges;
    uint64_t hello, beat; /* the last ones that named it */
    uint8_t digest[WIRE_DIGEST_BYTES];
    int64_t task_timeout_ns;
    uint32_t *tasks, *lens, *offsets;
    bool *batched; /* by index: its result is in a batch */
    bool *split;   /* by index: it is run as parts; NULL = none is */
    uint32_t n_split;
    uint8_t *body;
    uint32_t refs;         /* itself while it is under way, and its batches */
    bool waiting, revoked; /* waiting: in node->waiting */
    bool given_back;       /* its last Done gives back what is not in a batch */
    uint32_t io_next;      /* first task without a coroutine */
    LIST_HEAD(, io_task) io_tasks;
    struct batch *filling;
    TAILQ_ENTRY(node_lease) wait_node; /* in node->waiting: not yet with a pool */
    UT_hash_handle hh;
};

/* FILLING -> SYNCING -> SENT -> PUBLISHING -> SAID -> freed
 *    `------------------^  `-------------------------^    without files */
enum batch_state {
    BATCH_FILLING,
    BATCH_SYNCING,
    BATCH_SENT,
    BATCH_PUBLISHING,
    BATCH_SAID
};

struct batch {
    struct node_lease *lease;
    enum batch_state state;
    bool files;
    bool unsaid; /* SENT, SAID: it found no room in the link, or there was no session */
    uint32_t n;
    struct buf tasks, statuses, lens, indexes, values; /* indexes: in the lease */
    int64_t since_ns;
    struct files_item *items; /* while a thread has them */
    uint32_t n_items;
    TAILQ_ENTRY(batch) node_entry;
};

struct io_task;
struct io_host;
struct grist;
struct grist_run;
struct split;
struct split_part;

struct node {
    struct loop *loop;
    struct node_config config;
    struct link_ctx *ctx;
    struct link *link;
    struct procpool *pool;
    struct threadpool *threads;
    struct coropool *coros;
    struct resolve *resolve;
    struct fetch *fetch;
    mode_t file_mode; /* of what is fetched */
    struct files_roots *roots;
    uint64_t
        place; /* says which coordinator and node: two private clusters number alike */
    struct litter *litter; /* NULL: no journal can be kept */
    int64_t sweep_ns;      /* not before */
    uint8_t nonce[16];
    struct epoch epoch; /* counter 0: none seen yet */
    uint64_t session, hellos, beats;
    bool welcomed, stopping, left, draining, has_roots;
    bool told_all; /* that it is to publish of an earlier life (R8) */
    bool sweeping, sweep_again, swept;
    int64_t heard_ns, silence_ns, beat_ns;
    int64_t refused_ns; /* since when its name is said to be taken; 0 = it is not */
    struct loop_timer *beat, *flush;
    struct node_job *jobs;
    struct node_lease *leases, *found; /* found: by lease_find, the last time */
    TAILQ_HEAD(, node_lease) waiting;
    TAILQ_HEAD(, batch) batches;
    struct io_host *hosts;
    TAILQ_HEAD(, grist) mill_waiting; /* fetched bodies, */
    uint32_t n_mill_waiting;
    struct grist_run *grist_runs;  /* and those that mills have, by run id */
    struct loop_timer *grist_turn; /* the first that waits is given when it ends */
    bool grist_last;            /* at the last room in the pool cpu leases came first */
    TAILQ_HEAD(, split) splits; /* the oldest first */
    struct split_part *split_parts; /* by run id */
    uint64_t next_run;
    uint32_t io_busy, unsaid; /* unsaid: batches that are */
    struct err failure;
};

/* node_lease.c */
struct node_lease *lease_find(struct node *n, uint64_t id);
void lease_remove(struct node_lease *l); /* it is not found any more */
struct node_lease *lease_new(struct node *n, struct node_job *job, const struct msg *m);
void lease_unref(struct node_lease *l);
/* The job a lease is of, known from now on; NULL with err when it has no usable spec. */
struct node_job *job_of(struct node *n, const struct msg_lease *m, struct err *err);
/* A session begins, in which specs are sent anew, or the job (0 = all) has ended: it is
 * kept until its last lease has ended here. */
void jobs_forget(struct node *n, uint64_t job);
struct span lease_input(const struct node_lease *l, uint32_t index);
struct files_attempt lease_attempt(const struct node_lease *l, uint32_t index);

/* node_held.c: each list has room for WIRE_LIST_MAX; how many there are */
/* Leases under way, and those whose results are not answered yet. */
uint32_t held_list(struct node *n, struct held_lease *list);
/* Leases that are renewed: those that wait here for a pool, a disk or an answer, those
 * whose transfers keep their own time limits, those whose mill moves. */
uint32_t held_moving(struct node *n, uint64_t *list);

/* node.c */
void node_start_waiting(struct node *n);
void node_leave(struct node *n); /* says so, and ends */
/* One task of a lease has ended; the lease may be gone after it. */
void node_result(struct node_lease *l, uint32_t index, enum task_status status,
                 struct span value);

/* node_batch.c */
void batch_add(struct node_lease *l, uint32_t index, enum task_status status,
               struct span value);
void batch_error(struct node_lease *l, uint32_t index, enum task_status status,
                 const char *why);
/* Removes the temporary of a task of the lease, if there is one. */
void attempt_discard(struct node_lease *l, uint32_t index);
/* A result that does not count: its file goes. */
void batch_discard(struct node_lease *l, uint32_t index, enum task_status status);
/* Files won in an earlier life of this node (Lease with publish). */
void batch_republish(struct node *n, const struct msg *m);
void batch_flush_due(struct node *n, bool all);
void batch_committed(struct node *n, const struct msg_committed *m);
void batch_resend(struct node *n);
/* Is a Done of the lease still to be said, beside that of `but` (NULL: none)? */
bool batch_owed(const struct node_lease *l, const struct batch *but);
void batch_say_unsaid(struct node *n); /* now and then */
void batch_say_published(struct batch *b);
void batch_free(struct batch *b);
/* The node ends: temporaries of results that nobody will ask for any more go. True: some
 * stay, because the coordinator may want them published. */
bool batch_discard_all(struct node *n);

/* node_journal.c */
void journal_open(struct node *n);
/* Where a lease will make files is on disk before it makes one: then litter_flush. */
void lease_note(const struct node_lease *l);
void journal_tend(struct node *n); /* now and then */

/* node_io.c */
int io_new(struct node *n, struct err *err);
void io_free(struct node *n);
/* A coroutine for each of its tasks; false: there is no room for all of them now. */
bool io_start(struct node_lease *l);
void io_revoke(struct node_lease *l);
void io_tend(struct node *n); /* now and then */

/* node_grist.c */
/* The pool has room: for what was fetched, and for all else that waits for a mill. Who
 * comes first changes each time, so that neither starves the other. */
void grist_room(struct node *n);
/* A result of a run that was made of them. */
void grist_result(struct node *n, uint64_t run, uint32_t index, enum task_status status,
                  struct span value);

#endif
