/* Questions to the coordinator, their rows, and the messages that are sent without an
 * answer: Cancel, Remove and Drain. */
#include "client/lib/internal.h"
#include "proto/map.h"

struct field {
    struct span key;
    struct map_value value;
};
struct tm_rows {
    struct conn *conn;
    LIST_ENTRY(tm_rows) node;
    struct buf bytes; /* n maps, walked once when they came */
    uint32_t n, next;
    size_t pos;           /* of the next row */
    struct field *fields; /* of the row moved to; owned */
    uint32_t n_fields;
};

/* ---- the thread's side ---- */

int query_send_all(struct conn *c)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node) {
        if (q->sent)
            continue;
        struct msg m = { .type = MSG_QUERY };
        m.query =
            (struct msg_query){ .id = q->id, .what = span_str(q->what), .job = q->job };
        if (link_send(c->link, 0, &m) < 0)
            return -1;
        q->sent = true;
    }
    struct order *o;
    while ((o = STAILQ_FIRST(&c->orders))) {
        struct msg m = { .type = o->type };
        if (o->type == MSG_CANCEL)
            m.cancel.job = o->job;
        else if (o->type == MSG_REMOVE)
            m.remove.job = o->job;
        else
            m.drain.node = span_str(o->target);
        if (link_send(c->link, 0, &m) < 0)
            return -1;
        c->orders_sent = o->number;
        STAILQ_REMOVE_HEAD(&c->orders, node);
        free(o->target);
        free(o);
        conn_notify(c);
    }
    return 0;
}

void query_session_lost(struct conn *c)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node) {
        if (q->done)
            continue;
        q->sent = false;
        q->n = 0;
        buf_clear(&q->rows);
    }
}

void query_on_answer(struct conn *c, const struct msg *m)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node)
        if (q->id == m->answer.id && q->sent && !q->done)
            break;
    if (!q)
        return;
    buf_add_span(&q->rows, m->body);
    q->n += m->answer.n;
    q->done = m->answer.last;
    if (q->done)
        conn_notify(c);
}

/* An Error names no question: answers come in the order of the questions. */
bool query_on_error(struct conn *c, const struct err *why)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node)
        if (q->sent && !q->done)
            break;
    if (!q)
        return false;
    q->failed = *why;
    if (q->failed.code == 0)
        q->failed.code = TM_ERROR;
    q->done = true;
    conn_notify(c);
    return true;
}

/* ---- the caller's side ---- */

/* The fields of the row at *pos, which moves on. fields may be NULL: only walk. */
static int read_row(struct span bytes, size_t *pos, struct field *fields, uint32_t *ret_n,
                    struct err *err)
{
    uint32_t n = 0;
    if (map_unpack_begin(bytes, pos, &n, err) < 0)
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        struct field f;
        if (map_unpack_next(bytes, pos, &f.key, &f.value, err) < 0)
            return -1;
        if (fields)
            fields[i] = f;
    }
    *ret_n = n;
    return 0;
}

static int rows_of(struct conn *c, struct query *q, struct tm_rows **ret, struct err *err)
{
    size_t pos = 0;
    for (uint32_t i = 0; i < q->n; i++) {
        uint32_t n;
        if (read_row(buf_span(&q->rows), &pos, NULL, &n, err) < 0)
            return err_prefix(err, "the coordinator's answer about '%s'", q->what);
    }
    struct tm_rows *rows = xcalloc(1, sizeof(*rows));
    rows->conn = c;
    rows->bytes = q->rows;
    q->rows = (struct buf)BUF_INIT;
    rows->n = q->n;
    LIST_INSERT_HEAD(&c->rows, rows, node);
    *ret = rows;
    return 0;
}

int query_run(struct conn *c, const char *what, uint64_t job, struct tm_rows **ret,
              struct err *err)
{
    struct query q = { .what = what, .job = job };
    struct waiter w = conn_waiter(TM_FOREVER);
    pthread_mutex_lock(&c->mu);
    q.id = ++c->next_query;
    TAILQ_INSERT_TAIL(&c->queries, &q, node);
    conn_kick(c);
    int rc = 0;
    while (!q.done && rc == 0) {
        rc = conn_alive(c, err);
        if (rc == 0)
            rc = conn_wait(c, &w);
    }
    TAILQ_REMOVE(&c->queries, &q, node);
    if (q.done && q.failed.code) {
        *err = q.failed;
        rc = -1;
    } else if (q.done) {
        rc = rows_of(c, &q, ret, err);
    }
    pthread_mutex_unlock(&c->mu);
    buf_fini(&q.rows);
    return rc;
}

int tm_query(struct tm *tm, const char *what, uint64_t job, struct tm_rows **ret,
             struct tm_error *terr)
{
    struct err err;
    int rc = query_run(conn_of(tm), what, job, ret, &err);
    return rc == -1 ? error_out(terr, &err) : rc;
}

void rows_free_locked(struct tm_rows *rows)
{
    if (!rows)
        return;
    LIST_REMOVE(rows, node);
    buf_fini(&rows->bytes);
    free(rows->fields);
    free(rows);
}

void tm_rows_free(struct tm_rows *rows)
{
    if (!rows)
        return;
    struct conn *c = rows->conn;
    pthread_mutex_lock(&c->mu);
    rows_free_locked(rows);
    pthread_mutex_unlock(&c->mu);
}

size_t tm_rows_count(const struct tm_rows *rows)
{
    return rows->n;
}

bool tm_rows_next(struct tm_rows *rows)
{
    free(rows->fields);
    rows->fields = NULL;
    rows->n_fields = 0;
    if (rows->next == rows->n)
        return false;
    size_t pos = rows->pos;
    uint32_t n = 0;
    struct err err;
    CHECK(map_unpack_begin(buf_span(&rows->bytes), &pos, &n, &err) == 0);
    rows->fields = xcalloc(n, sizeof(*rows->fields));
    CHECK(read_row(buf_span(&rows->bytes), &rows->pos, rows->fields, &rows->n_fields,
                   &err) == 0);
    rows->next++;
    return true;
}

static struct tm_value value_of(const struct map_value *v)
{
    static const enum tm_kind kinds[] = {
        [MAP_NIL] = TM_NIL, [MAP_BOOL] = TM_BOOL, [MAP_UINT] = TM_UINT,
        [MAP_INT] = TM_INT, [MAP_STR] = TM_TEXT,  [MAP_BIN] = TM_BIN,
    };
    bool text = v->kind == MAP_STR || v->kind == MAP_BIN;
    return (struct tm_value){
        .kind = kinds[v->kind],
        .uint = v->kind == MAP_UINT || v->kind == MAP_BOOL ? v->uint : 0,
        .integer = v->kind == MAP_INT ? v->integer : 0,
        .text = text ? (struct tm_bytes){ v->text.data, v->text.len }
                     : (struct tm_bytes){ NULL, 0 },
    };
}

bool tm_rows_get(const struct tm_rows *rows, const char *key, struct tm_value *ret)
{
    for (uint32_t i = 0; i < rows->n_fields; i++) {
        if (!span_eq(rows->fields[i].key, span_str(key)))
            continue;
        *ret = value_of(&rows->fields[i].value);
        return true;
    }
    return false;
}

uint64_t tm_rows_uint(const struct tm_rows *rows, const char *key)
{
    struct tm_value v;
    return tm_rows_get(rows, key, &v) ? v.uint : 0;
}

struct tm_bytes tm_rows_text(const struct tm_rows *rows, const char *key)
{
    struct tm_value v;
    return tm_rows_get(rows, key, &v) ? v.text : (struct tm_bytes){ NULL, 0 };
}

size_t tm_rows_fields(const struct tm_rows *rows)
{
    return rows->n_fields;
}

void tm_rows_field(const struct tm_rows *rows, size_t i, struct tm_bytes *ret_key,
                   struct tm_value *ret)
{
    CHECK(i < rows->n_fields);
    *ret_key = (struct tm_bytes){ rows->fields[i].key.data, rows->fields[i].key.len };
    *ret = value_of(&rows->fields[i].value);
}

/* ---- Cancel, Remove and Drain ---- */

void order_add(struct conn *c, enum msg_type type, uint64_t job, const char *target)
{
    struct order *o = xcalloc(1, sizeof(*o));
    o->type = type;
    o->job = job;
    o->target = target ? xstrdup(target) : NULL;
    o->number = ++c->orders_made;
    STAILQ_INSERT_TAIL(&c->orders, o, node);
    conn_kick(c);
}

static int order_run(struct tm *tm, enum msg_type type, uint64_t job, const char *target,
                     struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct err err;
    struct waiter w = conn_waiter(TM_FOREVER);
    pthread_mutex_lock(&c->mu);
    order_add(c, type, job, target);
    uint64_t number = c->orders_made;
    int rc = 0;
    while (c->orders_sent < number && rc == 0) {
        rc = conn_alive(c, &err);
        if (rc == 0)
            rc = conn_wait(c, &w);
    }
    pthread_mutex_unlock(&c->mu);
    return rc == -1 ? error_out(terr, &err) : rc;
}

int tm_cancel(struct tm *tm, uint64_t job_id, struct tm_error *err)
{
    return order_run(tm, MSG_CANCEL, job_id, NULL, err);
}

/* Remove is not answered when it is done, so the job is asked about: the answer comes
 * after the removal, or after the Error that refuses it. */
int tm_remove(struct tm *tm, uint64_t job_id, struct tm_error *terr)
{
    struct tm_rows *rows = NULL;
    struct err err = { 0 };
    int rc = order_run(tm, MSG_REMOVE, job_id, NULL, terr);
    if (rc != 0)
        return rc;
    rc = query_run(conn_of(tm), "job", job_id, &rows, &err);
    if (rc != 0)
        return rc == -1 ? error_out(terr, &err) : rc;
    if (tm_rows_next(rows))
        rc = err_set(&err, TM_UNREACHABLE,
                     "job %llu was not removed: the connection "
                     "was lost on the way",
                     (unsigned long long)job_id);
    tm_rows_free(rows);
    return rc == 0 ? 0 : error_out(terr, &err);
}

int tm_drain(struct tm *tm, const char *node, struct tm_error *err)
{
    return order_run(tm, MSG_DRAIN, 0, node, err);
}
