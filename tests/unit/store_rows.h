/* A store in a directory of its own, and rows to fill it with. Included by test_store*.c.
 */
#ifndef TESTS_UNIT_STORE_ROWS_H
#define TESTS_UNIT_STORE_ROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/crypto.h"
#include "coordinator/store.h"
#include "proto/pack.h"

struct fixture {
    char dir[64];
    enum durability durability;
    struct loop *loop;
    struct store *store;
    struct fx_group *back; /* the last group that came back */
    unsigned n_back;
    size_t backlog_max; /* that was told when one came back */
    struct err failed;
    uint64_t next_row;
    unsigned jobs, chunks, recorded, pending, removed, keys, losts;
    uint64_t lost_cursor, lost_epoch; /* the last one's */
    uint64_t job_bytes;               /* of its inputs and values */
    struct key_row key_row;           /* the last one; its spans are gone */
    char key_name[32];
    int64_t run_ns;
};

static inline void committed(void *arg, struct fx_group *g)
{
    struct fixture *f = arg;

    fx_group_free(f->back);
    f->back = g;
    f->n_back++;
    f->backlog_max = MAX(f->backlog_max, store_backlog_bytes(f->store));
}
static inline void failed(void *arg, const struct err *err)
{
    ((struct fixture *)arg)->failed = *err;
}
static inline void full(void *arg, bool is_full, const struct err *err)
{
    (void)arg, (void)is_full, (void)err;
}
static const struct store_events events = { committed, failed, full };

static inline void on_job(void *arg, const struct job_row *row)
{
    ((struct fixture *)arg)->jobs++;
    ((struct fixture *)arg)->job_bytes = row->bytes - job_row_bytes(row);
    assert_true(span_eq(row->name, SPAN_LIT("name")));
}
/* Which node a chunk is for. */
static inline struct span node_of(uint32_t seq)
{
    return seq % 2 ? SPAN_LIT("n1") : SPAN_NONE;
}
static inline void on_chunk(void *arg, const struct chunk_row *row, uint32_t recorded)
{
    assert_true(span_eq(row->node, node_of(row->seq)));
    ((struct fixture *)arg)->chunks++;
    ((struct fixture *)arg)->recorded += recorded;
}
static inline void on_pending(void *arg, const struct batch_row *row)
{
    ((struct fixture *)arg)->pending += row->n;
}
static inline void on_lost(void *arg, uint64_t job, uint64_t cursor, uint64_t epoch)
{
    struct fixture *f = arg;

    assert_int_equal(job, 1);
    f->losts++;
    f->lost_cursor = cursor;
    f->lost_epoch = epoch;
}
static inline void on_removed(void *arg, uint64_t job, const uint8_t key[WIRE_KEY_BYTES])
{
    (void)key;
    ((struct fixture *)arg)->removed += job;
}
static inline void on_run(void *arg, int64_t ns)
{
    ((struct fixture *)arg)->run_ns = ns;
}
static inline void on_node(void *arg, struct span name)
{
    (void)arg, (void)name;
}
static inline void on_key(void *arg, const struct key_row *row)
{
    struct fixture *f = arg;

    f->keys++;
    f->key_row = *row;
    snprintf(f->key_name, sizeof(f->key_name), "%.*s", (int)row->name.len,
             (const char *)row->name.data);
}
static const struct store_load_events loads = {
    on_job, on_chunk, on_pending, on_lost, on_removed, on_run, on_node, on_key
};

static inline void open_store(struct fixture *f)
{
    struct err err = { 0 };

    if (store_open(f->dir, f->durability, &f->store, &err) < 0 ||
        store_load(f->store, &loads, f, &f->next_row, &err) < 0 ||
        store_start(f->store, f->loop, &events, f, &err) < 0)
        fail_msg("%s", err.text);
}

static inline int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    crypto_init();
    snprintf(f->dir, sizeof(f->dir), "/tmp/tm-store.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(loop_new(LOOP_AUTO, &f->loop, NULL), 0);
    open_store(f);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;

    store_close(f->store, true);
    assert_int_equal(access(f->dir, F_OK), -1);
    loop_free(f->loop);
    fx_group_free(f->back);
    free(f);
    return 0;
}

/* Pushes a group and waits until it is back. */
static inline void push(struct fixture *f, struct fx_group *g)
{
    unsigned before = f->n_back;

    store_push(f->store, g);
    while (f->n_back == before && !f->failed.text[0])
        loop_once(f->loop, true);
}

static inline void add_job(struct fx_group *g, uint64_t id)
{
    struct fx *fx = fx_add(g, FX_JOB);
    struct job_spec spec = { .command = SPAN_LIT("hash"), .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;

    spec_pack(&packed, &spec);
    fx->job = (struct job_row){ .id = id,
                                .spec = fx_keep(g, buf_span(&packed)),
                                .name = SPAN_LIT("name"),
                                .created_wall_ns = 5 };
    memcpy(fx->job.key, &id, sizeof(id));
}

/* A chunk of n tasks whose inputs are "iN". */
static inline void add_chunk(struct fx_group *g, uint64_t job, uint32_t seq,
                             uint64_t first, uint32_t n)
{
    struct chunk_row *c = &fx_add(g, FX_CHUNK)->chunk;
    AUTO_BUF body = BUF_INIT;

    *c = (struct chunk_row){ .job = job, .seq = seq, .first = first, .n = n };
    c->node = node_of(seq);
    c->lens = blob_alloc(n * 4);
    for (uint32_t i = 0; i < n; i++) {
        size_t before = body.len;
        buf_printf(&body, "i%u", (unsigned)first + i);
        ((uint32_t *)c->lens->data)[i] = (uint32_t)(body.len - before);
    }
    c->body = blob_new(buf_span(&body));
    struct span parts[] = { blob_span(c->lens), blob_span(c->body), c->node };
    checksum(parts, ARRAY_LEN(parts), c->digest);
}

/* Records of tasks first, first + step ... with values "vN"; every third one failed. */
static inline struct batch_row *add_batch(struct fx_group *g, uint64_t row,
                                          uint64_t cursor, uint32_t chunk, uint32_t first,
                                          uint32_t step, uint32_t n, bool pending)
{
    struct batch_row *b = &fx_add(g, FX_BATCH)->batch;
    AUTO_BUF values = BUF_INIT;

    *b = (struct batch_row){ .row = row,
                             .job = 1,
                             .chunk = chunk,
                             .cursor = cursor,
                             .pending = pending,
                             .n = n,
                             .node = SPAN_LIT("node") };
    b->tasks = blob_alloc(n * 4);
    b->statuses = blob_alloc(n);
    b->attempts = blob_alloc(n * 4);
    b->lens = blob_alloc(n * 4);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t task = first + i * step;
        size_t before = values.len;
        buf_printf(&values, "v%u", task);
        ((uint32_t *)b->tasks->data)[i] = task;
        b->statuses->data[i] = task % 3 == 2 && !pending ? TASK_FAILED : TASK_OK;
        ((uint32_t *)b->attempts->data)[i] = 1;
        ((uint32_t *)b->lens->data)[i] = (uint32_t)(values.len - before);
    }
    b->values = blob_new(buf_span(&values));
    return b;
}

static inline void add_key(struct fx_group *g, enum peer_role role, int64_t revoked_ns)
{
    struct key_row *k = &fx_add(g, FX_KEY)->key;

    *k = (struct key_row){ .public_key = { 1, 2, 3 },
                           .name = SPAN_LIT("alice"),
                           .owner = SPAN_LIT("staff"),
                           .role = role,
                           .created_wall_ns = 5,
                           .revoked_wall_ns = revoked_ns };
}

/* Two chunks of 10; the first's odd tasks are recorded before its even ones. A key. */
static inline void fill(struct fixture *f)
{
    struct fx_group *g = fx_group_new();

    add_job(g, 1);
    add_key(g, ROLE_CLIENT, 0);
    add_chunk(g, 1, 0, 0, 10);
    add_chunk(g, 1, 1, 10, 10);
    push(f, g);
    g = fx_group_new();
    add_batch(g, 1, 0, 0, 1, 2, 5, false);
    add_batch(g, 2, 5, 0, 0, 2, 5, false);
    push(f, g);
}

/* Changes the database behind the closed store's back. */
static inline void change(const struct fixture *f, const char *sql)
{
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", f->dir);
    char *why = NULL;
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}

#endif
