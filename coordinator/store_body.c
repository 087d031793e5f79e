/* Bodies of rows: small ones in the row, others in segments. Where one is says its row,
 * and an index over all such rows whether a segment is still in use: no count of bytes
 * that could say something else than the rows. */
#include "coordinator/store_sql.h"

#include <errno.h>

#include "base/failpoint.h"

/* What fills a page of the database by itself. A smaller one is cheaper in its row: a
 * segment is synced for it, and the database anyway. */
enum { SEGMENT_LEAST = PAGE_BYTES };
/* How many bodies a slice may drop: a hole that no other continues takes 0.1 to 0.3 ms.
 */
enum { DROPS_MAX = 64 };

struct dropped {
    uint64_t from, to;
};

static int failed(struct sql *q)
{
    q->body_errno = errno;
    return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_IOERR;
}

/* ---- saving ---- */

int body_bind(struct sql *q, sqlite3_stmt *st, uint64_t id, int i, int i_at,
              struct span body)
{
    uint8_t place[WIRE_DIGEST_BYTES];
    uint64_t at;

    for (int k = 0; k < BODY_PLACE_COLUMNS; k++)
        sqlite3_bind_null(st, i_at + k);
    if (body.len < SEGMENT_LEAST) {
        bind_span(st, i, body);
        return SQLITE_DONE;
    }
    sqlite3_bind_null(st, i);
    if (segment_put(q->segments, body, &at) < 0)
        return failed(q);
    digest_place(id, at, body.len, place);
    sqlite3_bind_int64(st, i_at, (int64_t)at);
    sqlite3_bind_int64(st, i_at + 1, (int64_t)body.len);
    sqlite3_bind_blob(st, i_at + 2, place, sizeof(place), SQLITE_TRANSIENT);
    return SQLITE_DONE;
}

bool body_place_whole(sqlite3_stmt *st, uint64_t id, int i_at)
{
    uint8_t place[WIRE_DIGEST_BYTES];

    if (sqlite3_column_type(st, i_at) == SQLITE_NULL)
        return true;
    digest_place(id, column_u64(st, i_at), column_u64(st, i_at + 1), place);
    return span_eq(column_span(st, i_at + 2), span_of(place, sizeof(place)));
}

/* ---- dropping ---- */

void body_drop(struct sql *q, sqlite3_stmt *st, uint64_t id, int i_at)
{
    uint64_t at = column_u64(st, i_at), size = column_u64(st, i_at + 1);

    /* What is not as it was written may be another row's. */
    if (sqlite3_column_type(st, i_at) == SQLITE_NULL || !body_place_whole(st, id, i_at))
        return;
    if (q->n_dropped == q->dropped_cap) {
        q->dropped_cap = MAX(DROPS_MAX, q->dropped_cap * 2);
        q->dropped = xrealloc(q->dropped, q->dropped_cap * sizeof(*q->dropped));
    }
    q->dropped[q->n_dropped++] = (struct dropped){ at, segment_after(at, size) };
}

bool bodies_dropped_enough(const struct sql *q)
{
    return q->n_dropped >= DROPS_MAX;
}

/* Rows must not come back for bodies that are gone: with --durability normal a power loss
 * may take commits, but none before this. */
static int sync_log(struct sql *q, struct err *err)
{
    sqlite3_file *log = NULL;

    if (!q->syncs_log)
        return 0;
    sqlite3_file_control(q->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    errno = 0;
    if (!log || !log->pMethods ||
        log->pMethods->xSync(log, SQLITE_SYNC_NORMAL) != SQLITE_OK)
        return err_sys(err, 1, "state directory: cannot sync its log");
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct dropped *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* Has a row a body in that segment? Where that cannot be told, it may. */
static bool has_rows(struct sql *q, enum stmt which, uint32_t number)
{
    sqlite3_stmt *st = BOUND(q, which, (int64_t)segment_begin(number),
                             (int64_t)segment_begin(number + 1));
    bool has = sqlite3_step(st) != SQLITE_ROW || sqlite3_column_int(st, 0);

    sqlite3_reset(st);
    return has;
}

/* It goes when all of it was given back; where the file system makes no holes that is at
 * the next start. */
static void unlink_unused(struct sql *q, uint32_t number)
{
    if (number != segments_current(q->segments) && segment_is_hole(q->segments, number) &&
        !has_rows(q, ST_SEGMENT_USED, number))
        segment_unlink(q->segments, number);
}

/* Ranges that follow one another are one hole. */
static void punch_dropped(struct sql *q)
{
    const struct dropped *d = q->dropped;
    uint32_t i = 0, n = q->n_dropped;

    qsort(q->dropped, n, sizeof(*q->dropped), by_place);
    while (i < n) {
        uint64_t from = d[i].from, to = d[i].to;
        while (++i < n && d[i].from == to)
            to = d[i].to;
        segment_punch(q->segments, from, to);
        if (i == n || segment_of(d[i].from) != segment_of(from))
            unlink_unused(q, segment_of(from));
    }
}

/* ---- the transaction ---- */

int bodies_before_commit(struct sql *q)
{
    return segments_sync(q->segments) < 0 ? failed(q) : SQLITE_DONE;
}

int bodies_committed(struct sql *q, struct err *err)
{
    segments_keep(q->segments);
    if (!q->n_dropped)
        return 0;
    if (sync_log(q, err) < 0)
        return -1;
    FAILPOINT("segment_drop_before");
    punch_dropped(q);
    FAILPOINT("segment_drop_after");
    q->n_dropped = 0;
    return 0;
}

void bodies_back(struct sql *q)
{
    segments_back(q->segments);
    q->n_dropped = 0;
    q->body_errno = 0;
}

/* ---- reading ---- */

enum read_result body_read(struct sql *q, sqlite3_stmt *st, int i, int i_at,
                           struct body *ret, struct err *err)
{
    *ret = (struct body){ 0 };
    if (sqlite3_column_type(st, i_at) == SQLITE_NULL) {
        ret->span = column_span(st, i);
        return READ_OK;
    }
    int rc = segment_read(q->segments, column_u64(st, i_at), column_u64(st, i_at + 1),
                          &ret->owned);
    ret->span = blob_span(ret->owned);
    if (rc < 0)
        err_sys(err, 1, "state directory: cannot read a segment");
    return rc < 0 ? READ_FAILED : rc ? READ_OK : READ_DAMAGED;
}

struct blob *body_blob(struct body *b)
{
    return b->owned ? STEAL(b->owned) : blob_new(b->span);
}

void body_done(struct body *b)
{
    blob_unref(b->owned);
}

/* ---- opening ---- */

int bodies_open(struct sql *q, const char *dir, enum durability durability,
                struct err *err)
{
    q->segments = segments_new(dir, durability != DURABILITY_NONE);
    q->syncs_log = durability == DURABILITY_NORMAL;
    if (!q->segments)
        return err_sys(err, 1, "cannot read the directory %s", dir);
    if (segments_sync_found(q->segments) < 0)
        return err_sys(err, 1, "cannot write the segments in %s to disk", dir);
    return 0;
}

int bodies_read(struct sql *q, const char *dir, struct err *err)
{
    q->segments = segments_new(dir, false);
    return q->segments ? 0 : err_sys(err, 1, "cannot read the directory %s", dir);
}

int bodies_refuse(struct sql *q, struct err *err)
{
    AUTO_FREE uint32_t *found = NULL;
    size_t n;

    if (segments_found(q->segments, &found, &n) < 0)
        return err_sys(err, 1, "cannot read the state directory");
    if (n == 0)
        return 0;
    err_set(err, 1, "state directory: %zu segments of a database that is not here", n);
    return err_hint(err, "restore tidemill.db, or move the files segment.* away");
}

/* Before bytes are lost for it, the rows themselves are asked: a page of the index may be
 * an old one, and nobody would see it. */
static int sweep(struct sql *q, uint32_t number, struct err *err)
{
    if (has_rows(q, ST_SEGMENT_USED, number))
        return 0;
    if (!segment_is_hole(q->segments, number) &&
        has_rows(q, ST_SEGMENT_IN_ROWS, number)) {
        err_set(err, 1,
                "state directory: damaged: the index of bodies in segment %u does "
                "not fit the rows",
                number);
        return err_hint(err, "tidemill-coordinator check --state DIR names all that is "
                             "damaged; restore the directory from a copy");
    }
    segment_unlink(q->segments, number);
    return 0;
}

int bodies_sweep(struct sql *q, struct err *err)
{
    AUTO_FREE uint32_t *found = NULL;
    int rc = 0;
    size_t n;

    if (segments_found(q->segments, &found, &n) < 0)
        return err_sys(err, 1, "cannot read the state directory");
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = sweep(q, found[i], err);
    return rc;
}

void bodies_close(struct sql *q)
{
    segments_free(q->segments);
    free(q->dropped);
}
