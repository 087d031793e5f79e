/* Why a job waits: each reason, in the words of the query "explain". */
#include "sched_rig.h"

#include "proto/map.h"

/* Is there a row of that reason about job 1, whose text is `text` (NULL = any)? */
static bool says(struct rig *r, const char *reason, const char *text)
{
    struct msg m = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("explain"), 1 } };
    struct fx_group *g = say(r, CLIENT, &m);
    const struct msg *a = sent_to(g, CLIENT, MSG_ANSWER);
    bool found = false;
    size_t pos = 0;

    assert_non_null(a);
    assert_true(a->answer.n >= 1 && a->answer.last);
    for (uint32_t i = 0; i < a->answer.n; i++) {
        struct map_value v;
        struct span key;
        size_t at = pos;
        uint32_t n;
        if (span_eq(map_get_str(a->body, at, "reason"), span_str(reason))) {
            found = true;
            if (text)
                assert_true(span_eq(map_get_str(a->body, at, "text"), span_str(text)));
        }
        assert_int_equal(map_unpack_begin(a->body, &pos, &n, NULL), 0);
        while (n--)
            assert_int_equal(map_unpack_next(a->body, &pos, &key, &v, NULL), 0);
    }
    fx_group_free(g);
    return found;
}

static void seal(struct rig *r, uint32_t chunks)
{
    struct msg m = { .type = MSG_SEAL, .seal = { 1, chunks, chunks } };
    say_and_commit(r, CLIENT, &m);
}

/* Job 1 with one chunk of one task. */
static void rig_one(struct rig *r)
{
    rig_init(r);
    fx_group_free(commit(r, say_chunk(r, 0, 1)));
}

static void drain_x(struct rig *r, bool undo)
{
    struct msg m = { .type = MSG_DRAIN, .drain = { SPAN_LIT("x"), undo, 0 } };
    say_and_commit(r, CLIENT, &m);
}

static void where_its_inputs_are(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_one(&r);
    assert_true(says(&r, "open", "its inputs are still being submitted"));
    seal(&r, 1);
    assert_false(says(&r, "open", NULL));
    sched_free(r.sched);
}

static void that_no_node_takes_it(void **state)
{
    struct msg bare = hello_of(WORKER, "x", 0);
    struct rig r = { 0 };

    (void)state;
    bare.hello.files = false;
    rig_one(&r);
    seal(&r, 1);
    assert_true(says(&r, "no_node", "no node is connected"));
    say_and_commit(&r, WORKER, &bare);
    assert_true(says(&r, "no_such_node",
                     "no node may use files; start a worker with --root DIR"));
    assert_false(says(&r, "no_node", NULL));
    drain_x(&r, false);
    bare.hello.files = bare.hello.draining = true;
    say_and_commit(&r, WORKER, &bare);
    assert_true(says(&r, "draining", NULL));
    drain_x(&r, true);
    assert_true(says(&r, "running", "1 task runs on 1 node"));
    assert_false(says(&r, "draining", NULL));
    sched_free(r.sched);
}

static void that_it_was_told_to(void **state)
{
    struct msg pause = { .type = MSG_PAUSE, .pause = { 1, false, 0 } };
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1, 0 } };
    struct rig r = { 0 };

    (void)state;
    rig_one(&r);
    fx_group_free(say(&r, CLIENT, &pause)); /* its chunk is read back, some day */
    assert_true(says(&r, "paused", "it is paused; tidemill job resume j1"));
    sched_free(r.sched);
    rig_one(&r);
    say_and_commit(&r, CLIENT, &cancel);
    assert_true(says(&r, "ended", "it has ended: cancelled"));
    sched_free(r.sched);
}

static void that_the_disk_does_not_allow_it(void **state)
{
    struct rig r = { .reserve_bytes = 64 * MIB, .free_bytes = 1024 * MIB };

    (void)state;
    rig_one(&r);
    r.free_bytes = 100 * MIB;
    assert_true(says(&r, "disk_low", NULL));
    r.free_bytes = 10 * MIB;
    assert_true(says(&r, "disk_full",
                     "the coordinator's disk is nearly full (10 MiB free): no task is "
                     "started"));
    r.free_bytes = 1024 * MIB;
    r.backlog = STORE_BACKLOG_MAX;
    assert_true(says(&r, "disk_slow", NULL));
    r.backlog = 0;
    assert_false(says(&r, "disk_slow", NULL) || says(&r, "disk_full", NULL));
    sched_free(r.sched);
}

/* One slot, so two leases: what follows waits for its turn. */
static void that_the_nodes_have_enough(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    for (uint32_t i = 0; i < 4; i++)
        fx_group_free(commit(&r, say_chunk(&r, i, 1)));
    seal(&r, 4);
    assert_true(says(&r, "busy", NULL));
    assert_true(says(&r, "running", "2 tasks run on 1 node"));
    sched_free(r.sched);
}

/* Job 1 once more, of which a failed task is tried again. */
static void rig_retrying(struct rig *r)
{
    struct msg m = { .type = MSG_SUBMIT };

    rig_init(r);
    sched_free(r->sched);
    r->sched = sched_new(&(struct sched_config){ .epoch = { 1, { 1 } } });
    sched_loaded(r->sched, 1);
    hello(r, CLIENT);
    m.submit = (struct msg_submit){ .key = { 1 }, .spec = spec_of(false), .retries = 3 };
    say_and_commit(r, CLIENT, &m);
    hello(r, WORKER);
    fx_group_free(commit(r, say_chunk(r, 0, 1)));
}

static void that_its_time_has_not_come(void **state)
{
    static const struct {
        uint8_t status;
        const char *reason, *text;
    } t[] = {
        { TASK_RETRYABLE, "retry",
          "1 task failed and will be tried again, the first in 40 s" },
        { TASK_NOT_YET, "server", "1 task waits for its server, the first in 40 s" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        static const uint32_t task = 0;
        static const uint8_t body[INPUT_BYTES] = { 1, 1, 1, 1 };
        struct task_value v = { .retry_after_s = 40 };
        AUTO_BUF value = BUF_INIT;
        struct rig r = { 0 };
        rig_retrying(&r);
        value_pack(&value, &v);
        uint32_t len = (uint32_t)value.len;
        struct msg m = done_of(0, &task, span_of(body, sizeof(body)));
        m.body = buf_span(&value);
        m.done.batch = (struct task_batch){ 1, &task, &t[i].status, &len };
        say_and_commit(&r, WORKER, &m);
        assert_true(says(&r, t[i].reason, t[i].text));
        assert_false(says(&r, t[1 - i].reason, NULL));
        sched_free(r.sched);
    }
}

/* A chunk of one task of job 1 for a node. */
static void give_to(struct rig *r, uint32_t seq, const char *node)
{
    struct msg m = { .type = MSG_CHUNK, .body = SPAN_LIT("abcd") };
    uint32_t len = 4;
    struct span parts[] = { span_of(&len, sizeof(len)), m.body, span_str(node) };

    m.chunk = (struct msg_chunk){
        .job = 1, .seq = seq, .n = 1, .lens = &len, .node = span_str(node)
    };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    say_and_commit(r, CLIENT, &m);
}

/* Tasks for one node are about that node, whatever the others do. */
static void that_one_of_its_nodes_has_enough_or_is_drained(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    hello(&r, OTHER);
    drain_x(&r, false);
    give_to(&r, 0, "x");
    for (uint32_t i = 1; i < 5; i++)
        give_to(&r, i, "y"); /* of which it has two */
    give_to(&r, 5, "z");
    seal(&r, 6);
    assert_true(says(&r, "draining",
                     "1 task is for node x, which is drained (tidemill node undrain)"));
    assert_true(
        says(&r, "busy", "2 tasks are for node y, which has as much as it takes"));
    assert_true(says(&r, "node_away", "1 task is for node z, which is not connected"));
    assert_true(says(&r, "running", "2 tasks run on 1 node"));
    drain_x(&r, true);
    assert_false(says(&r, "draining", NULL) || says(&r, "ready", NULL));
    assert_true(says(&r, "running", "3 tasks run on 2 nodes"));
    sched_free(r.sched);
}

/* A task that runs on two nodes, one being slow, is one that runs. */
static void that_it_runs_counted_once(void **state)
{
    struct msg beat = { .type = MSG_BEAT };
    struct rig r = { 0 };
    bool hedged = false;

    (void)state;
    rig_one(&r);
    seal(&r, 1);
    hello(&r, WORKER);
    hello(&r, OTHER);
    for (int i = 0; i < 8; i++) {
        r.now_ns += NS_PER_S;
        struct fx_group *g = begin(&r);
        sched_message(r.sched, WORKER, SPAN_NONE, &beat);
        sched_message(r.sched, OTHER, SPAN_NONE, &beat);
        sched_message(r.sched, CLIENT, SPAN_NONE, &beat);
        sched_turn_end(r.sched);
        hedged |= sent_to(g, OTHER, MSG_LEASE) != NULL;
        fx_group_free(g);
    }
    assert_true(hedged);
    assert_true(says(&r, "running", "1 task runs on 2 nodes"));
    sched_free(r.sched);
}

/* Of what has ended nothing else is said; nor of what runs, that it is not started. */
static void nothing_that_is_not_so(void **state)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1, 0 } };
    struct rig r = { .reserve_bytes = 64 * MIB };

    (void)state;
    rig_one(&r);
    hello(&r, WORKER);
    seal(&r, 1);
    fx_group_free(turn(&r));
    r.free_bytes = 10 * MIB;
    assert_true(says(&r, "running", NULL));
    assert_false(says(&r, "disk_full", NULL));
    sched_drain(r.sched);
    assert_false(says(&r, "stopping", NULL));
    say_and_commit(&r, CLIENT, &cancel);
    assert_true(says(&r, "ended", "it has ended: cancelled"));
    assert_false(says(&r, "disk_full", NULL) || says(&r, "stopping", NULL) ||
                 says(&r, "running", NULL));
    sched_free(r.sched);
}

/* The memory is full of what a job that was first has for the same node. */
static void that_there_is_no_memory_for_it(void **state)
{
    struct msg m = { .type = MSG_SUBMIT };
    struct rig r = { .open_bytes = KIB };

    (void)state;
    rig_init(&r);
    m.submit = (struct msg_submit){ .key = { 2 }, .spec = spec_of(false) };
    say_and_commit(&r, CLIENT, &m);
    for (uint32_t i = 0; i < 20; i++)
        fx_group_free(commit(&r, say_inputs_of(&r, 2, i, 1, 4, SPAN_LIT("abcd"))));
    for (uint32_t i = 0; i < 4; i++)
        fx_group_free(commit(&r, say_chunk(&r, i, 1)));
    seal(&r, 4);
    struct msg x = hello_of(WORKER, "x", 0);
    x.hello.cpu_slots = 64;
    say_and_commit(&r, WORKER, &x);
    assert_true(says(&r, "memory", NULL));
    assert_false(says(&r, "ready", NULL));
    sched_free(r.sched);
}

static void that_its_node_is_away(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    give_to(&r, 0, "y");
    seal(&r, 1);
    assert_true(says(&r, "node_away", "1 task is for node y, which is not connected"));
    struct msg bare = hello_of(OTHER, "y", 3);
    bare.hello.files = false;
    fx_group_free(say(&r, OTHER, &bare)); /* it is read back, some day */
    assert_true(says(&r, "node_unfit", "1 task is for node y, which may not run it"));
    sched_free(r.sched);
}

static void that_there_is_no_such_job(void **state)
{
    struct msg m = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("explain"), 7 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    struct fx_group *g = say(&r, CLIENT, &m);
    assert_int_equal(sent_to(g, CLIENT, MSG_ANSWER)->answer.n, 0);
    fx_group_free(g);
    sched_free(r.sched);
}

static unsigned answers_in(struct fx_group *g)
{
    const struct fx *fx;
    unsigned n = 0;

    STAILQ_FOREACH (fx, &g->list, node)
        n += fx->type == FX_SEND && fx->send.msg.type == MSG_ANSWER;
    fx_group_free(g);
    return n;
}

/* It looks at all chunks, so one who asks many times at once waits between the answers,
 * and nobody else does. */
static void one_at_a_time(void **state)
{
    enum { ASKED = 5 };
    struct msg m = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("explain"), 1 } };
    struct rig r = { 0 };

    (void)state;
    rig_one(&r);
    struct fx_group *g = begin(&r);
    for (int i = 0; i < ASKED; i++)
        sched_message(r.sched, CLIENT, SPAN_NONE, &m);
    for (int i = 0; i < ASKED; i++) {
        sched_peer_queued(r.sched, CLIENT, 0); /* as at the end of each turn */
        sched_turn_end(r.sched);
        assert_int_equal(answers_in(g), 1);
        assert_int_equal(sched_next_ns(r.sched) <= r.now_ns, i + 1 < ASKED);
        g = begin(&r);
    }
    sched_turn_end(r.sched);
    assert_int_equal(answers_in(g), 0);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_its_inputs_are),
        cmocka_unit_test(that_no_node_takes_it),
        cmocka_unit_test(that_it_was_told_to),
        cmocka_unit_test(that_the_disk_does_not_allow_it),
        cmocka_unit_test(that_the_nodes_have_enough),
        cmocka_unit_test(that_its_time_has_not_come),
        cmocka_unit_test(that_one_of_its_nodes_has_enough_or_is_drained),
        cmocka_unit_test(that_it_runs_counted_once),
        cmocka_unit_test(nothing_that_is_not_so),
        cmocka_unit_test(that_there_is_no_memory_for_it),
        cmocka_unit_test(that_its_node_is_away),
        cmocka_unit_test(that_there_is_no_such_job),
        cmocka_unit_test(one_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
