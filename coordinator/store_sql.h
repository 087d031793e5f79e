/* The connection to the database, for the store's own files (store_*.c) alone: the only
 * includer of sqlite3.h. One connection writes and checkpoints (R6). */
#ifndef COORDINATOR_STORE_SQL_H
#define COORDINATOR_STORE_SQL_H

#include <sqlite3.h>

#include "coordinator/segment.h"
#include "coordinator/store_state.h"

/* 16 KiB pages store 256 KiB blobs twice as fast as 4 KiB ones (R7). Schema 5
 * has all arrays whole (store_array.c), 5 and 6 may lack the table `lost`, those below 8
 * have no segments: their rows stay as they are. */
enum {
    SCHEMA_LOST = 7,
    SCHEMA_SEGMENTS = 8,
    SCHEMA_VERSION = SCHEMA_SEGMENTS,
    SCHEMA_OLDEST = 5, /* that is read */
    PAGE_BYTES = 16 * KIB,
    LOG_MAX_BYTES = 12 * MIB
};

/* A chunk's id is job and seq in one, so that it needs no index beside its table, which
 * would be one more page of every commit. Jobs are numbered below 2^31. */
static inline int64_t chunk_id(uint64_t job, uint32_t seq)
{
    CHECK(job <= INT32_MAX);
    return (int64_t)(job << 32 | seq);
}
/* The ids of a job's chunks, in SQL: BETWEEN ... */
#define SQL_CHUNKS_OF(job) "(" job " << 32) AND (" job " << 32 | 4294967295)"

enum stmt {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_JOB,
    ST_CHUNK,
    ST_GROW,
    ST_STATE,
    ST_BATCH,
    ST_COUNT_UP,
    ST_SHOW,
    ST_SHOW_VALUES,
    ST_DROP_JOB,
    ST_DROP_LOST,
    ST_REMOVED,
    ST_RUN,
    ST_TRIM_NEXT,
    ST_TRIM_BATCH,
    ST_TRIM_CHUNK,
    ST_TRIMMED,
    ST_SEGMENT_USED,
    ST_SEGMENT_IN_ROWS,
    ST_PAUSE,
    ST_NODE,
    ST_NODE_GONE,
    ST_KEY,
    ST_READ_CHUNK,
    ST_READ_RECORDED,
    ST_READ_FROM,
    ST_READ_OF_CHUNK,
    ST_READ_VALUES,
    ST_WHERE_VALUES,
    ST_COUNT,
};

struct sql {
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
    bool trim;         /* something may be left of removed jobs, or pages be free */
    bool deleting;     /* the former */
    bool sparing;      /* slices are as small as can be: there was no room for more */
    bool log_first;    /* and the log is to be copied before the next */
    bool moved;        /* pages at the end became free since the last checkpoint */
    uint64_t trimming; /* the job whose rows are being deleted; 0 = none */
    struct segments *segments;
    struct dropped *dropped; /* bodies that this transaction drops */
    uint32_t n_dropped, dropped_cap;
    bool syncs_log; /* before it gives bodies back: commits do not */
    int body_errno; /* why this transaction could not write a body; 0 = it could */
    /* The chunk whose inputs were read last. */
    struct chunk_row cached;
    uint32_t *cached_offsets;
};

/* store_sql.c: what all of them need */
extern const char *const sql_texts[ST_COUNT];
int sql_fail(struct sql *q, struct err *err, const char *what);
int sql_exec(struct sql *q, const char *text, struct err *err);
/* The first column of the first row. */
int sql_scalar(struct sql *q, const char *text, int64_t *ret, struct err *err);
void bind_span(sqlite3_stmt *st, int i, struct span s);
struct span column_span(sqlite3_stmt *st, int i); /* until the statement moves on */
static inline uint64_t column_u64(sqlite3_stmt *st, int i)
{
    return (uint64_t)sqlite3_column_int64(st, i);
}
sqlite3_stmt *sql_bound(struct sql *q, enum stmt which, int n, const int64_t *numbers);
#define BOUND(q, which, ...)                                                             \
    sql_bound(q, which, sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t),            \
              (int64_t[]){ __VA_ARGS__ })
int sql_run(sqlite3_stmt *st); /* one step, then reset */
enum sql_result sql_result_of(struct sql *q, int rc, struct err *err, const char *what);

/* store_digest.c: what is stored beside the rows, so that damage is noticed. A batch has
 * two: the head never changes, the rest does when its files are published. */
void digest_job(const struct job_row *j, uint8_t out[WIRE_DIGEST_BYTES]);
void digest_chunk(struct span lens, struct span body, struct span node,
                  uint8_t out[WIRE_DIGEST_BYTES]);
void digest_key(const struct key_row *k, uint8_t out[WIRE_DIGEST_BYTES]);
void digest_place(uint64_t id, uint64_t at, uint64_t size,
                  uint8_t out[WIRE_DIGEST_BYTES]);
void digest_batch_head(const struct batch_row *b, uint8_t out[WIRE_DIGEST_BYTES]);
/* What stands in the row's head column is that of b: its arrays are what was written. */
bool batch_head_whole(const struct batch_row *b, struct span head);
void digest_batch_rest(struct span statuses, struct span lens, struct span values,
                       uint8_t out[WIRE_DIGEST_BYTES]);

/* store_array.c: how an array of a row is stored: as it is, or its first element alone. A
 * blob that was taken is the caller's; one that does not fit n is for him to find. */
struct span bytes_stored(const struct blob *bytes);     /* all the same */
struct span numbers_stored(const struct blob *numbers); /* all the same */
struct span tasks_stored(const struct blob *tasks);     /* each one more than the last */
struct blob *bytes_taken(struct span stored, uint32_t n);
struct blob *numbers_taken(struct span stored, uint32_t n);
struct blob *tasks_taken(struct span stored, uint32_t n);

/* store_body.c: the body of a row, inputs of a chunk or values of a batch. From 16 KiB on
 * it is in a segment, and its row has the place: three columns, NULL where the body is in
 * the row. place is the digest of the row's id and the other two: before something is
 * given back, what stands there must be what was written. */
#define BODY_PLACE "at, size, place"
enum { BODY_PLACE_COLUMNS = 3 };
struct body {
    struct span span;
    struct blob
        *owned; /* what span is of; NULL: of the row, until the statement moves on */
};
/* Binds the body at i and its place from i_at on: SQLITE_DONE, or why not. The bytes are
 * to stay until the statement has run. */
int body_bind(struct sql *q, sqlite3_stmt *st, uint64_t id, int i, int i_at,
              struct span body);
/* Of the row that a statement is on, by its columns. *ret is to be given to body_done;
 * damaged: it is not there. */
enum read_result body_read(struct sql *q, sqlite3_stmt *st, int i, int i_at,
                           struct body *ret, struct err *err);
struct blob *body_blob(struct body *b); /* takes it: the caller's to free */
void body_done(struct body *b);
bool body_place_whole(sqlite3_stmt *st, uint64_t id, int i_at);
/* This transaction takes that row's body away. */
void body_drop(struct sql *q, sqlite3_stmt *st, uint64_t id, int i_at);
bool bodies_dropped_enough(const struct sql *q); /* for one slice */
/* Before COMMIT: bodies are on disk; SQLITE_DONE, or why not. After it what was dropped
 * is given back. In its place: all is as before. */
int bodies_before_commit(struct sql *q);
int bodies_committed(struct sql *q, struct err *err);
void bodies_back(struct sql *q);
/* What earlier processes put is on disk then; bodies_read changes nothing. */
int bodies_open(struct sql *q, const char *dir, enum durability durability,
                struct err *err);
int bodies_read(struct sql *q, const char *dir, struct err *err);
/* Segments beside a database that is new are those of another. */
int bodies_refuse(struct sql *q, struct err *err);
/* Removes segments that are no row's: once what is known has been found to be whole. */
int bodies_sweep(struct sql *q, struct err *err);
void bodies_close(struct sql *q);

/* store_open.c: rows of the job table, JOB_COLUMNS of it */
#define JOB_COLUMNS                                                                      \
    "id, key, spec, name, owner, priority, retries, task_timeout, deadline, detached,"   \
    " created, ended, state, chunks, tasks, ok, failed, poison, cancelled, digest,"      \
    " ended_run, paused, bytes"
void job_row_take(sqlite3_stmt *st, struct job_row *ret); /* spans: as column_span */
/* The row's digest fits what stands in it. */
bool job_row_whole(sqlite3_stmt *st, const struct job_row *row);

/* store_key.c: rows of the key table, KEY_COLUMNS of it */
#define KEY_COLUMNS                                                                      \
    "public_key, name, owner, role, grants, uses, created, not_after, revoked,"          \
    " invited_by, digest"
/* False: it is not what was written. Spans: as column_span. */
bool key_row_take(sqlite3_stmt *st, struct key_row *ret);
int save_key(struct sql *q, const struct fx *fx);

/* Opens without changing anything. */
int sql_open_readonly(const char *dir, struct sql **ret, struct err *err);

#endif
