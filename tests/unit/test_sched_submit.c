/* What the scheduler answers to those who submit and follow: refusals, repeats, and that
 * the end of a job is told only once it is on disk. */
#include "tests/unit/sched_rig.h"

static void a_chunk_is_taken_once(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    expect_answer(say_chunk(&r, 0, 1), 0);
    expect_answer(say_chunk(&r, 0, 1), 0);
    expect_answer(say_chunk(&r, 0, 2), 1);
    expect_answer(say_chunk(&r, 2, 1), 1);
    expect_answer(say_chunk(&r, 1, 1), 0);
    sched_free(r.sched);
}

static void an_input_has_a_largest_size(void **state)
{
    static const uint8_t bytes[INPUT_MAX_BYTES + 1];
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    expect_answer(say_inputs(&r, 0, 1, span_of(bytes, INPUT_MAX_BYTES + 1)), 1);
    expect_answer(say_inputs(&r, 0, 1, span_of(bytes, INPUT_MAX_BYTES)), 0);
    expect_answer(say_inputs(&r, 1, 1, span_of(NULL, 0)), 0);
    expect_answer(say_inputs(&r, 2, 0, span_of(NULL, 0)), 1);
    sched_free(r.sched);
}

/* The window that the newest Accepted of the group gives; frees the group. */
static uint32_t window(struct fx_group *g)
{
    const struct fx *fx = find(g, FX_SEND, MSG_ACCEPTED);

    assert_non_null(fx);
    uint32_t bytes = fx->send.msg.accepted.credit_bytes;
    fx_group_free(g);
    return bytes;
}

/* What a submitter has credit for is still taken; then the window is closed, and opened
 * again unasked. */
static void a_full_disk_closes_the_window(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    assert_int_equal(window(say_chunk(&r, 0, 1)), 4 * MIB);
    r.full = true;
    assert_int_equal(window(say_chunk(&r, 0, 1)), 0);
    assert_int_equal(window(say_chunk(&r, 1, 1)), 0);
    struct fx_group *g = turn(&r);
    assert_null(find(g, FX_SEND, MSG_ACCEPTED));
    fx_group_free(g);
    r.full = false;
    g = turn(&r);
    assert_int_equal(window(g), 4 * MIB);
    sched_free(r.sched);
}

/* R13: below the first mark no job is taken and no window is open, below the second
 * nothing is leased. */
static void a_disk_has_two_marks(void **state)
{
    enum { RESERVE = 8 * MIB };
    struct rig r = { .reserve_bytes = RESERVE };

    (void)state;
    rig_init(&r);
    r.free_bytes = 2 * RESERVE - 1;
    struct fx_group *g = say_submit(&r, 2);
    assert_null(find(g, FX_JOB, 0));
    assert_int_equal(find(g, FX_SEND_NOW, MSG_ERROR)->send.msg.error.code, 1);
    fx_group_free(g);
    g = say_chunk(&r, 0, 1);
    assert_int_equal(find(g, FX_SEND, MSG_ACCEPTED)->send.msg.accepted.credit_bytes, 0);
    fx_group_free(commit(&r, g));
    r.free_bytes = RESERVE - 1;
    hello(&r, WORKER);
    g = turn(&r);
    assert_null(find(g, FX_SEND_NOW, MSG_LEASE));
    fx_group_free(g);
    r.free_bytes = RESERVE;
    g = turn(&r);
    assert_non_null(find(g, FX_SEND_NOW, MSG_LEASE));
    fx_group_free(g);
    r.free_bytes = 2 * RESERVE + VALUE_MAX_BYTES; /* what is out may still be recorded */
    g = turn(&r);
    assert_int_equal(window(g), 4 * MIB);
    sched_free(r.sched);
}

/* Code 8, while it is cancelled and after it has ended: a client tells it from a fault.
 */
static void a_cancelled_job_says_so(void **state)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    say_and_commit(&r, CLIENT, &cancel);
    expect_answer(say_chunk(&r, 1, 1), 8);
    expect_answer(say_chunk(&r, 0, 1), 0);
    sched_free(r.sched);
}

/* P4: what is kept in memory of chunks has a limit, however small their inputs are; the
 * others are read back from the disk when it is their turn. */
static void small_inputs_count_too(void **state)
{
    enum { CHUNKS = 100 };
    struct rig r = { .open_bytes = 4 * KIB };

    (void)state;
    rig_init(&r);
    for (uint32_t i = 0; i < CHUNKS; i++)
        fx_group_free(commit(&r, say_inputs(&r, i, 1, span_of(NULL, 0))));
    hello(&r, WORKER);
    bool read = false;
    for (uint32_t task = 0; task < CHUNKS && !read; task++) {
        struct msg done = done_of(task, &task, SPAN_NONE); /* all of its chunk */
        struct fx_group *g = say(&r, WORKER, &done);
        read = find(g, FX_READ_CHUNK, 0) != NULL;
        fx_group_free(read ? g : commit(&r, g));
    }
    assert_true(read);
    sched_free(r.sched);
}

/* Task numbers have 32 bits on the wire. */
static void a_job_has_a_largest_number_of_tasks(void **state)
{
    struct sched_config config = { .epoch = { 2, { 1 } } };
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };
    struct job_row job = { .id = 1, .key = { 1 }, .spec = spec_of(false) };

    (void)state;
    crypto_init();
    struct chunk_row most = { .job = 1, .n = UINT32_MAX - 1 };
    sched_load_job(r.sched, &job);
    sched_load_chunk(r.sched, &most, most.n);
    sched_loaded(r.sched, 1);
    hello(&r, CLIENT);
    expect_answer(say_chunk(&r, 1, 1), 0);
    expect_answer(say_chunk(&r, 2, 1), 1);
    sched_free(r.sched);
}

/* ---- the end ---- */

/* The store's answer to a read: the one record there is. */
static void answer_read(struct fx_group *g)
{
    struct fx *fx = (struct fx *)find(g, FX_READ_RESULTS, 0);
    static const uint32_t task = 0, attempts = 1, len = 0;

    assert_non_null(fx);
    fx->read_results.ret.n = 1;
    fx->read_results.ret.tasks = blob_new(span_of(&task, 4));
    fx->read_results.ret.statuses = blob_new(SPAN_LIT("\0"));
    fx->read_results.ret.attempts = blob_new(span_of(&attempts, 4));
    fx->read_results.ret.lens = blob_new(span_of(&len, 4));
    fx->read_results.ret.values = blob_new(SPAN_NONE);
    fx->read_results.ret_next = 1;
}

/* R1: a page is being read when the seal ends the job. The page may not say so before the
 * seal is on disk: after a crash the job would be open again. */
static void the_end_is_told_after_its_commit(void **state)
{
    struct msg follow = { .type = MSG_FOLLOW,
                          .follow = { .job = 1, .credit_bytes = MIB } };
    struct msg seal = { .type = MSG_SEAL, .seal = { 1, 1, 1 } };
    const struct fx *fx;
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    do_task(&r, 1);
    struct fx_group *reading = say(&r, CLIENT, &follow);
    struct fx_group *sealing = say(&r, CLIENT, &seal);
    answer_read(reading);
    struct fx_group *page = commit(&r, reading);
    assert_null(find(page, FX_SEND_NOW, MSG_RESULTS));
    fx = find(page, FX_SEND, MSG_RESULTS); /* its group is behind the seal's */
    assert_non_null(fx);
    assert_true(fx->send.msg.results.end);
    assert_int_equal(fx->send.msg.results.batch.n, 1);
    fx_group_free(commit(&r, sealing));
    fx_group_free(page);
    sched_free(r.sched);
}

/* A follower whose peer had too much in its queue goes on when that is gone, unasked. */
static void a_follower_goes_on_when_its_queue_is_short(void **state)
{
    struct msg follow = { .type = MSG_FOLLOW,
                          .follow = { .job = 1, .credit_bytes = MIB } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    do_task(&r, 1);
    sched_peer_queued(r.sched, CLIENT, 8 * MIB);
    struct fx_group *g = say(&r, CLIENT, &follow);
    assert_null(find(g, FX_READ_RESULTS, 0));
    fx_group_free(commit(&r, g));
    g = begin(&r);
    sched_peer_queued(r.sched, CLIENT, 0);
    sched_turn_end(r.sched);
    assert_non_null(find(g, FX_READ_RESULTS, 0));
    fx_group_free(g);
    sched_free(r.sched);
}

/* R10: beyond what may wait for the store a chunk is not taken, and its sender begins
 * anew; what he was acknowledged stays. */
static void what_nobody_gave_credit_for_is_not_taken(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    r.backlog = STORE_BACKLOG_MAX + 1;
    struct fx_group *g = say_chunk(&r, 1, 1);
    const struct fx *error = find(g, FX_SEND_NOW, MSG_ERROR);
    assert_non_null(error);
    assert_true(span_eq(error->send.msg.error.text, SPAN_LIT(WIRE_NO_SESSION)));
    assert_null(find(g, FX_CHUNK, 0));
    fx_group_free(g);
    r.backlog = 0;
    hello(&r, CLIENT);
    expect_answer(say_chunk(&r, 1, 1), 0);
    sched_free(r.sched);
}

/* P4: whatever the number of jobs, only so many of their chunks are read at once. */
static void many_jobs_do_not_open_more_than_the_window(void **state)
{
    enum { JOBS = 100, WINDOW = 4 };
    struct sched_config config = { .epoch = { 2, { 1 } },
                                   .open_bytes = WINDOW * WIRE_CHUNK_BYTES_MAX };
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };
    const struct fx *fx;
    unsigned reads = 0;

    (void)state;
    crypto_init();
    for (uint8_t i = 1; i <= JOBS; i++) {
        struct job_row job = {
            .id = i, .key = { i }, .spec = spec_of(false), .state = JOB_SEALED
        };
        struct chunk_row chunk = { .job = i, .n = WIRE_CHUNK_TASKS_MAX };
        sched_load_job(r.sched, &job);
        sched_load_chunk(r.sched, &chunk, 0);
    }
    sched_loaded(r.sched, 1);
    struct fx_group *g = turn(&r);
    STAILQ_FOREACH (fx, &g->list, node)
        reads += fx->type == FX_READ_CHUNK;
    assert_true(reads >= WINDOW);
    assert_true(reads <= 2 * WINDOW + 1);
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_is_taken_once),
        cmocka_unit_test(an_input_has_a_largest_size),
        cmocka_unit_test(a_full_disk_closes_the_window),
        cmocka_unit_test(a_disk_has_two_marks),
        cmocka_unit_test(a_cancelled_job_says_so),
        cmocka_unit_test(small_inputs_count_too),
        cmocka_unit_test(a_job_has_a_largest_number_of_tasks),
        cmocka_unit_test(what_nobody_gave_credit_for_is_not_taken),
        cmocka_unit_test(many_jobs_do_not_open_more_than_the_window),
        cmocka_unit_test(the_end_is_told_after_its_commit),
        cmocka_unit_test(a_follower_goes_on_when_its_queue_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
