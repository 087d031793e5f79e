/* What the scheduler answers to those who submit and follow: refusals, repeats, and that
 * the end of a job is told only once it is on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "coordinator/sched.h"
#include "proto/pack.h"

enum { CLIENT = 1, WORKER = 2 }; /* peers */
enum { INPUT_BYTES = 4 };

struct rig {
    struct sched *sched;
    int64_t now_ns;
    bool full;
};

static struct fx_group *begin(struct rig *r)
{
    struct fx_group *g = fx_group_new();

    sched_turn_begin(r->sched, r->now_ns += NS_PER_MS, 0, g);
    sched_set_pressure(r->sched, false, r->full);
    return g;
}

/* One turn with a message; its effects are not committed yet. */
static struct fx_group *say(struct rig *r, peer_id peer, const struct msg *m)
{
    struct fx_group *g = begin(r);

    sched_message(r->sched, peer, m);
    sched_turn_end(r->sched);
    return g;
}

/* The commit of g, which is freed: what follows from it. */
static struct fx_group *commit(struct rig *r, struct fx_group *g)
{
    struct fx_group *after = begin(r);

    sched_committed(r->sched, g);
    sched_turn_end(r->sched);
    fx_group_free(g);
    return after;
}

static const struct fx *find(const struct fx_group *g, enum fx_type fx_type,
                             enum msg_type type)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == fx_type &&
            ((fx_type != FX_SEND && fx_type != FX_SEND_NOW) || fx->send.msg.type == type))
            return fx;
    return NULL;
}

static void say_and_commit(struct rig *r, peer_id peer, const struct msg *m)
{
    fx_group_free(commit(r, say(r, peer, m)));
}

static void hello(struct rig *r, peer_id peer)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = peer == WORKER ? ROLE_WORKER : ROLE_CLIENT,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = SPAN_LIT("x"),
                                  .cpu_slots = 1 };
    say_and_commit(r, peer, &m);
}

static void submit(struct rig *r)
{
    struct job_spec spec = { .command = SPAN_LIT("map") };
    struct msg m = { .type = MSG_SUBMIT };
    AUTO_BUF packed = BUF_INIT;

    spec_pack(&packed, &spec);
    m.submit = (struct msg_submit){ .key = { 1 }, .spec = buf_span(&packed) };
    say_and_commit(r, CLIENT, &m);
}

static void rig_init(struct rig *r)
{
    struct sched_config config = { .epoch = { 1, { 1 } } };

    crypto_init();
    *r = (struct rig){ .sched = sched_new(&config), .now_ns = NS_PER_S };
    sched_loaded(r->sched, 1);
    hello(r, CLIENT);
    submit(r);
}

/* A chunk of one input of job 1. */
static struct fx_group *say_chunk(struct rig *r, uint32_t seq, uint8_t fill)
{
    static const uint32_t lens[] = { INPUT_BYTES }; /* little-endian, as on the wire */
    uint8_t body[INPUT_BYTES];
    struct msg m = { .type = MSG_CHUNK, .body = span_of(body, sizeof(body)) };
    struct span parts[] = { span_of(lens, sizeof(lens)), m.body };

    memset(body, fill, sizeof(body));
    m.chunk = (struct msg_chunk){ .job = 1, .seq = seq, .n = 1, .lens = lens };
    crypto_chunk_digest(parts, ARRAY_LEN(parts), m.chunk.digest);
    return say(r, CLIENT, &m);
}

/* code 0: Accepted. */
static void expect_answer(struct fx_group *g, uint32_t code)
{
    const struct fx *error = find(g, FX_SEND, MSG_ERROR);

    assert_int_equal(error ? error->send.msg.error.code : 0, code);
    assert_int_equal(find(g, FX_SEND, MSG_ACCEPTED) != NULL, code == 0);
    fx_group_free(g);
}

static void a_chunk_is_taken_once(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    expect_answer(say_chunk(&r, 0, 1), 0);
    expect_answer(say_chunk(&r, 0, 1), 0);
    expect_answer(say_chunk(&r, 0, 2), 1);
    expect_answer(say_chunk(&r, 2, 1), 1);
    expect_answer(say_chunk(&r, 1, 1), 0);
    sched_free(r.sched);
}

/* What is accepted already needs no room. */
static void a_full_disk_refuses_only_new_chunks(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    expect_answer(say_chunk(&r, 0, 1), 0);
    r.full = true;
    expect_answer(say_chunk(&r, 0, 1), 0);
    expect_answer(say_chunk(&r, 1, 1), 1);
    r.full = false;
    expect_answer(say_chunk(&r, 1, 1), 0);
    sched_free(r.sched);
}

/* Code 8, while it is cancelled and after it has ended: a client tells it from a fault.
 */
static void a_cancelled_job_says_so(void **state)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel = { 1 } };
    struct rig r;

    (void)state;
    rig_init(&r);
    fx_group_free(commit(&r, say_chunk(&r, 0, 1)));
    say_and_commit(&r, CLIENT, &cancel);
    expect_answer(say_chunk(&r, 1, 1), 8);
    expect_answer(say_chunk(&r, 0, 1), 0);
    sched_free(r.sched);
}

/* Task numbers have 32 bits on the wire. */
static void a_job_has_a_largest_number_of_tasks(void **state)
{
    struct job_spec spec = { .command = SPAN_LIT("map") };
    struct sched_config config = { .epoch = { 2, { 1 } } };
    struct rig r = { .sched = sched_new(&config), .now_ns = NS_PER_S };
    AUTO_BUF packed = BUF_INIT;

    (void)state;
    crypto_init();
    spec_pack(&packed, &spec);
    struct job_row job = { .id = 1, .key = { 1 }, .spec = buf_span(&packed) };
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

/* The worker does the one task of the chunk. */
static void do_task(struct rig *r, uint8_t fill)
{
    static const uint32_t task = 0, len = 0;
    static const uint8_t status = TASK_OK;
    uint8_t body[INPUT_BYTES];
    struct msg m = { .type = MSG_DONE };
    struct span parts[] = { span_of(&(uint32_t){ INPUT_BYTES }, 4),
                            span_of(body, sizeof(body)) };

    memset(body, fill, sizeof(body));
    m.done = (struct msg_done){ .lease = (1ull << 32) + 1,
                                .job = 1,
                                .epoch = { 1, { 1 } },
                                .batch = { 1, &task, &status, &len },
                                .last = true };
    crypto_chunk_digest(parts, ARRAY_LEN(parts), m.done.digest);
    say_and_commit(r, WORKER, &m);
}

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
    struct rig r;

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
    struct rig r;

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_is_taken_once),
        cmocka_unit_test(a_full_disk_refuses_only_new_chunks),
        cmocka_unit_test(a_cancelled_job_says_so),
        cmocka_unit_test(a_job_has_a_largest_number_of_tasks),
        cmocka_unit_test(the_end_is_told_after_its_commit),
        cmocka_unit_test(a_follower_goes_on_when_its_queue_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
