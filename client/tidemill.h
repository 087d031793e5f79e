/* tidemill: the client library. A job is a pipeline and a stream of inputs; every input
 * is a task, numbered from 0, and ends in exactly one result.
 *
 *     struct tm *tm;
 *     struct tm_job *job;
 *     struct tm_result r;
 *     tm_open(NULL, &tm, &err);                            embedded: a private cluster
 *     tm_submit(tm, &(struct tm_job_spec){ .command = "hash", .source = TM_SOURCE_PATH,
 *                                          .algos = TM_BIT(TM_SHA256) }, &job, &err);
 *     tm_add(job, &(struct tm_input){ .path = "/etc/passwd" }, &err);
 *     tm_seal(job, &err);
 *     while (tm_next(job, &r, TM_FOREVER, &err) == 1) ...
 *     tm_close(tm);
 *
 * Threads: a struct tm has a thread of its own that talks to the coordinator, also while
 * the caller computes. Every function may be called from any thread, but one job's
 * results are read by one thread at a time, and tm_close is the last call. tm_interrupt
 * alone may be called from a signal handler. Not to be used after fork.
 *
 * Errors: functions return 0 (or what they say) and -1 with *err filled; err may be NULL.
 * Every `timeout_ns` is in nanoseconds: 0 = do not wait, TM_FOREVER = no limit. TM_AGAIN
 * says that the time went by, or that tm_interrupt was called: nothing is lost.
 *
 * Bytes are given with a length, names are NUL-ended; what a caller passes is copied
 * before the call returns. */
#ifndef TIDEMILL_H
#define TIDEMILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tm;        /* a connection to a coordinator */
struct tm_job;    /* a job as this process sees it */
struct tm_future; /* one task submitted alone */
struct tm_map;    /* results of an input sequence, in its order */
struct tm_rows;   /* the answer to a query */

enum { TM_AGAIN = -2 };
#define TM_FOREVER INT64_MAX
#define TM_BIT(n)  (1u << (n))

/* Codes are the exit codes of the command line. */
enum tm_code {
    TM_ERROR = 1,        /* anything else */
    TM_USAGE = 2,        /* bad option, bad argument */
    TM_DENIED = 5,       /* authentication or permission */
    TM_UNREACHABLE = 6,  /* coordinator cannot be reached: may be tried again */
    TM_CANCELLED = 8,    /* the job was cancelled or abandoned */
    TM_NOT_FOUND = 9,    /* no such job or node */
    TM_UNPLACEABLE = 10, /* no node can ever run it */
    TM_TOO_LARGE = 11    /* one input is: the job goes on without it; no exit code */
};
struct tm_error {
    int code;       /* enum tm_code */
    char text[768]; /* one line: what failed and why */
    char hint[384]; /* what to do about it; may be empty */
};

/* ---- connection ---- */

struct tm_open_options {
    const char *coordinator; /* endpoint; NULL = embedded: private coordinator, worker */
    const char *bin_dir;     /* embedded: where the programs are; NULL = TIDEMILL_BIN_DIR,
                                beside this program or library, PATH */
    const char *state_dir;   /* embedded: job state is kept here; NULL = nothing kept */
    const char *const *roots; /* embedded: NULL-ended, DIR[:ro]; NULL = "/" */
    uint32_t procs;       /* embedded: processes of the pool; 0 = what the cores allow */
    uint32_t coroutines;  /* embedded: transfers at once; 0 = the worker's default */
    const char *scratch;  /* embedded: a file of the caller's that is removed at the end,
                             also when the caller is killed; NULL = none */
    const void *identity; /* embedded: age identity file's bytes, handed over by fd */
    size_t identity_len;
    const char *name;       /* shown to operators; NULL = host and pid */
    const char *key_file;   /* of encrypted links; NULL = TIDEMILL_KEY, else client.key in
                               $XDG_CONFIG_HOME/tidemill or ~/.config/tidemill */
    const char *known_keys; /* coordinators' keys; NULL = TIDEMILL_KNOWN_KEYS, else
                               known_keys beside the key file */
    int64_t connect_timeout_ns;   /* 0 = 6 s: then code 6 */
    int64_t reconnect_timeout_ns; /* 0 = 30 s: a lost coordinator fails calls after it */
};

/* Connects, or starts a private cluster, and waits until the coordinator answered.
 * opts may be NULL (embedded, all defaults). Caller tm_closes *ret. */
int tm_open(const struct tm_open_options *opts, struct tm **ret, struct tm_error *err);
/* Frees everything that came from tm: jobs, futures, maps, rows. An embedded cluster is
 * stopped and gone when this returns. Takes NULL. */
void tm_close(struct tm *tm);
/* Readable when a result, an error or room for inputs may be there. Owned by tm. */
int tm_fd(struct tm *tm);
/* Never blocks; makes tm_fd quiet again. Call it when tm_fd is readable, then tm_next and
 * tm_try_add with what can be done. -1 when the connection failed for good. */
int tm_process(struct tm *tm, struct tm_error *err);
/* Async-signal-safe: every call that blocks, now or next, returns TM_AGAIN once. */
void tm_interrupt(struct tm *tm);
/* The endpoint in use; owned by tm. */
const char *tm_endpoint(const struct tm *tm);
bool tm_is_embedded(const struct tm *tm);
/* Embedded: the coordinator's disk is full or has room again, once for each time it says
 * so. Inputs wait meanwhile, and nothing fails: who waits should be told why. */
bool tm_warning(struct tm *tm, struct tm_error *ret);

/* Finds the coordinator: flag, else TIDEMILL_COORDINATOR, else `coordinator =` in
 * ./tidemill.conf, ~/.config/tidemill/tidemill.conf, /etc/tidemill/tidemill.conf, else
 * the socket of this user's `tidemill up` if somebody listens. *ret_endpoint is NULL when
 * there is none (embedded then), *ret_origin says where it came from ("--coordinator",
 * "TIDEMILL_COORDINATOR", a file's name, "tidemill up", "embedded"). Caller frees both.
 */
int tm_find_coordinator(const char *flag, char **ret_endpoint, char **ret_origin,
                        struct tm_error *err);

/* Where one of tidemill's programs is ("tidemill-worker"): bin_dir, TIDEMILL_BIN_DIR,
 * beside this program, beside this library, PATH. Caller frees *ret. */
int tm_find_program(const char *program, const char *bin_dir, char **ret,
                    struct tm_error *err);

/* ---- `up`: coordinator and worker of this user, with an endpoint others find ---- */

struct tm_up; /* two running programs */
struct tm_up_options {
    const char *listen; /* endpoint; NULL = the user's own socket */
    const char
        *state_dir;      /* NULL = $XDG_STATE_HOME/tidemill or ~/.local/state/tidemill */
    const char *bin_dir; /* as in tm_open_options */
    const char *const *roots;
    uint32_t procs, coroutines; /* 0 = default */
    const void *identity;
    size_t identity_len;
};
/* Starts both and waits until the coordinator listens. They end when this process does.
 */
int tm_up_start(const struct tm_up_options *opts, struct tm_up **ret,
                struct tm_error *err);
const char *tm_up_endpoint(const struct tm_up *up); /* as bound; owned by up */
/* Waits until a program ends by itself (-1: the error says which and why), or TM_AGAIN
 * after timeout_ns, a signal or one second: call it again. */
int tm_up_wait(struct tm_up *up, int64_t timeout_ns, struct tm_error *err);
void tm_up_stop(struct tm_up *up); /* SIGTERM, waits, frees; takes NULL */

/* ---- a job ---- */

enum tm_algo { TM_MD5, TM_SHA1, TM_SHA256, TM_SHA512, TM_BLAKE2B, TM_ALGO_COUNT };
const char *tm_algo_name(enum tm_algo algo); /* "sha256"; static */
/* TM_SOURCE_DIR: the inputs are paths of directories, the values their entries. */
enum tm_source { TM_SOURCE_BYTES, TM_SOURCE_PATH, TM_SOURCE_URL, TM_SOURCE_DIR };
enum tm_sink { TM_SINK_NONE, TM_SINK_RETURN, TM_SINK_FILE };
enum tm_transform { TM_TRANSFORM_NONE, TM_TRANSFORM_ENCRYPT, TM_TRANSFORM_DECRYPT };
enum tm_state { TM_OPEN, TM_SEALED, TM_DONE, TM_JOB_CANCELLED, TM_ABANDONED };

struct tm_job_spec {
    const char *command;   /* "hash" "encrypt" "decrypt" "fetch" "map": shown, and used to
                              print results; NULL = "map" */
    enum tm_source source; /* what the inputs are */
    uint32_t algos;        /* TM_BIT(enum tm_algo)...: digests of the source's bytes */
    enum tm_transform transform;
    uint32_t out_algos;            /* digests of the bytes after the transform */
    const char *const *recipients; /* age1...: to encrypt to; to decrypt: the recipients
                                      of the identities that may open it */
    size_t n_recipients;           /* at most 64 */
    enum tm_sink sink;             /* what becomes of the bytes */
    bool armor, force;             /* age's PEM form; replace outputs that exist */
    bool no_sync;                  /* outputs need not be durable before their record */
    int64_t connect_timeout_ns, stall_timeout_ns, transfer_timeout_ns; /* 0 = default */
    uint64_t max_bytes;  /* of one body; 0 = no limit */
    uint32_t per_host;   /* transfers at once to one host; 0 = default */
    double rate;         /* new transfers a second to one host; 0 = no limit */
    const char *ca_file; /* extra CA certificates, a path on the node; or NULL */
    const char *on; /* which nodes: names and labels K=V, '\n' between, all of which have
                       to hold; NULL = any */
    const void *present; /* opaque: comes back from tm_job_describe */
    size_t present_len;
    const char *name; /* or NULL */
    int32_t priority; /* higher first */
    int32_t retries;  /* of retryable errors; 0 = default (3), -1 = none */
    int64_t task_timeout_ns, deadline_ns; /* 0 = none; the deadline from now on */
    bool detached;                        /* the job goes on when this client goes away */
    const uint8_t *key; /* 16 bytes: the same key is the same job; NULL = random */
};

/* Submits and waits until the coordinator has given it an id. A job with the same key is
 * continued: see tm_accepted. One with a key stays open when it fails, for that. The job
 * lives until tm_job_free or tm_close. */
int tm_submit(struct tm *tm, const struct tm_job_spec *spec, struct tm_job **ret,
              struct tm_error *err);
/* A job of this or another client, to be followed, waited for or asked about. */
int tm_attach(struct tm *tm, uint64_t job_id, struct tm_job **ret, struct tm_error *err);
void tm_job_free(struct tm_job *job); /* the job itself goes on; takes NULL */
uint64_t tm_job_id(const struct tm_job *job);

struct tm_input {
    const char *path; /* exactly one of path (absolute), url and data */
    const char *url;
    const void *data; /* inline bytes; may be empty but then not NULL */
    size_t data_len;
    const char *shown; /* the name as the user gave it; NULL = path or url */
    const char *out;   /* absolute path of the output file; NULL = none */
    uint64_t size;     /* bytes, a hint; 0 = unknown */
    size_t path_len, url_len, shown_len, out_len; /* 0 = up to the NUL */
    const char *node;  /* the only one it may run on; NULL = any. Tasks are numbered as
                          their chunks are full, of which each such node has its own */
    const char *after; /* of a directory: only names behind this one; NULL = all */
    size_t after_len;
    bool named; /* of a directory: a symbolic link is followed, a file is no error */
};

/* Adds one input: the job's next task. Blocks while the coordinator takes no more.
 * Inputs leave in chunks of 4,096 tasks or 256 KiB, or 20 ms after a chunk's first one,
 * but one that is not full only when those before it are on the coordinator's disk. -1
 * with TM_TOO_LARGE when one packed input is over 64 KiB: it was not added, the job goes
 * on. TM_AGAIN only after tm_interrupt: not added. */
int tm_add(struct tm_job *job, const struct tm_input *in, struct tm_error *err);
/* The same, but never blocks: TM_AGAIN while there is no room. */
int tm_try_add(struct tm_job *job, const struct tm_input *in, struct tm_error *err);
int tm_flush(struct tm_job *job, struct tm_error *err); /* send what waits in a chunk */
/* No more inputs: tm_flush, then the job can end. */
int tm_seal(struct tm_job *job, struct tm_error *err);
uint64_t tm_added(const struct tm_job *job); /* inputs given to tm_add by this process */
/* Tasks known to be on the coordinator's disk; with --durability none, while the job is
 * not sealed, only known to it: when it is killed it may have less, and a process that
 * submits with the same key anew has to go on from what it is told then. Right after
 * tm_submit: those of an earlier process with the same key; *ret_sealed (or NULL): it had
 * sealed the job too. */
uint64_t tm_accepted(const struct tm_job *job, bool *ret_sealed);
/* Waits until all that was added, and the seal, are on disk, as tm_accepted means it: 0,
 * TM_AGAIN or -1. */
int tm_sync(struct tm_job *job, int64_t timeout_ns, struct tm_error *err);

/* ---- results ---- */

enum tm_follow_flags {
    TM_TASK_ORDER = 1,  /* by task number; else as they are recorded */
    TM_INPUTS = 2,      /* results carry their inputs */
    TM_FAILED_ONLY = 4, /* only those that are not TM_OK */
};
enum tm_status { TM_OK, TM_FAILED, TM_RETRIES_USED, TM_QUARANTINED, TM_TASK_CANCELLED };
const char *
tm_status_name(enum tm_status s); /* "ok" "failed" "quarantined" "cancelled" */
/* "", "permanent", "retryable", "poison", "cancelled": the class in JSON; static. */
const char *tm_class_name(enum tm_status s);

struct tm_bytes {
    const uint8_t *data; /* not NUL-ended */
    size_t len;
};
struct tm_digest {
    enum tm_algo algo;
    struct tm_bytes bytes; /* raw */
};
enum { TM_DIGESTS_MAX = 8 };
/* Valid until the next tm_next of the same job (or tm_future_free, tm_map_next). */
struct tm_result {
    uint64_t job, task;
    enum tm_status status;
    bool has_input; /* followed with TM_INPUTS */
    struct tm_bytes path, url, data, shown,
        out; /* the input; empty = absent. shown is
                never empty: path or url if not given */
    uint64_t size_hint;
    uint64_t bytes;                               /* plain bytes read */
    uint64_t out_bytes;                           /* bytes of the output */
    struct tm_digest digests[TM_DIGESTS_MAX];     /* of the source's bytes */
    struct tm_digest out_digests[TM_DIGESTS_MAX]; /* of the bytes after the transform */
    uint32_t n_digests, n_out_digests;
    struct tm_bytes output; /* path of the published file */
    struct tm_bytes error;  /* one line, when the status is not TM_OK */
    struct tm_bytes body;   /* returned bytes (TM_SINK_RETURN) */
    bool has_body;
    /* Of a directory: body holds entries, which tm_entry_next reads. */
    bool more;        /* others follow behind the last one: ask again with its `after` */
    bool is_file;     /* it is a regular file itself, and has no body */
    uint64_t skipped; /* what is neither file nor directory */
    uint32_t http_status;
    struct tm_bytes node; /* who did it */
    uint32_t attempts;
    uint64_t elapsed_us;
};

struct tm_entry {
    bool is_dir; /* else a regular file */
    struct tm_bytes name;
    uint64_t size;
};
/* The entry of a directory's body at *pos (0 at first), which moves on: 1, 0 at the end,
 * -1 when the body is malformed. Its name points into the body. */
int tm_entry_next(struct tm_bytes body, size_t *pos, struct tm_entry *ret,
                  struct tm_error *err);

/* Asks for results from cursor on: 0 = all, else what tm_cursor said. Once per job,
 * before the first tm_next, which else does it with cursor 0 and no flags. flags: enum
 * tm_follow_flags. */
int tm_follow(struct tm_job *job, uint64_t cursor, unsigned flags, struct tm_error *err);
/* The next result: 1; 0 = the job has ended and this was all; TM_AGAIN; -1. */
int tm_next(struct tm_job *job, struct tm_result *ret, int64_t timeout_ns,
            struct tm_error *err);
/* Where another tm_follow with the same flags goes on: after all results of the batches
 * that were read to their end. Right at the end of the job and after TM_AGAIN with 0. Not
 * a count: where a coordinator was killed since, and had not saved what it counts (with
 * --durability none alone), tm_next fails, as other results would come. */
uint64_t tm_cursor(const struct tm_job *job);

struct tm_counts {
    uint64_t tasks, ok, failed, quarantined, cancelled, running; /* tasks: so far known */
};
struct tm_job_status {
    enum tm_state state;
    bool ended; /* every task has its record and none will follow */
    struct tm_counts counts;
};
/* As last heard; does not ask. What tm_next has let through is at least in it. */
void tm_job_heard(const struct tm_job *job, struct tm_job_status *ret);
/* Asks the coordinator. */
int tm_job_status(struct tm_job *job, struct tm_job_status *ret, struct tm_error *err);
/* Waits until the job has ended, without its results: 0, TM_AGAIN or -1. Not for a job
 * that is followed (read it to its end instead). */
int tm_job_wait(struct tm_job *job, int64_t timeout_ns, struct tm_job_status *ret,
                struct tm_error *err);
/* What was submitted, with its key, asked of the coordinator; what it points to lives as
 * long as job. */
int tm_job_describe(struct tm_job *job, struct tm_job_spec *ret, struct tm_error *err);

/* ---- operating ---- */

/* Each returns when the coordinator has it on disk, or has refused it: code 9 when there
 * is no such job or node. TM_AGAIN (after tm_interrupt, or tm_patience went by): it may
 * have been done or not. */

/* How long these, and questions, wait for an answer; TM_FOREVER at first. */
void tm_patience(struct tm *tm, int64_t timeout_ns);

/* Stops a job: what is not recorded yet ends as cancelled. Nothing is done to a job that
 * has ended. */
int tm_cancel(struct tm *tm, uint64_t job_id, struct tm_error *err);
/* A paused job starts no more tasks until it is resumed; those that run end as they
 * would. A job that has ended is refused. */
int tm_pause(struct tm *tm, uint64_t job_id, struct tm_error *err);
int tm_resume(struct tm *tm, uint64_t job_id, struct tm_error *err);
/* Deletes an ended job with its inputs and results. Its key is never a new job's. */
int tm_remove(struct tm *tm, uint64_t job_id, struct tm_error *err);
/* A drained node gets no new work, and finishes what it has: it has nothing left when its
 * row of the query "nodes" has 0 `tasks` and 0 `publishing`. Lasts until it is undrained
 * or the worker's process ends. */
int tm_drain(struct tm *tm, const char *node, struct tm_error *err);
int tm_undrain(struct tm *tm, const char *node, struct tm_error *err);

/* Keys of clients and workers, for admins. Each returns once the coordinator has it on
 * disk, or has refused it (code 5: this key is no admin's), and may be said again. */
enum tm_role { TM_ROLE_CLIENT, TM_ROLE_WORKER, TM_ROLE_ADMIN };
enum { TM_KEY_BYTES = 32 };
struct tm_key {
    const uint8_t *public_key; /* TM_KEY_BYTES of it; NULL: tm_key_revoke goes by name */
    const char *name, *owner;  /* NULL = none; jobs are the owner's, else the name's */
    enum tm_role role;
    int64_t not_after_ns; /* wall clock, nanoseconds since 1970; 0 = it does not end */
    uint32_t uses;        /* of an invitation: how many may come by it; 0 = one */
};
/* The answer has a row for each key that is meant, as in the query "keys"; of
 * tm_key_invite also `endpoint` and `server`, which an invitation names. Caller
 * tm_rows_frees *ret. */
int tm_key_trust(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                 struct tm_error *err);
int tm_key_revoke(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                  struct tm_error *err);
int tm_key_invite(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                  struct tm_error *err);

enum tm_kind { TM_NIL, TM_BOOL, TM_UINT, TM_INT, TM_TEXT, TM_BIN };
struct tm_value {
    enum tm_kind kind;
    uint64_t uint;   /* TM_BOOL, TM_UINT */
    int64_t integer; /* TM_INT: negative */
    struct tm_bytes text;
};
/* what: "jobs", "job", "nodes", "status", "keys" ...; job: id or 0. Caller tm_rows_frees
 * *ret. */
int tm_query(struct tm *tm, const char *what, uint64_t job, struct tm_rows **ret,
             struct tm_error *err);
bool tm_rows_next(struct tm_rows *rows); /* moves to the first, then the next row */
size_t tm_rows_count(const struct tm_rows *rows);
/* Of the row moved to: false / 0 / empty when the key is absent or of another kind. */
bool tm_rows_get(const struct tm_rows *rows, const char *key, struct tm_value *ret);
uint64_t tm_rows_uint(const struct tm_rows *rows, const char *key);
struct tm_bytes tm_rows_text(const struct tm_rows *rows, const char *key);
size_t tm_rows_fields(const struct tm_rows *rows); /* of the row moved to */
void tm_rows_field(const struct tm_rows *rows, size_t i, struct tm_bytes *ret_key,
                   struct tm_value *ret);
void tm_rows_free(struct tm_rows *rows); /* takes NULL */

/* ---- an executor ---- */

/* One task as a job of its own. The spec's name, priority and times count. */
int tm_submit_one(struct tm *tm, const struct tm_job_spec *spec,
                  const struct tm_input *in, struct tm_future **ret,
                  struct tm_error *err);
/* Its result, which a failed task has too (see status): 1, TM_AGAIN when it is not there
 * in time, -1. May be asked again; *ret is valid until tm_future_free. */
int tm_future_result(struct tm_future *f, struct tm_result *ret, int64_t timeout_ns,
                     struct tm_error *err);
/* Waits until the task has been taken at most; its result then says what became of it. */
int tm_future_cancel(struct tm_future *f, struct tm_error *err);
void tm_future_free(struct tm_future *f); /* does not cancel; takes NULL */

/* Gives the next input: 1 and *ret (valid until the next call), 0 at the end, -1 to give
 * up (tm_map_next then fails, the job is cancelled). Called inside tm_map_next only. */
typedef int tm_input_fn(void *arg, struct tm_input *ret);
/* Runs a spec over a sequence: inputs are drawn as there is room for them, results come
 * in input order, memory is bounded however long the sequence is. */
int tm_map(struct tm *tm, const struct tm_job_spec *spec, tm_input_fn *next, void *arg,
           struct tm_map **ret, struct tm_error *err);
/* The next result: 1, 0 after the last, TM_AGAIN, -1. It carries its input. */
int tm_map_next(struct tm_map *map, struct tm_result *ret, int64_t timeout_ns,
                struct tm_error *err);
struct tm_job *tm_map_job(struct tm_map *map); /* owned by map */
void tm_map_free(struct tm_map *map);          /* cancels what is left; takes NULL */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
