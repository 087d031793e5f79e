/* What was committed is there after a reopen, in both orders, with its inputs; a second
 * owner is refused; damage is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/crypto.h"
#include "coordinator/store.h"

struct fixture {
    char dir[64];
    struct loop *loop;
    struct store *store;
    struct fx_group *back; /* the last group that came back */
    unsigned n_back;
    struct err failed;
    uint64_t next_row;
    unsigned jobs, chunks, recorded, pending;
};

static void committed(void *arg, struct fx_group *g)
{
    struct fixture *f = arg;

    fx_group_free(f->back);
    f->back = g;
    f->n_back++;
}
static void failed(void *arg, const struct err *err)
{
    ((struct fixture *)arg)->failed = *err;
}
static void full(void *arg, bool is_full, const struct err *err)
{
    (void)arg, (void)is_full, (void)err;
}
static const struct store_events events = { committed, failed, full };

static void on_job(void *arg, const struct job_row *row)
{
    ((struct fixture *)arg)->jobs++;
    assert_true(span_eq(row->name, SPAN_LIT("name")));
}
static void on_chunk(void *arg, const struct chunk_row *row, uint32_t recorded)
{
    (void)row;
    ((struct fixture *)arg)->chunks++;
    ((struct fixture *)arg)->recorded += recorded;
}
static void on_pending(void *arg, const struct batch_row *row)
{
    ((struct fixture *)arg)->pending += row->n;
}
static const struct store_load_events loads = { on_job, on_chunk, on_pending };

static void open_store(struct fixture *f)
{
    struct err err = { 0 };

    if (store_open(f->dir, DURABILITY_FULL, &f->store, &err) < 0 ||
        store_load(f->store, &loads, f, &f->next_row, &err) < 0 ||
        store_start(f->store, f->loop, &events, f, &err) < 0)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
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

static int tear_down(void **state)
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
static void push(struct fixture *f, struct fx_group *g)
{
    unsigned before = f->n_back;

    store_push(f->store, g);
    while (f->n_back == before && !f->failed.text[0])
        loop_once(f->loop, true);
}

static void add_job(struct fx_group *g, uint64_t id)
{
    struct fx *fx = fx_add(g, FX_JOB);

    fx->job =
        (struct job_row){ .id = id, .name = SPAN_LIT("name"), .created_wall_ns = 5 };
    memcpy(fx->job.key, &id, sizeof(id));
}

/* A chunk of n tasks whose inputs are "iN". */
static void add_chunk(struct fx_group *g, uint64_t job, uint32_t seq, uint64_t first,
                      uint32_t n)
{
    struct chunk_row *c = &fx_add(g, FX_CHUNK)->chunk;
    AUTO_BUF body = BUF_INIT;

    *c = (struct chunk_row){ .job = job, .seq = seq, .first = first, .n = n };
    c->lens = blob_alloc(n * 4);
    for (uint32_t i = 0; i < n; i++) {
        size_t before = body.len;
        buf_printf(&body, "i%u", (unsigned)first + i);
        ((uint32_t *)c->lens->data)[i] = (uint32_t)(body.len - before);
    }
    c->body = blob_new(buf_span(&body));
    struct span parts[] = { blob_span(c->lens), blob_span(c->body) };
    crypto_chunk_digest(parts, 2, c->digest);
}

/* Records of tasks first, first + step ... with values "vN"; every third one failed. */
static void add_batch(struct fx_group *g, uint64_t row, uint64_t cursor, uint32_t chunk,
                      uint32_t first, uint32_t step, uint32_t n, bool pending)
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
}

static struct fx_read_results *read_page(struct fixture *f, struct fx_read_results ask)
{
    struct fx_group *g = fx_group_new();

    fx_add(g, FX_READ_RESULTS)->read_results = ask;
    push(f, g);
    return &STAILQ_FIRST(&f->back->list)->read_results;
}

/* Two chunks of 10; the first's odd tasks are recorded before its even ones. */
static void fill(struct fixture *f)
{
    struct fx_group *g = fx_group_new();

    add_job(g, 1);
    add_chunk(g, 1, 0, 0, 10);
    add_chunk(g, 1, 1, 10, 10);
    push(f, g);
    g = fx_group_new();
    add_batch(g, 1, 0, 0, 1, 2, 5, false);
    add_batch(g, 2, 5, 0, 0, 2, 5, false);
    push(f, g);
}

static void commit_order(void **state)
{
    struct fixture *f = *state;
    uint64_t cursor = 0;
    uint32_t seen = 0;

    fill(f);
    while (cursor < 10) {
        struct fx_read_results *r =
            read_page(f, (struct fx_read_results){ .job = 1,
                                                   .cursor = cursor,
                                                   .limit = 10,
                                                   .inputs = true,
                                                   .max_bytes = 4 });
        assert_true(r->ret.n > 0 && r->ret_next == cursor + r->ret.n);
        const uint32_t *tasks = (const uint32_t *)r->ret.tasks->data;
        for (uint32_t i = 0; i < r->ret.n; i++, seen++)
            assert_int_equal(tasks[i], seen < 5 ? 1 + 2 * seen : 2 * (seen - 5));
        assert_int_equal(r->ret_inputs->data[0], 'i');
        assert_int_equal(r->ret_inputs->data[1] - '0', tasks[0]);
        assert_int_equal(r->ret.values->data[1] - '0', tasks[0]);
        assert_true(span_eq(r->ret.node, SPAN_LIT("node")));
        cursor = r->ret_next;
    }
    assert_int_equal(seen, 10);
}

static void task_order(void **state)
{
    struct fixture *f = *state;
    uint64_t cursor = 0;

    fill(f);
    while (cursor < 10) {
        struct fx_read_results *r =
            read_page(f, (struct fx_read_results){ .job = 1,
                                                   .cursor = cursor,
                                                   .task_order = true,
                                                   .chunk_end = 10,
                                                   .max_bytes = 6 });
        assert_true(r->ret.n > 0 && r->ret.n < 10);
        for (uint32_t i = 0; i < r->ret.n; i++)
            assert_int_equal(((const uint32_t *)r->ret.tasks->data)[i], cursor + i);
        cursor = r->ret_next;
    }
    assert_int_equal(cursor, 10);
}

static void failed_only(void **state)
{
    struct fixture *f = *state;
    uint64_t cursor = 0;
    uint32_t seen = 0;

    fill(f);
    while (cursor < 10) {
        struct fx_read_results *r =
            read_page(f, (struct fx_read_results){ .job = 1,
                                                   .cursor = cursor,
                                                   .limit = 10,
                                                   .failed_only = true,
                                                   .max_bytes = KIB });
        for (uint32_t i = 0; i < r->ret.n; i++, seen++)
            assert_int_equal(((const uint32_t *)r->ret.tasks->data)[i] % 3, 2);
        assert_true(r->ret_next > cursor);
        cursor = r->ret_next;
    }
    assert_int_equal(seen, 3); /* 2, 5, 8 */
}

static void everything_is_there_after_a_reopen(void **state)
{
    struct fixture *f = *state;
    uint64_t epoch = store_epoch(f->store).counter;
    struct fx_group *g = fx_group_new();

    fill(f);
    add_batch(g, 3, 0, 1, 10, 1, 4, true);
    push(f, g);
    store_close(f->store, false);
    open_store(f);
    assert_int_equal(store_epoch(f->store).counter, epoch + 1);
    assert_int_equal(f->jobs, 1);
    assert_int_equal(f->chunks, 2);
    assert_int_equal(f->recorded, 14);
    assert_int_equal(f->pending, 4);
    assert_int_equal(f->next_row, 4);
    g = fx_group_new();
    fx_add(g, FX_READ_CHUNK)->read_chunk = (struct fx_read_chunk){ .job = 1, .seq = 1 };
    push(f, g);
    struct fx_read_chunk *r = &STAILQ_FIRST(&f->back->list)->read_chunk;
    assert_int_equal(r->ret.first, 10);
    assert_int_equal(r->ret_recorded->data[3], 1);
    assert_int_equal(r->ret_recorded->data[4], 0);
}

static void pending_is_shown_once_published(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    struct fx *fx;

    fill(f);
    add_batch(g, 3, 0, 1, 10, 1, 2, true);
    push(f, g);
    g = fx_group_new();
    fx = fx_add(g, FX_SHOW);
    fx->show.row = 3;
    fx->show.job = 1;
    fx->show.cursor = 10;
    fx->show.n = 2;
    fx->show.statuses = blob_new(SPAN_LIT("\0\0"));
    push(f, g);
    struct fx_read_results *r =
        read_page(f, (struct fx_read_results){
                         .job = 1, .cursor = 10, .limit = 12, .max_bytes = KIB });
    assert_int_equal(r->ret.n, 2);
    assert_int_equal(r->ret_next, 12);
    assert_memory_equal(r->ret.values->data, "v10v11", 6);
}

static void a_second_owner_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *other = NULL;
    struct err err = { 0 };

    assert_int_equal(store_open(f->dir, DURABILITY_FULL, &other, &err), -1);
    assert_non_null(strstr(err.text, "another coordinator"));
}

static void damage_is_noticed(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", f->dir);
    static uint8_t page[256 * KIB];
    uint8_t *at;
    int fd;

    fill(f);
    store_close(f->store, false);
    fd = open(path, O_RDWR);
    ssize_t n = read(fd, page, sizeof(page));
    at = memmem(page, (size_t)n, "i0i1i2", 6);
    assert_non_null(at);
    *at ^= 1;
    assert_int_equal(pwrite(fd, page, (size_t)n, 0), n);
    close(fd);
    open_store(f);
    struct fx_group *g = fx_group_new();
    fx_add(g, FX_READ_CHUNK)->read_chunk = (struct fx_read_chunk){ .job = 1 };
    push(f, g);
    assert_non_null(strstr(f->failed.text, "damaged"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commit_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(task_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(everything_is_there_after_a_reopen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(pending_is_shown_once_published, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_second_owner_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_noticed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
