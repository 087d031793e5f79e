/* The client library against a coordinator in this process: every task gives one result,
 * whatever the connection does. */
#include <poll.h>
#include "lib_world.h"

static int try_one(struct tm_job *job, unsigned i, size_t len)
{
    char data[4096];
    struct tm_error err;
    memset(data, 'x', sizeof(data));
    snprintf(data, sizeof(data), "%u", i);
    int rc = tm_try_add(job, &(struct tm_input){ .data = data, .data_len = len }, &err);
    if (rc == -1)
        fail_msg("%s", err.text);
    return rc;
}

static void every_task_gives_one_result(void **state)
{
    struct world *w = *state;
    static bool seen[MANY];
    struct tm_job *job = submit(w, &bytes_spec);
    /* 10 MB of values: only with credit given back do they all come. */
    fake_set(w->fake, w->fake->value_bytes = 1000);
    for (unsigned i = 0; i < MANY; i++)
        add_one(job, i, 40);
    assert_int_equal(tm_added(job), MANY);
    assert_int_equal(tm_seal(job, NULL), 0);
    read_results(job, MANY, seen);
    assert_end(job);
    assert_int_equal(tm_sync(job, 0, NULL), 0);
    bool sealed = false;
    assert_int_equal(tm_accepted(job, &sealed), MANY);
    assert_true(sealed);
    struct tm_job_status heard;
    tm_job_heard(job, &heard);
    assert_true(heard.ended);
    assert_int_equal(heard.state, TM_DONE);
    assert_int_equal(heard.counts.failed, MANY / 1000);
    tm_job_free(job);
}

/* A result costs credit besides its bytes: all of it must be given back. */
static void the_smallest_results_all_come(void **state)
{
    struct world *w = *state;
    enum { N = 300000 };
    bool *seen = xcalloc(N, sizeof(*seen));
    struct tm_job *job = submit(w, &bytes_spec);
    fake_set(w->fake, w->fake->value_bytes = 0);
    for (unsigned i = 0; i < N; i++)
        add_one(job, i, 1);
    assert_int_equal(tm_seal(job, NULL), 0);
    read_results(job, N, seen);
    assert_end(job);
    free(seen);
}

static void chunks_keep_their_limits(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    for (unsigned i = 0; i < 400; i++)
        add_one(job, i, 4000); /* 65 of them fill a chunk by bytes; the fake checks */
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(tm_accepted(job, NULL), 400);
    assert_in_range(fake_saw(w->fake, &w->fake->jobs[0].n_chunks), 7, 9);
}

/* Inputs that come for one node after the other are not a chunk each: every node's fill
 * one of their own, whatever the window is. */
static void inputs_for_nodes_fill_chunks_of_their_own(void **state)
{
    enum { N = 3000, NODES = 3 };
    static const char *const nodes[NODES] = { "a", "b", NULL };
    static const uint32_t windows[] = { 4 * MIB, 3000 };
    struct world *w = *state;
    for (size_t t = 0; t < ARRAY_LEN(windows); t++) {
        fake_set(w->fake, w->fake->credit_bytes = windows[t]);
        struct tm_job *job = submit(w, &bytes_spec);
        unsigned of_node[NODES] = { 0 }, chunks = 0;
        for (unsigned i = 0; i < N * NODES; i++)
            assert_int_equal(tm_add(job,
                                    &(struct tm_input){ .data = "x",
                                                        .data_len = 1,
                                                        .node = nodes[i % NODES] },
                                    NULL),
                             0);
        assert_int_equal(tm_seal(job, NULL), 0);
        assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
        pthread_mutex_lock(&w->fake->mu);
        const struct fake_job *j = &w->fake->jobs[t];
        chunks = j->n_chunks;
        for (uint32_t i = 0; i < j->n_chunks; i++)
            for (int n = 0; n < NODES; n++)
                if (strcmp(j->chunks[i].node, nodes[n] ? nodes[n] : "") == 0)
                    of_node[n] += j->chunks[i].n;
        pthread_mutex_unlock(&w->fake->mu);
        for (int n = 0; n < NODES; n++)
            assert_int_equal(of_node[n], N);
        assert_true(chunks <= (t == 0 ? 60 : 400)); /* time closes some too */
        tm_job_free(job);
    }
}

static void a_lone_input_leaves_by_itself(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    struct tm_result r;
    add_one(job, 0, 10);
    assert_int_equal(tm_next(job, &r, 20 * NS_PER_S, NULL), 1);
    assert_int_equal(r.task, 0);
}

/* While a chunk is on its way the next one waits, and all that comes meanwhile is in it.
 */
static void what_comes_while_a_chunk_is_on_its_way_is_one_chunk(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    unsigned n = 0;
    add_one(job, n++, 10);
    pthread_mutex_lock(&w->fake->mu); /* the coordinator stands still */
    assert_int_equal(tm_flush(job, NULL), 0);
    for (int64_t end = clock_mono_ns() + 100 * NS_PER_MS; clock_mono_ns() < end;) {
        add_one(job, n++, 10);
        poll(NULL, 0, 1);
    }
    pthread_mutex_unlock(&w->fake->mu);
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(tm_accepted(job, NULL), n);
    assert_int_equal(fake_saw(w->fake, &w->fake->jobs[0].n_chunks), 2);
}

static void too_large_is_refused_and_the_job_goes_on(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    struct tm_error err = { 0 };
    static char big[65 * KIB];
    struct tm_input in = { .data = big, .data_len = sizeof(big) };
    assert_int_equal(tm_add(job, &in, &err), -1);
    assert_int_equal(err.code, TM_TOO_LARGE);
    assert_non_null(strstr(err.text, "too large"));
    assert_int_equal(tm_add(job, &(struct tm_input){ .path = "/x" }, &err), -1);
    assert_int_equal(err.code, TM_USAGE);
    add_one(job, 0, 10);
    assert_int_equal(tm_seal(job, &err), 0);
    assert_int_equal(tm_add(job, &in, &err), -1);
    assert_non_null(strstr(err.text, "sealed"));
    bool seen[1] = { false };
    read_results(job, 1, seen);
    assert_end(job);
}

static void silence_is_a_lost_coordinator_too(void **state)
{
    struct world *w = *state;
    bool seen[10] = { false };
    struct tm_job *job = submit(w, &bytes_spec);
    fake_set(w->fake, w->fake->mute = true);
    for (unsigned i = 0; i < 10; i++)
        add_one(job, i, 10);
    assert_int_equal(tm_seal(job, NULL), 0);
    assert_int_equal(tm_sync(job, 600 * NS_PER_MS, NULL), TM_AGAIN);
    fake_set(w->fake, w->fake->mute = false);
    read_results(job, 10, seen);
    assert_end(job);
    assert_true(fake_saw(w->fake, &w->fake->welcomes) >= 2);
}

/* No window: inputs are refused before memory grows, and tm_fd tells when there is room.
 */
static void no_credit_stops_the_submitter(void **state)
{
    struct world *w = *state;
    fake_set(w->fake, w->fake->credit_bytes = 0);
    struct tm_job *job = submit(w, &bytes_spec);
    unsigned n = 0;
    while (try_one(job, n, 1000) == 0)
        assert_true(++n < 1000);
    assert_true(n > 0); /* a chunk, or what had come when its time was up */
    assert_int_equal(tm_process(w->tm, NULL), 0);
    struct pollfd fd = { .fd = tm_fd(w->tm), .events = POLLIN };
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(try_one(job, n, 1000), TM_AGAIN);
    fake_set(w->fake, w->fake->credit_bytes = MIB);
    while (try_one(job, n, 1000) == TM_AGAIN) {
        assert_int_equal(poll(&fd, 1, 20000), 1);
        assert_int_equal(tm_process(w->tm, NULL), 0);
    }
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(tm_accepted(job, NULL), n + 1);
}

static void an_event_loop_can_drive_it(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    struct pollfd fd = { .fd = tm_fd(w->tm), .events = POLLIN };
    unsigned added = 0, got = 0;
    int rc = TM_AGAIN;
    while (rc != 0) {
        assert_int_equal(tm_process(w->tm, NULL), 0);
        while (added < MANY && try_one(job, added, 300) == 0)
            added++;
        if (added == MANY)
            assert_int_equal(tm_seal(job, NULL), 0);
        struct tm_result r;
        while ((rc = tm_next(job, &r, 0, NULL)) == 1)
            got++;
        assert_int_not_equal(rc, -1);
        if (rc == TM_AGAIN)
            assert_int_equal(poll(&fd, 1, 20000), 1);
    }
    assert_int_equal(got, MANY);
}

static void a_known_key_is_the_same_job(void **state)
{
    struct world *w = *state;
    static const uint8_t key[16] = "the same key....";
    struct tm_job_spec spec = bytes_spec;
    bool seen[8] = { false };
    spec.key = key;
    struct tm_job *job = submit(w, &spec);
    uint64_t id = tm_job_id(job);
    for (unsigned i = 0; i < 5; i++)
        add_one(job, i, 10);
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    tm_job_free(job);
    job = submit(w, &spec);
    bool sealed = true;
    assert_int_equal(tm_job_id(job), id);
    assert_int_equal(tm_accepted(job, &sealed), 5);
    assert_false(sealed);
    assert_int_equal(tm_added(job), 0);
    for (unsigned i = 5; i < 8; i++)
        add_one(job, i, 10);
    assert_int_equal(tm_seal(job, NULL), 0);
    read_results(job, 8, seen);
    assert_end(job);
}

/* A sealed job goes on when its handle is freed at once. */
static void a_freed_job_is_still_submitted(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    uint64_t id = tm_job_id(job);
    /* The coordinator stands still meanwhile. Mute it would lose what came, which no link
     * does that goes on. */
    pthread_mutex_lock(&w->fake->mu);
    add_one(job, 0, 10);
    assert_int_equal(tm_seal(job, NULL), 0);
    tm_job_free(job);
    pthread_mutex_unlock(&w->fake->mu);
    struct tm_job_status status;
    assert_int_equal(tm_attach(w->tm, id, &job, NULL), 0);
    assert_int_equal(tm_job_wait(job, 20 * NS_PER_S, &status, NULL), 0);
    assert_int_equal(status.counts.tasks, 1);
}

static void a_cancelled_job_ends(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    struct tm_job_status heard;
    fake_set(w->fake, w->fake->give_results = 0);
    add_one(job, 0, 10);
    assert_int_equal(tm_follow(job, 0, 0, NULL), 0);
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(tm_cancel(w->tm, tm_job_id(job), NULL), 0);
    assert_end(job);
    tm_job_heard(job, &heard);
    assert_int_equal(heard.state, TM_JOB_CANCELLED);
}

/* It would stay open, and count, until it is given up; who has its key may go on. */
static void what_is_over_a_quota_is_cancelled(void **state)
{
    struct world *w = *state;
    static const uint8_t key[16] = { 1 };
    struct tm_job_spec keyed = bytes_spec;
    struct tm_error err = { 0 };
    struct tm_rows *rows;
    keyed.key = key;
    fake_set(w->fake, w->fake->deny_chunks = true);
    for (int i = 0; i < 2; i++) {
        struct tm_job *job = submit(w, i ? &bytes_spec : &keyed);
        add_one(job, 0, 10);
        assert_int_equal(tm_sync(job, 20 * NS_PER_S, &err), -1);
        assert_int_equal(err.code, TM_DENIED);
        tm_job_free(job);
        assert_int_equal(tm_query(w->tm, "jobs", 0, &rows, &err), 0); /* behind it */
        tm_rows_free(rows);
        assert_int_equal(fake_saw(w->fake, &w->fake->cancels), i);
    }
}

/* Also when the end of the cancelled job comes before he asks. */
static void what_is_over_a_quota_is_told_behind_the_end(void **state)
{
    struct world *w = *state;
    struct tm_job *job = submit(w, &bytes_spec);
    struct tm_error err = { 0 };
    struct tm_job_status heard;
    struct tm_result r;
    fake_set(w->fake, w->fake->deny_chunks = true);
    assert_int_equal(tm_follow(job, 0, 0, &err), 0);
    add_one(job, 0, 10);
    assert_int_equal(tm_flush(job, &err), 0);
    do
        tm_job_heard(job, &heard);
    while (!heard.ended);
    assert_int_equal(tm_next(job, &r, 20 * NS_PER_S, &err), -1);
    assert_int_equal(err.code, TM_DENIED);
    tm_job_free(job);
}

static void refusals_reach_their_caller(void **state)
{
    struct world *w = *state;
    struct tm_error err = { 0 };
    struct tm_job *job;
    struct tm_rows *rows;
    struct tm_job_spec spec = bytes_spec;
    spec.name = "unplaceable";
    assert_int_equal(tm_submit(w->tm, &spec, &job, &err), -1);
    assert_int_equal(err.code, TM_UNPLACEABLE);
    assert_int_equal(tm_query(w->tm, "nonsense", 0, &rows, &err), -1);
    assert_string_equal(err.text, "unknown query");
    assert_int_equal(tm_attach(w->tm, 4711, &job, &err), -1);
    assert_int_equal(err.code, TM_NOT_FOUND);
}

static void a_job_is_described_as_it_was_submitted(void **state)
{
    struct world *w = *state;
    static const char *const recipients[] = { "age1one", "age1two" };
    struct tm_job_spec spec = { .command = "encrypt",
                                .source = TM_SOURCE_PATH,
                                .transform = TM_TRANSFORM_ENCRYPT,
                                .recipients = recipients,
                                .n_recipients = 2,
                                .sink = TM_SINK_FILE,
                                .armor = true,
                                .present = "a\0b",
                                .present_len = 3 };
    struct tm_job_spec got;
    struct tm_job *job;
    assert_int_equal(tm_attach(w->tm, tm_job_id(submit(w, &spec)), &job, NULL), 0);
    assert_int_equal(tm_job_describe(job, &got, NULL), 0);
    assert_string_equal(got.command, "encrypt");
    assert_int_equal(got.n_recipients, 2);
    assert_string_equal(got.recipients[1], "age1two");
    assert_int_equal(got.present_len, 3);
    assert_memory_equal(got.present, "a\0b", 3);
    assert_true(got.armor);
    assert_false(got.force);
    assert_int_equal(got.sink, TM_SINK_FILE);
}

static void rows_can_be_walked(void **state)
{
    struct world *w = *state;
    struct tm_rows *rows;
    struct tm_bytes key;
    struct tm_value v;
    submit(w, &bytes_spec);
    submit(w, &bytes_spec);
    assert_int_equal(tm_query(w->tm, "jobs", 0, &rows, NULL), 0);
    assert_int_equal(tm_rows_count(rows), 2);
    assert_true(tm_rows_next(rows));
    assert_true(tm_rows_next(rows));
    assert_int_equal(tm_rows_uint(rows, "id"), 2);
    assert_int_equal(tm_rows_text(rows, "state").len, 4);
    assert_int_equal(tm_rows_fields(rows), 5);
    tm_rows_field(rows, 0, &key, &v);
    assert_memory_equal(key.data, "id", 2);
    assert_int_equal(v.kind, TM_UINT);
    assert_false(tm_rows_get(rows, "absent", &v));
    assert_false(tm_rows_next(rows));
    tm_rows_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(every_task_gives_one_result),
        WORLD_TEST(the_smallest_results_all_come),
        WORLD_TEST(chunks_keep_their_limits),
        WORLD_TEST(inputs_for_nodes_fill_chunks_of_their_own),
        WORLD_TEST(a_lone_input_leaves_by_itself),
        WORLD_TEST(what_comes_while_a_chunk_is_on_its_way_is_one_chunk),
        WORLD_TEST(too_large_is_refused_and_the_job_goes_on),
        WORLD_TEST(silence_is_a_lost_coordinator_too),
        WORLD_TEST(no_credit_stops_the_submitter),
        WORLD_TEST(an_event_loop_can_drive_it),
        WORLD_TEST(a_known_key_is_the_same_job),
        WORLD_TEST(a_freed_job_is_still_submitted),
        WORLD_TEST(a_cancelled_job_ends),
        WORLD_TEST(what_is_over_a_quota_is_cancelled),
        WORLD_TEST(what_is_over_a_quota_is_told_behind_the_end),
        WORLD_TEST(refusals_reach_their_caller),
        WORLD_TEST(a_job_is_described_as_it_was_submitted),
        WORLD_TEST(rows_can_be_walked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
