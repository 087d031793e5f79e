/* What nodes are told when they come, come back after a restart, drain; and jobs that are
 * paused. */
#include "sched_rig.h"

static const uint8_t digest0[WIRE_DIGEST_BYTES] = { 7 };
static const struct epoch earlier = { 1, { 1 } };
#define OLD_LEASE ((1ull << 32) + 9)

/* A scheduler of epoch 2, as it is after a restart: job 1 with one chunk of four tasks,
 * of which `recorded` have a record, and the node "x", which was there before. */
static void rig_restart(struct rig *r, uint32_t recorded)
{
    struct sched_config config = { .epoch = { 2, { 2 } } };
    struct chunk_row chunk = { .job = 1, .n = 4 };
    struct job_row job = {
        .id = 1, .key = { 1 }, .spec = spec_of(false), .state = JOB_SEALED
    };

    crypto_init();
    memcpy(chunk.digest, digest0, sizeof(digest0));
    *r = (struct rig){ .sched = sched_new(&config), .now_ns = NS_PER_S };
    sched_load_job(r->sched, &job);
    sched_load_chunk(r->sched, &chunk, recorded);
    sched_load_node(r->sched, SPAN_LIT("x"));
}

static struct fx_group *hello_as(struct rig *r, const char *name, uint8_t nonce,
                                 const struct held_lease *held)
{
    struct msg m = hello_of(WORKER, name, nonce);

    m.hello.epoch = earlier;
    m.hello.held = held;
    m.hello.n_held = held ? 1 : 0;
    return say(r, WORKER, &m);
}

/* The store's answer to the read of chunk 0: inputs of one byte. */
static void answer_chunk(struct fx_group *g, const char recorded[4])
{
    static const uint32_t lens[] = { 1, 1, 1, 1 };
    struct fx *fx = (struct fx *)find(g, FX_READ_CHUNK, 0);

    assert_non_null(fx);
    fx->read_chunk.ret = (struct chunk_row){ .job = 1, .n = 4 };
    memcpy(fx->read_chunk.ret.digest, digest0, sizeof(digest0));
    fx->read_chunk.ret.lens = blob_new(span_of(lens, sizeof(lens)));
    fx->read_chunk.ret.body = blob_new(SPAN_LIT("abcd"));
    fx->read_chunk.ret_recorded = blob_new(span_of(recorded, 4));
}

/* Another process that calls itself x. */
static struct fx_group *hello_other(struct rig *r, uint8_t nonce)
{
    struct msg m = hello_of(OTHER, "x", nonce);
    return say(r, OTHER, &m);
}

static struct fx_group *done(struct rig *r, uint64_t lease, const uint32_t *tasks,
                             uint32_t n)
{
    static const uint8_t ok[4] = { TASK_OK };
    static const uint32_t lens[4] = { 0 };
    struct msg m = { .type = MSG_DONE };

    m.done = (struct msg_done){
        .lease = lease, .job = 1, .epoch = earlier, .batch = { n, tasks, ok, lens }
    };
    memcpy(m.done.digest, digest0, sizeof(digest0));
    return say(r, WORKER, &m);
}

/* R4: what the node still works on is its own after a restart; what is recorded is not.
 */
static void leases_are_adopted_after_a_restart(void **state)
{
    static const struct range range = { 0, 3 };
    static const uint32_t tasks[] = { 0, 1, 2 };
    const struct held_lease held = { OLD_LEASE, 1, 0, &range, 1, { 7 } };
    struct rig r = { 0 };

    (void)state;
    rig_restart(&r, 1);
    sched_loaded(r.sched, 1);
    struct fx_group *g = hello_as(&r, "x", 5, &held);
    assert_null(sent(g, MSG_WELCOME)); /* first it must be known what counts */
    answer_chunk(g, "\1\0\0");
    fx_group_free(done(&r, OLD_LEASE, tasks, 3)); /* too early: it is said again */
    struct fx_group *after = commit(&r, g);
    assert_non_null(sent(after, MSG_WELCOME));
    assert_int_equal(sent(after, MSG_REVOKE)->revoke.lease, 0);
    /* The fourth task is nobody's: it is leased. */
    const struct msg *lease = sent(after, MSG_LEASE);
    assert_non_null(lease);
    assert_int_equal(lease->lease.ranges[0].first, 3);
    assert_int_equal(lease->lease.n_lens, 1);
    fx_group_free(after);
    g = done(&r, OLD_LEASE, tasks, 3);
    assert_int_equal(sent(g, MSG_COMMITTED)->committed.n_won, 2);
    assert_int_equal(sent(g, MSG_COMMITTED)->committed.n_lost, 1);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Its node is still on a task that has a record: it is told to stop, or it would go on
 * for as long as that takes, with a temporary of it. */
static void an_adopted_lease_that_owes_nothing_more_is_revoked(void **state)
{
    static const struct range range = { 0, 3 };
    static const uint32_t tasks[] = { 1, 2 };
    const struct held_lease held = { OLD_LEASE, 1, 0, &range, 1, { 7 } };
    struct rig r = { 0 };

    (void)state;
    rig_restart(&r, 1);
    sched_loaded(r.sched, 1);
    struct fx_group *g = hello_as(&r, "x", 5, &held);
    answer_chunk(g, "\1\0\0");
    fx_group_free(commit(&r, g));
    g = done(&r, OLD_LEASE, tasks, 1);
    assert_null(sent(g, MSG_REVOKE));
    fx_group_free(g);
    g = done(&r, OLD_LEASE, tasks + 1, 1);
    assert_int_equal(sent(g, MSG_COMMITTED)->committed.n_won, 1);
    assert_non_null(sent(g, MSG_REVOKE));
    assert_int_equal(sent(g, MSG_REVOKE)->revoke.lease, OLD_LEASE);
    fx_group_free(g);
    sched_free(r.sched);
}

/* A zombie's lease is revoked when all of it has ended otherwise. */
static void a_lease_without_anything_left_is_revoked(void **state)
{
    static const struct range range = { 0, 4 };
    const struct held_lease held = { OLD_LEASE, 1, 0, &range, 1, { 7 } };
    const struct held_lease other = { OLD_LEASE, 1, 0, &range, 1, { 8 } };
    struct rig r = { 0 };

    (void)state;
    rig_restart(&r, 4);
    sched_loaded(r.sched, 1);
    struct fx_group *g = hello_as(&r, "x", 5, &held);
    assert_int_equal(sent(g, MSG_REVOKE)->revoke.lease, OLD_LEASE);
    fx_group_free(g);
    sched_free(r.sched);

    rig_restart(&r, 0); /* a chunk with other bytes is another chunk */
    sched_loaded(r.sched, 1);
    g = hello_as(&r, "x", 5, &other);
    assert_int_equal(sent(g, MSG_REVOKE)->revoke.lease, OLD_LEASE);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Ids are numbers, so any worker can name those that are to come: of this epoch or of a
 * later one. Were they adopted, another's lease would have the same. */
static void a_lease_that_nobody_gave_is_not_adopted(void **state)
{
    static const uint64_t ids[] = { (2ull << 32) + 1, (2ull << 32) + 1000, 3ull << 32 };
    static const struct range range = { 0, 4 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        const struct held_lease held = { ids[i], 1, 0, &range, 1, { 7 } };
        struct rig r = { 0 };
        rig_restart(&r, 0);
        sched_loaded(r.sched, 1);
        struct fx_group *g = hello_as(&r, "x", 5, &held);
        assert_non_null(sent(g, MSG_WELCOME));
        assert_int_equal(sent(g, MSG_REVOKE)->revoke.lease, ids[i]);
        fx_group_free(g);
        sched_free(r.sched);
    }
}

/* And those that another holds: both have said so before the chunk was read. */
static void a_lease_is_adopted_by_one_node(void **state)
{
    static const struct range first = { 0, 2 }, rest = { 2, 2 };
    static const uint32_t tasks[] = { 0, 1 };
    const struct held_lease held[] = { { OLD_LEASE, 1, 0, &first, 1, { 7 } },
                                       { OLD_LEASE, 1, 0, &first, 1, { 7 } } };
    const struct held_lease stolen = { OLD_LEASE, 1, 0, &rest, 1, { 7 } };
    struct msg x = hello_of(WORKER, "x", 5), y = hello_of(OTHER, "y", 6);
    struct rig r = { 0 };

    (void)state;
    rig_restart(&r, 0);
    sched_loaded(r.sched, 1);
    x.hello.held = held; /* twice is once */
    x.hello.n_held = ARRAY_LEN(held);
    y.hello.held = &stolen;
    y.hello.n_held = 1;
    struct fx_group *g = say(&r, WORKER, &x);
    fx_group_free(say(&r, OTHER, &y));
    answer_chunk(g, "\0\0\0");
    struct fx_group *after = commit(&r, g);
    assert_int_equal(sent_to(after, OTHER, MSG_REVOKE)->revoke.lease, OLD_LEASE);
    assert_int_equal(sent_to(after, WORKER, MSG_REVOKE)->revoke.lease, 0);
    fx_group_free(after);
    g = done(&r, OLD_LEASE, tasks, 2);
    assert_int_equal(sent(g, MSG_COMMITTED)->committed.n_won, 2);
    fx_group_free(g);
    sched_free(r.sched);
}

/* R4: leasing starts when the nodes of before are back, or after 2 s. */
static void leasing_waits_for_the_nodes_of_before(void **state)
{
    for (int back = 0; back <= 1; back++) {
        struct rig r = { 0 };
        (void)state;
        rig_restart(&r, 0);
        sched_loaded(r.sched, 1);
        struct fx_group *g = hello_as(&r, back ? "x" : "y", 5, NULL);
        struct fx *read = (struct fx *)find(g, FX_READ_CHUNK, 0);
        if (!read) { /* it is read as the turn goes on */
            fx_group_free(commit(&r, g));
            g = turn(&r);
        }
        answer_chunk(g, "\0\0\0");
        struct fx_group *after = commit(&r, g);
        assert_int_equal(sent(after, MSG_LEASE) != NULL, back);
        fx_group_free(after);
        for (int i = 0; i < 3 && !back; i++) {
            r.now_ns += NS_PER_S;
            g = turn(&r);
            if (i == 2)
                assert_true(sched_next_ns(r.sched) > r.now_ns);
            back |= sent(g, MSG_LEASE) ? 2 : 0;
            fx_group_free(g);
        }
        assert_true(back);
        back &= 1;
        sched_free(r.sched);
    }
}

/* A restart on a job of three tasks, all recorded; the files of these are node x's to
 * publish. */
static void restart_unpublished(struct rig *r, const uint32_t *tasks, uint32_t n)
{
    struct batch_row pending = { .row = 1,
                                 .job = 1,
                                 .pending = true,
                                 .epoch = 1,
                                 .lease = OLD_LEASE,
                                 .n = n,
                                 .node = SPAN_LIT("x") };

    rig_restart(r, 3);
    pending.tasks = blob_new(span_of(tasks, n * sizeof(*tasks)));
    sched_load_pending(r->sched, &pending);
    sched_loaded(r->sched, 2);
    blob_unref(pending.tasks);
}

/* R8: a worker process that has forgotten what it won is told to publish it. */
static void a_new_process_is_told_to_publish(void **state)
{
    static const uint32_t tasks[] = { 2, 0, 1 };
    struct rig r = { 0 };

    (void)state;
    restart_unpublished(&r, tasks, 3);
    struct fx_group *g = hello_as(&r, "x", 5, NULL);
    answer_chunk(g, "\1\1\1");
    struct fx_group *after = commit(&r, g);
    const struct msg *m = sent(after, MSG_LEASE);
    assert_non_null(m);
    assert_true(m->lease.publish);
    assert_int_equal(m->lease.lease, OLD_LEASE);
    assert_int_equal(m->lease.attempt_epoch, 1);
    assert_int_equal(m->lease.n_ranges, 2); /* in the order of its Done */
    assert_int_equal(m->lease.ranges[0].first, 2);
    assert_int_equal(m->lease.ranges[1].first, 0);
    assert_true(span_eq(m->body, SPAN_LIT("cab")));
    fx_group_free(after);
    sched_free(r.sched);
}

/* Its chunk is damaged meanwhile: a file that nobody can name is not said to be there. */
static void what_cannot_be_published_fails(void **state)
{
    static const uint32_t task = 1;
    struct rig r = { 0 };

    (void)state;
    restart_unpublished(&r, &task, 1);
    struct fx_group *g = hello_as(&r, "x", 5, NULL);
    answer_chunk(g, "\1\1\1");
    struct fx *read = (struct fx *)find(g, FX_READ_CHUNK, 0);
    read->read_chunk.damaged = true;
    struct fx_group *after = commit(&r, g);
    const struct msg *lease = sent(after, MSG_LEASE);
    assert_true(!lease || !lease->lease.publish);
    const struct fx *shown = find(after, FX_SHOW, 0);
    assert_non_null(shown);
    assert_int_equal(shown->show.row, 1);
    assert_int_equal(shown->show.statuses->data[0], TASK_FAILED);
    fx_group_free(after);
    sched_free(r.sched);
}

/* The same process too, in its next session: it takes an answer that comes twice for the
 * one to its Published, which may have been lost with the connection. */
static void a_process_that_comes_back_is_told_to_publish(void **state)
{
    static const uint32_t task = 0;
    struct span body = SPAN_LIT("\7\7\7\7");
    struct msg done = done_of(0, &task, body);
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    fx_group_free(commit(&r, say_chunk(&r, 0, 7)));
    done.done.files = true;
    struct fx_group *after = commit(&r, say(&r, WORKER, &done));
    assert_null(sent(after, MSG_LEASE)); /* Committed says it */
    fx_group_free(after);
    struct fx_group *g = hello_as(&r, "x", 0, NULL);
    struct fx *fx = (struct fx *)find(g, FX_READ_CHUNK, 0);
    assert_non_null(fx);
    fx->read_chunk.ret = (struct chunk_row){ .job = 1, .n = 1 };
    memcpy(fx->read_chunk.ret.digest, done.done.digest, WIRE_DIGEST_BYTES);
    fx->read_chunk.ret.lens = blob_new(span_of(&(uint32_t){ INPUT_BYTES }, 4));
    fx->read_chunk.ret.body = blob_new(body);
    fx->read_chunk.ret_recorded = blob_new(span_of(&(uint8_t){ 1 }, 1));
    after = commit(&r, g);
    const struct msg *m = sent(after, MSG_LEASE);
    assert_non_null(m);
    assert_true(m->lease.publish);
    fx_group_free(after);
    sched_free(r.sched);
}

static void a_paused_job_is_not_leased(void **state)
{
    struct msg pause = { .type = MSG_PAUSE, .pause = { .job = 1, .id = 3 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    struct fx_group *g = say(&r, CLIENT, &pause);
    assert_int_equal(sent(g, MSG_ANSWER)->answer.id, 3);
    assert_non_null(find(g, FX_PAUSE, 0));
    fx_group_free(commit(&r, g));
    hello(&r, WORKER);
    g = commit(&r, say_chunk(&r, 0, 1));
    assert_null(sent(g, MSG_LEASE));
    fx_group_free(g);
    pause.pause.resume = true;
    g = say(&r, CLIENT, &pause);
    assert_non_null(sent(g, MSG_LEASE));
    fx_group_free(g);
    sched_free(r.sched);
}

/* It stays so over a restart of the coordinator, since the worker says it in Hello. */
static void a_draining_node_gets_nothing_new(void **state)
{
    struct msg drain = { .type = MSG_DRAIN, .drain = { SPAN_LIT("x"), false, 4 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    struct fx_group *g = say(&r, CLIENT, &drain);
    assert_int_equal(sent(g, MSG_ANSWER)->answer.id, 4);
    const struct msg *told = sent(g, MSG_DRAIN);
    assert_non_null(told);
    assert_false(told->drain.undo);
    fx_group_free(commit(&r, g));
    g = commit(&r, say_chunk(&r, 0, 1));
    assert_null(sent(g, MSG_LEASE));
    fx_group_free(g);
    drain.drain.undo = true;
    g = say(&r, CLIENT, &drain);
    assert_non_null(sent(g, MSG_LEASE));
    fx_group_free(g);
    drain.drain.node = SPAN_LIT("nobody");
    g = say(&r, CLIENT, &drain);
    assert_int_equal(sent(g, MSG_ERROR)->error.code, 9);
    fx_group_free(g);
    sched_free(r.sched);
}

/* Its name is free at once, and its tasks are for others. */
static void a_node_that_leaves_is_forgotten(void **state)
{
    struct msg leaving = { .type = MSG_BEAT, .beat = { .leaving = true } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    hello(&r, WORKER);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    struct fx_group *g = hello_other(&r, 6); /* while it is there, nobody else is x */
    assert_true(span_eq(sent(g, MSG_ERROR)->error.text, SPAN_LIT(WIRE_NAME_TAKEN)));
    fx_group_free(g);
    fx_group_free(say(&r, WORKER, &leaving));
    g = hello_other(&r, 6);
    assert_non_null(sent(g, MSG_WELCOME));
    assert_non_null(sent(g, MSG_LEASE));
    fx_group_free(g);
    sched_free(r.sched);
}

/* One connection is one node: it leaves nothing behind when it calls itself otherwise. */
static void another_name_on_a_connection_is_another_node(void **state)
{
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("nodes"), 0 } };
    struct rig r = { 0 };

    (void)state;
    rig_init(&r);
    for (char c = 'a'; c <= 'e'; c++) {
        char name[2] = { c, 0 };
        fx_group_free(hello_as(&r, name, 5, NULL));
    }
    struct fx_group *g = say(&r, CLIENT, &query);
    assert_int_equal(sent(g, MSG_ANSWER)->answer.n, 1);
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leases_are_adopted_after_a_restart),
        cmocka_unit_test(an_adopted_lease_that_owes_nothing_more_is_revoked),
        cmocka_unit_test(a_lease_without_anything_left_is_revoked),
        cmocka_unit_test(a_lease_that_nobody_gave_is_not_adopted),
        cmocka_unit_test(a_lease_is_adopted_by_one_node),
        cmocka_unit_test(leasing_waits_for_the_nodes_of_before),
        cmocka_unit_test(a_new_process_is_told_to_publish),
        cmocka_unit_test(what_cannot_be_published_fails),
        cmocka_unit_test(a_process_that_comes_back_is_told_to_publish),
        cmocka_unit_test(a_paused_job_is_not_leased),
        cmocka_unit_test(a_draining_node_gets_nothing_new),
        cmocka_unit_test(a_node_that_leaves_is_forgotten),
        cmocka_unit_test(another_name_on_a_connection_is_another_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
