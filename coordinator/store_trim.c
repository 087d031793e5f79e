/* What removed jobs leave behind: rows deleted and pages given back in slices, so that no
 * commit waits for a deletion (R7). */
#include "base/clock.h"
#include "base/failpoint.h"
#include "coordinator/store_sql.h"

/* A slice works so long, and one commit longer. A row is a few pages at most: the clock
 * is asked after each. */
#define SLICE_NS (10 * NS_PER_MS)
/* Pages moved between two looks at the clock: 1 MiB. */
enum { VACUUM_PAGES = 64, VACUUM_PAGES_LEAST = 4 };
/* Free pages that are kept for what comes next: 1 MiB, or a sixteenth of the database,
 * since a page given back only to be asked for again has cost two writes. */
enum { KEEP_PAGES = 64, KEEP_SHARE = 16 };

bool sql_trim_due(const struct sql *q, bool idle)
{
    return q->trim && (idle || q->deleting);
}

static int sizes(struct sql *q, int64_t *ret_pages, int64_t *ret_free, struct err *err)
{
    if (sql_scalar(q, "PRAGMA page_count", ret_pages, err) < 0)
        return -1;
    return sql_scalar(q, "PRAGMA freelist_count", ret_free, err);
}

/* Deletes one row; *ret_more is false when the job had none left. */
static int delete_row(struct sql *q, bool *ret_more)
{
    static const enum stmt from[] = { ST_TRIM_BATCH, ST_TRIM_CHUNK };

    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        sqlite3_stmt *st = BOUND(q, from[i], (int64_t)q->trimming);
        int rc = sqlite3_step(st);
        *ret_more = rc == SQLITE_ROW;
        if (*ret_more) {
            body_drop(q, st, column_u64(st, 0), 1);
            rc = SQLITE_DONE;
        }
        sqlite3_reset(st);
        if (rc != SQLITE_DONE || *ret_more)
            return rc;
    }
    return sql_run(BOUND(q, ST_TRIMMED, (int64_t)q->trimming));
}

/* The next removed job with rows; 0 = none. */
static int next_job(struct sql *q)
{
    sqlite3_stmt *st = q->st[ST_TRIM_NEXT];
    int rc = sqlite3_step(st);

    q->trimming = rc == SQLITE_ROW ? column_u64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? SQLITE_DONE : rc;
}

static int delete_some(struct sql *q, int64_t until_ns)
{
    bool more = false;
    int rc;

    do {
        rc = more ? SQLITE_DONE : next_job(q);
        q->deleting = rc != SQLITE_DONE || q->trimming;
        if (rc == SQLITE_DONE && q->trimming)
            rc = delete_row(q, &more);
    } while (rc == SQLITE_DONE && q->trimming && !bodies_dropped_enough(q) &&
             clock_mono_ns() < until_ns);
    return rc;
}

/* Moves pages from the end into free ones; *ret_left: more of it is worth the while. */
static int vacuum_some(struct sql *q, int64_t until_ns, bool *ret_left, struct err *err)
{
    AUTO_FREE char *text = xasprintf("PRAGMA incremental_vacuum(%d)",
                                     q->sparing ? VACUUM_PAGES_LEAST : VACUUM_PAGES);
    int64_t pages, free_pages;

    do {
        if (sizes(q, &pages, &free_pages, err) < 0)
            return SQLITE_ERROR;
        *ret_left = free_pages > MAX(KEEP_PAGES, pages / KEEP_SHARE);
        if (!*ret_left)
            return SQLITE_DONE;
        int rc = sqlite3_exec(q->db, text, NULL, NULL, NULL);
        if (rc != SQLITE_OK)
            return rc;
        q->moved = true;
    } while (clock_mono_ns() < until_ns);
    return SQLITE_DONE;
}

/* The database is cut when the log has been copied into it. */
static int give_back(struct sql *q)
{
    int rc = SQLITE_OK;

    FAILPOINT("store_checkpoint_before");
    if (q->moved)
        rc = sqlite3_wal_checkpoint_v2(q->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                       NULL);
    FAILPOINT("store_checkpoint_after");
    q->moved = q->moved && rc != SQLITE_OK;
    q->trim = q->sparing = false;
    return rc == SQLITE_OK ? SQLITE_DONE : rc;
}

enum sql_result sql_trim(struct sql *q, struct err *err)
{
    int64_t until_ns = q->sparing ? 0 : clock_mono_ns() + SLICE_NS;
    bool left = true;
    enum sql_result result = q->log_first ? sql_checkpoint(q, err) : SQL_OK;

    if (result == SQL_OK)
        result = sql_begin(q, err);
    if (result != SQL_OK)
        return result;
    q->log_first = false;
    bool deleting = q->deleting;
    int rc =
        q->deleting ? delete_some(q, until_ns) : vacuum_some(q, until_ns, &left, err);
    result = sql_result_of(q, rc, err, "delete removed jobs");
    if (result == SQL_OK)
        result = sql_commit(q, err);
    if (result != SQL_OK) {
        sql_rollback(q); /* and the rows are there again */
        q->deleting = deleting;
        q->trimming = 0;
    } else if (!left) {
        result = sql_result_of(q, give_back(q), err, "empty its log");
    }
    if (result != SQL_NO_SPACE)
        return result;
    /* What a slice writes found no room: from the log's beginning, and row by row, there
     * may be enough. The log goes first, also when the reserve has been let go: rows
     * would make it longer by all of it. */
    bool again = !q->sparing;
    q->sparing = q->log_first = true;
    return again ? SQL_OK : SQL_NO_SPACE;
}
