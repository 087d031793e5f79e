/* What was committed is there after a reopen, in both orders, with its inputs; a second
 * owner is refused; damage is noticed. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store_rows.h"

static struct fx_read_results *read_page(struct fixture *f, struct fx_read_results ask)
{
    struct fx_group *g = fx_group_new();

    fx_add(g, FX_READ_RESULTS)->read_results = ask;
    push(f, g);
    return &STAILQ_FIRST(&f->back->list)->read_results;
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

/* Each failed record once, whatever the order, and however few fit a page. */
static void read_failed(struct fixture *f, bool task_order, size_t max_bytes)
{
    uint64_t cursor = 0;
    uint32_t seen[10] = { 0 };

    while (cursor < 10) {
        struct fx_read_results *r =
            read_page(f, (struct fx_read_results){ .job = 1,
                                                   .cursor = cursor,
                                                   .limit = 10,
                                                   .task_order = task_order,
                                                   .chunk_end = 10,
                                                   .failed_only = true,
                                                   .max_bytes = max_bytes });
        for (uint32_t i = 0; i < r->ret.n; i++)
            seen[((const uint32_t *)r->ret.tasks->data)[i]]++;
        assert_true(r->ret_next > cursor);
        cursor = r->ret_next;
    }
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(seen[i], i % 3 == 2);
}

static void failed_only(void **state)
{
    struct fixture *f = *state;

    fill(f);
    for (size_t max_bytes = 1; max_bytes < 8; max_bytes++) {
        read_failed(f, false, max_bytes);
        read_failed(f, true, max_bytes);
    }
}

static void a_chunk_without_failures_is_an_empty_page(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();

    fill(f);
    add_batch(g, 3, 10, 1, 10, 3, 4, false); /* 10, 13, 16, 19: none failed */
    push(f, g);
    struct fx_read_results *r =
        read_page(f, (struct fx_read_results){ .job = 1,
                                               .cursor = 10,
                                               .first_chunk = 1,
                                               .limit = 14,
                                               .task_order = true,
                                               .chunk_end = 20,
                                               .failed_only = true,
                                               .inputs = true,
                                               .max_bytes = KIB });
    assert_int_equal(r->ret.n, 0);
    assert_int_equal(r->ret_next, 20);
}

/* The values of a chunk can be 1 GiB: a page reads those of the rows it goes over, and no
 * others. That shows in that only their damage is its own. */
static void a_page_reads_what_it_goes_over(void **state)
{
    static const struct {
        const char *sql;
        uint64_t cursor;
        bool failed_only;
        size_t max_bytes;
        uint32_t n; /* 0 = damaged */
        uint64_t next;
    } t[] = {
        { "vals = x'00'", 0, false, 6, 3, 3 },
        { "vals = x'00'", 3, false, 4, 2, 5 },
        { "vals = x'00'", 3, false, 6, 0, 0 },
        { "vals = x'00'", 0, true, 2, 1, 5 }, /* task 2; the next is 5 */
        { "vals = x'00'", 3, true, 2, 0, 0 },
        { "statuses = x'0000000000'", 0, false, 10, 5, 5 },
        { "statuses = x'0000000000'", 0, true, 10, 0, 0 }, /* so 5 and 8 seem to be ok */
        { "tasks = zeroblob(20)", 0, false, 2, 0, 0 },
        { "lens = zeroblob(16)", 0, false, 2, 0, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(set_up(state), 0);
        struct fixture *f = *state;
        struct fx_group *g = fx_group_new();
        add_job(g, 1);
        add_chunk(g, 1, 0, 0, 10);
        add_batch(g, 1, 0, 0, 0, 1, 5, false);
        add_batch(g, 2, 5, 0, 5, 1, 5, false);
        push(f, g);
        store_close(f->store, false);
        AUTO_FREE char *sql = xasprintf("UPDATE batch SET %s WHERE row = 2", t[i].sql);
        change(f, sql);
        open_store(f);
        struct fx_read_results *r =
            read_page(f, (struct fx_read_results){ .job = 1,
                                                   .cursor = t[i].cursor,
                                                   .task_order = true,
                                                   .chunk_end = 10,
                                                   .failed_only = t[i].failed_only,
                                                   .max_bytes = t[i].max_bytes });
        assert_int_equal(r->damaged, t[i].n == 0);
        assert_int_equal(r->ret.n, t[i].n);
        assert_true(r->damaged || r->ret_next == t[i].next);
        tear_down(state);
    }
}

/* Of the chunks of fill(): bodies, lengths of 20, a node. */
enum { INPUT_BYTES = 50 + 20 * 4 + 2 };

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
    AUTO_FREE char *shm = xasprintf("%s/tidemill.db-shm", f->dir);
    assert_int_equal(access(shm, F_OK), -1); /* a full disk has no room for it */
    assert_int_equal(store_epoch(f->store).counter, epoch + 1);
    assert_int_equal(f->jobs, 1);
    assert_int_equal(f->chunks, 2);
    assert_int_equal(f->recorded, 14);
    assert_int_equal(f->pending, 4);
    assert_int_equal(f->next_row, 4);
    assert_int_equal(f->job_bytes, INPUT_BYTES + 20); /* of what is visible */
    assert_int_equal(f->keys, 1);
    assert_string_equal(f->key_name, "alice");
    assert_int_equal(f->key_row.role, ROLE_CLIENT);
    assert_int_equal(f->key_row.public_key[2], 3);
    g = fx_group_new();
    fx_add(g, FX_READ_CHUNK)->read_chunk =
        (struct fx_read_chunk){ .job = 1, .seq = 1, .first = 10, .n = 10 };
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
    fx->show.bytes = 6;
    fx->show.statuses = blob_new(SPAN_LIT("\0\0"));
    push(f, g);
    struct fx_read_results *r =
        read_page(f, (struct fx_read_results){
                         .job = 1, .cursor = 10, .limit = 12, .max_bytes = KIB });
    assert_int_equal(r->ret.n, 2);
    assert_int_equal(r->ret_next, 12);
    assert_memory_equal(r->ret.values->data, "v10v11", 6);
    store_close(f->store, false);
    open_store(f);
    assert_int_equal(f->job_bytes, INPUT_BYTES + 20 + 6);
}

/* A key has one row, the last one that was said of it. */
static void a_keys_row_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();

    fill(f);
    add_key(g, ROLE_CLIENT, 9);
    push(f, g);
    store_close(f->store, false);
    open_store(f);
    assert_int_equal(f->keys, 1);
    assert_int_equal(f->key_row.revoked_wall_ns, 9);
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
    fx_add(g, FX_READ_CHUNK)->read_chunk = (struct fx_read_chunk){ .job = 1, .n = 10 };
    push(f, g);
    assert_true(STAILQ_FIRST(&f->back->list)->read_chunk.damaged);
    /* Its records are whole, but not with their inputs; and the store goes on. */
    struct fx_read_results ask = { .job = 1, .limit = 10, .max_bytes = KIB };
    assert_false(read_page(f, ask)->damaged);
    ask.inputs = true;
    assert_true(read_page(f, ask)->damaged);
    assert_string_equal(f->failed.text, "");
}

static void a_hole_in_the_index_is_refused(void **state)
{
    static const struct {
        const char *sql, *says;
    } holes[] = {
        { "DELETE FROM chunk WHERE id & 15 = 0", "list of chunks of job 1" },
        { "UPDATE chunk SET first = 11 WHERE id & 15 = 1", "list of chunks of job 1" },
        { "DELETE FROM chunk WHERE id & 15 = 1", "list of chunks of job 1" },
        { "DELETE FROM batch WHERE row = 2", "list of records of job 1" },
        { "UPDATE job SET retries = 9", "description of job 1" },
        { "UPDATE key SET role = 2", "the key alice is not what was written" },
    };

    for (size_t i = 0; i < ARRAY_LEN(holes); i++) {
        struct err err = { 0 };
        assert_int_equal(set_up(state), 0);
        struct fixture *f = *state;
        fill(f);
        store_close(f->store, false);
        change(f, holes[i].sql);
        assert_int_equal(store_open(f->dir, DURABILITY_FULL, &f->store, &err), 0);
        assert_int_equal(store_load(f->store, &loads, f, &f->next_row, &err), -1);
        assert_non_null(strstr(err.text, holes[i].says));
        tear_down(state);
    }
}

/* Tasks that follow one another are stored as the first of them: how many there are says
 * the row's number, which must be the one that was written. */
static void a_batch_of_another_length_is_refused(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    struct err err = { 0 };

    fill(f);
    add_batch(g, 3, 0, 1, 10, 1, 2, true);
    push(f, g);
    store_close(f->store, false);
    change(f, "UPDATE batch SET n = 4 WHERE row = 3");
    assert_int_equal(store_open(f->dir, DURABILITY_FULL, &f->store, &err), 0);
    assert_int_equal(store_load(f->store, &loads, f, &f->next_row, &err), -1);
    assert_non_null(strstr(err.text, "a batch that waits for its files"));
    assert_int_equal(f->pending, 0);
    store_close(f->store, false);
    /* Of the others it is seen when a chunk is read that was not done with. */
    change(
        f,
        "UPDATE batch SET n = 2 WHERE row = 3; UPDATE batch SET epoch = 9 WHERE row = 2");
    open_store(f);
    g = fx_group_new();
    fx_add(g, FX_READ_CHUNK)->read_chunk = (struct fx_read_chunk){ .job = 1, .n = 10 };
    push(f, g);
    assert_non_null(strstr(f->failed.text, "which tasks of job 1 have a record"));
}

/* A removed job's rows go, in slices, and then its pages; commits go on meanwhile. */
static void a_removed_job_gives_its_space_back(void **state)
{
    enum { CHUNKS = 2000, BODY = 15 * KIB /* in the row */ };
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", f->dir);
    struct stat before, after;
    struct fx_group *g = fx_group_new();

    add_job(g, 1);
    add_job(g, 2);
    add_chunk(g, 2, 0, 0, 10);
    push(f, g);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        g = fx_group_new();
        struct chunk_row *c = &fx_add(g, FX_CHUNK)->chunk;
        *c = (struct chunk_row){
            .job = 1, .seq = i, .first = i, .n = 1, .node = node_of(i)
        };
        c->body = blob_alloc(BODY);
        memset(c->body->data, (int)i, c->body->len);
        c->lens = blob_new(span_of(&(uint32_t){ BODY }, 4));
        push(f, g);
    }
    store_close(f->store, false);
    assert_int_equal(stat(path, &before), 0);
    assert_true(before.st_size > 30 * MIB);
    open_store(f);
    g = fx_group_new();
    fx_add(g, FX_REMOVE)->remove.job = 1;
    push(f, g);
    f->jobs = f->chunks = 0;
    for (int i = 0; i < 20; i++) { /* it can stop and go on at any point */
        store_close(f->store, false);
        f->jobs = f->chunks = f->removed = 0;
        open_store(f);
        assert_int_equal(f->jobs, 1);
        assert_int_equal(f->chunks, 1);
        assert_int_equal(f->removed, 1);
    }
    do {
        usleep(10000);
        assert_int_equal(stat(path, &after), 0);
    } while (after.st_size > 4 * MIB);
    g = fx_group_new();
    fx_add(g, FX_READ_CHUNK)->read_chunk = (struct fx_read_chunk){ .job = 2, .n = 10 };
    push(f, g);
    assert_false(STAILQ_FIRST(&f->back->list)->read_chunk.damaged);
}

static void push_behind(struct fixture *f, struct fx_group *g)
{
    g->behind = true;
    store_push(f->store, g);
}

/* Another process opens it to write behind, and is killed. */
static void be_killed(const struct fixture *f)
{
    struct store *store;
    struct err err = { 0 };
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (store_open(f->dir, DURABILITY_NONE, &store, &err) < 0)
            fprintf(stderr, "%s\n", err.text);
        else
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* As after `durability` was told at the command line; `killed`: the one before was. */
static void open_again(struct fixture *f, enum durability durability, bool killed)
{
    assert_true(store_close(f->store, false));
    if (killed)
        be_killed(f);
    f->durability = durability;
    f->chunks = f->losts = 0;
    open_store(f);
}

/* Groups that are written behind are saved though nobody waits for them, in order with
 * one that somebody does; and a clean end leaves nothing to be lost. */
static void what_is_written_behind_is_there(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();

    open_again(f, DURABILITY_NONE, false);
    add_job(g, 1);
    push(f, g);
    for (uint32_t seq = 0; seq < 4; seq++) {
        g = fx_group_new();
        add_chunk(g, 1, seq, seq * 10, 10);
        if (seq == 2)
            push(f, g);
        else
            push_behind(f, g);
    }
    /* Three came back at once: who looks at the first of them sees room for all. */
    assert_int_equal(f->n_back, 4);
    assert_int_equal(f->backlog_max, 0);
    open_again(f, DURABILITY_NONE, false);
    assert_int_equal(f->chunks, 4);
    open_again(f, DURABILITY_FULL, false);
    assert_int_equal(f->losts, 0);
}

/* Nobody is woken for each group that is written behind, but for many together: the
 * scheduler may wait for room that they take in memory. */
static void much_written_behind_wakes_the_loop(void **state)
{
    enum { GROUPS = 150, INPUTS = 4096 }; /* 44 KB of inputs and lengths each */
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    size_t bytes = 0;

    open_again(f, DURABILITY_NONE, false);
    add_job(g, 1);
    push(f, g);
    for (uint32_t seq = 0; seq < GROUPS; seq++) {
        g = fx_group_new();
        add_chunk(g, 1, seq, (uint64_t)seq * INPUTS, INPUTS);
        const struct chunk_row *c = &STAILQ_FIRST(&g->list)->chunk;
        g->bytes = blob_span(c->lens).len + blob_span(c->body).len;
        push_behind(f, g);
    }
    bytes = store_backlog_bytes(f->store);
    assert_true(bytes > 5 * MIB);
    while (store_backlog_bytes(f->store) == bytes)
        loop_once(f->loop, true);
    assert_true(f->n_back > 1);
    open_again(f, DURABILITY_NONE, false);
    assert_int_equal(f->chunks, GROUPS);
}

/* A start that fails before anything is done takes its mark away again. */
static void a_start_that_fails_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = { 0 };

    fill(f);
    assert_true(store_close(f->store, false));
    assert_int_equal(store_open(f->dir, DURABILITY_NONE, &f->store, &err), 0);
    open_again(f, DURABILITY_FULL, false);
    assert_int_equal(f->losts, 0);
}

/* The start after a coordinator that wrote behind and was killed notes how much there is
 * of jobs that run, and the starts after it remember, until the job is removed. */
static void what_a_killed_one_had_is_remembered(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g;
    uint64_t epoch;

    fill(f);
    open_again(f, DURABILITY_FULL, true);
    epoch = store_epoch(f->store).counter;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f->losts, 1);
        assert_int_equal(f->lost_cursor, 10);
        assert_int_equal(f->lost_epoch, epoch);
        open_again(f, DURABILITY_FULL, false);
    }
    open_again(f, DURABILITY_NONE, true); /* nothing came to it: as well told in one */
    assert_int_equal(f->losts, 1);
    assert_int_equal(f->lost_epoch, store_epoch(f->store).counter);
    g = fx_group_new();
    add_batch(g, 3, 10, 1, 10, 1, 5, false);
    push(f, g);
    open_again(f, DURABILITY_NONE, true);
    assert_int_equal(f->losts, 2);
    assert_int_equal(f->lost_cursor, 15);
    g = fx_group_new();
    fx_add(g, FX_REMOVE)->remove.job = 1;
    push(f, g);
    open_again(f, DURABILITY_FULL, false);
    assert_int_equal(f->losts, 0);
}

/* All that is told of a job that has ended is there. */
static void of_a_job_that_ended_nothing_is_lost(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    struct fx *fx = fx_add(g, FX_STATE);

    fill(f);
    fx->state.job = 1;
    fx->state.state = JOB_CANCELLED;
    fx->state.ended_wall_ns = 7;
    push(f, g);
    open_again(f, DURABILITY_FULL, true);
    assert_int_equal(f->losts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commit_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(task_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_chunk_without_failures_is_an_empty_page, set_up,
                                        tear_down),
        cmocka_unit_test(a_page_reads_what_it_goes_over),
        cmocka_unit_test_setup_teardown(everything_is_there_after_a_reopen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(pending_is_shown_once_published, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_keys_row_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_owner_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_of_another_length_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test(a_hole_in_the_index_is_refused),
        cmocka_unit_test_setup_teardown(what_is_written_behind_is_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(much_written_behind_wakes_the_loop, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_start_that_fails_loses_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_a_killed_one_had_is_remembered, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(of_a_job_that_ended_nothing_is_lost, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removed_job_gives_its_space_back, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
