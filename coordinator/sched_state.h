/* What the scheduler's files share, and nobody else. */
#ifndef COORDINATOR_SCHED_STATE_H
#define COORDINATOR_SCHED_STATE_H

#include "base/crypto.h"
#include "base/keyfile.h"
#include "base/queue.h"
#include "coordinator/sched.h"
#include "proto/pack.h"
/* Peers choose names and keys: a keyed hash keeps them from choosing collisions too. */
#define HASH_FUNCTION(key, len, hashv) ((hashv) = (unsigned)crypto_short_hash(key, len))
#include <uthash.h>

enum {
    TRIES_MAX = 200,  /* so that counts fit a byte */
    DEATHS_MAX = 3,   /* own deaths of a task's mill: then it is quarantined (R12) */
    LOSSES_MAX = 100, /* of its mill by others' hands: then it is given up */
    FOLLOW_PAGE_BYTES = 256 * KIB,
    CHUNK_CREDIT_BYTES = 4 * MIB, /* unacknowledged bytes a submitter may have */
    SUBMIT_BYTES = 32 * MIB,      /* and all of them together, but a chunk each */
    PEER_QUEUED_MAX = 1 * MIB,    /* bulk waiting in our queue to one peer */
    CANCEL_CHUNKS_PER_TURN = 64,
    STREAMS_MAX = 4096,  /* nodes that a job has chunks for */
    LEASES_PER_SLOT = 2, /* so that a slot never waits for the network */
    LEASE_WEIGHT = 16,   /* of such a lease; one of a light job weighs less */
    SHARD_FIRST = 16,    /* tasks of the first shard, before anything is measured */
    SHARD_LIGHT = 256,   /* of light tasks: fewer are not worth a message */
};
#define SHARD_NS       (250 * NS_PER_MS)
#define BACKOFF_NS     (1 * NS_PER_S)
#define BACKOFF_MAX_NS (60 * NS_PER_S)
#define TICK_NS        (1 * NS_PER_S)
/* A task that is out for so long is a straggler when others are idle: eight shards' time.
 */
#define HEDGE_NS        (2 * NS_PER_S)
#define TAIL_LOOK_NS    (100 * NS_PER_MS)
#define RESTART_WAIT_NS (2 * NS_PER_S)
/* Where one node starts others do: so long none is missed yet. */
#define YOUNG_NS (2 * NS_PER_S)
/* So much longer a job waits at most because others keep coming: ten seconds in all. */
#define YOUNG_MOST_NS (8 * NS_PER_S)

/* A task of an open chunk.
 *   WAITING -> LEASED -> RECORDED
 *      ^---------'|
 *      '- DEFERRED <   (retryable error, or not yet: until its time comes) */
enum task_state { TASK_WAITING, TASK_LEASED, TASK_DEFERRED, TASK_RECORDED };

struct job;
struct sched_node;

/* A node's name, one object for all who say it. */
struct place {
    char *name;
    uint32_t refs;
    struct sched_node *node; /* that is called so; NULL = not known now */
    UT_hash_handle hh;
};

/* The chunks of a job that are for the same node, or for any (sched_stream.c). */
struct stream {
    struct job *job;
    struct place *place; /* NULL = for any */
    uint32_t next_open;  /* its chunks from here on are not in memory */
    uint32_t n_open, n_reading;
    bool runs;     /* stream_can_run, as the nodes are */
    uint64_t left; /* tasks that wait for a node, when last asked (sched_explain.c) */
    TAILQ_HEAD(chunk_queue, chunk) ready; /* committed, with waiting tasks */
    UT_hash_handle hh;
};

/* A chunk in memory. Arrays have n entries. */
struct chunk {
    struct job *job;
    struct stream *stream;
    uint32_t seq, n;
    uint64_t first;
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct blob *lens, *body;
    uint32_t *offsets; /* n + 1, into body */
    uint8_t *state;    /* enum task_state */
    uint8_t *holders;  /* live leases on it */
    uint8_t *tries;    /* that ended in a retryable error */
    uint8_t *deaths, *losses;
    uint32_t waiting, recorded;
    uint32_t hint;        /* no task before it is waiting */
    uint32_t leases;      /* that point here */
    uint32_t uncommitted; /* batches of it on their way to the disk */
    bool committed;       /* on disk: may be leased (R3) */
    bool listed;
    bool hedged;                   /* some of its tasks had two leases, */
    bool hedge_off;                /* and one of them failed where the other goes on */
    TAILQ_ENTRY(chunk) ready_node; /* in stream->ready */
};

/* What is kept of every chunk of a job that has not ended. */
struct chunk_info {
    uint64_t first;
    uint32_t n;
    uint32_t recorded; /* when not open: as the store knows it */
    uint32_t visible;  /* records with a cursor */
    bool reading;
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct stream *stream;
    struct chunk *open; /* NULL = on disk only */
};

/* What the owners' names of peers without a key begin with, and no key's. */
#define OWNER_LOCAL "local:"

/* Whose jobs are whose. */
struct owner {
    char *name;
    uint32_t refs;       /* jobs, and peers that have said Hello */
    uint32_t jobs;       /* that are kept */
    uint32_t submitting; /* those of them with a client */
    uint64_t leased;     /* tasks out */
    uint64_t tasks;      /* accepted, without a visible record */
    uint64_t bytes;      /* of inputs and visible values */
    UT_hash_handle hh;
};

/* A public key that is known. */
struct key {
    struct key_row row; /* spans point into the blobs below */
    struct blob *name, *owner;
    uint64_t number; /* growing, in the order they came */
    char user[KEY_TEXT];
    TAILQ_ENTRY(key) key_node;
    UT_hash_handle hh;
};

struct follower {
    uint64_t id;
    peer_id peer;
    struct job *job;
    uint64_t cursor;
    int64_t credit;
    bool task_order, inputs, failed_only;
    bool reading, ended;
    uint64_t behind; /* turn whose group carries the last page that waits for it */
    LIST_ENTRY(follower) job_node;
    UT_hash_handle hh;
};

/* As store_load_events.lost. */
struct lost {
    uint64_t cursor, epoch;
};

struct job {
    struct job_row row; /* spans point into the blobs below */
    struct blob *spec_bytes, *name_bytes, *owner_bytes;
    struct job_spec spec;        /* borrows from spec_bytes */
    bool io, placeable, refused; /* io: class; placeable: some node may run it */
    bool light; /* digests of inline bytes: a whole chunk is a few milliseconds' work */
    struct owner *owner;
    struct chunk_info *chunks;
    uint32_t chunks_cap;
    uint32_t first_incomplete;          /* all chunks before it are wholly visible */
    struct stream any, *streams;        /* streams: by place, for those with one */
    uint32_t n_ready;                   /* chunks that are listed */
    uint32_t n_open;                    /* chunks in memory */
    uint32_t chunks_on_disk;            /* committed */
    uint64_t leased, deferred, pending; /* tasks */
    uint64_t committed_cursor;
    struct lost *losts; /* what was told of, and is not here */
    uint32_t n_losts;
    bool end_on_disk; /* that it has ended */
    bool sealed, cancelling, listed;
    uint32_t cancel_seq;
    enum job_state cancel_state;      /* what it ends as */
    peer_id client;                   /* who submits; 0 = gone; see job_client_is */
    bool dry;                         /* its client was told a credit of 0 */
    bool over;                        /* for its owner has as many tasks as he may have */
    int64_t client_gone_ns, stuck_ns; /* stuck: not said before, while !placeable */
    bool timed;                       /* stuck_ns is since when no node could run it */
    LIST_HEAD(, follower) followers;
    TAILQ_HEAD(, recent) recents; /* in order of cursor */
    TAILQ_ENTRY(job) node;
    TAILQ_ENTRY(job) live_node;  /* in sched->live until it has ended */
    TAILQ_ENTRY(job) ready_node; /* in sched->ready while it has ready chunks */
    UT_hash_handle hh, hh_key;
};

struct lease {
    uint64_t id;
    struct sched_node *node;
    struct chunk *chunk;
    uint32_t n, left;
    uint32_t weight; /* of LEASE_WEIGHT; 0 = it fetches, or not all taken yet */
    uint8_t *live;   /* bitmap over the chunk's tasks: those it still owes */
    int64_t given_ns, moved_ns; /* moved: its node last said that it goes on */
    LIST_ENTRY(lease) node_node;
    UT_hash_handle hh;
};

/* A job that goes on, on a node: how fast, and in which session its spec was sent. */
struct pace {
    uint64_t job;
    uint32_t shard;
    uint32_t done; /* since `since_ns` */
    int64_t since_ns;
    uint32_t told; /* sched_node.sessions then */
    bool again;    /* it may not have it all the same */
    UT_hash_handle hh;
};

struct sched_node {
    char *name;
    struct place *place; /* of its name */
    uint8_t nonce[16];
    peer_id peer;      /* 0 = not connected */
    uint32_t adopting; /* leases it holds whose chunk is being read */
    bool welcomed;     /* in this session: it takes leases */
    bool settled;      /* it was welcomed once: all that it holds is known here */
    bool stored;       /* it is waited for after a restart */
    uint32_t cpu_slots, io_slots;
    uint32_t cpu_leases, cpu_weight, cpu_busy, io_busy;
    uint64_t io_tasks, done;
    bool draining, files; /* files: it has roots */
    bool told_all;        /* in this session: what it is to publish (R8) */
    uint64_t publish_job; /* the chunk that is read for that; 0 = none */
    uint32_t publish_chunk;
    struct blob *identities, *labels;
    LIST_HEAD(, lease) leases;
    struct pace *paces;
    uint32_t sessions; /* how many it began; 0 = none */
    uint64_t number;   /* growing, in their order */
    TAILQ_ENTRY(sched_node) node;
};

/* A Query that is not answered whole. */
struct asker {
    uint32_t id;
    uint64_t job;
    size_t what;    /* row of `queries`; their number: none of them */
    uint64_t after; /* the last one whose row was said */
    bool now;       /* not behind what waits for the disk */
    TAILQ_ENTRY(asker) asker_node;
};

struct peer {
    peer_id id;
    enum peer_role role; /* CLIENT or WORKER: what it is in Hello */
    enum peer_role
        rights;          /* what it may say: its key's role; on this host ADMIN, WORKER */
    struct key *key;     /* NULL = on this host */
    struct owner *owner; /* of the jobs it submits, and those it may see */
    uint8_t nonce[16];   /* of its process */
    char *name;
    int64_t heard_ns;
    size_t queued;    /* bytes that wait for it at its link */
    size_t said;      /* bulk that leaves at the end of this turn, */
    size_t behind;    /* and that which leaves once its group is on disk */
    uint32_t reading; /* pages for it that come from the disk */
    bool starved;     /* something waits for room (sched_bulk.c) */
    uint32_t n_askers;
    uint64_t dear_turn;         /* the last in which a Query of it took long */
    TAILQ_HEAD(, asker) askers; /* in the order of their Queries */
    struct sched_node *node;
    UT_hash_handle hh;
};

/* A recorded batch whose files are not published yet (R8). */
struct pending {
    uint64_t row, job, epoch, lease;
    uint32_t chunk, n;
    struct blob *tasks;
    char *node;
    int64_t since_ns;
    bool committed;
    bool telling;   /* its node may have forgotten it, and is to be told to publish it */
    uint64_t bytes; /* of its values */
    TAILQ_ENTRY(pending) node_entry;
};

/* A lease of an earlier epoch that a node still works on, until its chunk is read. */
struct adoptee {
    uint64_t lease, job;
    struct sched_node *holder;
    uint32_t chunk, n_ranges;
    TAILQ_ENTRY(adoptee) adoptee_node;
    struct range ranges[];
};

struct deferred {
    int64_t due_ns;
    uint64_t job;
    uint32_t seq, index;
    bool not_yet; /* it was not tried: its server is not to be asked yet */
};

/* A removed job's key (R16). */
struct tomb {
    uint64_t job; /* 0 = free */
    uint8_t key[WIRE_KEY_BYTES];
};

struct sched {
    struct sched_config config;
    struct fx_group *g; /* of this turn */
    int64_t now, real_now, wall;
    int64_t leases_looked_ns, tail_looked_ns;
    int64_t wait_until_ns;  /* for the nodes of before a restart (R4) */
    int64_t young_until_ns; /* other nodes may be just starting too */
    struct peer *peers;
    TAILQ_HEAD(, sched_node) nodes;
    struct place *places;
    struct job *jobs, *jobs_by_key;
    TAILQ_HEAD(, job) all;   /* in order of id */
    TAILQ_HEAD(, job) live;  /* those that have not ended */
    TAILQ_HEAD(, job) ready; /* with something to lease */
    struct owner *owners;
    struct key *keys; /* by their text */
    TAILQ_HEAD(key_list, key) key_list;
    const struct sched_server *server; /* NULL = only links of this host */
    uint64_t denied;                   /* messages */
    struct lease *leases;
    struct follower *followers;
    struct recent *recent;        /* by job and cursor */
    TAILQ_HEAD(, recent) recents; /* the oldest first */
    size_t recent_bytes;
    TAILQ_HEAD(pending_list, pending) pending;
    TAILQ_HEAD(, adoptee) adoptees;
    struct deferred *heap;
    size_t heap_n, heap_cap;
    struct tomb *tombs;
    size_t tombs_n, tombs_cap;           /* cap: a power of two */
    int64_t run_loaded_ns, run_saved_ns; /* running time of coordinators (R16) */
    uint64_t next_job, next_lease, next_row, next_follow, next_node, next_key, session;
    uint64_t turn, turn_on_disk; /* of groups */
    size_t open_bytes;
    uint32_t reading; /* chunks on their way from the disk */
    uint64_t random;
    uint64_t free_bytes; /* on the store's disk */
    uint32_t submitters; /* jobs with a client */
    bool low, lowest;    /* below the first, the second mark (R13) */
    bool dry;            /* some job's client was told a credit of 0 */
    bool pressure, overfull, full, draining, again;
};

/* Leases are not stored: the epoch's counter in the upper bits keeps ids unique (R4). */
static inline uint64_t lease_epoch(uint64_t lease)
{
    return lease >> 32;
}

static inline bool job_ended(const struct job *j)
{
    return j->row.state == JOB_DONE || j->row.state == JOB_CANCELLED ||
           j->row.state == JOB_ABANDONED;
}

/* sched.c: effects and lookups */
struct fx *sched_send(struct sched *s, peer_id peer, enum msg_type type);
struct fx *sched_send_now(struct sched *s, peer_id peer, enum msg_type type);
struct fx *sched_error(struct sched *s, peer_id peer, uint32_t code, uint64_t job,
                       enum msg_type about, const char *text, const char *hint);
/* Error 5: not for this peer. Counted. */
struct fx *sched_denied(struct sched *s, peer_id peer, uint64_t job, enum msg_type about,
                        const char *text, const char *hint);
/* To an order with an id that is not 0: it was carried out. */
void sched_answer(struct sched *s, peer_id peer, uint32_t id);
struct job *sched_job(struct sched *s, uint64_t id);
struct peer *sched_peer(struct sched *s, peer_id id);
void sched_peer_leave(struct sched *s, struct peer *p); /* it is not there any more */
uint32_t sched_random(struct sched *s);

/* sched_chunk.c, sched_job.c: chunks in memory and jobs */
struct chunk *chunk_open(struct sched *s, struct job *j, const struct chunk_row *row,
                         const uint8_t *recorded);
struct chunk_info *chunk_info_add(struct sched *s, struct job *j,
                                  const struct chunk_row *row);
void chunk_free(struct sched *s, struct chunk *c);
size_t chunk_bytes(const struct chunk *c); /* what an open one costs in memory */
void chunk_release(struct sched *s, struct chunk *c); /* frees it when nothing needs it */
void chunk_list(struct sched *s, struct chunk *c);    /* in or out of its stream's */
void job_settle(struct sched *s, struct job *j);      /* ends it when all is recorded */
/* Reads chunks back while the stream has little to lease and memory allows. */
void stream_open_chunks(struct sched *s, struct stream *st);
/* All that it could lease is on disk, and memory does not allow it more. */
bool stream_lacks_room(const struct sched *s, struct stream *st);
/* Those that the disk knows whole; st: NULL = of all streams. */
void job_put_chunks_away(struct sched *s, struct job *j, const struct stream *st);

/* sched_stream.c */
struct place *place_get(struct sched *s, struct span name); /* counted */
void place_put(struct sched *s, struct place *p);           /* takes NULL */
void streams_init(struct sched *s, struct job *j);
void streams_free(struct sched *s, struct job *j);
struct stream *stream_of(struct sched *s, struct job *j, struct span node); /* made */
bool stream_is_new(struct sched *s, struct job *j, struct span node);
struct stream *stream_next(struct job *j, const struct stream *st); /* from &j->any on */
bool stream_is_here(const struct stream *st); /* its node, if it has one, is connected */
bool stream_fits(const struct stream *st, const struct sched_node *n);
struct chunk *stream_chunk_for(struct job *j, const struct sched_node *n); /* or NULL */
bool stream_all_open(struct stream *st); /* nothing of it is on disk only */
/* A node takes leases of it, or no node does of anything. */
bool stream_can_run(const struct sched *s, const struct stream *st);
void streams_place(struct sched *s, struct job *j); /* nodes came, went or were drained */
void job_read_chunk(struct sched *s, struct job *j, uint32_t seq); /* unless it is read */
void job_cancel(struct sched *s, struct job *j, enum job_state as);
void job_cancel_more(struct sched *s, struct job *j);
void job_accepted(struct sched *s, peer_id peer, struct job *j); /* says so */
void job_client_gone(struct sched *s, struct job *j);
void sched_submit(struct sched *s, struct peer *p, const struct msg *m);
void sched_chunk(struct sched *s, struct peer *p, const struct msg *m);
void sched_seal(struct sched *s, struct peer *p, const struct msg *m);
void sched_cancel(struct sched *s, struct peer *p, const struct msg *m);
void sched_pause(struct sched *s, struct peer *p, const struct msg *m);
void sched_chunk_committed(struct sched *s, const struct chunk_row *row);
void sched_chunk_read(struct sched *s, struct fx_read_chunk *r);
void sched_free_job(struct sched *s, struct job *j);

/* sched_record.c: from Done to records */
void sched_done(struct sched *s, struct peer *p, const struct msg *m);
void sched_batch_committed(struct sched *s, const struct batch_row *b);
void record_cancelled(struct sched *s, struct job *j, struct chunk *c, uint32_t seq);
void record_damaged(struct sched *s, struct job *j, struct chunk *c);
uint64_t record_next_cursor(const struct job *j);
void record_count(struct job *j, const uint8_t *statuses, uint32_t n); /* visible ones */
void record_visible(struct job *j, uint32_t seq, uint32_t n);

/* sched_defer.c: tasks that wait for their time */
void defer(struct sched *s, struct chunk *c, uint32_t index, int64_t due_ns,
           bool not_yet);
void defer_due(struct sched *s);
int64_t defer_next_ns(const struct sched *s);
int64_t backoff_ns(struct sched *s, uint32_t tries, uint32_t asked_s);
void task_wait(struct chunk *c, uint32_t index);

/* sched_files.c: won tasks whose files are not in place yet (R8) */
void files_wait(struct sched *s, const struct batch_row *b);
void files_pump(struct sched *s, struct sched_node *n); /* tells what it has forgotten */
/* Its session is another one: a new process knows nothing, and to an old one the answer
 * to its Published may have been lost. */
void files_forgotten(struct sched *s, struct sched_node *n);
void files_chunk_read(struct sched *s, struct chunk *c);
void files_damaged(struct sched *s, uint64_t job, uint32_t seq);
void files_committed(struct sched *s, uint64_t row);
bool files_pending(const struct sched *s, const struct msg_done *d, uint32_t task);
uint64_t files_waiting(const struct sched *s, const char *node); /* tasks */
void files_expire(struct sched *s);
void files_free(struct sched *s);
void sched_published(struct sched *s, struct peer *p, const struct msg *m);
void sched_show_committed(struct sched *s, uint64_t job, uint64_t cursor, uint32_t n);

/* sched_node.c */
void sched_node_hello(struct sched *s, struct peer *p, const struct msg *m);
void node_forget_job(struct sched *s, struct sched_node *n, uint64_t job);
/* It is not connected any more: its leases end, and it is forgotten. */
void node_lost(struct sched *s, struct sched_node *n);
void node_free(struct sched *s, struct sched_node *n);
/* Nodes of before a restart are still to come. */
bool node_awaited(struct sched *s);
void node_expire(struct sched *s);
void sched_drain_node(struct sched *s, struct peer *p, const struct msg *m);

/* sched_adopt.c: leases of before a restart (R4) */
void adopt_held(struct sched *s, struct sched_node *n, const struct msg_hello *h);
void adopt_read(struct sched *s, uint64_t job, uint32_t seq); /* its chunk is there */
void adopt_drop(struct sched *s, struct sched_node *n);

/* sched_place.c: which nodes may run what */
bool node_fits(const struct sched_node *n, const struct job *j);
/* What no connected node has of what the job needs: text and hint are written; false:
 * one has all. */
bool job_lacks(struct sched *s, const struct job *j, struct err *ret);
bool job_placeable(struct sched *s, const struct job *j);
void place_jobs(struct sched *s);      /* nodes came, went or were drained */
void place_node_came(struct sched *s); /* one that was not known */
/* Of a new job: no node can ever run it, as far as can be known. */
bool job_is_hopeless(struct sched *s, struct job *j);
/* No node could run it for as long as one may be away, or just starting. */
bool job_is_stuck(const struct sched *s, const struct job *j);
void job_tell_stuck(struct sched *s, struct job *j);
/* Says that nobody can run it. */
void job_refuse(struct sched *s, peer_id peer, const struct job *j, enum msg_type about);

/* sched_lease.c */
void lease_end(struct sched *s, struct lease *l); /* what it owes is waiting again */
bool lease_spec_known(struct sched_node *n, uint64_t job); /* and it is from now on */
void lease_spec_again(const struct lease *l); /* it is sent with the next one */
struct lease *lease_new(struct sched *s, struct sched_node *n, struct chunk *c,
                        uint64_t id);
void lease_take_task(struct lease *l, uint32_t index); /* waiting -> leased */
void lease_give_end(struct sched *s, struct lease *l); /* all its tasks are taken */
/* Sends it: indexes of its tasks in the chunk, ascending. */
void lease_say(struct sched *s, const struct lease *l, const uint32_t *indexes,
               uint32_t n);
/* How many tasks its next shard should have on this node. */
uint32_t lease_shard_tasks(struct sched *s, struct sched_node *n, const struct chunk *c);
void lease_revoke(struct sched *s, struct lease *l); /* ends it, and tells its node */
void lease_expire(struct sched *s);
void lease_moved(struct sched *s, const struct sched_node *n, const struct msg_beat *b);
void lease_revoke_job(struct sched *s, struct job *j); /* all of a job's */
/* It has room for another lease. */
bool lease_node_takes(struct sched *s, const struct sched_node *n, bool io);
void lease_pump(struct sched *s);
void lease_done(struct sched *s, struct lease *l, uint32_t n);

/* sched_hedge.c: the tail of a job */
bool hedge(struct sched *s,
           struct sched_node *n); /* one more lease, of tasks that are out */
void hedge_over(struct sched *s, struct chunk *c); /* whose tasks another recorded */

/* sched_follow.c */
void sched_follow(struct sched *s, struct peer *p, const struct msg *m);
void sched_credit(struct sched *s, struct peer *p, const struct msg *m);
void sched_results_read(struct sched *s, struct fx_read_results *r);
void follow_live(struct sched *s, struct job *j, const struct batch_row *b);
void follow_pump(struct sched *s, struct job *j);
void follow_drop_peer(struct sched *s, peer_id peer);
void follow_pump_peer(struct sched *s, struct peer *p);
void follow_free(struct sched *s, struct follower *f);

/* sched_recent.c */
void recent_add(struct sched *s, struct job *j, const struct batch_row *b);
/* The row whose first record has this cursor, or NULL: it is on the disk alone. */
const struct batch_row *recent_at(struct sched *s, const struct job *j, uint64_t cursor);
/* Rows of the job that begin before the cursor are not asked for any more. */
void recent_passed(struct sched *s, struct job *j, uint64_t cursor);

/* sched_room.c */
bool room_to_lease(const struct sched *s);
bool room_for_chunk(struct sched *s, struct peer *p); /* false: p is gone */
void room_refuse(struct sched *s, peer_id peer, enum msg_type about);
void job_client_is(struct sched *s, struct job *j, peer_id client);
uint32_t job_credit(struct sched *s, struct job *j); /* to be told its client now */
void credit_again(struct sched *s); /* to those who were told 0, when there is some */

/* sched_owner.c */
struct owner *owner_get(struct sched *s, struct span name);
struct owner *owner_local(struct sched *s, const char *name);
bool owner_is_local(struct span name);
void owner_put(struct sched *s, struct owner *o); /* takes NULL */
/* The job, if the peer may see it: others' jobs do not exist for it. */
bool owner_sees(const struct peer *p, const struct job *j);
struct job *sched_job_of(struct sched *s, const struct peer *p, uint64_t id);
void job_stores(struct job *j, uint64_t bytes); /* so many more */
/* Refused, and told so, what its owner may not have any more. */
bool quota_refuses_job(struct sched *s, const struct peer *p, const struct msg_submit *m);
bool quota_refuses_chunk(struct sched *s, const struct peer *p, const struct job *j,
                         const struct msg *m);
/* No chunk is taken now, whatever was told before. */
bool quota_is_over(const struct sched *s, const struct peer *p);
/* How much of `window` bytes its client may be told; 0: nothing until tasks are done. */
uint32_t quota_window(struct sched *s, struct job *j, uint32_t window);

/* sched_keys.c */
struct key *key_of(struct sched *s, struct span user);
/* NULL, or what is wrong with it now. */
const char *key_wrong(const struct sched *s, const struct key *k);
struct fx *key_error(struct sched *s, peer_id peer, const struct key *k); /* tells what */
void key_refuse(struct sched *s, struct peer *p); /* so, and ends its session */
struct span key_owner(const struct key *k);       /* of the jobs it submits */
const char *role_name(enum peer_role role);
void keys_free(struct sched *s);
void key_pack(struct sched *s, struct buf *out, const struct key *k); /* a row */
void sched_key(struct sched *s, struct peer *p, const struct msg *m);
void sched_enrol(struct sched *s, struct peer *p, const struct msg *m);

/* sched_remove.c */
void sched_remove(struct sched *s, struct peer *p, const struct msg *m);
uint64_t job_removed(const struct sched *s, const uint8_t key[WIRE_KEY_BYTES]); /* or 0 */
bool job_id_removed(const struct sched *s, uint64_t job); /* looks at all of them */
int64_t sched_run_ns(const struct sched *s);
void jobs_keep(struct sched *s); /* removes what was kept long enough */

/* sched_query.c */
void sched_query(struct sched *s, struct peer *p, const struct msg *m);
void query_pump(struct sched *s, struct peer *p); /* goes on answering */
void query_forget(struct peer *p);                /* what it asked */

/* sched_explain.c: rows that say why a job waits; how many, 1 at least */
uint32_t explain_job(struct sched *s, struct job *j, struct buf *rows);

/* sched_bulk.c */
void bulk_said(struct sched *s, const struct fx *fx); /* once its message is complete */
void bulk_on_disk(struct sched *s, const struct fx *fx);
void bulk_turn_begin(struct sched *s);
bool bulk_room(const struct peer *p); /* one more message may be said */
bool bulk_must_wait(struct sched *s,
                    struct peer *p); /* no room: it is pumped when there is some */
void bulk_pump(struct sched *s, struct peer *p); /* perhaps there is room again */

#endif
