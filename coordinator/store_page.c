/* A page of results put together from rows: filtered, in the order asked for, cut to its
 * size, with inputs where wanted. Values are asked for only when it is known which rows
 * have a part in it: a chunk's values can be 1 GiB. No SQL here. */
#include "coordinator/store_state.h"

/* Rows of a page have so many records at most, and one row more (commit order). */
enum { LOOKED_MAX = 4 * WIRE_CHUNK_TASKS_MAX };

/* One record before it is chosen. */
struct record {
    uint32_t task, attempts;
    uint8_t status;
    uint32_t row, value_len;
    size_t value_off; /* among its row's values */
    uint64_t key;     /* where it stands in the order asked for */
    size_t out_off;   /* chosen: among the page's values, */
    size_t next;      /* and the next one of its row; 0 = none, else + 1 */
};

struct row {
    uint32_t chunk, node; /* node: index of its name */
    uint64_t from;        /* the lowest key of it that was looked at */
    size_t chosen;        /* its first record in the page; 0 = none, else + 1 */
};

struct page {
    struct sql *sql;
    struct fx_read_results *r;
    struct record *records;
    size_t n, cap, chosen;
    uint64_t bytes; /* of the records' values */
    struct row *rows;
    uint32_t n_rows, rows_cap;
    char **nodes;
    uint32_t n_nodes;
    uint64_t looked, looked_n; /* commit order: cursor after the last one; how many */
    struct blob *values;
};

struct page *page_new(struct sql *sql, struct fx_read_results *r)
{
    struct page *p = xcalloc(1, sizeof(*p));

    p->sql = sql;
    p->r = r;
    p->looked = r->cursor;
    return p;
}

void page_free(struct page *p)
{
    for (uint32_t i = 0; i < p->n_nodes; i++)
        free(p->nodes[i]);
    free(p->nodes);
    free(p->rows);
    free(p->records);
    blob_unref(p->values);
    free(p);
}

static uint32_t node_index(struct page *p, const char *node)
{
    for (uint32_t i = 0; i < p->n_nodes; i++)
        if (strcmp(p->nodes[i], node) == 0)
            return i;
    p->nodes = xrealloc(p->nodes, (p->n_nodes + 1) * sizeof(*p->nodes));
    p->nodes[p->n_nodes] = xstrdup(node);
    return p->n_nodes++;
}

static void add_row(struct page *p, const struct batch_row *b, const char *node)
{
    if (p->n_rows == p->rows_cap) {
        p->rows_cap = MAX(16, p->rows_cap * 2);
        p->rows = xrealloc(p->rows, p->rows_cap * sizeof(*p->rows));
    }
    p->rows[p->n_rows++] = (struct row){ .chunk = b->chunk,
                                         .node = node_index(p, node),
                                         .from = UINT64_MAX };
}

/* A record of the row that was added last. */
static void add(struct page *p, const struct batch_row *b, uint32_t i, uint64_t key,
                size_t value_off)
{
    if (p->n == p->cap) {
        p->cap = MAX(256, p->cap * 2);
        p->records = xrealloc(p->records, p->cap * sizeof(*p->records));
    }
    p->records[p->n++] = (struct record){
        .task = ((const uint32_t *)b->tasks->data)[i],
        .attempts = ((const uint32_t *)b->attempts->data)[i],
        .status = b->statuses->data[i],
        .row = p->n_rows - 1,
        .value_len = ((const uint32_t *)b->lens->data)[i],
        .value_off = value_off,
        .key = key,
    };
    p->bytes += ((const uint32_t *)b->lens->data)[i];
}

bool batch_row_fits(const struct batch_row *b, size_t *ret_values_len)
{
    const uint32_t *lens = (const uint32_t *)b->lens->data;
    size_t bytes = 0;

    if (b->tasks->len != b->n * sizeof(uint32_t) || b->statuses->len != b->n ||
        b->attempts->len != b->n * sizeof(uint32_t) ||
        b->lens->len != b->n * sizeof(uint32_t))
        return false;
    for (uint32_t i = 0; i < b->n; i++)
        bytes += lens[i];
    *ret_values_len = bytes;
    return true;
}

bool page_row(struct page *p, const struct batch_row *b, const char *node)
{
    const uint32_t *lens = (const uint32_t *)b->lens->data;
    const uint32_t *tasks = (const uint32_t *)b->tasks->data;
    bool task_order = p->r->task_order;
    size_t at = 0;

    add_row(p, b, node);
    struct row *row = &p->rows[p->n_rows - 1];
    for (uint32_t i = 0; i < b->n; at += lens[i++]) {
        uint64_t key = task_order ? tasks[i] : b->cursor + i;
        if (key < p->r->cursor)
            continue;
        if (!task_order) {
            if (key >= p->r->limit || (p->n && p->bytes > p->r->max_bytes))
                return false;
            p->looked = key + 1;
            p->looked_n++;
        }
        row->from = MIN(row->from, key);
        if (!p->r->failed_only || b->statuses->data[i] != TASK_OK)
            add(p, b, i, key, at);
    }
    /* In commit order one row is a page, so that all records are of one node. */
    return task_order || (p->n == 0 && p->looked_n < LOOKED_MAX);
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct record *)a)->key, y = ((const struct record *)b)->key;
    return x < y ? -1 : x > y;
}

/* How many records of the front make the answer: one node, at most max_bytes. */
static size_t cut(const struct page *p, size_t *ret_bytes)
{
    size_t bytes = 0, n = 0;

    while (n < p->n && n < WIRE_CHUNK_TASKS_MAX &&
           p->rows[p->records[n].row].node == p->rows[p->records[0].row].node &&
           (n == 0 || bytes + p->records[n].value_len <= p->r->max_bytes))
        bytes += p->records[n++].value_len;
    *ret_bytes = bytes;
    return n;
}

void page_choose(struct page *p)
{
    struct fx_read_results *r = p->r;
    size_t bytes;

    if (p->n && r->task_order)
        qsort(p->records, p->n, sizeof(*p->records), by_key);
    p->chosen = cut(p, &bytes);
    p->values = blob_alloc(bytes);
    for (size_t i = p->chosen; i-- > 0;) {
        struct record *rec = &p->records[i];
        struct row *row = &p->rows[rec->row];
        bytes -= rec->value_len;
        rec->out_off = bytes;
        rec->next = row->chosen;
        row->chosen = i + 1;
    }
    /* How far this goes: in task order to the end of the chunk once all of it is given.
     */
    if (p->chosen < p->n)
        r->ret_next = p->records[p->chosen].key;
    else
        r->ret_next = r->task_order ? r->chunk_end : p->looked;
}

bool page_wants(const struct page *p, uint32_t row)
{
    return p->rows[row].from < p->r->ret_next;
}

void page_values(struct page *p, uint32_t row, struct span values)
{
    for (size_t i = p->rows[row].chosen; i; i = p->records[i - 1].next) {
        const struct record *rec = &p->records[i - 1];
        if (rec->value_len)
            memcpy(p->values->data + rec->out_off, values.data + rec->value_off,
                   rec->value_len);
    }
}

static enum read_result add_inputs(struct page *p, size_t n, struct err *err)
{
    AUTO_BUF inputs = BUF_INIT;
    struct blob *lens = blob_alloc(n * sizeof(uint32_t));

    p->r->ret_input_lens = lens;
    for (size_t i = 0; i < n; i++) {
        struct span in;
        const struct record *rec = &p->records[i];
        enum read_result result = sql_chunk_input(
            p->sql, p->r->job, p->rows[rec->row].chunk, rec->task, &in, err);
        if (result != READ_OK)
            return result;
        buf_add_span(&inputs, in);
        ((uint32_t *)lens->data)[i] = (uint32_t)in.len;
    }
    p->r->ret_inputs = blob_new(buf_span(&inputs));
    return READ_OK;
}

/* node's text must outlive the page: it goes to a blob of its own. */
enum read_result page_end(struct page *p, struct err *err)
{
    struct fx_read_results *r = p->r;
    struct batch_row *b = &r->ret;
    size_t n = p->chosen;

    b->job = r->job;
    b->n = (uint32_t)n;
    b->cursor = r->cursor;
    b->tasks = blob_alloc(n * 4);
    b->statuses = blob_alloc(n);
    b->attempts = blob_alloc(n * 4);
    b->lens = blob_alloc(n * 4);
    for (size_t i = 0; i < n; i++) {
        const struct record *rec = &p->records[i];
        ((uint32_t *)b->tasks->data)[i] = rec->task;
        b->statuses->data[i] = rec->status;
        ((uint32_t *)b->attempts->data)[i] = rec->attempts;
        ((uint32_t *)b->lens->data)[i] = rec->value_len;
    }
    b->values = STEAL(p->values);
    if (n) {
        const struct row *row = &p->rows[p->records[0].row];
        b->chunk = row->chunk;
        r->ret_node = blob_new(span_str(p->nodes[row->node]));
        b->node = blob_span(r->ret_node);
    }
    return r->inputs && n ? add_inputs(p, n, err) : READ_OK;
}
