/* What the files of the library share. One mutex per connection guards everything but
 * what is marked; the connection's thread runs the loop and is the only one that touches
 * the link. Callers change the state of jobs, put them on the `ready` list and post a
 * wake; the thread then sends what is due. Everything is resent from that same state
 * after a reconnect, so no message is ever remembered as a message.
 *
 * `struct tm` of the public header is only a name for struct conn: <time.h> owns the tag.
 */
#ifndef CLIENT_LIB_INTERNAL_H
#define CLIENT_LIB_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>
#include <uthash.h>
#include "base/clock.h"
#include "base/loop.h"
#include "client/tidemill.h"
#include "proto/keyring.h"
#include "proto/pack.h"

/* Bytes of results that may wait here for the reader of one job. */
enum { RESULT_CREDIT_BYTES = 4 * MIB };
#define FLUSH_NS (20 * NS_PER_MS) /* see flush_due_ns */

struct pair;
struct batch;
STAILQ_HEAD(batch_queue, batch);

/* A closed chunk, kept until the coordinator has it on disk. */
struct chunk {
    STAILQ_ENTRY(chunk) node_entry;
    uint32_t seq, n;
    uint32_t *lens; /* owned */
    uint8_t *body;  /* owned */
    char *node;     /* owned; "" = for any */
    size_t body_len;
    uint8_t digest[WIRE_DIGEST_BYTES];
    bool sent; /* in this session */
};

/* A chunk being filled: one for each node that inputs are for. */
struct filling {
    STAILQ_ENTRY(filling) fillings_node;
    char *node; /* owned; "" = for any */
    struct buf body, lens;
    uint32_t n;
};

struct tm_job {
    struct conn *conn;
    TAILQ_ENTRY(tm_job) all_node, ready_node, asked_node, filling_node;
    UT_hash_handle hh_key, hh_id;
    bool on_ready, on_asked, on_filling, by_key, by_id;
    bool attached; /* not submitted by us: no key */
    bool orphan;   /* freed by the caller; lives until its last chunk is acknowledged */
    bool keyed;    /* the caller gave its key: he may submit it again, and go on */
    bool unwanted; /* nobody waits for it any more: cancel it when it has an id */
    struct err failed; /* code != 0: the coordinator refused something about it */

    /* Submission. */
    uint8_t key[WIRE_KEY_BYTES];
    uint64_t id;     /* 0: not known yet */
    struct buf spec; /* packed */
    char *name;
    enum tm_source source;
    int32_t priority;
    uint32_t retries;
    int64_t task_timeout_ns, deadline_ns;
    bool detached;
    bool accepted; /* in this session: chunks may go */
    STAILQ_HEAD(, filling) fillings;
    uint32_t open_n;   /* inputs in all of them, */
    size_t open_bytes; /* and what these weigh */
    int64_t flush_at_ns;
    STAILQ_HEAD(, chunk) chunks; /* closed, not acknowledged; those sent come first */
    size_t chunk_bytes;          /* of all of them */
    size_t sent_bytes;           /* of those that were sent in this session */
    uint32_t next_seq;           /* of the next chunk closed */
    uint32_t chunks_on_disk;
    uint32_t credit_bytes; /* the coordinator's window for what is not acknowledged */
    uint64_t earlier;      /* tasks of an earlier process with this key */
    uint64_t added;
    uint64_t tasks_on_disk;
    bool sealing, seal_sent, sealed;
    bool starved; /* an input found no room: tell when there is */

    /* Results. */
    bool follow, follow_sent;
    unsigned flags;
    uint64_t received;       /* cursor after the last batch received */
    uint64_t received_epoch; /* the counter of its coordinator; 0 = not known */
    uint64_t cursor;         /* after the last batch read to its end */
    struct batch_queue batches;
    struct batch *current; /* the reader's: not under the mutex */
    size_t held_bytes;     /* of bodies in batches and current */
    int64_t credit_due;    /* to be given back; negative: overdrawn */
    bool end_read;
    struct tm_job_status heard;
    struct tm_counts counted; /* from the results themselves */

    char **described; /* strings of the description, NULL-ended; NULL = not asked yet */
    uint8_t described_key[WIRE_KEY_BYTES];
    struct tm_job_spec description;
};
TAILQ_HEAD(job_list, tm_job);

/* A question or an order, and what came as its answer. Owned by the caller that waits.
 * One with id 0 is not answered: the list owns it, until it was sent. */
struct query {
    TAILQ_ENTRY(query) node;
    enum msg_type type; /* Query, Cancel, Pause, Drain, Remove or Key */
    uint32_t id;
    const char *what; /* Query: what is asked for; Drain: the node */
    uint64_t job;
    bool undo;                /* Pause: resume; Drain: undrain */
    const struct tm_key *key; /* Key: which, and what of it */
    enum key_verb verb;
    bool sent, again, done; /* again: it was sent in an earlier session too */
    struct err failed;
    uint32_t n;
    struct buf rows;
};

enum conn_state {
    CONN_GREETING, /* Hello is out, or waits for a connection */
    CONN_UP,
    CONN_DEAD, /* for good; `fatal` says why */
};

struct conn {
    pthread_mutex_t mu;
    pthread_cond_t cond; /* something changed; on the monotonic clock */
    pthread_t thread;
    char *endpoint, *name; /* fixed, as the next three */
    int64_t connect_timeout_ns, reconnect_timeout_ns;
    uint8_t nonce[16];
    struct pair *pair; /* the embedded cluster, or NULL */
    struct keyring keyring;

    enum conn_state state;
    struct err fatal;
    bool stop;
    int event_fd;
    bool event_hot; /* event_fd is readable */
    bool news;      /* waiters are to look again once the mutex is free */
    uint32_t chunk_tasks_max, chunk_bytes_max, input_max;
    struct job_list all, ready, asked, filling; /* asked: Submit sent, in that order */
    struct tm_job *keys, *ids;                  /* uthash heads */
    TAILQ_HEAD(, query) queries;
    uint32_t next_query;
    LIST_HEAD(, tm_rows) rows;
    LIST_HEAD(, tm_future) futures;
    LIST_HEAD(, tm_map) maps;
    unsigned interrupts; /* atomic: counts tm_interrupt */
    unsigned interrupts_seen, interrupts_told;
    int64_t patience_ns; /* see tm_patience */

    /* The thread's own. */
    struct loop *loop;
    struct link_ctx *ctx;
    struct link *link;
    struct loop_wake *wake; /* posted from any thread */
    struct loop_timer *tick, *flush, *retry;
    bool session_unknown; /* the coordinator said so: reset at the next tick */
    struct epoch epoch;
    bool epoch_known;
    uint64_t session;
    int64_t beat_ns, silence_ns;
    int64_t beat_at_ns, heard_ns, greeted_ns, lost_ns;
};

static inline struct conn *conn_of(const struct tm *tm)
{
    return (struct conn *)(uintptr_t)tm;
}

/* ---- conn.c: the thread and the session ---- */

/* Starts the thread and waits for Welcome. c has endpoint, name, timeouts, pair. */
int conn_start(struct conn *c, struct err *err);
void conn_stop(struct conn *c); /* joins the thread and frees its parts */
void conn_init(struct conn *c);
void conn_fini(struct conn *c);
/* All below: under the mutex. */
void conn_kick(struct conn *c);   /* the thread shall send what is due */
void conn_notify(struct conn *c); /* thread: waiters and tm_fd are to look again */
void conn_die(struct conn *c, const struct err *why);
/* -1 and err when the connection failed for good. */
int conn_alive(const struct conn *c, struct err *err);

/* One blocking call. */
struct waiter {
    int64_t deadline_ns; /* monotonic; TM_FOREVER */
    unsigned interrupts;
    bool entered;
};
struct waiter conn_waiter(int64_t timeout_ns);
/* Waits for conn_notify: 0, or TM_AGAIN after the deadline or tm_interrupt. */
int conn_wait(struct conn *c, struct waiter *w);

/* Writes *out (may be NULL) and returns -1. */
int error_out(struct tm_error *out, const struct err *err);

/* ---- job.c, chunk.c: submission ---- */

/* A job as the spec says, not announced yet. */
int job_new(struct conn *c, const struct tm_job_spec *spec, struct tm_job **ret,
            struct err *err);
/* All below: under the mutex. */
void job_ready(struct tm_job *job); /* has something to send */
void job_forget(struct tm_job *job);
void job_drop(struct tm_job *job); /* the caller lets go: forget, or orphan it */
int job_send(struct tm_job *job);  /* thread: all that is due; -1 = queue full */
void job_session_lost(struct tm_job *job);
void job_fail(struct tm_job *job, const struct err *why);
int job_check(struct tm_job *job, struct err *err); /* -1: failed, or the connection */
/* Thread: messages. */
void job_on_accepted(struct conn *c, const struct msg *m);
void job_on_error(struct conn *c, const struct msg *m, const struct err *why);
/* Follows under the job's id; -1 when another job of this connection does. */
int job_list_id(struct tm_job *job, struct err *err);

bool chunk_room(const struct tm_job *job);
/* 0, TM_AGAIN (no room), -1. */
int chunk_add(struct tm_job *job, const struct tm_input *in, struct err *err);
void chunk_close(struct tm_job *job); /* all that are being filled */
int chunk_send_all(struct tm_job *job);
void chunk_acknowledge(struct tm_job *job, uint32_t on_disk);
void chunk_free_all(struct tm_job *job);

/* ---- results.c ---- */

void results_on_message(struct conn *c, const struct msg *m);
int results_send(struct tm_job *job); /* thread: Follow or Credit; -1 = queue full */
void results_free(struct tm_job *job);
/* As tm_follow, under the mutex. */
int results_follow(struct tm_job *job, uint64_t cursor, unsigned flags, struct err *err);
bool results_waiting(const struct tm_job *job); /* tm_next would not wait */

/* ---- query.c ---- */

int query_run(struct conn *c, const char *what, uint64_t job, struct tm_rows **ret,
              struct err *err); /* not under the mutex; 0, TM_AGAIN, -1 */
int query_send_all(struct conn *c);
void query_session_lost(struct conn *c);
void query_on_answer(struct conn *c, const struct msg *m);
bool query_owns(enum msg_type about); /* an Error about it is query_on_error's */
void query_on_error(struct conn *c, const struct msg *m, const struct err *why);
/* Cancels a job without waiting for an answer. */
void query_cancel_unheard(struct conn *c, uint64_t job);
void query_free(struct conn *c, struct query *q); /* of those with id 0 */
/* The rows of an answer, which leave q. Caller rows_free_locks *ret. */
int rows_of(struct conn *c, struct query *q, struct tm_rows **ret, struct err *err);
void rows_free_locked(struct tm_rows *rows);
void future_free_locked(struct tm_future *f);
void map_free_locked(struct tm_map *map);

#endif
