/* Reading what was saved: chunks, inputs, pages of results. Digests are checked here
 * (R6).
 */
#include "coordinator/store_sql.h"

enum { ROWS_PER_READ = 256 };

void sql_cache_drop(struct sql *q)
{
    blob_unref(q->cached.lens);
    blob_unref(q->cached.body);
    free(q->cached_offsets);
    q->cached = (struct chunk_row){ 0 };
    q->cached_offsets = NULL;
}

/* What a statement that reads ended with: READ_OK, or is the row or the page it is on
 * damaged, or can nothing be read any more. */
static enum read_result read_end(struct sql *q, int rc, struct err *err, const char *what)
{
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return READ_OK;
    sql_fail(q, err, what);
    return (rc & 0xff) == SQLITE_CORRUPT ? READ_DAMAGED : READ_FAILED;
}

/* The row is in *ret (the caller's to free) only with READ_OK. */
static enum read_result read_chunk_row(struct sql *q, uint64_t job, uint32_t seq,
                                       struct chunk_row *ret, struct err *err)
{
    sqlite3_stmt *st = BOUND(q, ST_READ_CHUNK, (int64_t)job, seq);
    uint8_t digest[WIRE_DIGEST_BYTES];
    int rc = sqlite3_step(st);
    enum read_result result = read_end(q, rc, err, "read a chunk");

    if (rc == SQLITE_ROW) {
        struct span stored = column_span(st, 2), lens = column_span(st, 3),
                    body = column_span(st, 4);
        uint32_t n = (uint32_t)column_u64(st, 1);
        digest_chunk(lens, body, digest);
        if (span_eq(stored, span_of(digest, sizeof(digest))) &&
            lens.len == n * sizeof(uint32_t)) {
            *ret = (struct chunk_row){ .job = job,
                                       .seq = seq,
                                       .first = column_u64(st, 0),
                                       .n = n,
                                       .lens = blob_new(lens),
                                       .body = blob_new(body) };
            memcpy(ret->digest, digest, sizeof(digest));
        } else {
            result = READ_DAMAGED;
        }
    } else if (rc == SQLITE_DONE) {
        result = READ_DAMAGED; /* it was there at the start */
    }
    sqlite3_reset(st);
    return result;
}

static int read_chunk(struct sql *q, struct fx *fx, struct err *err)
{
    struct fx_read_chunk *r = &fx->read_chunk;
    enum read_result result = read_chunk_row(q, r->job, r->seq, &r->ret, err);
    sqlite3_stmt *st;
    int rc;

    if (result == READ_FAILED)
        return -1;
    r->damaged = result == READ_DAMAGED;
    r->ret_recorded = blob_alloc(r->n);
    memset(r->ret_recorded->data, 0, r->n);
    st = BOUND(q, ST_READ_RECORDED, (int64_t)r->job, r->seq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct span s = column_span(st, 0);
        const uint32_t *tasks = (const uint32_t *)s.data;
        for (size_t i = 0; i < s.len / sizeof(*tasks); i++)
            if (tasks[i] - r->first < r->n)
                r->ret_recorded->data[tasks[i] - r->first] = 1;
    }
    sqlite3_reset(st);
    /* Not to know what has a record is not to be mended. */
    return read_end(q, rc, err, "read which tasks have a record") == READ_OK ? 0 : -1;
}

enum read_result sql_chunk_input(struct sql *q, uint64_t job, uint32_t seq, uint64_t task,
                                 struct span *ret, struct err *err)
{
    if (q->cached.job != job || q->cached.seq != seq || !q->cached.body) {
        sql_cache_drop(q);
        enum read_result result = read_chunk_row(q, job, seq, &q->cached, err);
        if (result != READ_OK)
            return result;
        const uint32_t *lens = (const uint32_t *)q->cached.lens->data;
        q->cached_offsets = xcalloc(q->cached.n + 1, sizeof(uint32_t));
        for (uint32_t i = 0; i < q->cached.n; i++)
            q->cached_offsets[i + 1] = q->cached_offsets[i] + lens[i];
    }
    uint64_t i = task - q->cached.first;
    if (i >= q->cached.n)
        return READ_DAMAGED;
    *ret = span_of(q->cached.body->data + q->cached_offsets[i],
                   q->cached_offsets[i + 1] - q->cached_offsets[i]);
    return READ_OK;
}

static void row_take(sqlite3_stmt *st, uint64_t job, struct batch_row *b)
{
    *b = (struct batch_row){ .row = column_u64(st, 0),
                             .job = job,
                             .cursor = column_u64(st, 1),
                             .chunk = (uint32_t)column_u64(st, 2),
                             .epoch = column_u64(st, 3),
                             .lease = column_u64(st, 4),
                             .n = (uint32_t)column_u64(st, 5),
                             .node = column_span(st, 8),
                             .tasks = blob_new(column_span(st, 9)),
                             .statuses = blob_new(column_span(st, 10)),
                             .attempts = blob_new(column_span(st, 11)),
                             .lens = blob_new(column_span(st, 12)) };
}

static void row_drop(struct batch_row *b)
{
    blob_unref(b->tasks);
    blob_unref(b->statuses);
    blob_unref(b->attempts);
    blob_unref(b->lens);
    blob_unref(b->values);
}

/* The values of a row, and whether all of it is as it was written. */
static enum read_result row_values(struct sql *q, struct batch_row *b, struct span head,
                                   struct span rest, struct err *err)
{
    sqlite3_stmt *st = BOUND(q, ST_READ_VALUES, (int64_t)b->row);
    uint8_t now[2][WIRE_DIGEST_BYTES];
    int rc = sqlite3_step(st);

    if (rc == SQLITE_ROW)
        b->values = blob_new(column_span(st, 0));
    sqlite3_reset(st);
    enum read_result result = read_end(q, rc, err, "read results");
    if (result != READ_OK)
        return result;
    digest_batch_head(b, now[0]);
    digest_batch_rest(blob_span(b->statuses), blob_span(b->lens), blob_span(b->values),
                      now[1]);
    if (!span_eq(head, span_of(now[0], WIRE_DIGEST_BYTES)) ||
        !span_eq(rest, span_of(now[1], WIRE_DIGEST_BYTES)) || !batch_row_fits(b))
        return READ_DAMAGED;
    return READ_OK;
}

static enum read_result read_page(struct sql *q, struct page *page,
                                  struct fx_read_results *r, struct err *err)
{
    sqlite3_stmt *st =
        r->task_order
            ? BOUND(q, ST_READ_OF_CHUNK, (int64_t)r->job, r->first_chunk)
            : BOUND(q, ST_READ_FROM, (int64_t)r->job, (int64_t)r->cursor, ROWS_PER_READ);
    enum read_result result = READ_OK;
    bool more = true;
    int rc = SQLITE_ROW;

    while (more && result == READ_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct batch_row b;
        row_take(st, r->job, &b);
        AUTO_FREE char *node = span_dup(b.node);
        result = row_values(q, &b, column_span(st, 6), column_span(st, 7), err);
        if (result == READ_OK)
            more = page_row(page, &b, node);
        else if (!r->ret.row)
            r->ret.row = b.row; /* which one it is */
        row_drop(&b);
    }
    sqlite3_reset(st);
    if (result == READ_OK)
        result = read_end(q, rc, err, "read results");
    return result == READ_OK ? page_end(page, err) : result;
}

static int read_results(struct sql *q, struct fx *fx, struct err *err)
{
    struct fx_read_results *r = &fx->read_results;
    struct page *page = page_new(q, r);
    enum read_result result = read_page(q, page, r, err);

    page_free(page);
    r->damaged = result == READ_DAMAGED;
    return result == READ_FAILED ? -1 : 0;
}

int sql_read(struct sql *q, struct fx *fx, struct err *err)
{
    return fx->type == FX_READ_CHUNK ? read_chunk(q, fx, err) : read_results(q, fx, err);
}
