/* The full check of a state directory that no coordinator uses: everything is read, every
 * digest verified, every promise about rows tried. Changes nothing. */
#include "coordinator/store_check.h"

#include <stdarg.h>
#include <unistd.h>

#include "coordinator/store_dir.h"
#include "coordinator/store_note.h"
#include "coordinator/store_sql.h"
#include "proto/pack.h"

struct check {
    struct sql *q;
    const char *place; /* the columns of a body's, if this schema has them */
    FILE *out;
    struct check_totals *totals;
    struct job_row job;             /* the one that is being checked */
    uint64_t first, cursor;         /* of its next chunk, of its next visible record */
    uint64_t by[TASK_STATUS_COUNT]; /* its visible records */
    uint64_t bytes;                 /* of its inputs and their values */
    uint64_t body_end;              /* of the last body in the order of segments */
    /* The chunk whose batches are being read: one bit a task that has a record. */
    uint32_t seq, n;
    uint64_t chunk_first;
    uint8_t seen[WIRE_CHUNK_TASKS_MAX / 8];
};

static void found(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void found(struct check *c, const char *fmt, ...)
{
    va_list args;

    if (c->job.id)
        fprintf(c->out, "job %llu: ", (unsigned long long)c->job.id);
    va_start(args, fmt);
    vfprintf(c->out, fmt, args);
    va_end(args);
    putc('\n', c->out);
    c->totals->findings++;
}

/* Runs a query for its rows; a page that cannot be read is a finding too. */
static void each(struct check *c, const char *what, const char *text, int64_t arg,
                 int64_t arg2, void (*row)(struct check *c, sqlite3_stmt *st))
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(c->q->db, text, -1, &st, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(st, 1, arg);
        sqlite3_bind_int64(st, 2, arg2);
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            row(c, st);
    }
    if (rc != SQLITE_DONE)
        found(c, "%s cannot be read: %s", what, sqlite3_errmsg(c->q->db));
    sqlite3_finalize(st);
}

/* The body of a row, whose id is its first column; or a finding and none. */
static struct body body_of(struct check *c, sqlite3_stmt *st, int i, int i_at,
                           const char *what, uint64_t which)
{
    struct body body = { 0 };
    struct err err = { 0 };

    if (!body_place_whole(st, column_u64(st, 0), i_at))
        found(c, "%s %llu: the place of its bytes is not what was written", what,
              (unsigned long long)which);
    if (body_read(c->q, st, i, i_at, &body, &err) != READ_OK)
        found(c, "%s %llu: %s", what, (unsigned long long)which,
              err.text[0] ? err.text : "its bytes are not in their segment");
    return body;
}

/* ---- records ---- */

static void check_tasks(struct check *c, const struct batch_row *b)
{
    const uint32_t *tasks = (const uint32_t *)b->tasks->data;

    for (uint32_t i = 0; i < b->n; i++) {
        uint64_t at = tasks[i] - c->chunk_first;
        if (tasks[i] < c->chunk_first || at >= c->n) {
            found(c, "batch %llu: task %u is not in chunk %u", (unsigned long long)b->row,
                  tasks[i], b->chunk);
        } else if (c->seen[at / 8] & BIT(at % 8)) {
            found(c, "batch %llu: task %u has a record already",
                  (unsigned long long)b->row, tasks[i]);
        } else {
            c->seen[at / 8] |= (uint8_t)BIT(at % 8);
        }
        if (b->statuses->data[i] >= TASK_STATUS_COUNT)
            found(c, "batch %llu: task %u has a status that does not exist",
                  (unsigned long long)b->row, tasks[i]);
        else if (!b->pending)
            c->by[b->statuses->data[i]]++;
    }
    c->totals->records += b->n;
}

static void check_batch(struct check *c, sqlite3_stmt *st)
{
    uint8_t head[WIRE_DIGEST_BYTES], rest[WIRE_DIGEST_BYTES];
    size_t values_len;
    uint32_t n = (uint32_t)column_u64(st, 5);
    struct batch_row b = {
        .row = column_u64(st, 0),
        .job = c->job.id,
        .chunk = (uint32_t)column_u64(st, 2),
        .pending = sqlite3_column_type(st, 1) == SQLITE_NULL,
        .epoch = column_u64(st, 3),
        .lease = column_u64(st, 4),
        .n = n,
        .node = column_span(st, 8),
        .tasks = tasks_taken(column_span(st, 9), n),
        .statuses = bytes_taken(column_span(st, 10), n),
        .attempts = numbers_taken(column_span(st, 11), n),
        .lens = numbers_taken(column_span(st, 12), n),
    };
    struct body values = body_of(c, st, 13, 14, "batch", b.row);

    digest_batch_head(&b, head);
    digest_batch_rest(blob_span(b.statuses), blob_span(b.lens), values.span, rest);
    if (!span_eq(column_span(st, 6), span_of(head, sizeof(head))))
        found(c, "batch %llu: tasks, attempts or node are not what was written",
              (unsigned long long)b.row);
    if (!span_eq(column_span(st, 7), span_of(rest, sizeof(rest))))
        found(c, "batch %llu: statuses or values are not what was written",
              (unsigned long long)b.row);
    if (batch_row_fits(&b, &values_len) && values_len == values.span.len) {
        check_tasks(c, &b);
        c->bytes += b.pending ? 0 : values_len;
    } else {
        found(c, "batch %llu: its parts do not fit one another",
              (unsigned long long)b.row);
    }
    blob_unref(b.tasks);
    blob_unref(b.statuses);
    blob_unref(b.attempts);
    blob_unref(b.lens);
    body_done(&values);
}

/* ---- chunks ---- */

static void check_chunk(struct check *c, sqlite3_stmt *st)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    uint32_t seq = (uint32_t)column_u64(st, 0) /* of job << 32 | seq */,
             n = (uint32_t)column_u64(st, 2);
    struct blob *lens = numbers_taken(column_span(st, 4), n);
    struct body body = body_of(c, st, 5, 7, "chunk", seq);
    uint64_t bytes = 0;

    digest_chunk(blob_span(lens), body.span, column_span(st, 6), digest);
    if (!span_eq(column_span(st, 3), span_of(digest, sizeof(digest))))
        found(c, "chunk %u: its inputs are not what was accepted", seq);
    if (n == 0 || n > WIRE_CHUNK_TASKS_MAX || lens->len != n * sizeof(uint32_t)) {
        found(c, "chunk %u: it cannot have %u tasks", seq, n);
        n = MIN(n, WIRE_CHUNK_TASKS_MAX);
    } else {
        for (uint32_t i = 0; i < n; i++)
            bytes += ((const uint32_t *)lens->data)[i];
        if (bytes != body.span.len)
            found(c, "chunk %u: its inputs have another length than stands there", seq);
    }
    if (seq != c->seq)
        found(c, "chunk %u follows where chunk %u is missing", seq, c->seq);
    if (column_u64(st, 1) != c->first)
        found(c, "chunk %u: its first task is %llu, expected %llu", seq,
              (unsigned long long)column_u64(st, 1), (unsigned long long)c->first);
    c->chunk_first = column_u64(st, 1);
    c->n = n;
    c->first = c->chunk_first + n;
    c->seq = seq + 1;
    c->bytes += lens->len + body.span.len + column_span(st, 6).len;
    blob_unref(lens);
    body_done(&body);
    c->totals->chunks++;
    c->totals->tasks += n;
    memset(c->seen, 0, sizeof(c->seen));
    AUTO_FREE char *text = xasprintf(
        "SELECT row, cursor, chunk, epoch, lease, n, head, digest, node, tasks, statuses,"
        " attempts, lens, vals, %s FROM batch WHERE job = ? AND chunk = ? ORDER BY row",
        c->place);
    each(c, "batches", text, (int64_t)c->job.id, seq, check_batch);
}

/* ---- jobs ---- */

static void check_cursor(struct check *c, sqlite3_stmt *st)
{
    if (column_u64(st, 0) != c->cursor)
        found(c, "batch %llu: its cursor is %llu, expected %llu",
              (unsigned long long)column_u64(st, 2),
              (unsigned long long)column_u64(st, 0), (unsigned long long)c->cursor);
    c->cursor = column_u64(st, 0) + column_u64(st, 1);
}

static void check_counts(struct check *c)
{
    const struct job_row *j = &c->job;
    bool ended = j->state == JOB_DONE || j->ended_wall_ns;

    if (c->seq != j->chunks || c->first != j->tasks)
        found(c, "%llu tasks in %u chunks are there, %llu in %u were accepted",
              (unsigned long long)c->first, c->seq, (unsigned long long)j->tasks,
              j->chunks);
    if (c->by[TASK_OK] != j->ok ||
        c->by[TASK_FAILED] + c->by[TASK_RETRYABLE] != j->failed ||
        c->by[TASK_POISON] != j->poison || c->by[TASK_CANCELLED] != j->cancelled)
        found(c, "its counts do not fit its records");
    if (c->bytes != j->bytes)
        found(c, "%llu bytes are stored, %llu are counted", (unsigned long long)c->bytes,
              (unsigned long long)j->bytes);
    if (ended && c->cursor != j->tasks)
        found(c, "it has ended with %llu records for %llu tasks",
              (unsigned long long)c->cursor, (unsigned long long)j->tasks);
}

static void check_job(struct check *c, sqlite3_stmt *st)
{
    struct job_spec spec;
    struct err err = { 0 };

    job_row_take(st, &c->job);
    c->totals->jobs++;
    if (!job_row_whole(st, &c->job))
        found(c, "its description is not what was submitted");
    if (spec_unpack(c->job.spec, &spec, &err) < 0)
        found(c, "its description cannot be read: %s", err.text);
    c->first = c->cursor = 0;
    c->bytes = job_row_bytes(&c->job);
    c->seq = 0;
    memset(c->by, 0, sizeof(c->by));
    AUTO_FREE char *text =
        xasprintf("SELECT id, first, n, digest, lens, body, node, %s FROM chunk WHERE id"
                  " BETWEEN " SQL_CHUNKS_OF("?1") " AND ?2 = 0 ORDER BY id",
                  c->place);
    each(c, "chunks", text, (int64_t)c->job.id, 0, check_chunk);
    each(
        c, "cursors",
        "SELECT cursor, n, row FROM batch WHERE job = ? AND ?2 = 0 AND cursor IS NOT NULL"
        " ORDER BY cursor",
        (int64_t)c->job.id, 0, check_cursor);
    check_counts(c);
    c->job.id = 0;
}

/* ---- what belongs to nothing ---- */

static void check_page(struct check *c, sqlite3_stmt *st)
{
    const char *text = (const char *)sqlite3_column_text(st, 0);

    if (text && strcmp(text, "ok") != 0)
        found(c, "database: %s", text);
}

static void check_orphan(struct check *c, sqlite3_stmt *st)
{
    found(c, "%s %llu belongs to no chunk of a job", sqlite3_column_text(st, 0),
          (unsigned long long)column_u64(st, 1));
}

static void check_removed(struct check *c, sqlite3_stmt *st)
{
    found(c, "removed job %llu has no proper key, or is still there",
          (unsigned long long)column_u64(st, 0));
}

static void check_key(struct check *c, sqlite3_stmt *st)
{
    struct key_row row;

    if (!key_row_take(st, &row))
        found(c, "key %.*s: it is not what was written", (int)row.name.len,
              (const char *)row.name.data);
}

static void check_meta(struct check *c, sqlite3_stmt *st)
{
    if (sqlite3_column_int64(st, 0) != 1)
        found(c, "the epoch or the running time is missing");
}

static void check_lost(struct check *c, sqlite3_stmt *st)
{
    found(c, "what is noted as lost of job %llu belongs to no job",
          (unsigned long long)column_u64(st, 0));
}

static void check_overlap(struct check *c, sqlite3_stmt *st)
{
    uint64_t at = column_u64(st, 0);

    if (at < c->body_end)
        found(c, "segment %u: two rows have the bytes at %u", segment_of(at),
              (uint32_t)at);
    c->body_end = at + column_u64(st, 1);
}

static void check_all(struct check *c)
{
    int64_t version = 0;
    struct err err;

    if (sql_scalar(c->q, "PRAGMA user_version", &version, &err) < 0)
        found(c, "%s", err.text);
    c->place = version >= SCHEMA_SEGMENTS ? BODY_PLACE : "NULL, NULL, NULL";
    each(c, "the database", "PRAGMA integrity_check", 0, 0, check_page);
    each(c, "the epoch",
         "SELECT count(*) = 2 AND min(v >= 0) FROM meta WHERE k IN ('epoch', 'run')", 0,
         0, check_meta);
    each(c, "jobs", "SELECT " JOB_COLUMNS " FROM job ORDER BY id", 0, 0, check_job);
    each(c, "keys", "SELECT " KEY_COLUMNS " FROM key WHERE ?1 = 0 AND ?2 = 0", 0, 0,
         check_key);
    each(c, "removed jobs",
         "SELECT id, length(key) FROM removed WHERE length(key) != 16 OR id IN"
         " (SELECT id FROM job)",
         0, 0, check_removed);
    if (version >= SCHEMA_LOST)
        each(c, "what was lost",
             "SELECT DISTINCT job FROM lost WHERE job NOT IN (SELECT id FROM job)", 0, 0,
             check_lost);
    if (version >= SCHEMA_SEGMENTS)
        each(c, "segments",
             "SELECT at, size FROM chunk WHERE at IS NOT NULL UNION ALL"
             " SELECT at, size FROM batch WHERE at IS NOT NULL ORDER BY at",
             0, 0, check_overlap);
    each(c, "chunks",
         "SELECT 'job ' || (id >> 32) || ': chunk', id & 4294967295 FROM chunk"
         " WHERE id >> 32 NOT IN (SELECT id FROM job"
         " UNION ALL SELECT id FROM removed WHERE rows = 1)",
         0, 0, check_orphan);
    each(c, "batches",
         "SELECT 'batch', row FROM batch b WHERE job NOT IN (SELECT id FROM removed"
         " WHERE rows = 1) AND NOT EXISTS"
         " (SELECT 1 FROM chunk WHERE id = (b.job << 32 | b.chunk))",
         0, 0, check_orphan);
}

int store_check_locked(const char *dir, FILE *out, struct check_totals *ret,
                       struct err *err)
{
    struct check c = { .out = out, .totals = ret };

    *ret = (struct check_totals){ 0 };
    if (sql_open_readonly(dir, &c.q, err) < 0)
        return -1;
    check_all(&c);
    sql_close(c.q);
    return 0;
}

int store_check(const char *dir, FILE *out, struct check_totals *ret, struct err *err)
{
    AUTO_FREE char *db = xasprintf("%s/tidemill.db", dir);
    int lock;

    if (note_refuse(dir, err) < 0)
        return -1;
    if (access(db, F_OK) < 0)
        return err_sys(err, 1, "no state of a coordinator: %s", db);
    if (dir_lock(dir, &lock, err) < 0)
        return -1;
    int rc = store_check_locked(dir, out, ret, err);
    close(lock);
    return rc;
}
