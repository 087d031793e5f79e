/* The client library while its coordinator goes away and comes back: with all it had
 * told of, or without what it had not saved. */
#include "lib_world.h"

/* What the coordinator did not acknowledge is sent again, and nothing comes twice. */
static void a_lost_coordinator_loses_nothing(void **state)
{
    struct world *w = *state;
    static bool seen[MANY];
    struct tm_job *job = submit(w, &bytes_spec);
    fake_set(w->fake, (w->fake->take_chunks = 1, w->fake->give_results = 1500));
    assert_int_equal(tm_follow(job, 0, 0, NULL), 0);
    for (unsigned i = 0; i < MANY; i++)
        add_one(job, i, 40);
    assert_int_equal(tm_seal(job, NULL), 0);
    read_results(job, 700, seen); /* in the middle of a batch */
    fake_down(w->fake);
    w->fake->take_chunks = UINT32_MAX;
    w->fake->give_results = UINT64_MAX;
    w->fake->epoch = 2;
    fake_up(w->fake);
    read_results(job, MANY - 700, seen);
    assert_end(job);
    assert_true(fake_saw(w->fake, &w->fake->welcomes) >= 2);
    pthread_mutex_lock(&w->fake->mu);
    assert_int_equal(w->fake->n_jobs, 1);
    pthread_mutex_unlock(&w->fake->mu);
}

static uint64_t told_epoch(struct fake *f)
{
    pthread_mutex_lock(&f->mu);
    uint64_t epoch = f->jobs[0].told_epoch;
    pthread_mutex_unlock(&f->mu);
    return epoch;
}

/* In which epoch what its cursor counts was told: to the coordinator that is asked to go
 * on from there it says so, after a reconnect as when its caller kept it. */
static void a_cursor_says_when_it_was_told(void **state)
{
    struct world *w = *state;
    static bool seen[MANY];
    struct tm_job *job = submit(w, &bytes_spec);
    struct tm_result r;
    uint64_t id, cursor;

    fake_set(w->fake, w->fake->give_results = FAKE_BATCH);
    for (unsigned i = 0; i < MANY; i++)
        add_one(job, i, 40);
    assert_int_equal(tm_seal(job, NULL), 0);
    read_results(job, FAKE_BATCH, seen);
    assert_int_equal(tm_next(job, &r, 0, NULL), TM_AGAIN);
    assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(told_epoch(w->fake), 0); /* asked for all */
    cursor = tm_cursor(job);
    id = tm_job_id(job);
    tm_job_free(job);
    fake_down(w->fake);
    w->fake->epoch = 7;
    fake_up(w->fake);
    assert_int_equal(tm_attach(w->tm, id, &job, NULL), 0);
    assert_int_equal(tm_follow(job, cursor, 0, NULL), 0);
    fake_set(w->fake, w->fake->give_results = 2 * FAKE_BATCH);
    read_results(job, FAKE_BATCH, seen);
    assert_int_equal(told_epoch(w->fake), 1);
    fake_down(w->fake);
    w->fake->epoch = 8;
    w->fake->give_results = UINT64_MAX;
    fake_up(w->fake);
    read_results(job, MANY - 2 * FAKE_BATCH, seen);
    assert_end(job);
    assert_int_equal(told_epoch(w->fake), 7);
    /* Behind the last there is nothing, and the end. */
    cursor = tm_cursor(job);
    tm_job_free(job);
    assert_int_equal(tm_attach(w->tm, id, &job, NULL), 0);
    assert_int_equal(tm_follow(job, cursor, 0, NULL), 0);
    assert_end(job);
    assert_int_equal(told_epoch(w->fake), 8);
    tm_job_free(job);
}

/* What a job's caller is told when its coordinator was killed, and had not saved what it
 * told of. Nobody can add the rest of a job then whose key nobody else has: it would stay
 * open, and count. */
static void a_job_that_was_lost_is_cancelled(void **state)
{
    static const struct {
        bool inputs, keyed, sealed, cancelled;
    } t[] = {
        { true, false, false, true },  { false, false, false, true },
        { true, true, false, false },  { false, true, false, false },
        { false, false, true, false }, /* it has all inputs, and goes on */
    };
    struct world *w = *state;
    unsigned cancels = 0;
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        const uint8_t key[16] = { (uint8_t)i };
        struct tm_job_spec spec = bytes_spec;
        struct tm_error err = { 0 };
        struct tm_result r;
        struct tm_rows *rows;
        bool seen[2] = { false };
        spec.key = t[i].keyed ? key : NULL;
        struct tm_job *job = submit(w, &spec);
        fake_set(w->fake, w->fake->give_results = 1);
        add_one(job, 0, 10);
        add_one(job, 1, 10);
        if (t[i].sealed)
            assert_int_equal(tm_seal(job, NULL), 0);
        assert_int_equal(tm_sync(job, 20 * NS_PER_S, NULL), 0);
        read_results(job, 1, seen);
        fake_down(w->fake);
        w->fake->epoch++;
        w->fake->lost_results = true;
        if (t[i].inputs)
            fake_lose_chunks(&w->fake->jobs[i]);
        fake_up(w->fake);
        assert_int_equal(tm_next(job, &r, 20 * NS_PER_S, &err), -1);
        assert_non_null(strstr(err.text, t[i].inputs ? "lost job" : "lost results"));
        tm_job_free(job);
        assert_int_equal(tm_query(w->tm, "jobs", 0, &rows, &err), 0); /* behind it */
        tm_rows_free(rows);
        cancels += t[i].cancelled;
        assert_int_equal(fake_saw(w->fake, &w->fake->cancels), cancels);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(a_lost_coordinator_loses_nothing),
        WORLD_TEST(a_cursor_says_when_it_was_told),
        WORLD_TEST(a_job_that_was_lost_is_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
