/* A page of results put together from rows: filtered, in the order asked for, cut to its
 * size, with inputs where wanted. No SQL here. */
#include "coordinator/store_state.h"

/* One record before it is chosen. Values are borrowed from the page's rows. */
struct record {
    uint32_t task, attempts;
    uint8_t status;
    uint32_t chunk, node; /* node: index of its name */
    uint32_t value_len;
    size_t value_off; /* into the page's values */
    uint64_t cursor;  /* commit order: before it */
};

struct page {
    struct sql *sql;
    struct fx_read_results *r;
    struct record *records;
    size_t n, cap;
    struct buf values;
    char **nodes;
    uint32_t n_nodes;
    uint64_t looked; /* commit order: cursor after the last record looked at */
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
    free(p->records);
    buf_fini(&p->values);
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

static void add(struct page *p, const struct batch_row *b, uint32_t i, uint32_t node,
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
        .chunk = b->chunk,
        .node = node,
        .value_len = ((const uint32_t *)b->lens->data)[i],
        .value_off = value_off,
        .cursor = b->cursor + i,
    };
}

bool batch_row_fits(const struct batch_row *b)
{
    const uint32_t *lens = (const uint32_t *)b->lens->data;
    size_t bytes = 0;

    if (b->tasks->len != b->n * sizeof(uint32_t) || b->statuses->len != b->n ||
        b->attempts->len != b->n * sizeof(uint32_t) ||
        b->lens->len != b->n * sizeof(uint32_t))
        return false;
    for (uint32_t i = 0; i < b->n; i++)
        bytes += lens[i];
    return bytes == b->values->len;
}

bool page_row(struct page *p, const struct batch_row *b, const char *node)
{
    const uint32_t *lens = (const uint32_t *)b->lens->data;
    const uint32_t *tasks = (const uint32_t *)b->tasks->data;
    uint32_t index = node_index(p, node);
    size_t at = 0;

    for (uint32_t i = 0; i < b->n; at += lens[i++]) {
        if (!p->r->task_order) {
            if (b->cursor + i < p->r->cursor)
                continue;
            if (b->cursor + i >= p->r->limit || (p->n && p->values.len > p->r->max_bytes))
                return false;
            p->looked = b->cursor + i + 1;
        } else if (tasks[i] < p->r->cursor) {
            continue;
        }
        if (p->r->failed_only && b->statuses->data[i] == TASK_OK)
            continue;
        add(p, b, i, index, p->values.len);
        buf_add(&p->values, b->values->data + at, lens[i]);
    }
    /* In commit order one row is a page, so that all records are of one node. */
    return p->r->task_order || p->n == 0;
}

static int by_task(const void *a, const void *b)
{
    uint32_t x = ((const struct record *)a)->task, y = ((const struct record *)b)->task;
    return x < y ? -1 : x > y;
}

/* How many records of the front make the answer: one node, at most max_bytes. */
static size_t cut(const struct page *p)
{
    size_t bytes = 0, n = 0;

    while (n < p->n && n < WIRE_CHUNK_TASKS_MAX &&
           p->records[n].node == p->records[0].node &&
           (n == 0 || bytes + p->records[n].value_len <= p->r->max_bytes))
        bytes += p->records[n++].value_len;
    return n;
}

static enum read_result add_inputs(struct page *p, size_t n, struct err *err)
{
    AUTO_BUF inputs = BUF_INIT;
    struct blob *lens = blob_alloc(n * sizeof(uint32_t));

    p->r->ret_input_lens = lens;
    for (size_t i = 0; i < n; i++) {
        struct span in;
        enum read_result result = sql_chunk_input(p->sql, p->r->job, p->records[i].chunk,
                                                  p->records[i].task, &in, err);
        if (result != READ_OK)
            return result;
        buf_add_span(&inputs, in);
        ((uint32_t *)lens->data)[i] = (uint32_t)in.len;
    }
    p->r->ret_inputs = blob_new(buf_span(&inputs));
    return READ_OK;
}

/* Writes the answer. node's text must outlive the page: it goes to a blob of its own. */
enum read_result page_end(struct page *p, struct err *err)
{
    struct fx_read_results *r = p->r;
    struct batch_row *b = &r->ret;
    size_t n;

    if (p->n && r->task_order)
        qsort(p->records, p->n, sizeof(*p->records), by_task);
    n = cut(p);
    b->job = r->job;
    b->n = (uint32_t)n;
    b->cursor = r->cursor;
    b->tasks = blob_alloc(n * 4);
    b->statuses = blob_alloc(n);
    b->attempts = blob_alloc(n * 4);
    b->lens = blob_alloc(n * 4);
    AUTO_BUF values = BUF_INIT;
    for (size_t i = 0; i < n; i++) {
        const struct record *rec = &p->records[i];
        ((uint32_t *)b->tasks->data)[i] = rec->task;
        b->statuses->data[i] = rec->status;
        ((uint32_t *)b->attempts->data)[i] = rec->attempts;
        ((uint32_t *)b->lens->data)[i] = rec->value_len;
        buf_add(&values, p->values.data + rec->value_off, rec->value_len);
    }
    b->values = blob_new(buf_span(&values));
    if (n) {
        b->chunk = p->records[0].chunk;
        r->ret_node = blob_new(span_str(p->nodes[p->records[0].node]));
        b->node = blob_span(r->ret_node);
    }
    /* How far this went: in task order to the end of the chunk once all of it is given.
     */
    if (!r->task_order)
        r->ret_next = n < p->n ? p->records[n].cursor : p->looked;
    else if (n < p->n)
        r->ret_next = p->records[n].task;
    else
        r->ret_next = r->chunk_end;
    return r->inputs && n ? add_inputs(p, n, err) : READ_OK;
}
