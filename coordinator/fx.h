/* Effects: what the scheduler wants done, in order. All effects of one turn of the loop
 * are a group (R1). The store's thread executes groups in order, several in one
 * transaction; what is to be sent leaves after the commit. A group is never dropped (R2).
 * No I/O lives here. */
#ifndef COORDINATOR_FX_H
#define COORDINATOR_FX_H

#include <sys/queue.h>
#include "base/arena.h"
#include "coordinator/blob.h"
#include "proto/link.h"
#include "proto/wire.h"

/* One row per job. */
struct job_row {
    uint64_t id;
    uint8_t key[WIRE_KEY_BYTES];
    struct span spec, name, owner; /* owner: the submitter's name */
    int32_t priority;
    uint32_t retries;
    int64_t task_timeout_ns, deadline_ns; /* the deadline from submission on */
    bool detached, paused;
    int64_t created_wall_ns, ended_wall_ns; /* 0 = not ended */
    int64_t ended_run_ns; /* when it ended, in the running time of coordinators */
    enum job_state state; /* cancelled or abandoned and not ended: its tasks are being
                             recorded as cancelled */
    uint32_t chunks;      /* accepted */
    uint64_t tasks;       /* in them */
    uint64_t ok, failed, poison, cancelled; /* visible records; their sum is the next
                                               record's cursor */
    uint64_t bytes; /* of its description, inputs accepted and values visible */
};

/* How many of job_row.bytes a job has without an input, and a chunk adds. */
uint64_t job_row_bytes(const struct job_row *j);

/* One row per public key that is known, also of those that may do nothing any more. */
struct key_row {
    uint8_t public_key[WIRE_PUBLIC_KEY_BYTES];
    struct span name, owner; /* owner: of the jobs it submits; empty = its name */
    enum peer_role role;
    enum peer_role grants; /* an invitation: the role of those who come by it */
    uint32_t uses;         /* an invitation: how many may still come */
    int64_t created_wall_ns, not_after_wall_ns, revoked_wall_ns; /* 0 = never */
    uint8_t invited_by[WIRE_PUBLIC_KEY_BYTES]; /* the invitation it came by, or zeros */
};

/* One row per chunk: its body and what is known of it without the body. */
struct chunk_row {
    uint64_t job;
    uint32_t seq;
    uint64_t first; /* number of its first task */
    uint32_t n;
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct span node;  /* where its tasks run; empty = anywhere */
    struct blob *lens; /* n host-order u32 */
    struct blob *body;
};

uint64_t chunk_row_bytes(const struct chunk_row *c);

/* Records of one Done (or of a cancelled chunk): a row of its own. */
struct batch_row {
    uint64_t row; /* unique, given by the scheduler, growing */
    uint64_t job;
    uint32_t chunk;
    bool pending;          /* files not yet published: no cursor, not visible (R8) */
    uint64_t cursor;       /* of the first record, when visible */
    uint64_t epoch, lease; /* whose attempt it is */
    uint32_t n;
    struct blob *tasks;    /* n host-order u32: task numbers in the job, as they came */
    struct blob *statuses; /* n bytes, enum task_status */
    struct blob *attempts; /* n host-order u32 */
    struct blob *lens;     /* n host-order u32 */
    struct blob *values;
    uint64_t
        bytes; /* of the values, where they are not read: as pending ones are loaded */
    struct span node;
};

enum fx_type {
    /* Saved. */
    FX_JOB,    /* job: insert */
    FX_CHUNK,  /* chunk: insert; the job row's chunks and tasks grow with it */
    FX_STATE,  /* state: the job's state (and when it ended) changes */
    FX_BATCH,  /* batch: insert; when visible the job's counts grow with it */
    FX_SHOW,   /* show: a pending batch becomes visible, some values replaced */
    FX_REMOVE, /* remove: the job goes, its key stays (R16) */
    FX_RUN,    /* run: how long coordinators have run on this state */
    FX_PAUSE,  /* pause: whether the job is leased */
    FX_NODE,   /* node: one that comes back after a restart, or no longer does */
    FX_KEY,    /* key: insert, or in place of the row of this public key */
    /* Asked; answered in the effect itself, after the commit of its group. */
    FX_READ_CHUNK,   /* read_chunk */
    FX_READ_RESULTS, /* read_results */
    FX_SEND,         /* sent after the commit */
    FX_SEND_NOW,     /* sent at the end of the turn: what no commit stands behind, and
                        records that are on disk (R1) */
};

/* Everything about a chunk that is not in memory: its row, and what is recorded of it. */
struct fx_read_chunk {
    uint64_t job;
    uint32_t seq;
    uint64_t first; /* its first task and how many there are, as known in memory */
    uint32_t n;
    struct chunk_row ret;      /* blobs owned by the effect */
    struct blob *ret_recorded; /* n bytes: 1 = this task has a record (pending too) */
    bool damaged;              /* it is not what was written: ret is empty */
};

/* A page of results, in commit order (from cursor on) or in task order (tasks of
 * first_chunk from `cursor` on). */
struct fx_read_results {
    uint64_t job, follow; /* follow: the asker's number, given back */
    uint64_t cursor;
    uint64_t limit; /* commit order: cursors below it are visible */
    bool task_order, inputs, failed_only;
    uint32_t first_chunk; /* task order: the chunk that holds task `cursor`, wholly */
    uint64_t chunk_end;   /* visible, and the task after its last */
    size_t max_bytes;     /* of values and inputs; at least one record is given */
    /* The answer: records of one node; n may be 0 when all that was looked at is filtered
     * away, then ret_next says how far that was. */
    struct batch_row ret;                     /* blobs owned by the effect */
    struct blob *ret_node;                    /* what ret.node points to */
    uint64_t ret_next;                        /* cursor after what was looked at */
    struct blob *ret_input_lens, *ret_inputs; /* when asked for */
    bool damaged; /* not what was written: no answer; ret.row may say which row it is */
};

struct fx {
    STAILQ_ENTRY(fx) node;
    enum fx_type type;
    union {
        struct job_row job;
        struct chunk_row chunk;
        struct {
            uint64_t job;
            enum job_state state;
            int64_t ended_wall_ns, ended_run_ns;
        } state;
        struct batch_row batch;
        struct {
            uint64_t row, job, cursor;
            uint64_t bytes; /* of its values, as they are now */
            uint32_t n;
            struct blob *tasks,
                *statuses;              /* the row's; statuses: its new ones, n bytes */
            struct blob *lens, *values; /* NULL = as they were */
        } show;
        struct {
            uint64_t job;
            uint8_t key[WIRE_KEY_BYTES];
        } remove;
        struct {
            int64_t ns;
        } run;
        struct {
            uint64_t job;
            bool paused;
        } pause;
        struct {
            struct span name;
            bool gone;
        } node_known;
        struct key_row key;
        struct fx_read_chunk read_chunk;
        struct fx_read_results read_results;
        struct {
            peer_id peer;
            bool instead;      /* of all that waits for the peer at its link */
            struct msg msg;    /* arrays and texts in the group's arena */
            struct blob *body; /* what msg.body points into, or NULL */
        } send;
    };
};

struct fx_group {
    STAILQ_ENTRY(fx_group) node;
    STAILQ_HEAD(fx_list, fx) list;
    struct arena arena; /* the effects, and what they point to (but blobs) */
    uint64_t turn;      /* its number, growing */
    size_t bytes;       /* of blobs to be stored: what waiting for the store costs */
    bool saves, reads;
    bool removes;    /* jobs: it gives room back */
    bool waits;      /* something of it is not done at the end of the turn */
    bool only_pages; /* it asks for pages of results, and nothing else waits */
    bool behind;     /* its messages left, and it counted as committed, before it is */
};

struct fx_group *fx_group_new(void);
/* Drops its references to blobs. Takes NULL. */
void fx_group_free(struct fx_group *g);
/* Takes the pages of results that are asked for out of a group that has more than them:
 * a group of their own, to be pushed next; NULL when there is none to take out. */
struct fx_group *fx_group_split_pages(struct fx_group *g);
/* Nothing worse comes of it than work done again, or an error that says so, when its
 * messages left and it is lost: it asks nothing, and saves no more than inputs of a job
 * that is not sealed, records without files and the running time. Jobs, their states and
 * keys are to be on disk before they are told of, and so are records whose files are put
 * in place then (R8). */
bool fx_group_may_be_behind(const struct fx_group *g);
/* Its messages left: what they carry need not wait for the disk. */
void fx_group_sent(struct fx_group *g);
/* A new effect at the end of the group, zeroed. Blobs put into it are owned by it. */
struct fx *fx_add(struct fx_group *g, enum fx_type type);
/* Copies into the group's arena. */
struct span fx_keep(struct fx_group *g, struct span s);
void *fx_keep_bytes(struct fx_group *g, const void *p, size_t len);

#endif
