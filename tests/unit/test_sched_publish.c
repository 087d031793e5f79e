/* A worker that was killed had won more than what may wait for one peer (R8, R10). */
#include "sched_rig.h"

enum { CHUNKS = 60, TASKS = 4, INPUT = 60 * KIB, ROOM = 8 * MIB };
#define OLD_LEASE ((1ull << 32) + 9)

static const uint32_t lens[TASKS] = { INPUT, INPUT, INPUT, INPUT };

/* Every task of the job has been won by x, and is not in place yet. */
static void rig_won(struct rig *r)
{
    struct sched_config config = { .epoch = { 2, { 2 } } };
    struct job_row job = {
        .id = 1, .key = { 1 }, .spec = spec_of(false), .state = JOB_SEALED
    };

    crypto_init();
    *r = (struct rig){ .sched = sched_new(&config), .now_ns = NS_PER_S };
    sched_load_job(r->sched, &job);
    for (uint32_t seq = 0; seq < CHUNKS; seq++) {
        struct chunk_row chunk = {
            .job = 1, .seq = seq, .n = TASKS, .first = seq * TASKS
        };
        sched_load_chunk(r->sched, &chunk, TASKS);
    }
    for (uint32_t seq = 0; seq < CHUNKS; seq++) {
        uint32_t tasks[TASKS];
        for (uint32_t i = 0; i < TASKS; i++)
            tasks[i] = seq * TASKS + i;
        struct batch_row row = { .row = seq + 1,
                                 .job = 1,
                                 .chunk = seq,
                                 .pending = true,
                                 .epoch = 1,
                                 .lease = OLD_LEASE + seq,
                                 .n = TASKS,
                                 .node = SPAN_LIT("x") };
        row.tasks = blob_new(span_of(tasks, sizeof(tasks)));
        sched_load_pending(r->sched, &row);
        blob_unref(row.tasks);
    }
    sched_loaded(r->sched, CHUNKS + 1);
}

struct told {
    uint32_t leases, specs;
    bool all;
    size_t waiting; /* bytes that were said since the worker took some */
};

static void hear(struct told *t, const struct fx_group *g)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        const struct msg *m = &fx->send.msg;
        if (fx->type != FX_SEND_NOW)
            continue;
        t->waiting += m->body.len;
        if (m->type == MSG_LEASE) {
            assert_true(m->lease.publish);
            assert_int_equal(m->lease.lease, OLD_LEASE + t->leases);
            assert_false(t->all);
            t->leases++;
            t->specs += m->lease.spec.len != 0;
        } else if (m->type == MSG_REVOKE) {
            assert_true(m->revoke.lease == 0 && m->revoke.job == 0);
            assert_false(t->all);
            t->all = true;
        }
    }
    assert_true(t->waiting < ROOM);
}

/* The store's answers to what g reads. */
static void store_answers(struct fx_group *g)
{
    static const uint8_t recorded[TASKS] = { 1, 1, 1, 1 };
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type != FX_READ_CHUNK)
            continue;
        struct fx_read_chunk *c = &fx->read_chunk;
        c->ret =
            (struct chunk_row){ .job = 1, .seq = c->seq, .first = c->first, .n = TASKS };
        c->ret.lens = blob_new(span_of(lens, sizeof(lens)));
        c->ret.body = blob_alloc(TASKS * INPUT);
        memset(c->ret.body->data, 0, c->ret.body->len);
        c->ret_recorded = blob_new(span_of(recorded, sizeof(recorded)));
    }
}

/* All that may be said is, while the worker takes nothing. */
static void until_quiet(struct rig *r, struct told *t, struct fx_group *g)
{
    for (;;) {
        hear(t, g);
        if (!find(g, FX_READ_CHUNK, 0))
            break;
        store_answers(g);
        struct fx_group *after = begin(r);
        sched_peer_queued(r->sched, WORKER, t->waiting);
        sched_committed(r->sched, g);
        sched_turn_end(r->sched);
        fx_group_free(g);
        g = after;
    }
    fx_group_free(g);
}

static void much_to_publish_is_said_as_there_is_room(void **state)
{
    struct msg hi = hello_of(WORKER, "x", 5);
    struct told t = { 0 };
    struct rig r;

    (void)state;
    rig_won(&r);
    struct fx_group *g = say(&r, WORKER, &hi);
    for (uint32_t before = 0;; before = t.leases) {
        until_quiet(&r, &t, g);
        if (t.all)
            break;
        assert_true(t.leases > before);
        t.waiting = 0; /* it takes all of it */
        g = begin(&r);
        sched_peer_queued(r.sched, WORKER, 0);
        sched_turn_end(r.sched);
    }
    assert_int_equal(t.leases, CHUNKS);
    assert_int_equal(t.specs, 1);
    sched_free(r.sched);
}

/* What a node says of the tasks that x has won in chunk 0. */
static struct fx_group *say_published(struct rig *r, peer_id peer)
{
    static const uint32_t tasks[TASKS] = { 0, 1, 2, 3 };
    static const uint32_t no_values[TASKS] = { 0 };
    static const uint8_t ok[TASKS] = { TASK_OK, TASK_OK, TASK_OK, TASK_OK };
    struct msg m = { .type = MSG_PUBLISHED };

    m.published.lease = OLD_LEASE;
    m.published.job = 1;
    m.published.batch = (struct task_batch){ TASKS, tasks, ok, no_values };
    return say(r, peer, &m);
}

static void nobody_publishes_what_another_has_won(void **state)
{
    struct msg x = hello_of(WORKER, "x", 5), y = hello_of(OTHER, "y", 6);
    struct rig r;

    (void)state;
    rig_won(&r);
    fx_group_free(say(&r, WORKER, &x)); /* what it is to be told is read, some day */
    fx_group_free(say(&r, OTHER, &y));
    struct fx_group *g = say_published(&r, OTHER);
    assert_null(find(g, FX_SHOW, 0));
    fx_group_free(g);
    g = say_published(&r, WORKER);
    assert_non_null(find(g, FX_SHOW, 0));
    assert_int_equal(sent_to(g, WORKER, MSG_COMMITTED)->committed.n_won, TASKS);
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_publishes_what_another_has_won),
        cmocka_unit_test(much_to_publish_is_said_as_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
