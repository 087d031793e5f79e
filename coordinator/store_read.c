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
    sqlite3_stmt *st = BOUND(q, ST_READ_CHUNK, chunk_id(job, seq));
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct body body = { 0 };
    int rc = sqlite3_step(st);
    enum read_result result = read_end(q, rc, err, "read a chunk");

    if (rc == SQLITE_DONE)
        result = READ_DAMAGED; /* it was there at the start */
    if (result == READ_OK)
        result = body_read(q, st, 4, 6, &body, err);
    if (result == READ_OK) {
        struct span stored = column_span(st, 2);
        uint32_t n = (uint32_t)column_u64(st, 1);
        struct blob *lens = numbers_taken(column_span(st, 3), n);
        digest_chunk(blob_span(lens), body.span, column_span(st, 5), digest);
        if (span_eq(stored, span_of(digest, sizeof(digest))) &&
            lens->len == n * sizeof(uint32_t)) {
            *ret = (struct chunk_row){ .job = job,
                                       .seq = seq,
                                       .first = column_u64(st, 0),
                                       .n = n,
                                       .lens = STEAL(lens),
                                       .body = body_blob(&body) };
            memcpy(ret->digest, digest, sizeof(digest));
        } else {
            result = READ_DAMAGED;
        }
        blob_unref(lens);
    }
    body_done(&body);
    sqlite3_reset(st);
    return result;
}

/* The tasks of the row that a statement is on have a record; false: it is not what was
 * written. */
static bool mark_recorded(sqlite3_stmt *st, struct fx_read_chunk *r)
{
    uint32_t n = (uint32_t)column_u64(st, 3);
    struct batch_row b = { .row = column_u64(st, 0),
                           .job = r->job,
                           .chunk = r->seq,
                           .epoch = column_u64(st, 1),
                           .lease = column_u64(st, 2),
                           .n = n,
                           .node = column_span(st, 5),
                           .tasks = tasks_taken(column_span(st, 6), n),
                           .attempts = numbers_taken(column_span(st, 7), n) };
    bool whole = batch_head_whole(&b, column_span(st, 4));
    const uint32_t *task = (const uint32_t *)b.tasks->data;

    for (size_t i = 0; whole && i < b.tasks->len / sizeof(*task); i++)
        if (task[i] - r->first < r->n)
            r->ret_recorded->data[task[i] - r->first] = 1;
    blob_unref(b.tasks);
    blob_unref(b.attempts);
    return whole;
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
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        if (!mark_recorded(st, r)) {
            sqlite3_reset(st);
            return err_set(err, 1,
                           "state directory: damaged: which tasks of job %llu have a "
                           "record",
                           (unsigned long long)r->job);
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
    uint32_t n = (uint32_t)column_u64(st, 5);

    *b = (struct batch_row){ .row = column_u64(st, 0),
                             .job = job,
                             .cursor = column_u64(st, 1),
                             .chunk = (uint32_t)column_u64(st, 2),
                             .epoch = column_u64(st, 3),
                             .lease = column_u64(st, 4),
                             .n = n,
                             .node = column_span(st, 8),
                             .tasks = tasks_taken(column_span(st, 9), n),
                             .statuses = bytes_taken(column_span(st, 10), n),
                             .attempts = numbers_taken(column_span(st, 11), n),
                             .lens = numbers_taken(column_span(st, 12), n) };
}

static void row_drop(struct batch_row *b)
{
    blob_unref(b->tasks);
    blob_unref(b->statuses);
    blob_unref(b->attempts);
    blob_unref(b->lens);
    blob_unref(b->values);
}

/* The rows a page may be made of, without their values. */
struct heads {
    struct head {
        struct batch_row row;
        size_t values_len;
        uint8_t rest[WIRE_DIGEST_BYTES]; /* the digest that its values must fit */
    } * at;
    uint32_t n, cap;
};

static void heads_free(struct heads *heads)
{
    for (uint32_t i = 0; i < heads->n; i++)
        row_drop(&heads->at[i].row);
    free(heads->at);
}

/* Takes the row a statement is on; NULL: it is not as it was written, ret_row says which
 * one it is. Its node is valid until the statement moves on. */
static const struct batch_row *head_take(struct heads *heads, sqlite3_stmt *st,
                                         uint64_t job, uint64_t *ret_row)
{
    if (heads->n == heads->cap) {
        heads->cap = MAX(16, heads->cap * 2);
        heads->at = xrealloc(heads->at, heads->cap * sizeof(*heads->at));
    }
    struct head *h = &heads->at[heads->n++];
    struct span head = column_span(st, 6), rest = column_span(st, 7);
    row_take(st, job, &h->row);
    if (batch_head_whole(&h->row, head) && rest.len == sizeof(h->rest) &&
        batch_row_fits(&h->row, &h->values_len)) {
        memcpy(h->rest, rest.data, sizeof(h->rest));
        return &h->row;
    }
    *ret_row = h->row.row;
    return NULL;
}

static enum read_result read_heads(struct sql *q, struct page *page, struct heads *heads,
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
        const struct batch_row *b = head_take(heads, st, r->job, &r->ret.row);
        if (!b) {
            result = READ_DAMAGED;
            break;
        }
        AUTO_FREE char *node = span_dup(b->node);
        more = page_row(page, b, node);
    }
    sqlite3_reset(st);
    return result == READ_OK ? read_end(q, rc, err, "read results") : result;
}

/* The values of one row, if it is as it was written. */
static enum read_result read_values(struct sql *q, struct page *page, uint32_t i,
                                    const struct head *h, struct err *err)
{
    sqlite3_stmt *st = BOUND(q, ST_READ_VALUES, (int64_t)h->row.row);
    uint8_t now[WIRE_DIGEST_BYTES];
    struct body values = { 0 };
    int rc = sqlite3_step(st);
    enum read_result result = read_end(q, rc, err, "read results");

    if (result == READ_OK && rc == SQLITE_ROW)
        result = body_read(q, st, 0, 1, &values, err);
    if (result == READ_OK) {
        digest_batch_rest(blob_span(h->row.statuses), blob_span(h->row.lens), values.span,
                          now);
        if (values.span.len == h->values_len && memcmp(h->rest, now, sizeof(now)) == 0)
            page_values(page, i, values.span);
        else
            result = READ_DAMAGED;
    }
    body_done(&values);
    sqlite3_reset(st);
    return result;
}

static enum read_result read_page(struct sql *q, struct page *page,
                                  struct fx_read_results *r, struct err *err)
{
    struct heads heads = { 0 };
    enum read_result result = read_heads(q, page, &heads, r, err);

    if (result == READ_OK)
        page_choose(page);
    for (uint32_t i = 0; i < heads.n && result == READ_OK; i++) {
        if (!page_wants(page, i))
            continue;
        result = read_values(q, page, i, &heads.at[i], err);
        if (result != READ_OK)
            r->ret.row = heads.at[i].row.row; /* which one it is */
    }
    heads_free(&heads);
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
