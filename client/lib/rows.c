/* The rows of an answer: maps, walked once when they came. */
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

int rows_of(struct conn *c, struct query *q, struct tm_rows **ret, struct err *err)
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
