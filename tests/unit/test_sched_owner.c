/* Whose jobs are whose: nobody sees another's, and nobody has more than he may. */
#include "tests/unit/key_rig.h"

static void init(struct rig *r, struct sched_quota quota)
{
    *r = (struct rig){ .wall_ns = NS_PER_S, .quota = quota };
    rig_init(r);
    come(r, ALICE, "alice", ROLE_CLIENT);
    come(r, BOB, "bob", ROLE_CLIENT);
    come(r, EVE, "root", ROLE_ADMIN);
}

static struct fx_group *submit_as(struct rig *r, uint8_t who, uint8_t key,
                                  int32_t priority)
{
    struct msg m = { .type = MSG_SUBMIT };

    m.submit = (struct msg_submit){ .key = { key },
                                    .spec = spec_of(r->light),
                                    .priority = priority };
    return say_as(r, who, &m);
}

/* A chunk of n inputs of len bytes. */
static struct fx_group *chunk_as(struct rig *r, uint8_t who, uint64_t job, uint32_t seq,
                                 uint32_t n, uint32_t len)
{
    static uint8_t bytes[WIRE_CHUNK_BYTES_MAX];
    static uint32_t lens[WIRE_CHUNK_TASKS_MAX];
    struct msg m = { .type = MSG_CHUNK, .body = span_of(bytes, (size_t)n * len) };

    for (uint32_t i = 0; i < n; i++)
        lens[i] = len;
    m.chunk = (struct msg_chunk){ .job = job, .seq = seq, .n = n, .lens = lens };
    digest_of(lens, n, m.body, m.chunk.digest);
    return say_as(r, who, &m);
}

static uint32_t told(const struct fx_group *g, peer_id peer)
{
    const struct msg *m = sent_to(g, peer, MSG_ACCEPTED);

    assert_non_null(m);
    return m->accepted.credit_bytes;
}

static uint32_t window(struct rig *r, struct fx_group *g, peer_id peer)
{
    uint32_t bytes = told(g, peer);

    fx_group_free(commit(r, g));
    return bytes;
}

static void accept(struct rig *r, struct fx_group *g, peer_id peer)
{
    window(r, g, peer);
}

static const struct sched_quota none = { .priority = INT32_MAX };

/* ---- owners ---- */

static void a_job_is_its_keys_owners(void **state)
{
    struct key_row second = key_row_of(30, "laptop", ROLE_CLIENT);
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 2, 1 } };
    struct msg follow = { .type = MSG_FOLLOW,
                          .follow = { .job = 2, .credit_bytes = MIB } };
    struct rig r;

    (void)state;
    init(&r, none);
    struct fx_group *g = submit_as(&r, ALICE, 2, 0);
    assert_true(span_eq(find(g, FX_JOB, 0)->job.owner, SPAN_LIT("alice")));
    accept(&r, g, ALICE);
    expect_error(say_as(&r, BOB, &cancel), BOB, 9, MSG_CANCEL, "no such job");
    expect_error(say_as(&r, BOB, &follow), BOB, 9, MSG_FOLLOW, "no such job");
    expect_error(chunk_as(&r, BOB, 2, 0, 1, 1), BOB, 9, MSG_CHUNK, "no such job");
    expect_error(submit_as(&r, BOB, 2, 0), BOB, 5, MSG_SUBMIT,
                 "this job is somebody else's");
    second.owner = SPAN_LIT("alice"); /* her other key */
    sched_load_key(r.sched, &second);
    fx_group_free(say_hello_as(&r, 30, ROLE_CLIENT));
    accept(&r, chunk_as(&r, 30, 2, 0, 1, 1), 30);
    accept(&r, say_as(&r, EVE, &cancel), EVE); /* admins may all */
    sched_free(r.sched);
}

/* A job keeps its owner over a restart; the name that a Hello says is not asked. */
static void an_owner_lasts(void **state)
{
    struct sched_config config = { .epoch = { 2, { 1 } }, .quota = none };
    struct job_row row = {
        .id = 1, .key = { 1 }, .spec = spec_of(false), .owner = SPAN_LIT("alice")
    };
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("jobs"), 0 } };
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };

    (void)state;
    crypto_init();
    sched_load_job(r.sched, &row);
    sched_loaded(r.sched, 1);
    come(&r, ALICE, "alice", ROLE_CLIENT);
    come(&r, BOB, "login", ROLE_CLIENT);
    for (uint8_t who = ALICE; who <= BOB; who++) {
        struct fx_group *g = say_as(&r, who, &query);
        assert_int_equal(sent_to(g, who, MSG_ANSWER)->answer.n, who == ALICE);
        fx_group_free(g);
    }
    sched_free(r.sched);
}

/* A peer without a key says its name itself: no key's owner is called so, and none can be
 * made that would be. */
static void nobody_has_a_local_name_by_a_key(void **state)
{
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("jobs"), 0 } };
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1, 1 } };
    struct rig r;

    (void)state;
    init(&r, none); /* job 1 is of x, on this host */
    come(&r, 30, "x", ROLE_CLIENT);
    expect_error(say_as(&r, 30, &cancel), 30, 9, MSG_CANCEL, "no such job");
    struct fx_group *g = say_as(&r, 30, &query);
    assert_int_equal(sent_to(g, 30, MSG_ANSWER)->answer.n, 0);
    fx_group_free(g);
    for (int owner = 0; owner < 2; owner++) {
        struct msg m = { .type = MSG_KEY };
        m.key = (struct msg_key){ .id = 1, .public_key = { 40 }, .role = ROLE_CLIENT };
        m.key.name = owner ? SPAN_LIT("x") : SPAN_LIT("local:x");
        m.key.owner = owner ? SPAN_LIT("local:x") : SPAN_NONE;
        g = say(&r, CLIENT, &m);
        assert_null(find(g, FX_KEY, 0));
        expect_error(g, CLIENT, 2, MSG_KEY, NULL);
    }
    sched_free(r.sched);
}

/* Others see the names of nodes, their labels, and whom a chunk is for. */
static void a_name_commands_no_terminal(void **state)
{
    struct msg node = hello_of(OTHER, "n\x1b[2J", 9), label = hello_of(OTHER, "n", 9);
    struct msg client = hello_of(CLIENT, "x\x1b[2J", 0), m = { .type = MSG_CHUNK };
    uint32_t lens[] = { 0 };
    struct rig r;

    (void)state;
    init(&r, none);
    label.hello.labels = SPAN_LIT("a=b\nk=\x1b[2J");
    expect_error(say(&r, OTHER, &node), OTHER, 2, MSG_HELLO, "no node can be called so");
    expect_error(say(&r, OTHER, &label), OTHER, 2, MSG_HELLO, "not a label");
    expect_error(say(&r, 50, &client), 50, 2, MSG_HELLO,
                 "a name has no control characters");
    m.chunk = (struct msg_chunk){ .job = 1, .n = 1, .lens = lens };
    m.chunk.node = SPAN_LIT("n\x1b[2J");
    struct span parts[] = { span_of(lens, sizeof(lens)), SPAN_NONE, m.chunk.node };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    expect_error(say(&r, CLIENT, &m), CLIENT, 1, MSG_CHUNK, "no node can be called so");
    sched_free(r.sched);
}

/* Another connection of a submitter's process takes its place, and a process is known by
 * its nonce; but nobody takes another's place by saying it. */
static void a_nonce_makes_nobody_an_heir(void **state)
{
    struct msg hello_msg = hello_as(BOB, ROLE_CLIENT);
    struct rig r;

    (void)state;
    init(&r, none);
    accept(&r, submit_as(&r, ALICE, 2, 0), ALICE);
    r.full = true; /* so that the submitter is told when there is room again */
    struct fx_group *g = chunk_as(&r, ALICE, 2, 0, 1, 1);
    assert_int_equal(told(g, ALICE), 0);
    fx_group_free(g);
    hello_msg.hello.nonce[0] = ALICE;
    fx_group_free(say_as(&r, BOB, &hello_msg));
    g = begin(&r);
    sched_peer_gone(r.sched, ALICE);
    r.full = false;
    sched_set_backlog(r.sched, 0, false);
    sched_turn_end(r.sched);
    assert_null(sent_to(g, BOB, MSG_ACCEPTED));
    fx_group_free(g);
    sched_free(r.sched);
}

/* What the connection that ended was told, and did not get any more, its heir is told. */
static void an_heir_is_told_of_credit(void **state)
{
    enum { HEIR = EVE + 1 };
    struct msg hello_msg = hello_as(ALICE, ROLE_CLIENT); /* of the same process */
    struct rig r;

    (void)state;
    init(&r, none);
    r.user = user_of(ALICE);
    fx_group_free(commit(&r, say(&r, HEIR, &hello_msg)));
    r.user = NULL;
    accept(&r, submit_as(&r, ALICE, 2, 0), ALICE);
    struct fx_group *g = begin(&r);
    sched_peer_gone(r.sched, ALICE);
    sched_turn_end(r.sched);
    assert_true(told(g, HEIR) > 0);
    fx_group_free(g);
    sched_free(r.sched);
}

/* ---- quotas ---- */

static void jobs_have_a_number(void **state)
{
    struct sched_quota quota = { .jobs = 2, .priority = INT32_MAX };
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 2, 1 } };
    struct msg remove = { .type = MSG_REMOVE, .remove = { 2, 1 } };
    struct rig r;

    (void)state;
    init(&r, quota);
    accept(&r, submit_as(&r, ALICE, 2, 0), ALICE);
    accept(&r, submit_as(&r, ALICE, 3, 0), ALICE);
    accept(&r, submit_as(&r, ALICE, 3, 0), ALICE); /* said again: the same job */
    expect_error(submit_as(&r, ALICE, 4, 0), ALICE, 5, MSG_SUBMIT,
                 "quota of alice: 2 jobs are there, 2 may be");
    accept(&r, submit_as(&r, BOB, 5, 0), BOB);
    for (uint8_t key = 6; key < 10; key++)
        accept(&r, submit_as(&r, EVE, key, 0), EVE);
    fx_group_free(commit(&r, say_as(&r, ALICE, &cancel)));
    fx_group_free(commit(&r, say_as(&r, ALICE, &remove)));
    accept(&r, submit_as(&r, ALICE, 4, 0), ALICE);
    sched_free(r.sched);
}

static void priorities_have_a_ceiling(void **state)
{
    struct sched_quota quota = { .priority = 10 };
    struct rig r;

    (void)state;
    init(&r, quota);
    accept(&r, submit_as(&r, ALICE, 2, 10), ALICE);
    expect_error(submit_as(&r, ALICE, 3, 11), ALICE, 5, MSG_SUBMIT,
                 "quota of alice: priority 11, and 10 is the highest allowed");
    accept(&r, submit_as(&r, EVE, 3, 11), EVE);
    sched_free(r.sched);
}

static void bytes_have_a_limit(void **state)
{
    struct sched_quota quota = { .stored_bytes = 8 * KIB, .priority = INT32_MAX };
    uint32_t left = 3 * KIB - (uint32_t)spec_of(false).len - 2 * sizeof(uint32_t);
    struct rig r;

    (void)state;
    init(&r, quota);
    accept(&r, submit_as(&r, ALICE, 2, 0), ALICE);
    accept(&r, submit_as(&r, EVE, 3, 0), EVE);
    accept(&r, chunk_as(&r, ALICE, 2, 0, 1, 5 * KIB), ALICE);
    struct fx_group *g = chunk_as(&r, ALICE, 2, 1, 1, left + 1);
    assert_null(find(g, FX_CHUNK, 0));
    expect_error(g, ALICE, 5, MSG_CHUNK,
                 "quota of alice: 5 KiB of inputs and results are stored, 8 KiB may be");
    accept(&r, chunk_as(&r, ALICE, 2, 1, 1, left), ALICE);
    expect_error(submit_as(&r, ALICE, 4, 0), ALICE, 5, MSG_SUBMIT, NULL);
    accept(&r, chunk_as(&r, EVE, 3, 0, 1, 16 * KIB), EVE);
    sched_free(r.sched);
}

/* What is no byte of an input is stored too: lengths, specs. */
static void empty_inputs_and_jobs_have_bytes(void **state)
{
    struct sched_quota quota = { .stored_bytes = 8 * KIB, .priority = INT32_MAX };
    struct rig r;
    uint8_t key = 2;

    (void)state;
    init(&r, quota);
    accept(&r, submit_as(&r, ALICE, key, 0), ALICE);
    expect_error(chunk_as(&r, ALICE, 2, 0, 2 * KIB, 0), ALICE, 5, MSG_CHUNK, NULL);
    struct fx_group *g = submit_as(&r, ALICE, ++key, 0);
    while (!sent_to(g, ALICE, MSG_ERROR)) {
        assert_true(key < UINT8_MAX);
        accept(&r, g, ALICE);
        struct msg m = { .type = MSG_SUBMIT };
        static const char name[WIRE_TEXT_MAX] = { 'n' };
        m.submit = (struct msg_submit){ .key = { ++key },
                                        .spec = spec_of(false),
                                        .name = span_of(name, sizeof(name)) };
        g = say_as(&r, ALICE, &m);
    }
    assert_true(key < 2 + 8 + 2); /* 1 KiB of a name each */
    expect_error(g, ALICE, 5, MSG_SUBMIT, NULL);
    sched_free(r.sched);
}

static void finish(struct rig *r, uint64_t job)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { job, 1 } };
    fx_group_free(commit(r, say(r, CLIENT, &cancel)));
}

/* Who has as many tasks as he may have is told a window of 0, and waits; he is told of a
 * larger one when an eighth is free. Over it a chunk a job is taken, and no more. */
static void tasks_wait_for_those_before(void **state)
{
    enum { MOST = 8192, EACH = 4096 };
    struct sched_quota quota = { .tasks = MOST, .priority = INT32_MAX };
    struct rig r;

    (void)state;
    init(&r, quota);
    assert_int_equal(window(&r, submit_as(&r, ALICE, 2, 0), ALICE), 4 * MOST);
    assert_int_equal(window(&r, submit_as(&r, ALICE, 3, 0), ALICE), 4 * MOST / 2);
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 2, 0, EACH, 1), ALICE), 4 * EACH / 2);
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 3, 0, EACH, 1), ALICE), 0);
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 2, 1, EACH, 1), ALICE), 0);
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 3, 1, EACH, 1), ALICE), 0);
    struct fx_group *g = chunk_as(&r, ALICE, 2, 2, 1, 1); /* never told that he may */
    assert_null(find(g, FX_CHUNK, 0));
    expect_error(g, ALICE, 1, MSG_CHUNK, WIRE_NO_SESSION);
    fx_group_free(say_hello_as(&r, ALICE, ROLE_CLIENT));
    assert_int_equal(window(&r, submit_as(&r, ALICE, 2, 0), ALICE), 0);
    finish(&r, 3); /* by half of it: as many are left as he may have */
    g = turn(&r);
    assert_null(sent_to(g, ALICE, MSG_ACCEPTED));
    fx_group_free(g);
    finish(&r, 2);
    accept(&r, submit_as(&r, ALICE, 4, 0), ALICE);
    /* Job 2 was not sealed: it has its part. */
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 4, 0, EACH, 1), ALICE), 4 * EACH / 2);
    assert_int_equal(window(&r, submit_as(&r, BOB, 5, 0), BOB), 4 * MOST); /* his own */
    assert_int_equal(window(&r, submit_as(&r, EVE, 6, 0), EVE), 4 * MIB);
    sched_free(r.sched);
}

/* However many jobs were told of a window before it was full. */
static void many_jobs_do_not_pass_the_limit_of_tasks(void **state)
{
    enum { MOST = 16, JOBS = 20, EACH = 4096 };
    struct sched_quota quota = { .tasks = MOST, .priority = INT32_MAX };
    struct rig r;
    unsigned taken = 0;

    (void)state;
    init(&r, quota);
    for (uint8_t i = 0; i < JOBS; i++)
        accept(&r, submit_as(&r, ALICE, (uint8_t)(2 + i), 0), ALICE);
    for (uint64_t i = 0; i < JOBS; i++) {
        struct fx_group *g = chunk_as(&r, ALICE, 2 + i, 0, EACH, 0);
        taken += find(g, FX_CHUNK, 0) != NULL;
        if (sent_to(g, ALICE, MSG_ERROR)) {
            expect_error(g, ALICE, 1, MSG_CHUNK, WIRE_NO_SESSION);
            break;
        }
        fx_group_free(commit(&r, g));
    }
    assert_int_equal(taken, 17); /* a chunk of 16 jobs, and the one that passed it */
    sched_free(r.sched);
}

/* A window that was closed is told of when there is room, unasked. */
static void a_closed_window_opens_again(void **state)
{
    enum { MOST = 16 };
    struct sched_quota quota = { .tasks = MOST, .priority = INT32_MAX };
    struct rig r;

    (void)state;
    init(&r, quota);
    accept(&r, submit_as(&r, ALICE, 2, 0), ALICE);
    accept(&r, submit_as(&r, ALICE, 3, 0), ALICE);
    accept(&r, chunk_as(&r, ALICE, 3, 0, 1, 1), ALICE);
    assert_int_equal(window(&r, chunk_as(&r, ALICE, 2, 0, MOST - 1, 1), ALICE), 0);
    finish(&r, 3); /* one of sixteen: not an eighth */
    struct fx_group *g = turn(&r);
    assert_null(sent_to(g, ALICE, MSG_ACCEPTED));
    fx_group_free(g);
    accept(&r, submit_as(&r, ALICE, 4, 0), ALICE);
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 2, 0 } };
    accept(&r, chunk_as(&r, ALICE, 4, 0, 1, 1), ALICE);
    g = say(&r, CLIENT, &cancel);
    const struct msg *m = sent_to(g, ALICE, MSG_ACCEPTED);
    assert_non_null(m); /* of one of the two */
    assert_true(m->accepted.credit_bytes > 0);
    fx_group_free(g);
    sched_free(r.sched);
}

/* What was accepted before a restart counts after it. */
static void quotas_last(void **state)
{
    struct sched_quota quota = {
        .jobs = 1, .tasks = 10, .stored_bytes = 100, .priority = INT32_MAX
    };
    struct sched_config config = { .epoch = { 2, { 1 } }, .quota = quota };
    struct job_row row = { .id = 1,
                           .key = { 1 },
                           .spec = spec_of(false),
                           .ok = 5,
                           .owner = SPAN_LIT("alice"),
                           .bytes = 90 };
    struct chunk_row chunk = { .job = 1, .n = 14 };
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };

    (void)state;
    crypto_init();
    sched_load_job(r.sched, &row);
    sched_load_chunk(r.sched, &chunk, 5);
    sched_loaded(r.sched, 1);
    know(&r, ALICE, "alice", ROLE_CLIENT);
    fx_group_free(say_hello_as(&r, ALICE, ROLE_CLIENT));
    struct fx_group *g = submit_as(&r, ALICE, 1, 0);
    assert_int_equal(told(g, ALICE), 4); /* one task */
    fx_group_free(g);
    expect_error(submit_as(&r, ALICE, 2, 0), ALICE, 5, MSG_SUBMIT, NULL);
    expect_error(chunk_as(&r, ALICE, 1, 1, 1, 7), ALICE, 5, MSG_CHUNK, NULL);
    g = chunk_as(&r, ALICE, 1, 1, 1, 6);
    assert_int_equal(told(g, ALICE), 0);
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_is_its_keys_owners),
        cmocka_unit_test(an_owner_lasts),
        cmocka_unit_test(nobody_has_a_local_name_by_a_key),
        cmocka_unit_test(a_name_commands_no_terminal),
        cmocka_unit_test(a_nonce_makes_nobody_an_heir),
        cmocka_unit_test(an_heir_is_told_of_credit),
        cmocka_unit_test(jobs_have_a_number),
        cmocka_unit_test(priorities_have_a_ceiling),
        cmocka_unit_test(bytes_have_a_limit),
        cmocka_unit_test(empty_inputs_and_jobs_have_bytes),
        cmocka_unit_test(many_jobs_do_not_pass_the_limit_of_tasks),
        cmocka_unit_test(tasks_wait_for_those_before),
        cmocka_unit_test(a_closed_window_opens_again),
        cmocka_unit_test(quotas_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
