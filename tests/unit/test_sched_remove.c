/* Removed jobs: only ended ones, for good, by command or after their time; and whoever
 * follows is told. */
#include "tests/unit/sched_rig.h"

static const struct msg removing = { .type = MSG_REMOVE, .remove = { 1, 7 } };

/* Job 1 with one chunk of one task, done. */
static void end_job(struct rig *r)
{
    struct msg seal = { .type = MSG_SEAL, .seal = { 1, 1, 1 } };

    hello(r, WORKER);
    fx_group_free(commit(r, say_chunk(r, 0, 1)));
    do_task(r, 1);
    say_and_commit(r, CLIENT, &seal);
}

static uint32_t error_code(struct fx_group *g)
{
    const struct fx *error = find(g, FX_SEND, MSG_ERROR);
    uint32_t code = error ? error->send.msg.error.code : 0;

    fx_group_free(g);
    return code;
}

static void only_an_ended_job_is_removed(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    struct fx_group *g = say(&r, CLIENT, &removing);
    assert_null(find(g, FX_REMOVE, 0));
    assert_int_equal(error_code(g), 1);
    end_job(&r);
    g = say(&r, CLIENT, &removing);
    const struct fx *fx = find(g, FX_REMOVE, 0);
    assert_non_null(fx);
    assert_int_equal(fx->remove.job, 1);
    assert_int_equal(fx->remove.key[0], 1);
    const struct fx *answer = find(g, FX_SEND, MSG_ANSWER); /* after the commit */
    assert_non_null(answer);
    assert_int_equal(answer->send.msg.answer.id, 7);
    assert_true(answer->send.msg.answer.last);
    assert_int_equal(error_code(g), 0);
    assert_int_equal(error_code(say(&r, CLIENT, &removing)), 9);
    struct msg asking = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("job"), 1 } };
    assert_int_equal(error_code(say(&r, CLIENT, &asking)), 9); /* "removed" */
    asking.query.job = 2;
    g = say(&r, CLIENT, &asking); /* never was: no row */
    assert_non_null(find(g, FX_SEND, MSG_ANSWER));
    assert_int_equal(error_code(g), 0);
    sched_free(r.sched);
}

/* R16: neither at once nor after a restart is the key a new job's. */
static void the_key_of_a_removed_job_stays(void **state)
{
    struct msg again = { .type = MSG_SUBMIT,
                         .submit = { .key = { 1 }, .spec = spec_of(false) } };
    struct sched_config config = { .epoch = { 2, { 1 } } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    end_job(&r);
    fx_group_free(commit(&r, say(&r, CLIENT, &removing)));
    assert_int_equal(error_code(say(&r, CLIENT, &again)), 9);
    sched_free(r.sched);

    r = (struct rig){ .sched = sched_new(&config), .now_ns = NS_PER_S };
    for (uint64_t id = 1; id <= 1000; id++) {
        uint8_t key[WIRE_KEY_BYTES] = { 1 };
        memcpy(key + 8, &(uint64_t){ id - 1 }, 8);
        sched_load_removed(r.sched, id, key);
    }
    sched_loaded(r.sched, 1);
    hello(&r, CLIENT);
    for (uint64_t id = 1; id <= 1000; id++) {
        memcpy((uint8_t *)again.submit.key + 8, &(uint64_t){ id - 1 }, 8);
        assert_int_equal(error_code(say(&r, CLIENT, &again)), 9);
    }
    /* Another key is a new job, with an id of its own. */
    ((uint8_t *)again.submit.key)[0] = 2;
    struct fx_group *g = say(&r, CLIENT, &again);
    assert_int_equal(find(g, FX_JOB, 0)->job.id, 1001);
    fx_group_free(g);
    sched_free(r.sched);
}

static void followers_are_told(void **state)
{
    struct msg follow = { .type = MSG_FOLLOW,
                          .follow = { .job = 1, .cursor = 1, .credit_bytes = MIB } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    end_job(&r);
    say_and_commit(&r, CLIENT, &follow);
    struct fx_group *g = say(&r, CLIENT, &removing);
    const struct fx *fx = find(g, FX_SEND, MSG_ERROR);
    assert_non_null(fx);
    assert_int_equal(fx->send.msg.error.about, MSG_FOLLOW);
    assert_int_equal(fx->send.msg.error.code, 9);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Lets the time pass in turns of a second, the longest a turn counts. True: the job was
 * removed on the way. */
static bool pass(struct rig *r, int seconds)
{
    bool removed = false;

    for (int i = 0; i < seconds; i++) {
        r->now_ns += NS_PER_S;
        struct fx_group *g = turn(r);
        removed |= find(g, FX_REMOVE, 0) != NULL;
        fx_group_free(commit(r, g));
    }
    return removed;
}

static void an_ended_job_is_kept_for_its_time(void **state)
{
    struct rig r = { .keep_ns = 80 * NS_PER_S };

    (void)state;
    rig_init(&r);
    assert_false(pass(&r, 100)); /* it has not ended */
    hello(&r, CLIENT);           /* it was silent for too long */
    end_job(&r);
    assert_false(pass(&r, 70));
    assert_true(pass(&r, 25));
    sched_free(r.sched);
}

/* The time counts while a coordinator runs, over restarts; the wall clock does not. */
static void time_without_a_coordinator_does_not_count(void **state)
{
    struct job_spec spec = { .command = SPAN_LIT("map") };
    struct sched_config config = { .epoch = { 2, { 1 } }, .keep_ns = 80 * NS_PER_S };
    AUTO_BUF packed = BUF_INIT;
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };

    (void)state;
    spec_pack(&packed, &spec);
    struct job_row row = { .id = 1,
                           .spec = buf_span(&packed),
                           .state = JOB_DONE,
                           .ended_wall_ns = 1,
                           .ended_run_ns = 1000 * NS_PER_S };
    sched_load_job(r.sched, &row);
    sched_load_run(r.sched, 1050 * NS_PER_S);
    sched_loaded(r.sched, 1);
    r.now_ns += 1000 * NS_PER_S; /* a turn counts for a second at most */
    assert_false(pass(&r, 25));
    assert_true(pass(&r, 25));
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_an_ended_job_is_removed),
        cmocka_unit_test(the_key_of_a_removed_job_stays),
        cmocka_unit_test(followers_are_told),
        cmocka_unit_test(an_ended_job_is_kept_for_its_time),
        cmocka_unit_test(time_without_a_coordinator_does_not_count),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
