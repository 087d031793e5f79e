/* The tables and their statements. One connection writes and checkpoints (R6). */
#include "coordinator/store_state.h"

#include <errno.h>
#include <sqlite3.h>

#include "base/crypto.h"

enum { SCHEMA_VERSION = 1, ROWS_PER_READ = 256 };

static const char schema[] =
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, key BLOB UNIQUE, spec BLOB, name BLOB,"
    " owner BLOB, priority INT, retries INT, task_timeout INT, deadline INT, detached "
    "INT,"
    " created INT, ended INT, state INT, chunks INT, tasks INT, ok INT, failed INT,"
    " poison INT, cancelled INT);"
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY, job INT, seq INT, first INT, n INT,"
    " digest BLOB, lens BLOB, body BLOB, UNIQUE(job, seq));"
    "CREATE TABLE batch(row INTEGER PRIMARY KEY, job INT, chunk INT, cursor INT,"
    " epoch INT, lease INT, n INT, digest BLOB, node BLOB, tasks BLOB, statuses BLOB,"
    " attempts BLOB, lens BLOB, vals BLOB);"
    "CREATE INDEX batch_cursor ON batch(job, cursor);"
    "CREATE INDEX batch_chunk ON batch(job, chunk);"
    "INSERT INTO meta VALUES('epoch', 0);";

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
    ST_READ_CHUNK,
    ST_READ_RECORDED,
    ST_READ_FROM,
    ST_READ_OF_CHUNK,
    ST_READ_VALUES,
    ST_COUNT,
};
#define BATCH_COLUMNS                                                                    \
    "row, cursor, chunk, n, digest, node, tasks, statuses, attempts, lens"
static const char *const texts[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_JOB] = "INSERT INTO job VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,0,0,0,0)",
    [ST_CHUNK] = "INSERT INTO chunk(job, seq, first, n, digest, lens, body)"
                 " VALUES(?,?,?,?,?,?,?)",
    [ST_GROW] = "UPDATE job SET chunks = chunks + 1, tasks = tasks + ? WHERE id = ?",
    [ST_STATE] = "UPDATE job SET state = ?, ended = ? WHERE id = ?",
    [ST_BATCH] =
        "INSERT INTO batch(row, job, chunk, cursor, epoch, lease, n, digest, node,"
        " tasks, statuses, attempts, lens, vals) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ST_COUNT_UP] =
        "UPDATE job SET ok = ok + ?, failed = failed + ?, poison = poison + ?,"
        " cancelled = cancelled + ? WHERE id = ?",
    [ST_SHOW] = "UPDATE batch SET cursor = ? WHERE row = ?",
    [ST_SHOW_VALUES] =
        "UPDATE batch SET cursor = ?1, statuses = ?3, lens = ?4, vals = ?5,"
        " digest = ?6 WHERE row = ?2",
    [ST_READ_CHUNK] =
        "SELECT first, n, digest, lens, body FROM chunk WHERE job = ? AND seq = ?",
    [ST_READ_RECORDED] = "SELECT tasks FROM batch WHERE job = ? AND chunk = ?",
    [ST_READ_FROM] = "SELECT " BATCH_COLUMNS " FROM batch WHERE job = ?1 AND cursor >="
                     " (SELECT max(cursor) FROM batch WHERE job = ?1 AND cursor <= ?2)"
                     " ORDER BY cursor LIMIT ?3",
    [ST_READ_OF_CHUNK] = "SELECT " BATCH_COLUMNS " FROM batch WHERE job = ? AND chunk = ?"
                         " AND cursor IS NOT NULL ORDER BY row",
    [ST_READ_VALUES] = "SELECT vals FROM batch WHERE row = ?",
};

struct sql {
    sqlite3 *db;
    sqlite3_stmt *st[ST_COUNT];
    /* The chunk whose inputs were read last. */
    struct chunk_row cached;
    uint32_t *cached_offsets;
};

/* ---- small helpers ---- */

static int fail(struct sql *q, struct err *err, const char *what)
{
    return err_set(err, 1, "state directory: cannot %s: %s", what, sqlite3_errmsg(q->db));
}

static enum sql_result result_of(struct sql *q, int rc, struct err *err, const char *what)
{
    if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
        return SQL_OK;
    fail(q, err, what);
    if ((rc & 0xff) == SQLITE_FULL ||
        ((rc & 0xff) == SQLITE_IOERR && sqlite3_system_errno(q->db) == ENOSPC)) {
        err_set(err, 1, "state directory: no space left on device");
        return SQL_NO_SPACE;
    }
    return SQL_FAILED;
}

static int exec(struct sql *q, const char *text, struct err *err)
{
    if (sqlite3_exec(q->db, text, NULL, NULL, NULL) != SQLITE_OK)
        return fail(q, err, text);
    return 0;
}

static void bind_span(sqlite3_stmt *st, int i, struct span s)
{
    if (s.len)
        sqlite3_bind_blob64(st, i, s.data, s.len, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(st, i, 0);
}

static struct span column_span(sqlite3_stmt *st, int i)
{
    const void *data = sqlite3_column_blob(st, i); /* before _bytes, see its manual */
    return span_of(data, (size_t)sqlite3_column_bytes(st, i));
}

static uint64_t column_u64(sqlite3_stmt *st, int i)
{
    return (uint64_t)sqlite3_column_int64(st, i);
}

static sqlite3_stmt *bound(struct sql *q, enum stmt which, int n, const int64_t *numbers)
{
    sqlite3_stmt *st = q->st[which];

    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st, i + 1, numbers[i]);
    return st;
}
#define BOUND(q, which, ...)                                                             \
    bound(q, which, sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t),                \
          (int64_t[]){ __VA_ARGS__ })

static int run(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);

    sqlite3_reset(st);
    return rc;
}

static void values_digest(const struct batch_row *b, uint8_t out[WIRE_DIGEST_BYTES])
{
    struct span parts[] = { blob_span(b->tasks), blob_span(b->statuses),
                            blob_span(b->lens), blob_span(b->values) };
    crypto_chunk_digest(parts, ARRAY_LEN(parts), out);
}

/* ---- opening ---- */

static int scalar(struct sql *q, const char *text, int64_t *ret, struct err *err)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(q->db, text, -1, &st, NULL);

    if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        rc = SQLITE_ERROR;
    sqlite3_finalize(st);
    return rc == SQLITE_OK ? 0 : fail(q, err, text);
}

static int set_up(struct sql *q, enum durability durability, struct err *err)
{
    static const char *const synchronous[] = {
        [DURABILITY_FULL] = "PRAGMA synchronous=FULL",
        [DURABILITY_NORMAL] = "PRAGMA synchronous=NORMAL",
        [DURABILITY_NONE] = "PRAGMA synchronous=OFF",
    };
    int64_t version = 0, busy = 1;

    /* 16 KiB pages store 256 KiB blobs twice as fast as 4 KiB ones (R7). */
    if (exec(q, "PRAGMA page_size=16384", err) < 0 ||
        exec(q, "PRAGMA auto_vacuum=INCREMENTAL", err) < 0 ||
        exec(q, "PRAGMA journal_mode=WAL", err) < 0 ||
        exec(q, "PRAGMA locking_mode=EXCLUSIVE", err) < 0 ||
        exec(q, "PRAGMA secure_delete=OFF", err) < 0 ||
        exec(q, synchronous[durability], err) < 0 ||
        scalar(q, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, err) < 0 ||
        scalar(q, "PRAGMA user_version", &version, err) < 0)
        return -1;
    if (busy)
        return err_set(err, 1, "state directory: its log cannot be emptied");
    if (version == 0) {
        AUTO_FREE char *text =
            xasprintf("BEGIN;%sPRAGMA user_version=%d;COMMIT", schema, SCHEMA_VERSION);
        return exec(q, text, err);
    }
    if (version != SCHEMA_VERSION)
        return err_set(err, 1, "state directory: schema %lld, this release knows %d",
                       (long long)version, SCHEMA_VERSION);
    return 0;
}

/* R5: a counter that grows with each start, and a nonce of this boot. */
static int raise_epoch(struct sql *q, struct epoch *ret, struct err *err)
{
    int64_t counter = 0;

    if (exec(q, "UPDATE meta SET v = v + 1 WHERE k = 'epoch'", err) < 0 ||
        scalar(q, "SELECT v FROM meta WHERE k = 'epoch'", &counter, err) < 0)
        return -1;
    ret->counter = (uint64_t)counter;
    crypto_random(ret->nonce, sizeof(ret->nonce));
    return 0;
}

int sql_open(const char *dir, enum durability durability, struct epoch *ret_epoch,
             struct sql **ret, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", dir);
    struct sql *q = xcalloc(1, sizeof(*q));
    int rc = sqlite3_open_v2(
        path, &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
        NULL);

    if (rc != SQLITE_OK) {
        fail(q, err, "open its database");
        goto out;
    }
    sqlite3_extended_result_codes(q->db, 1);
    if (set_up(q, durability, err) < 0)
        goto out;
    for (int i = 0; i < ST_COUNT; i++)
        if (sqlite3_prepare_v3(q->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &q->st[i],
                               NULL) != SQLITE_OK) {
            fail(q, err, "read its tables");
            goto out;
        }
    if (raise_epoch(q, ret_epoch, err) < 0)
        goto out;
    *ret = q;
    return 0;
out:
    sql_close(q);
    return -1;
}

static void cache_drop(struct sql *q)
{
    blob_unref(q->cached.lens);
    blob_unref(q->cached.body);
    free(q->cached_offsets);
    q->cached = (struct chunk_row){ 0 };
    q->cached_offsets = NULL;
}

void sql_close(struct sql *q)
{
    if (!q)
        return;
    cache_drop(q);
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(q->st[i]);
    sqlite3_close(q->db); /* the last connection checkpoints */
    free(q);
}

/* ---- loading ---- */

static void load_job_row(sqlite3_stmt *st, struct job_row *r)
{
    *r = (struct job_row){
        .id = column_u64(st, 0),
        .spec = column_span(st, 2),
        .name = column_span(st, 3),
        .owner = column_span(st, 4),
        .priority = sqlite3_column_int(st, 5),
        .retries = (uint32_t)column_u64(st, 6),
        .task_timeout_ns = sqlite3_column_int64(st, 7),
        .deadline_ns = sqlite3_column_int64(st, 8),
        .detached = sqlite3_column_int(st, 9),
        .created_wall_ns = sqlite3_column_int64(st, 10),
        .ended_wall_ns = sqlite3_column_int64(st, 11),
        .state = (enum job_state)sqlite3_column_int(st, 12),
        .chunks = (uint32_t)column_u64(st, 13),
        .tasks = column_u64(st, 14),
        .ok = column_u64(st, 15),
        .failed = column_u64(st, 16),
        .poison = column_u64(st, 17),
        .cancelled = column_u64(st, 18),
    };
    struct span key = column_span(st, 1);
    if (key.len == sizeof(r->key))
        memcpy(r->key, key.data, sizeof(r->key));
}

static void load_chunk(void *arg, const struct store_load_events *ev, sqlite3_stmt *st)
{
    struct chunk_row r = { .job = column_u64(st, 0),
                           .seq = (uint32_t)column_u64(st, 1),
                           .first = column_u64(st, 2),
                           .n = (uint32_t)column_u64(st, 3) };
    struct span digest = column_span(st, 4);

    if (digest.len == sizeof(r.digest))
        memcpy(r.digest, digest.data, sizeof(r.digest));
    ev->chunk(arg, &r, (uint32_t)column_u64(st, 5));
}

static void load_pending(void *arg, const struct store_load_events *ev, sqlite3_stmt *st)
{
    struct batch_row r = { .row = column_u64(st, 0),
                           .job = column_u64(st, 1),
                           .chunk = (uint32_t)column_u64(st, 2),
                           .pending = true,
                           .epoch = column_u64(st, 3),
                           .lease = column_u64(st, 4),
                           .n = (uint32_t)column_u64(st, 5),
                           .tasks = blob_new(column_span(st, 6)),
                           .node = column_span(st, 7) };
    ev->pending(arg, &r);
    blob_unref(r.tasks);
}

static void load_one_job(void *arg, const struct store_load_events *ev, sqlite3_stmt *st)
{
    struct job_row r;

    load_job_row(st, &r);
    ev->job(arg, &r);
}

int sql_load(struct sql *q, const struct store_load_events *ev, void *arg,
             uint64_t *ret_next_row, struct err *err)
{
    static const struct {
        const char *text;
        void (*row)(void *arg, const struct store_load_events *ev, sqlite3_stmt *st);
    } parts[] = {
        { "SELECT * FROM job ORDER BY id", load_one_job },
        { "SELECT c.job, c.seq, c.first, c.n, c.digest, coalesce(b.n, 0) FROM chunk c"
          " LEFT JOIN (SELECT job, chunk, sum(n) AS n FROM batch GROUP BY job, chunk) b"
          " ON b.job = c.job AND b.chunk = c.seq ORDER BY c.job, c.seq",
          load_chunk },
        { "SELECT row, job, chunk, epoch, lease, n, tasks, node FROM batch"
          " WHERE cursor IS NULL ORDER BY row",
          load_pending },
    };
    int64_t last = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        sqlite3_stmt *st;
        int rc = sqlite3_prepare_v2(q->db, parts[i].text, -1, &st, NULL);
        while (rc == SQLITE_OK || rc == SQLITE_ROW) {
            rc = sqlite3_step(st);
            if (rc == SQLITE_ROW)
                parts[i].row(arg, ev, st);
        }
        sqlite3_finalize(st);
        if (rc != SQLITE_DONE)
            return fail(q, err, "read its tables");
    }
    if (scalar(q, "SELECT coalesce(max(row), 0) FROM batch", &last, err) < 0)
        return -1;
    *ret_next_row = (uint64_t)last + 1;
    return 0;
}

/* ---- saving ---- */

enum sql_result sql_begin(struct sql *q, struct err *err)
{
    return result_of(q, run(q->st[ST_BEGIN]), err, "begin");
}

enum sql_result sql_commit(struct sql *q, struct err *err)
{
    return result_of(q, run(q->st[ST_COMMIT]), err, "commit");
}

void sql_rollback(struct sql *q)
{
    if (!sqlite3_get_autocommit(q->db))
        run(q->st[ST_ROLLBACK]);
}

static int save_job(struct sql *q, const struct fx *fx)
{
    const struct job_row *j = &fx->job;
    sqlite3_stmt *st = BOUND(q, ST_JOB, (int64_t)j->id, 0, 0, 0, 0, j->priority,
                             j->retries, j->task_timeout_ns, j->deadline_ns, j->detached,
                             j->created_wall_ns, j->ended_wall_ns, j->state);

    bind_span(st, 2, span_of(j->key, sizeof(j->key)));
    bind_span(st, 3, j->spec);
    bind_span(st, 4, j->name);
    bind_span(st, 5, j->owner);
    return run(st);
}

static int save_chunk(struct sql *q, const struct fx *fx)
{
    const struct chunk_row *c = &fx->chunk;
    sqlite3_stmt *st =
        BOUND(q, ST_CHUNK, (int64_t)c->job, c->seq, (int64_t)c->first, c->n);
    int rc;

    bind_span(st, 5, span_of(c->digest, sizeof(c->digest)));
    bind_span(st, 6, blob_span(c->lens));
    bind_span(st, 7, blob_span(c->body));
    rc = run(st);
    if (rc != SQLITE_DONE)
        return rc;
    return run(BOUND(q, ST_GROW, c->n, (int64_t)c->job));
}

static int save_state(struct sql *q, const struct fx *fx)
{
    return run(BOUND(q, ST_STATE, fx->state.state, fx->state.ended_wall_ns,
                     (int64_t)fx->state.job));
}

static int count_up(struct sql *q, uint64_t job, const struct blob *statuses, uint32_t n)
{
    int64_t by[TASK_STATUS_COUNT] = { 0 };

    for (uint32_t i = 0; i < n; i++)
        by[statuses->data[i]]++;
    return run(BOUND(q, ST_COUNT_UP, by[TASK_OK], by[TASK_FAILED] + by[TASK_RETRYABLE],
                     by[TASK_POISON], by[TASK_CANCELLED], (int64_t)job));
}

static int save_batch(struct sql *q, const struct fx *fx)
{
    const struct batch_row *b = &fx->batch;
    sqlite3_stmt *st =
        BOUND(q, ST_BATCH, (int64_t)b->row, (int64_t)b->job, b->chunk, (int64_t)b->cursor,
              (int64_t)b->epoch, (int64_t)b->lease, b->n);
    uint8_t digest[WIRE_DIGEST_BYTES];
    int rc;

    if (b->pending)
        sqlite3_bind_null(st, 4);
    values_digest(b, digest);
    bind_span(st, 8, span_of(digest, sizeof(digest)));
    bind_span(st, 9, b->node);
    bind_span(st, 10, blob_span(b->tasks));
    bind_span(st, 11, blob_span(b->statuses));
    bind_span(st, 12, blob_span(b->attempts));
    bind_span(st, 13, blob_span(b->lens));
    bind_span(st, 14, blob_span(b->values));
    rc = run(st);
    if (rc != SQLITE_DONE || b->pending)
        return rc;
    return count_up(q, b->job, b->statuses, b->n);
}

static int save_show(struct sql *q, const struct fx *fx)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    int rc;

    if (fx->show.lens) {
        struct batch_row b = { .tasks = fx->show.tasks,
                               .statuses = fx->show.statuses,
                               .lens = fx->show.lens,
                               .values = fx->show.values };
        sqlite3_stmt *st =
            BOUND(q, ST_SHOW_VALUES, (int64_t)fx->show.cursor, (int64_t)fx->show.row);
        values_digest(&b, digest);
        bind_span(st, 3, blob_span(fx->show.statuses));
        bind_span(st, 4, blob_span(fx->show.lens));
        bind_span(st, 5, blob_span(fx->show.values));
        bind_span(st, 6, span_of(digest, sizeof(digest)));
        rc = run(st);
    } else {
        rc = run(BOUND(q, ST_SHOW, (int64_t)fx->show.cursor, (int64_t)fx->show.row));
    }
    if (rc != SQLITE_DONE)
        return rc;
    return count_up(q, fx->show.job, fx->show.statuses, fx->show.n);
}

enum sql_result sql_save(struct sql *q, const struct fx *fx, struct err *err)
{
    static int (*const save[])(struct sql * q, const struct fx *fx) = {
        [FX_JOB] = save_job,     [FX_CHUNK] = save_chunk, [FX_STATE] = save_state,
        [FX_BATCH] = save_batch, [FX_SHOW] = save_show,
    };

    return result_of(q, save[fx->type](q, fx), err, "save");
}

/* ---- reading ---- */

static int damaged(struct err *err, const char *what, uint64_t job, uint64_t which)
{
    err_set(err, 1, "state directory: %s %llu of job %llu is damaged", what,
            (unsigned long long)which, (unsigned long long)job);
    return err_hint(err, "restore the state directory from a copy");
}

static int read_chunk_row(struct sql *q, uint64_t job, uint32_t seq,
                          struct chunk_row *ret, struct err *err)
{
    sqlite3_stmt *st = BOUND(q, ST_READ_CHUNK, (int64_t)job, seq);
    uint8_t digest[WIRE_DIGEST_BYTES];
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW) {
        struct span stored = column_span(st, 2);
        struct span parts[] = { column_span(st, 3), column_span(st, 4) };
        crypto_chunk_digest(parts, ARRAY_LEN(parts), digest);
        *ret = (struct chunk_row){ .job = job,
                                   .seq = seq,
                                   .first = column_u64(st, 0),
                                   .n = (uint32_t)column_u64(st, 1),
                                   .lens = blob_new(parts[0]),
                                   .body = blob_new(parts[1]) };
        memcpy(ret->digest, digest, sizeof(digest));
        if (!span_eq(stored, span_of(digest, sizeof(digest))) ||
            ret->lens->len != ret->n * sizeof(uint32_t)) {
            sqlite3_reset(st);
            return damaged(err, "chunk", job, seq);
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? 0 : fail(q, err, "read a chunk");
}

static int read_chunk(struct sql *q, struct fx *fx, struct err *err)
{
    struct fx_read_chunk *r = &fx->read_chunk;
    sqlite3_stmt *st;

    if (read_chunk_row(q, r->job, r->seq, &r->ret, err) < 0)
        return -1;
    r->ret_recorded = blob_alloc(r->ret.n);
    memset(r->ret_recorded->data, 0, r->ret.n);
    st = BOUND(q, ST_READ_RECORDED, (int64_t)r->job, r->seq);
    while (sqlite3_step(st) == SQLITE_ROW) {
        struct span s = column_span(st, 0);
        const uint32_t *tasks = (const uint32_t *)s.data;
        for (size_t i = 0; i < s.len / sizeof(*tasks); i++)
            if (tasks[i] - r->ret.first < r->ret.n)
                r->ret_recorded->data[tasks[i] - r->ret.first] = 1;
    }
    sqlite3_reset(st);
    return 0;
}

int sql_chunk_inputs(struct sql *q, uint64_t job, uint32_t seq, uint64_t task,
                     struct span *ret, struct err *err)
{
    const uint32_t *lens;

    if (q->cached.job != job || q->cached.seq != seq || !q->cached.body) {
        cache_drop(q);
        if (read_chunk_row(q, job, seq, &q->cached, err) < 0)
            return -1;
        lens = (const uint32_t *)q->cached.lens->data;
        q->cached_offsets = xcalloc(q->cached.n + 1, sizeof(uint32_t));
        for (uint32_t i = 0; i < q->cached.n; i++)
            q->cached_offsets[i + 1] = q->cached_offsets[i] + lens[i];
    }
    uint64_t i = task - q->cached.first;
    if (i >= q->cached.n)
        return damaged(err, "a batch of chunk", job, seq);
    *ret = span_of(q->cached.body->data + q->cached_offsets[i],
                   q->cached_offsets[i + 1] - q->cached_offsets[i]);
    return 0;
}

static void row_take(sqlite3_stmt *st, uint64_t job, struct batch_row *b)
{
    *b = (struct batch_row){ .row = column_u64(st, 0),
                             .job = job,
                             .cursor = column_u64(st, 1),
                             .chunk = (uint32_t)column_u64(st, 2),
                             .n = (uint32_t)column_u64(st, 3),
                             .tasks = blob_new(column_span(st, 6)),
                             .statuses = blob_new(column_span(st, 7)),
                             .attempts = blob_new(column_span(st, 8)),
                             .lens = blob_new(column_span(st, 9)) };
}

static int row_values(struct sql *q, struct batch_row *b, struct span digest,
                      struct err *err)
{
    sqlite3_stmt *st = BOUND(q, ST_READ_VALUES, (int64_t)b->row);
    uint8_t now[WIRE_DIGEST_BYTES];
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        b->values = blob_new(column_span(st, 0));
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return fail(q, err, "read results");
    values_digest(b, now);
    if (!span_eq(digest, span_of(now, sizeof(now))))
        return damaged(err, "batch", b->job, b->row);
    return 0;
}

static int read_results(struct sql *q, struct fx *fx, struct err *err)
{
    struct fx_read_results *r = &fx->read_results;
    struct page *page = page_new(q, r);
    enum stmt which = r->task_order ? ST_READ_OF_CHUNK : ST_READ_FROM;
    sqlite3_stmt *st = r->task_order ? BOUND(q, which, (int64_t)r->job, r->first_chunk)
                                     : BOUND(q, which, (int64_t)r->job,
                                             (int64_t)r->cursor, ROWS_PER_READ);
    int rc = SQLITE_ROW, more = 1;

    while (more > 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct batch_row b;
        row_take(st, r->job, &b);
        AUTO_FREE char *node = span_dup(column_span(st, 5));
        more = row_values(q, &b, column_span(st, 4), err);
        if (more == 0)
            more = page_row(page, &b, node, err);
        blob_unref(b.tasks);
        blob_unref(b.statuses);
        blob_unref(b.attempts);
        blob_unref(b.lens);
        blob_unref(b.values);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        more = fail(q, err, "read results");
    if (more >= 0)
        more = page_end(page, err);
    page_free(page);
    return more < 0 ? -1 : 0;
}

int sql_read(struct sql *q, struct fx *fx, struct err *err)
{
    return fx->type == FX_READ_CHUNK ? read_chunk(q, fx, err) : read_results(q, fx, err);
}
