/* Statements and saving. Opening, reading, trimming and checking have files of their own;
 * what they share is in store_sql.h. */
#include "coordinator/store_sql.h"

#include <errno.h>

#include "base/failpoint.h"

#define BATCH_COLUMNS                                                                    \
    "row, cursor, chunk, epoch, lease, n, head, digest, node, tasks, statuses,"          \
    " attempts, lens"
const char *const sql_texts[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_JOB] = "INSERT INTO job(" JOB_COLUMNS ")"
               " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,0,0,0,0,?,0,0,?)",
    [ST_CHUNK] = "INSERT INTO chunk(id, first, n, digest, lens, body, node," BODY_PLACE
                 ") VALUES(?,?,?,?,?,?,?,?,?,?)",
    [ST_GROW] = "UPDATE job SET chunks = chunks + 1, tasks = tasks + ?,"
                " bytes = bytes + ? WHERE id = ?",
    [ST_STATE] = "UPDATE job SET state = ?, ended = ?, ended_run = ? WHERE id = ?",
    [ST_BATCH] =
        "INSERT INTO batch(row, job, chunk, cursor, epoch, lease, n, head, digest, node,"
        " tasks, statuses, attempts, lens, vals, " BODY_PLACE
        ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [ST_COUNT_UP] =
        "UPDATE job SET ok = ok + ?, failed = failed + ?, poison = poison + ?,"
        " cancelled = cancelled + ?, bytes = bytes + ? WHERE id = ?",
    [ST_SHOW] = "UPDATE batch SET cursor = ? WHERE row = ?",
    [ST_SHOW_VALUES] =
        "UPDATE batch SET cursor = ?1, statuses = ?3, lens = ?4, vals = ?5,"
        " digest = ?6, at = ?7, size = ?8, place = ?9 WHERE row = ?2",
    [ST_DROP_JOB] = "DELETE FROM job WHERE id = ?",
    [ST_DROP_LOST] = "DELETE FROM lost WHERE job = ?",
    [ST_REMOVED] = "INSERT INTO removed VALUES(?1, ?2, 1)",
    [ST_RUN] = "UPDATE meta SET v = ? WHERE k = 'run'",
    [ST_TRIM_NEXT] = "SELECT id FROM removed WHERE rows = 1 ORDER BY id LIMIT 1",
    [ST_TRIM_BATCH] =
        "DELETE FROM batch WHERE row = (SELECT row FROM batch WHERE job = ? LIMIT 1)"
        " RETURNING row, " BODY_PLACE,
    [ST_TRIM_CHUNK] =
        "DELETE FROM chunk WHERE id = (SELECT id FROM chunk WHERE id"
        " BETWEEN " SQL_CHUNKS_OF("?1") " LIMIT 1) RETURNING id, " BODY_PLACE,
    [ST_TRIMMED] = "UPDATE removed SET rows = 0 WHERE id = ?",
    [ST_SEGMENT_USED] = "SELECT EXISTS(SELECT 1 FROM chunk WHERE at >= ?1 AND at < ?2)"
                        " OR EXISTS(SELECT 1 FROM batch WHERE at >= ?1 AND at < ?2)",
    [ST_SEGMENT_IN_ROWS] = "SELECT EXISTS(SELECT 1 FROM chunk NOT INDEXED"
                           " WHERE at >= ?1 AND at < ?2) OR EXISTS(SELECT 1 FROM batch"
                           " NOT INDEXED WHERE at >= ?1 AND at < ?2)",
    [ST_PAUSE] = "UPDATE job SET paused = ? WHERE id = ?",
    [ST_NODE] = "INSERT OR IGNORE INTO node VALUES(?)",
    [ST_NODE_GONE] = "DELETE FROM node WHERE node = ?",
    [ST_KEY] = "INSERT OR REPLACE INTO key(" KEY_COLUMNS ")"
               " VALUES(?,?,?,?,?,?,?,?,?,?,?)",
    [ST_READ_CHUNK] =
        "SELECT first, n, digest, lens, body, node," BODY_PLACE " FROM chunk"
        " WHERE id = ?",
    [ST_READ_RECORDED] = "SELECT row, epoch, lease, n, head, node, tasks, attempts"
                         " FROM batch WHERE job = ? AND chunk = ?",
    [ST_READ_FROM] = "SELECT " BATCH_COLUMNS " FROM batch WHERE job = ?1 AND cursor >="
                     " (SELECT max(cursor) FROM batch WHERE job = ?1 AND cursor <= ?2)"
                     " ORDER BY cursor LIMIT ?3",
    [ST_READ_OF_CHUNK] = "SELECT " BATCH_COLUMNS " FROM batch WHERE job = ? AND chunk = ?"
                         " AND cursor IS NOT NULL ORDER BY row",
    [ST_READ_VALUES] = "SELECT vals, " BODY_PLACE " FROM batch WHERE row = ?",
    [ST_WHERE_VALUES] = "SELECT row, " BODY_PLACE " FROM batch WHERE row = ?",
};

/* ---- small helpers ---- */

int sql_fail(struct sql *q, struct err *err, const char *what)
{
    if (q->body_errno) {
        errno = q->body_errno;
        return err_sys(err, 1, "state directory: cannot %s: a segment", what);
    }
    return err_set(err, 1, "state directory: cannot %s: %s", what, sqlite3_errmsg(q->db));
}

enum sql_result sql_result_of(struct sql *q, int rc, struct err *err, const char *what)
{
    if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
        return SQL_OK;
    sql_fail(q, err, what);
    /* For want of room a write is tried again, and a sync of the log never. A segment's
     * is, since the next try writes all bodies of the transaction once more. */
    int why = sqlite3_system_errno(q->db);
    if ((rc & 0xff) == SQLITE_FULL ||
        (rc == SQLITE_IOERR_WRITE && (why == ENOSPC || why == EDQUOT))) {
        err_set(err, 1, "state directory: no space left on device");
        return SQL_NO_SPACE;
    }
    return SQL_FAILED;
}

int sql_exec(struct sql *q, const char *text, struct err *err)
{
    if (sqlite3_exec(q->db, text, NULL, NULL, NULL) != SQLITE_OK)
        return sql_fail(q, err, text);
    return 0;
}

void bind_span(sqlite3_stmt *st, int i, struct span s)
{
    if (s.len)
        sqlite3_bind_blob64(st, i, s.data, s.len, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(st, i, 0);
}

struct span column_span(sqlite3_stmt *st, int i)
{
    const void *data = sqlite3_column_blob(st, i); /* before _bytes, see its manual */
    return span_of(data, (size_t)sqlite3_column_bytes(st, i));
}

sqlite3_stmt *sql_bound(struct sql *q, enum stmt which, int n, const int64_t *numbers)
{
    sqlite3_stmt *st = q->st[which];

    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st, i + 1, numbers[i]);
    return st;
}
int sql_run(sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);

    sqlite3_reset(st);
    return rc;
}

int sql_scalar(struct sql *q, const char *text, int64_t *ret, struct err *err)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(q->db, text, -1, &st, NULL);

    if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        rc = SQLITE_ERROR;
    sqlite3_finalize(st);
    return rc == SQLITE_OK ? 0 : sql_fail(q, err, text);
}

/* ---- saving ---- */

enum sql_result sql_begin(struct sql *q, struct err *err)
{
    return sql_result_of(q, sql_run(q->st[ST_BEGIN]), err, "begin");
}

enum sql_result sql_commit(struct sql *q, struct err *err)
{
    FAILPOINT("store_commit_before");
    if (FAILPOINT_ERROR("store_commit_error"))
        return sql_result_of(q, SQLITE_IOERR, err, "commit");
    int rc = bodies_before_commit(q);
    errno = 0;
    if (rc == SQLITE_DONE)
        rc = sql_run(q->st[ST_COMMIT]);
    if (rc == SQLITE_IOERR_WRITE && errno == EDQUOT) /* which SQLite does not keep here */
        rc = SQLITE_FULL;
    FAILPOINT("store_commit_after");
    if (rc != SQLITE_DONE)
        return sql_result_of(q, rc, err, "commit");
    return bodies_committed(q, err) < 0 ? SQL_FAILED : SQL_OK;
}

void sql_limit_log(struct sql *q, uint64_t bytes)
{
    enum { LEAST = 16 };
    uint64_t pages = MIN(bytes, LOG_MAX_BYTES) / PAGE_BYTES;
    sqlite3_wal_autocheckpoint(q->db, (int)MAX(pages, LEAST));
}

enum sql_result sql_checkpoint(struct sql *q, struct err *err)
{
    int rc =
        sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    return sql_result_of(q, rc, err, "copy its log");
}

void sql_rollback(struct sql *q)
{
    if (!sqlite3_get_autocommit(q->db))
        sql_run(q->st[ST_ROLLBACK]);
    bodies_back(q);
}

static int save_job(struct sql *q, const struct fx *fx)
{
    const struct job_row *j = &fx->job;
    sqlite3_stmt *st =
        BOUND(q, ST_JOB, (int64_t)j->id, 0, 0, 0, 0, j->priority, j->retries,
              j->task_timeout_ns, j->deadline_ns, j->detached, j->created_wall_ns,
              j->ended_wall_ns, j->state, 0, (int64_t)job_row_bytes(j));
    uint8_t digest[WIRE_DIGEST_BYTES];

    bind_span(st, 2, span_of(j->key, sizeof(j->key)));
    bind_span(st, 3, j->spec);
    bind_span(st, 4, j->name);
    bind_span(st, 5, j->owner);
    digest_job(j, digest);
    bind_span(st, 14, span_of(digest, sizeof(digest)));
    return sql_run(st);
}

static int save_chunk(struct sql *q, const struct fx *fx)
{
    const struct chunk_row *c = &fx->chunk;
    sqlite3_stmt *st =
        BOUND(q, ST_CHUNK, chunk_id(c->job, c->seq), (int64_t)c->first, c->n);
    int rc;

    bind_span(st, 4, span_of(c->digest, sizeof(c->digest)));
    bind_span(st, 5, numbers_stored(c->lens));
    bind_span(st, 7, c->node);
    rc = body_bind(q, st, (uint64_t)chunk_id(c->job, c->seq), 6, 8, blob_span(c->body));
    if (rc == SQLITE_DONE)
        rc = sql_run(st);
    if (rc != SQLITE_DONE)
        return rc;
    return sql_run(BOUND(q, ST_GROW, c->n, (int64_t)chunk_row_bytes(c), (int64_t)c->job));
}

static int save_state(struct sql *q, const struct fx *fx)
{
    return sql_run(BOUND(q, ST_STATE, fx->state.state, fx->state.ended_wall_ns,
                         fx->state.ended_run_ns, (int64_t)fx->state.job));
}

static int count_up(struct sql *q, uint64_t job, const struct blob *statuses, uint32_t n,
                    uint64_t bytes)
{
    int64_t by[TASK_STATUS_COUNT] = { 0 };

    for (uint32_t i = 0; i < n; i++)
        by[statuses->data[i]]++;
    return sql_run(BOUND(q, ST_COUNT_UP, by[TASK_OK],
                         by[TASK_FAILED] + by[TASK_RETRYABLE], by[TASK_POISON],
                         by[TASK_CANCELLED], (int64_t)bytes, (int64_t)job));
}

static int save_batch(struct sql *q, const struct fx *fx)
{
    const struct batch_row *b = &fx->batch;
    sqlite3_stmt *st =
        BOUND(q, ST_BATCH, (int64_t)b->row, (int64_t)b->job, b->chunk, (int64_t)b->cursor,
              (int64_t)b->epoch, (int64_t)b->lease, b->n);
    uint8_t head[WIRE_DIGEST_BYTES], rest[WIRE_DIGEST_BYTES];
    int rc;

    if (b->pending)
        sqlite3_bind_null(st, 4);
    digest_batch_head(b, head);
    digest_batch_rest(blob_span(b->statuses), blob_span(b->lens), blob_span(b->values),
                      rest);
    bind_span(st, 8, span_of(head, sizeof(head)));
    bind_span(st, 9, span_of(rest, sizeof(rest)));
    bind_span(st, 10, b->node);
    bind_span(st, 11, tasks_stored(b->tasks));
    bind_span(st, 12, bytes_stored(b->statuses));
    bind_span(st, 13, numbers_stored(b->attempts));
    bind_span(st, 14, numbers_stored(b->lens));
    rc = body_bind(q, st, b->row, 15, 16, blob_span(b->values));
    if (rc == SQLITE_DONE)
        rc = sql_run(st);
    if (rc != SQLITE_DONE || b->pending)
        return rc;
    return count_up(q, b->job, b->statuses, b->n, b->values->len);
}

static int drop_values(struct sql *q, uint64_t row)
{
    sqlite3_stmt *st = BOUND(q, ST_WHERE_VALUES, (int64_t)row);
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        body_drop(q, st, row, 1);
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? SQLITE_DONE : rc;
}

/* The batch gets other values as well: files of it could not be put in place. */
static int show_values(struct sql *q, const struct fx *fx)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    int rc = drop_values(q, fx->show.row);
    sqlite3_stmt *st =
        BOUND(q, ST_SHOW_VALUES, (int64_t)fx->show.cursor, (int64_t)fx->show.row);

    digest_batch_rest(blob_span(fx->show.statuses), blob_span(fx->show.lens),
                      blob_span(fx->show.values), digest);
    bind_span(st, 3, bytes_stored(fx->show.statuses));
    bind_span(st, 4, numbers_stored(fx->show.lens));
    bind_span(st, 6, span_of(digest, sizeof(digest)));
    if (rc == SQLITE_DONE)
        rc = body_bind(q, st, fx->show.row, 5, 7, blob_span(fx->show.values));
    return rc == SQLITE_DONE ? sql_run(st) : rc;
}

static int save_show(struct sql *q, const struct fx *fx)
{
    int rc =
        fx->show.lens
            ? show_values(q, fx)
            : sql_run(BOUND(q, ST_SHOW, (int64_t)fx->show.cursor, (int64_t)fx->show.row));

    if (rc != SQLITE_DONE)
        return rc;
    return count_up(q, fx->show.job, fx->show.statuses, fx->show.n, fx->show.bytes);
}

/* Its rows go later, in slices (R7): store_trim.c. */
static int save_remove(struct sql *q, const struct fx *fx)
{
    int rc = sql_run(BOUND(q, ST_DROP_JOB, (int64_t)fx->remove.job));
    sqlite3_stmt *st = BOUND(q, ST_REMOVED, (int64_t)fx->remove.job);

    q->trim = q->deleting = true;
    if (rc == SQLITE_DONE)
        rc = sql_run(BOUND(q, ST_DROP_LOST, (int64_t)fx->remove.job));
    if (rc != SQLITE_DONE)
        return rc;
    bind_span(st, 2, span_of(fx->remove.key, sizeof(fx->remove.key)));
    return sql_run(st);
}

static int save_run(struct sql *q, const struct fx *fx)
{
    return sql_run(BOUND(q, ST_RUN, fx->run.ns));
}

static int save_pause(struct sql *q, const struct fx *fx)
{
    return sql_run(BOUND(q, ST_PAUSE, fx->pause.paused, (int64_t)fx->pause.job));
}

static int save_node(struct sql *q, const struct fx *fx)
{
    sqlite3_stmt *st = q->st[fx->node_known.gone ? ST_NODE_GONE : ST_NODE];

    bind_span(st, 1, fx->node_known.name);
    return sql_run(st);
}

enum sql_result sql_save(struct sql *q, const struct fx *fx, struct err *err)
{
    static int (*const save[])(struct sql * q, const struct fx *fx) = {
        [FX_JOB] = save_job,     [FX_CHUNK] = save_chunk, [FX_STATE] = save_state,
        [FX_BATCH] = save_batch, [FX_SHOW] = save_show,   [FX_REMOVE] = save_remove,
        [FX_RUN] = save_run,     [FX_PAUSE] = save_pause, [FX_NODE] = save_node,
        [FX_KEY] = save_key,
    };

    return sql_result_of(q, save[fx->type](q, fx), err, "save");
}
