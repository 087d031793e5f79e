/* Which nodes get what: by name, label, roots and identity, and chunks that are for one
 * node alone; and when it is said that nobody can. */
#include "sched_rig.h"

#define SETTLED (3 * NS_PER_S) /* others that were starting too are there by then */

static void come(struct rig *r, peer_id peer, const char *name, const char *labels)
{
    struct msg m = hello_of(peer, name, (uint8_t)(peer + 1));

    m.hello.labels = span_str(labels);
    m.hello.io_slots = 2;
    say_and_commit(r, peer, &m);
}

static struct fx_group *say_spec(struct rig *r, uint8_t key, const struct job_spec *spec)
{
    AUTO_BUF packed = BUF_INIT;
    struct msg m = { .type = MSG_SUBMIT };

    spec_pack(&packed, spec);
    m.submit = (struct msg_submit){ .key = { key }, .spec = buf_span(&packed) };
    return say(r, CLIENT, &m);
}

static struct job_spec spec_on(const char *on)
{
    return (struct job_spec){ .command = SPAN_LIT("map"), .on = span_str(on) };
}

/* A chunk of one input of a job, for a node ("" = any); what follows from its commit. */
static struct fx_group *give(struct rig *r, uint64_t job, uint32_t seq, const char *node)
{
    struct span body = SPAN_LIT("abcd");
    uint32_t len = 4;
    struct msg m = { .type = MSG_CHUNK, .body = body };
    struct span parts[] = { span_of(&len, sizeof(len)), body, span_str(node) };

    m.chunk = (struct msg_chunk){
        .job = job, .seq = seq, .n = 1, .lens = &len, .node = span_str(node)
    };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    struct fx_group *g = say(r, CLIENT, &m);
    assert_null(sent(g, MSG_ERROR));
    return commit(r, g);
}

static void beat_all(struct rig *r)
{
    struct msg m = { .type = MSG_BEAT };
    for (peer_id p = CLIENT; p <= OTHER; p++)
        fx_group_free(say(r, p, &m));
}

/* So much time goes by, in which all beat. */
static void pass(struct rig *r, int64_t ns)
{
    for (int64_t until = r->now_ns + ns; r->now_ns < until; r->now_ns += NS_PER_S / 2)
        beat_all(r);
}

static void a_job_goes_where_its_selectors_say(void **state)
{
    static const struct {
        const char *on;
        peer_id to;
    } t[] = { { "x", WORKER },
              { "y", OTHER },
              { "disk=ssd", OTHER },
              { "site=b\ndisk=hdd", WORKER } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct rig r = { 0 };
        struct job_spec spec = spec_on(t[i].on);
        rig_init(&r);
        come(&r, WORKER, "x", "disk=hdd\nsite=b");
        come(&r, OTHER, "y", "disk=ssd\nsite=b");
        fx_group_free(commit(&r, say_spec(&r, 2, &spec)));
        struct fx_group *g = give(&r, 2, 0, "");
        const struct msg *lease = sent(g, MSG_LEASE);
        assert_non_null(lease);
        assert_non_null(sent_to(g, t[i].to, MSG_LEASE));
        assert_int_equal(lease->lease.job, 2);
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* All that a job may ask of a node: refused at once, with what is lacking, once the nodes
 * there are have had the time to come. */
static void what_nobody_can_run_is_refused_at_once(void **state)
{
    struct job_spec path = { .source = SOURCE_PATH };
    struct job_spec dir = { .source = SOURCE_DIR };
    struct job_spec decrypt = { .transform = TRANSFORM_DECRYPT,
                                .recipients = { SPAN_LIT("age1x") },
                                .n_recipients = 1 };
    struct job_spec fetch = { .source = SOURCE_URL, .on = SPAN_LIT("x") };
    const struct job_spec specs[] = { path,  dir,          decrypt,
                                      fetch, spec_on("z"), spec_on("disk=ssd\nsite=b") };
    static const char *const texts[] = {
        "cannot be placed: no node may use files",
        "cannot be placed: no node may use files",
        "cannot be placed: no node has an identity for these files",
        "cannot be placed: no node fetches",
        "cannot be placed: no node is z",
        "cannot be placed: no node is disk=ssd and site=b",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct msg m = hello_of(WORKER, "x", 0);
        struct rig r = { .light = true };
        rig_init(&r);
        m.hello.files = false;
        m.hello.labels = SPAN_LIT("disk=hdd\nsite=b");
        say_and_commit(&r, WORKER, &m);
        pass(&r, SETTLED);
        struct fx_group *g = say_spec(&r, 2, &specs[i]);
        const struct msg *error = sent(g, MSG_ERROR);
        assert_non_null(error);
        assert_int_equal(error->error.code, 10);
        assert_true(span_eq(error->error.text, span_str(texts[i])));
        assert_null(find(g, FX_JOB, 0));
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* Where a node has just come, or none is known, others may be on their way. */
static void what_a_node_that_is_starting_can_run_is_not_refused(void **state)
{
    for (int nodes = 0; nodes <= 1; nodes++) {
        struct rig r = { 0 };
        struct job_spec spec = spec_on("y");
        (void)state;
        rig_init(&r);
        pass(&r, SETTLED);
        if (nodes)
            come(&r, WORKER, "x", "");
        struct fx_group *g = commit(&r, say_spec(&r, 2, &spec));
        assert_null(sent(g, MSG_ERROR));
        fx_group_free(g);
        fx_group_free(give(&r, 2, 0, ""));
        struct msg hello = hello_of(OTHER, "y", 3);
        g = say(&r, OTHER, &hello);
        if (nodes)
            g = commit(&r, g); /* it is read back */
        assert_non_null(sent_to(g, OTHER, MSG_LEASE));
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* Turns with beats until the client is told that its job cannot be placed; NS_PER_S
 * apart. -1 = not within a minute. */
static int seconds_until_told(struct rig *r)
{
    for (int i = 0; i < 60; i++) {
        struct msg m = { .type = MSG_BEAT };
        r->now_ns += NS_PER_S;
        struct fx_group *g = begin(r);
        sched_message(r->sched, CLIENT, SPAN_NONE, &m);
        sched_message(r->sched, WORKER, SPAN_NONE, &m);
        sched_turn_end(r->sched);
        const struct msg *error = sent_to(g, CLIENT, MSG_ERROR);
        bool told = error && error->error.code == 10 && error->error.about == MSG_FOLLOW;
        fx_group_free(g);
        if (told)
            return i;
    }
    return -1;
}

static void follow(struct rig *r, uint64_t job)
{
    struct msg m = { .type = MSG_FOLLOW, .follow = { .job = job, .credit_bytes = MIB } };
    fx_group_free(say(r, CLIENT, &m));
}

/* Who waits for a job is told when nobody can run it: of one that nobody ever could when
 * the nodes have had time to come, of one whose node went when it may not come back. */
static void followers_are_told_in_time(void **state)
{
    for (int could = 0; could <= 1; could++) {
        struct rig r = { 0 };
        struct job_spec spec = spec_on("y");
        struct msg leaving = { .type = MSG_BEAT, .beat = { .leaving = true } };
        (void)state;
        rig_init(&r);
        pass(&r, SETTLED);
        come(&r, WORKER, "x", "");
        if (could)
            come(&r, OTHER, "y", "");
        fx_group_free(commit(&r, say_spec(&r, 2, &spec)));
        follow(&r, 2);
        if (could) {
            pass(&r, SETTLED);
            fx_group_free(say(&r, OTHER, &leaving));
        }
        int told = seconds_until_told(&r);
        assert_in_range(told, could ? 8 : 0, could ? 12 : 3);
        sched_free(r.sched);
    }
}

/* A worker that is started over and over, or many new ones, put that off for ten seconds
 * at most; where it is the only one, from when it first came. */
static void nodes_that_keep_coming_do_not_put_it_off(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool alone = i & 1, same = i & 2;
        struct msg leaving = { .type = MSG_BEAT, .beat = { .leaving = true } };
        struct msg beat = { .type = MSG_BEAT };
        struct rig r = { 0 };
        struct job_spec spec = spec_on("y");
        int64_t told_ns = 0;
        rig_init(&r);
        if (!alone)
            come(&r, WORKER, "x", "");
        come(&r, OTHER, "z", "");
        fx_group_free(commit(&r, say_spec(&r, 2, &spec)));
        follow(&r, 2);
        int64_t since_ns = r.now_ns;
        for (int n = 0; n < 60 && !told_ns; n++) {
            AUTO_FREE char *name = xasprintf("z%d", same ? 0 : n);
            struct msg hello = hello_of(OTHER, name, (uint8_t)n);
            r.now_ns += NS_PER_S / 2;
            fx_group_free(say(&r, OTHER, &leaving));
            fx_group_free(say(&r, CLIENT, &beat));
            fx_group_free(say(&r, WORKER, &beat));
            r.now_ns += NS_PER_S / 2;
            struct fx_group *g = say(&r, OTHER, &hello);
            const struct msg *error = sent_to(g, CLIENT, MSG_ERROR);
            if (error && error->error.code == 10)
                told_ns = r.now_ns;
            fx_group_free(g);
        }
        assert_in_range(told_ns - since_ns, NS_PER_S, 12 * NS_PER_S);
        sched_free(r.sched);
    }
}

/* ---- chunks for one node ---- */

static void a_chunk_runs_on_its_node_alone(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    come(&r, WORKER, "x", "");
    struct fx_group *g = give(&r, 1, 0, "y");
    assert_null(sent(g, MSG_LEASE)); /* y is not there, x is none of its business */
    fx_group_free(g);
    g = give(&r, 1, 1, "x");
    assert_int_equal(sent_to(g, WORKER, MSG_LEASE)->lease.chunk, 1);
    fx_group_free(g);
    struct msg hello = hello_of(OTHER, "y", 3);
    g = say(&r, OTHER, &hello);
    assert_int_equal(answer_reads(g), 1); /* it was on disk only */
    g = commit(&r, g);
    assert_null(sent_to(g, WORKER, MSG_LEASE));
    assert_int_equal(sent_to(g, OTHER, MSG_LEASE)->lease.chunk, 0);
    fx_group_free(g);
    sched_free(r.sched);
}

/* A node that is away keeps its tasks waiting, on disk, however many they are, and nobody
 * else's; when it comes they are read back and it gets them. */
static void a_node_that_is_away_delays_nobody_else(void **state)
{
    enum { N = 40 }; /* far more than is read ahead */
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    for (uint32_t i = 0; i < N; i++)
        fx_group_free(give(&r, 1, i, "y"));
    come(&r, WORKER, "x", "");
    struct fx_group *g = give(&r, 1, N, "x");
    assert_int_equal(sent_to(g, WORKER, MSG_LEASE)->lease.chunk, N);
    assert_null(find(g, FX_READ_CHUNK, 0)); /* of a node that is not there */
    fx_group_free(g);
    struct msg hello = hello_of(OTHER, "y", 3);
    g = say(&r, OTHER, &hello);
    assert_true(answer_reads(g) >= 1);
    g = commit(&r, g);
    const struct msg *lease = sent_to(g, OTHER, MSG_LEASE);
    assert_non_null(lease);
    assert_int_equal(lease->lease.chunk, 0);
    fx_group_free(g);
    sched_free(r.sched);
}

/* After a restart too: the chunk's row says where it runs. */
static void a_chunk_stays_its_nodes_over_a_restart(void **state)
{
    struct sched_config config = { .epoch = { 2, { 2 } } };
    struct job_row job = {
        .id = 1, .key = { 1 }, .spec = spec_of(false), .state = JOB_SEALED
    };
    struct chunk_row chunk = { .job = 1, .n = 1, .node = SPAN_LIT("y") };
    struct rig r = { .now_ns = NS_PER_S };

    (void)state;
    crypto_init();
    r.sched = sched_new(&config);
    sched_load_job(r.sched, &job);
    sched_load_chunk(r.sched, &chunk, 0);
    sched_loaded(r.sched, 1);
    struct msg hello = hello_of(WORKER, "x", 1), other = hello_of(OTHER, "y", 3);
    struct fx_group *g = say(&r, WORKER, &hello);
    assert_int_equal(answer_reads(g), 0);
    fx_group_free(commit(&r, g));
    g = say(&r, OTHER, &other);
    assert_int_equal(answer_reads(g), 1);
    g = commit(&r, g);
    assert_null(sent_to(g, WORKER, MSG_LEASE));
    assert_non_null(sent_to(g, OTHER, MSG_LEASE));
    fx_group_free(g);
    sched_free(r.sched);
}

/* What a walk finds is work for the others: it comes before what its owner asked first.
 */
static void a_walk_comes_before_other_jobs_of_its_owner(void **state)
{
    struct job_spec walk = { .command = SPAN_LIT("walk"), .source = SOURCE_DIR };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    for (uint32_t i = 0; i < 4; i++)
        fx_group_free(give(&r, 1, i, ""));
    fx_group_free(commit(&r, say_spec(&r, 2, &walk)));
    fx_group_free(give(&r, 2, 0, ""));
    struct msg hello = hello_of(WORKER, "x", 3);
    struct fx_group *g = say(&r, WORKER, &hello);
    assert_int_equal(sent_to(g, WORKER, MSG_LEASE)->lease.job, 2);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Neither is it run a second time elsewhere, when its node is slow; nor adopted by one
 * that says it holds a lease of it. */
static void nobody_takes_over_a_chunk_of_another_node(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    come(&r, WORKER, "x", "");
    come(&r, OTHER, "y", "");
    struct fx_group *g = give(&r, 1, 0, "x");
    assert_non_null(sent_to(g, WORKER, MSG_LEASE));
    fx_group_free(g);
    for (int s = 0; s < 20; s++) {
        struct msg m = { .type = MSG_BEAT };
        r.now_ns += NS_PER_S;
        g = begin(&r);
        sched_message(r.sched, WORKER, SPAN_NONE, &m);
        sched_message(r.sched, OTHER, SPAN_NONE, &m);
        sched_turn_end(r.sched);
        assert_null(sent_to(g, OTHER, MSG_LEASE));
        fx_group_free(g);
    }
    sched_free(r.sched);
}

static void a_lease_is_not_adopted_by_another_node(void **state)
{
    struct range range = { 0, 1 };
    struct rig r = { 0 };
    uint32_t len = 4;
    struct span parts[] = { span_of(&len, sizeof(len)), SPAN_LIT("abcd"), SPAN_LIT("y") };
    struct held_lease held = { .lease = 77, .job = 1, .ranges = &range, .n_ranges = 1 };

    (void)state;
    rig_init(&r);
    come(&r, OTHER, "y", "");
    fx_group_free(give(&r, 1, 0, "y"));
    checksum(parts, ARRAY_LEN(parts), held.digest);
    struct msg hello = hello_of(WORKER, "x", 1);
    hello.hello.held = &held;
    hello.hello.n_held = 1;
    struct fx_group *g = say(&r, WORKER, &hello);
    assert_int_equal(sent_to(g, WORKER, MSG_REVOKE)->revoke.lease, 77);
    fx_group_free(g);
    sched_free(r.sched);
}

/* A cancelled task of a node says whose it was; the same chunk for another node is
 * another chunk. */
static void a_chunk_is_told_with_its_node(void **state)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1, 0 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    fx_group_free(give(&r, 1, 0, "y"));
    uint32_t len = 4;
    struct msg m = { .type = MSG_CHUNK, .body = SPAN_LIT("abcd") };
    struct span parts[] = { span_of(&len, sizeof(len)), m.body, SPAN_LIT("x") };
    m.chunk = (struct msg_chunk){ .job = 1, .n = 1, .lens = &len, .node = SPAN_LIT("x") };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    expect_answer(say(&r, CLIENT, &m), 1);
    struct fx_group *g = say(&r, CLIENT, &cancel);
    const struct fx *batch = find(g, FX_BATCH, 0);
    assert_non_null(batch);
    assert_true(span_eq(batch->batch.node, SPAN_LIT("y")));
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_goes_where_its_selectors_say),
        cmocka_unit_test(what_nobody_can_run_is_refused_at_once),
        cmocka_unit_test(what_a_node_that_is_starting_can_run_is_not_refused),
        cmocka_unit_test(followers_are_told_in_time),
        cmocka_unit_test(nodes_that_keep_coming_do_not_put_it_off),
        cmocka_unit_test(a_chunk_runs_on_its_node_alone),
        cmocka_unit_test(a_node_that_is_away_delays_nobody_else),
        cmocka_unit_test(a_chunk_stays_its_nodes_over_a_restart),
        cmocka_unit_test(a_walk_comes_before_other_jobs_of_its_owner),
        cmocka_unit_test(nobody_takes_over_a_chunk_of_another_node),
        cmocka_unit_test(a_lease_is_not_adopted_by_another_node),
        cmocka_unit_test(a_chunk_is_told_with_its_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
