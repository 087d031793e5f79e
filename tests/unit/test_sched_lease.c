/* How leases end: by progress that stops, and by another node that was faster. */
#include "sched_rig.h"

/* Seconds go by in which both nodes beat; says whether `peer` was sent a message. */
static const struct msg *wait_for(struct rig *r, int seconds, peer_id peer,
                                  enum msg_type type, const uint64_t *progressing,
                                  struct fx_group **ret)
{
    struct msg idle = { .type = MSG_BEAT }, m = idle;

    m.beat.progressing = progressing;
    m.beat.n_progressing = progressing ? 1 : 0;
    for (int i = 0; i < seconds; i++) {
        r->now_ns += NS_PER_S;
        *ret = begin(r);
        sched_message(r->sched, OTHER, SPAN_NONE, &idle);
        sched_message(r->sched, WORKER, SPAN_NONE, &m);
        sched_turn_end(r->sched);
        if (sent_to(*ret, peer, type))
            return sent_to(*ret, peer, type);
        fx_group_free(*ret);
        *ret = NULL;
    }
    return NULL;
}

/* One chunk of one task; the lease that the one worker got. */
static uint64_t lease_of_one(struct rig *r)
{
    hello(r, WORKER);
    struct fx_group *g = commit(r, say_inputs(r, 0, 1, SPAN_LIT("abcd")));
    const struct msg *lease = sent_to(g, WORKER, MSG_LEASE);
    assert_non_null(lease);
    uint64_t id = lease->lease.lease;
    fx_group_free(g);
    return id;
}

static struct fx_group *done_value(struct rig *r, peer_id peer, uint64_t lease,
                                   uint8_t status, const struct task_value *value)
{
    static const uint32_t task = 0;
    AUTO_BUF packed = BUF_INIT;
    struct msg m = done_of(0, &task, SPAN_LIT("abcd"));

    if (value)
        value_pack(&packed, value);
    uint32_t len = (uint32_t)packed.len;
    m.body = buf_span(&packed);
    m.done.lease = lease;
    m.done.last = false;
    m.done.batch = (struct task_batch){ 1, &task, &status, &len };
    return say(r, peer, &m);
}

static struct fx_group *done(struct rig *r, peer_id peer, uint64_t lease, uint8_t status)
{
    return done_value(r, peer, lease, status, NULL);
}

/* A node that beats but does not get on loses the lease; one that does keeps it. */
static void a_lease_is_renewed_by_progress(void **state)
{
    for (int moves = 0; moves <= 1; moves++) {
        struct rig r = { 0 };
        struct fx_group *g = NULL;
        (void)state;
        rig_init(&r);
        uint64_t lease = lease_of_one(&r);
        const struct msg *revoke =
            wait_for(&r, 70, WORKER, MSG_REVOKE, moves ? &lease : NULL, &g);
        assert_int_equal(revoke != NULL, !moves);
        if (revoke)
            assert_int_equal(revoke->revoke.lease, lease);
        if (revoke) /* and its tasks are leased again at once */
            assert_non_null(sent_to(g, WORKER, MSG_LEASE));
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* One second in which worker and client beat. */
static struct fx_group *second(struct rig *r)
{
    struct msg idle = { .type = MSG_BEAT };

    r->now_ns += NS_PER_S - NS_PER_MS; /* begin() adds it */
    struct fx_group *g = begin(r);
    sched_message(r->sched, CLIENT, SPAN_NONE, &idle);
    sched_message(r->sched, WORKER, SPAN_NONE, &idle);
    sched_turn_end(r->sched);
    return g;
}

/* R11: a task whose server may not be asked yet is not tried, however often it is sent
 * back, and is leased again when its time has come, not before; never again at once. */
static void a_task_comes_when_its_server_may_be_asked(void **state)
{
    static const struct {
        uint32_t asked_s;
        int seconds;
    } t[] = { { 5, 5 }, { 1, 1 }, { 0, 1 }, { 7200, 3600 } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct rig r = { 0 };
        rig_init(&r);
        uint64_t lease = lease_of_one(&r);
        for (int again = 0; again < 3; again++) { /* of a job without retries */
            struct task_value v = { .retry_after_s = t[i].asked_s };
            struct fx_group *g = done_value(&r, WORKER, lease, TASK_NOT_YET, &v);
            assert_null(find(g, FX_BATCH, 0));
            assert_null(sent_to(g, WORKER, MSG_LEASE));
            assert_int_equal(sent_to(g, WORKER, MSG_COMMITTED)->committed.n_lost, 1);
            fx_group_free(g);
            for (int s = 1; s < t[i].seconds; s++) {
                g = second(&r);
                assert_null(sent_to(g, WORKER, MSG_LEASE));
                fx_group_free(g);
            }
            g = second(&r);
            assert_non_null(sent_to(g, WORKER, MSG_LEASE));
            lease = sent_to(g, WORKER, MSG_LEASE)->lease.lease;
            fx_group_free(g);
        }
        struct fx_group *g = done(&r, WORKER, lease, TASK_OK);
        assert_int_equal(*(const uint32_t *)find(g, FX_BATCH, 0)->batch.attempts->data,
                         1);
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* At the tail an idle node gets what a slow one is on; the first good result counts, the
 * other's is lost, and the slow one is told to stop. */
static void an_idle_node_runs_a_straggler(void **state)
{
    struct rig r = { 0 };
    struct fx_group *g = NULL;

    (void)state;
    rig_init(&r);
    uint64_t first = lease_of_one(&r);
    hello(&r, OTHER);
    const struct msg *lease = wait_for(&r, 5, OTHER, MSG_LEASE, &first, &g);
    assert_non_null(lease);
    uint64_t second = lease->lease.lease;
    assert_int_not_equal(second, first);
    fx_group_free(g);

    /* A failure of the second does not count while the first is still on it. */
    g = done(&r, OTHER, second, TASK_FAILED);
    assert_int_equal(sent_to(g, OTHER, MSG_COMMITTED)->committed.n_won, 0);
    fx_group_free(g);
    g = done(&r, WORKER, first, TASK_OK);
    assert_int_equal(sent_to(g, WORKER, MSG_COMMITTED)->committed.n_won, 1);
    fx_group_free(g);
    sched_free(r.sched);
}

static void the_faster_one_wins_and_the_other_stops(void **state)
{
    struct rig r = { 0 };
    struct fx_group *g = NULL;

    (void)state;
    rig_init(&r);
    uint64_t first = lease_of_one(&r);
    hello(&r, OTHER);
    const struct msg *lease = wait_for(&r, 5, OTHER, MSG_LEASE, &first, &g);
    assert_non_null(lease);
    uint64_t second = lease->lease.lease;
    fx_group_free(g);
    g = done(&r, OTHER, second, TASK_OK);
    assert_int_equal(sent_to(g, OTHER, MSG_COMMITTED)->committed.n_won, 1);
    assert_int_equal(sent_to(g, WORKER, MSG_REVOKE)->revoke.lease, first);
    fx_group_free(g);
    g = done(&r, WORKER, first, TASK_OK); /* it was on its way */
    const struct msg *answer = sent_to(g, WORKER, MSG_COMMITTED);
    assert_int_equal(answer->committed.n_won, 0);
    assert_int_equal(answer->committed.n_lost, 1);
    fx_group_free(g);
    sched_free(r.sched);
}

/* A worker keeps the spec of a job until it hears that the job has ended: done or
 * cancelled, whoever was sent the spec in this session is told, and nobody else. */
static void a_worker_hears_that_a_job_has_ended(void **state)
{
    const struct msg seal = { .type = MSG_SEAL, .seal = { 1, 1, 1 } };
    const struct msg cancel = { .type = MSG_CANCEL, .cancel.job = 1 };

    (void)state;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct rig r = { 0 };
        rig_init(&r);
        uint64_t lease = lease_of_one(&r);
        hello(&r, OTHER);
        struct fx_group *g = say(&r, CLIENT, cancelled ? &cancel : &seal);
        if (!cancelled) {
            assert_null(sent_to(g, WORKER, MSG_REVOKE));
            fx_group_free(g);
            g = done(&r, WORKER, lease, TASK_OK);
        }
        const struct fx *last = NULL, *fx;
        STAILQ_FOREACH (fx, &g->list, node)
            if (fx->type == FX_SEND && fx->send.msg.type == MSG_REVOKE)
                last = fx;
        assert_non_null(last);
        assert_int_equal(last->send.peer, WORKER);
        assert_int_equal(last->send.msg.revoke.lease, 0);
        assert_int_equal(last->send.msg.revoke.job, 1);
        assert_null(sent_to(g, OTHER, MSG_REVOKE));
        fx_group_free(g);
        sched_free(r.sched);
    }
}

enum { CHUNK_TASKS = 24 };

static uint32_t leases_in(const struct fx_group *g)
{
    const struct fx *fx;
    uint32_t n = 0;

    STAILQ_FOREACH (fx, &g->list, node)
        n += fx->type == FX_SEND_NOW && fx->send.msg.type == MSG_LEASE;
    return n;
}

/* Tasks of the first lease of a worker that comes when so many chunks wait. */
static uint32_t first_shard(bool light, uint32_t chunks, uint32_t *ret_leases)
{
    struct msg m = hello_of(WORKER, "x", 0);
    struct rig r = { .light = light };

    rig_init(&r);
    for (uint32_t seq = 0; seq < chunks; seq++)
        fx_group_free(commit(&r, say_inputs_of(&r, 1, seq, CHUNK_TASKS, 1,
                                               SPAN_LIT("aaaaaaaaaaaaaaaaaaaaaaaa"))));
    struct fx_group *g = say(&r, WORKER, &m);
    const struct msg *lease = sent_to(g, WORKER, MSG_LEASE);
    assert_non_null(lease);
    uint32_t n = lease->lease.n_lens;
    *ret_leases = leases_in(g);
    fx_group_free(g);
    sched_free(r.sched);
    return n;
}

/* At the end of a chunk only when nothing else waits: else a job of many chunks would be
 * leased in crumbs. */
static void shards_shrink_at_the_end_of_what_waits(void **state)
{
    uint32_t leases;

    (void)state;
    assert_int_equal(first_shard(false, 1, &leases), CHUNK_TASKS / 2);
    assert_int_equal(leases, 2); /* for its one slot */
    assert_int_equal(first_shard(false, 2, &leases), 16);
    assert_int_equal(leases, 2);
}

/* What costs less than a message is not cut, and a slot has more of it ahead. */
static void light_tasks_are_leased_by_the_chunk(void **state)
{
    uint32_t leases;

    (void)state;
    assert_int_equal(first_shard(true, 1, &leases), CHUNK_TASKS);
    assert_int_equal(leases, 1);
    assert_int_equal(first_shard(true, 6, &leases), CHUNK_TASKS);
    assert_int_equal(leases, 6);
}

/* R12: what others do to its mills does not count against a task, but not for ever. */
static void a_task_whose_mills_are_always_killed_is_given_up(void **state)
{
    struct rig r = { 0 };
    unsigned losses = 0;
    bool won = false;

    (void)state;
    rig_init(&r);
    uint64_t lease = lease_of_one(&r);
    while (!won && losses < 1000) {
        struct fx_group *g = done(&r, WORKER, lease, TASK_LOST);
        const struct msg *again = sent_to(g, WORKER, MSG_LEASE);
        won = sent_to(g, WORKER, MSG_COMMITTED)->committed.n_won == 1;
        assert_int_equal(again != NULL, !won);
        if (again)
            lease = again->lease.lease;
        losses++;
        fx_group_free(g);
    }
    assert_true(won);
    assert_true(losses > 50);
    sched_free(r.sched);
}

/* A worker that says that it does not know the job gets its spec once more; that it was
 * told before is no reason to give it leases it can only give back. */
static void a_lease_that_comes_back_is_given_with_its_spec(void **state)
{
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    uint64_t lease = lease_of_one(&r);
    struct msg back = done_of(0, NULL, SPAN_LIT("abcd"));
    for (int i = 0; i < 3; i++) {
        back.done.lease = lease;
        back.done.batch = (struct task_batch){ 0 };
        struct fx_group *g = say(&r, WORKER, &back);
        const struct msg *again = sent_to(g, WORKER, MSG_LEASE);
        assert_non_null(again);
        assert_true(span_eq(again->lease.spec, spec_of(false)));
        lease = again->lease.lease;
        fx_group_free(g);
    }
    sched_free(r.sched);
}

/* A message that its link had no room for is not made good by the next ones: the session
 * ends, and the leases are for others. */
static void who_was_not_told_begins_a_new_session(void **state)
{
    struct msg beat = { .type = MSG_BEAT };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    lease_of_one(&r);
    hello(&r, OTHER);
    struct fx_group *g = begin(&r);
    sched_peer_unsent(r.sched, WORKER);
    sched_peer_unsent(r.sched, CLIENT);
    sched_turn_end(r.sched);
    assert_non_null(sent_to(g, OTHER, MSG_LEASE));
    fx_group_free(g);
    for (peer_id peer = CLIENT; peer <= WORKER; peer++) {
        g = say(&r, peer, &beat);
        const struct msg *m = sent_to(g, peer, MSG_ERROR);
        assert_non_null(m);
        assert_true(span_eq(m->error.text, SPAN_LIT(WIRE_NO_SESSION)));
        fx_group_free(g);
    }
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_is_renewed_by_progress),
        cmocka_unit_test(a_task_comes_when_its_server_may_be_asked),
        cmocka_unit_test(an_idle_node_runs_a_straggler),
        cmocka_unit_test(a_task_whose_mills_are_always_killed_is_given_up),
        cmocka_unit_test(the_faster_one_wins_and_the_other_stops),
        cmocka_unit_test(a_worker_hears_that_a_job_has_ended),
        cmocka_unit_test(shards_shrink_at_the_end_of_what_waits),
        cmocka_unit_test(light_tasks_are_leased_by_the_chunk),
        cmocka_unit_test(a_lease_that_comes_back_is_given_with_its_spec),
        cmocka_unit_test(who_was_not_told_begins_a_new_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
