/* Messages as C structs and their envelopes (protobuf inside: wire_pb.h).
 * A message on a link is [envelope][body frames...]; body bytes are opaque here and never
 * copied. Decoding puts arrays in an arena and borrows bytes from the frame: both must
 * outlive the struct. Every count and length is checked against a named limit. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

enum {
    WIRE_VERSION = 1,
    WIRE_KEY_BYTES = 16,
    WIRE_DIGEST_BYTES = 16,
    WIRE_PUBLIC_KEY_BYTES = 32,
    WIRE_CLIENT_FRAME_MAX = 64 * KIB, /* R17 */
    WIRE_WORKER_FRAME_MAX = 1 * MIB,
    WIRE_CHUNK_TASKS_MAX = 4096,
    WIRE_CHUNK_BYTES_MAX = 256 * KIB,
    WIRE_SPEC_BYTES_MAX = 32 * KIB,
    WIRE_LIST_MAX = 4096, /* entries of any other repeated field */
    WIRE_TEXT_MAX = 1024,
    WIRE_LABELS_MAX = 8 * KIB,
    WIRE_SLOTS_MAX = 1 << 20, /* of a worker, of either kind */
};

/* The Error's text for a message of a peer that has not said Hello since the coordinator
 * started: the peer starts a new session, nothing else has failed. */
#define WIRE_NO_SESSION "no session"
/* To a worker's Hello: it may be said again, the other one may be gone already. */
#define WIRE_NAME_TAKEN "another worker with this name is connected"

enum msg_type {
    MSG_HELLO = 1,
    MSG_WELCOME,
    MSG_BEAT,
    MSG_SUBMIT,
    MSG_CHUNK,
    MSG_SEAL,
    MSG_ACCEPTED,
    MSG_LEASE,
    MSG_DONE,
    MSG_COMMITTED,
    MSG_PUBLISHED,
    MSG_FOLLOW,
    MSG_RESULTS,
    MSG_CANCEL,
    MSG_DRAIN,
    MSG_QUERY,
    MSG_ANSWER,
    MSG_ERROR,
    MSG_REVOKE,
    MSG_CREDIT,
    MSG_REMOVE,
    MSG_PAUSE,
    MSG_TAKEN,
    MSG_ENROL,
    MSG_KEY,
    MSG_TYPE_COUNT
};
const char *msg_type_name(enum msg_type t); /* "Hello" ... ; "?" if unknown */

/* A task's end as one byte, in Done and Results. */
enum task_status {
    TASK_OK,
    TASK_FAILED,    /* permanent */
    TASK_RETRYABLE, /* in a record: retries are used up */
    TASK_POISON,    /* its own fault killed its mill; in a record: quarantined */
    TASK_LOST,      /* infrastructure took it; never in a record */
    TASK_CANCELLED,
    TASK_NOT_YET, /* not begun: its server may not be asked before a while; never in a
                     record */
    TASK_STATUS_COUNT
};
enum job_state { JOB_OPEN, JOB_SEALED, JOB_DONE, JOB_CANCELLED, JOB_ABANDONED };
/* Hello has the first two; a key has one of all. */
enum peer_role { ROLE_CLIENT, ROLE_WORKER, ROLE_ADMIN, ROLE_INVITE, ROLE_COUNT };

struct epoch {
    uint64_t counter;
    uint8_t nonce[16];
}; /* R5 */
struct range {
    uint32_t first, count;
};
/* Several task results: n task numbers (absolute in the job), statuses, value lengths;
 * the values stand one after another in the message body. */
struct task_batch {
    uint32_t n;
    const uint32_t *tasks;
    const uint8_t *statuses;
    const uint32_t *lens;
};

struct held_lease {
    uint64_t lease, job;
    uint32_t chunk;
    const struct range *ranges; /* as in its Lease */
    uint32_t n_ranges;
    uint8_t digest[WIRE_DIGEST_BYTES];
};
struct msg_hello {
    enum peer_role role;
    uint32_t version_min, version_max;
    struct epoch epoch;
    struct span name;
    uint32_t cpu_slots, io_slots;
    uint8_t nonce[16]; /* of this process */
    const struct held_lease *held;
    uint32_t n_held;
    uint32_t pid;
    struct span
        identities; /* worker: recipients of the identities it holds, '\n' between */
    bool draining;  /* worker: it was told to take no new work */
    bool files;     /* worker: it has roots; without, it takes inline bytes and URLs */
    struct span labels; /* worker: NAME=VALUE, '\n' between */
};
struct msg_welcome {
    uint32_t version;
    struct epoch epoch;
    uint64_t session;
    uint32_t frame_max, chunk_tasks_max, chunk_bytes_max, input_max, value_max, beat_ms,
        silence_ms;
    struct span next_server; /* a public key, or empty: what the coordinator's will be */
};
struct msg_beat {
    uint64_t session;
    uint32_t cpu_busy, io_busy;
    const uint64_t *progressing;
    uint32_t n_progressing; /* leases that moved since the last Beat */
    bool leaving;           /* the last one of a worker: its name is free */
};
struct msg_submit {
    uint8_t key[WIRE_KEY_BYTES];
    struct span spec; /* packed job_spec */
    struct span name;
    int32_t priority;
    uint32_t retries;
    int64_t task_timeout_ns, deadline_ns;
    bool detached;
};
/* Body: the inputs. tasks of chunk seq are numbered after those of seq - 1. */
struct msg_chunk {
    uint64_t job;
    uint32_t seq;
    uint32_t n;
    const uint32_t *lens;
    uint8_t digest[WIRE_DIGEST_BYTES]; /* checksum of lens as LE u32, then body */
    struct span node;                  /* where its tasks run; empty = anywhere */
};
struct msg_seal {
    uint64_t job;
    uint32_t chunks;
    uint64_t tasks;
};
struct msg_accepted {
    uint8_t key[WIRE_KEY_BYTES];
    uint64_t job;
    uint32_t chunks; /* < are on disk */
    bool sealed;
    enum job_state state;
    uint32_t credit_bytes;
};
/* Body: the inputs of the tasks in ranges, in order. */
struct msg_lease {
    uint64_t lease, job;
    uint32_t chunk;
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct span spec; /* empty when sent before in this session */
    const struct range *ranges;
    uint32_t n_ranges;
    const uint32_t *lens;
    uint32_t n_lens;
    int64_t task_timeout_ns;
    bool publish; /* these tasks were won by this lease in an earlier life of the node:
                     publish their files, say Published (R8) */
    uint64_t attempt_epoch; /* then: the epoch's counter in their temporaries' names */
};
struct msg_done {
    uint64_t lease, job;
    struct epoch epoch;
    uint8_t digest[WIRE_DIGEST_BYTES];
    uint32_t chunk;
    struct task_batch batch;
    bool last; /* lease has no more */
    bool files;
};
struct msg_committed {
    uint64_t lease;
    const uint32_t *won, *lost;
    uint32_t n_won, n_lost;
};
/* batch.statuses TASK_OK or TASK_FAILED. Body: when one failed, the values of all, which
 * replace those of Done; else lens are 0. */
struct msg_published {
    uint64_t lease, job;
    struct epoch epoch;
    struct task_batch batch;
};
struct msg_follow {
    uint64_t job, cursor;
    uint32_t credit_bytes;
    bool task_order, inputs, failed_only;
    uint64_t epoch_counter; /* in which the cursor was told; 0 = it was not */
};
struct msg_job_counts {
    uint64_t tasks, ok, failed, quarantined, cancelled, running;
};
/* Body: values, then (if asked) inputs, both in batch order. */
struct msg_results {
    uint64_t job, cursor, next_cursor;
    struct task_batch batch;
    const uint32_t *input_lens;
    uint32_t n_input_lens;
    struct span node;
    const uint32_t *attempts;
    uint32_t n_attempts;
    bool end; /* no record will follow */
    enum job_state state;
    struct msg_job_counts counts;
};
/* Cancel, Pause, Remove and Drain with an id that is not 0 are answered by Answer without
 * rows. */
struct msg_cancel {
    uint64_t job;
    uint32_t id;
};
struct msg_pause {
    uint64_t job;
    bool resume;
    uint32_t id;
};
struct msg_remove {
    uint64_t job;
    uint32_t id;
}; /* an ended job, with its inputs and results */
struct msg_drain {
    struct span node; /* to a worker: empty */
    bool undo;
    uint32_t id;
};
/* what: "jobs", "job", "nodes", "status"; Answer's body: array of msgpack maps. */
struct msg_query {
    uint32_t id;
    struct span what;
    uint64_t job;
};
struct msg_answer {
    uint32_t id;
    uint32_t n;
    bool last;
};
struct msg_error {
    uint32_t code; /* exit code of CLI.md */
    struct span text, hint;
    uint64_t job;
    enum msg_type about;
};
struct msg_revoke {
    uint64_t lease, job;
}; /* coordinator -> node: stop; lease 0 = all of job */
struct msg_credit {
    uint64_t job;
    uint32_t bytes;
}; /* follower gives more credit */
struct msg_taken {
    uint64_t bytes;
}; /* how much of the other's bulk came on this connection (R10); links say it */

enum key_verb { KEY_TRUST, KEY_REVOKE, KEY_INVITE, KEY_VERB_COUNT };
/* An admin's order about keys. Answered by rows. */
struct msg_key {
    uint32_t id;
    enum key_verb verb;
    uint8_t public_key[WIRE_PUBLIC_KEY_BYTES]; /* KEY_REVOKE with a name: zeros */
    struct span name, owner;
    enum peer_role role;       /* KEY_INVITE: of those who come */
    int64_t not_after_wall_ns; /* 0 = never ends */
    uint32_t uses;             /* KEY_INVITE: how many may come */
};
/* Who holds an invitation says which key he will come with. Answered by its row. */
struct msg_enrol {
    uint32_t id;
    uint8_t public_key[WIRE_PUBLIC_KEY_BYTES];
    struct span name;
};

struct msg {
    enum msg_type type;
    struct span body; /* of all body frames, in one piece */
    union {
        struct msg_hello hello;
        struct msg_welcome welcome;
        struct msg_beat beat;
        struct msg_submit submit;
        struct msg_chunk chunk;
        struct msg_seal seal;
        struct msg_accepted accepted;
        struct msg_lease lease;
        struct msg_done done;
        struct msg_committed committed;
        struct msg_published published;
        struct msg_follow follow;
        struct msg_results results;
        struct msg_cancel cancel;
        struct msg_drain drain;
        struct msg_query query;
        struct msg_answer answer;
        struct msg_error error;
        struct msg_revoke revoke;
        struct msg_credit credit;
        struct msg_remove remove;
        struct msg_pause pause;
        struct msg_taken taken;
        struct msg_enrol enrol;
        struct msg_key key;
    };
};

/* Appends the envelope of m (not its body) to out. */
void wire_encode(const struct msg *m, struct buf *out);
/* Decodes an envelope and checks it against its body: lengths must add up to the body's.
 * Unknown versions, types and inconsistent counts are errors. arena: bounded by its
 * budget. */
int wire_decode(struct span envelope, struct span body, struct arena *arena,
                struct msg *ret, struct err *err);

#endif
