/* Answers that are longer than what may wait for one peer (R10). */
#include "sched_rig.h"

enum { JOBS = 12000, NAME_BYTES = 900, ROOM = 8 * MIB };

/* So many jobs that all about them is more than a link keeps. */
static void rig_many(struct rig *r)
{
    struct sched_config config = { .epoch = { 2, { 2 } } };
    static char name[NAME_BYTES];

    crypto_init();
    memset(name, 'n', sizeof(name));
    *r = (struct rig){ .sched = sched_new(&config), .now_ns = NS_PER_S };
    for (uint32_t i = 1; i <= JOBS; i++) {
        struct job_row job = { .id = i,
                               .key = { (uint8_t)i, (uint8_t)(i >> 8) },
                               .spec = spec_of(false),
                               .name = span_of(name, sizeof(name)),
                               .state = JOB_DONE };
        sched_load_job(r->sched, &job);
    }
    sched_loaded(r->sched, 1);
    hello(r, CLIENT);
}

struct got {
    uint32_t id; /* whose answer comes */
    uint64_t rows, whole;
    size_t bytes; /* of one group */
};

static void take(struct got *got, const struct fx_group *g)
{
    const struct fx *fx;

    got->bytes = 0;
    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type != FX_SEND || fx->send.msg.type != MSG_ANSWER)
            continue;
        assert_int_equal(fx->send.msg.answer.id, got->id); /* one after another */
        got->rows += fx->send.msg.answer.n;
        got->bytes += fx->send.msg.body.len;
        if (fx->send.msg.answer.last) {
            got->whole++;
            got->id++;
        }
    }
}

static struct fx_group *ask(struct rig *r, uint32_t id, const char *what)
{
    struct msg m = { .type = MSG_QUERY };

    m.query = (struct msg_query){ .id = id, .what = span_str(what) };
    return say(r, CLIENT, &m);
}

/* While the disk takes its time, and while the client does: no more is said than the link
 * keeps. In the end every row has come. */
static void a_long_answer_goes_on_as_there_is_room(void **state)
{
    struct got got = { .id = 1 };
    struct rig r;

    (void)state;
    rig_many(&r);
    struct fx_group *waits = ask(&r, 1, "jobs"), *g = ask(&r, 2, "jobs");
    take(&got, waits);
    size_t said = got.bytes;
    take(&got, g);
    said += got.bytes;
    fx_group_free(g);
    g = turn(&r); /* the disk has not taken it yet */
    take(&got, g);
    said += got.bytes;
    assert_true(said > 0 && said < ROOM);
    fx_group_free(g);
    while (got.whole < 2) {
        g = begin(&r);
        sched_committed(r.sched, waits);
        fx_group_free(waits);
        sched_peer_queued(r.sched, CLIENT, said); /* the client has taken nothing, */
        sched_turn_end(r.sched);
        take(&got, g);
        assert_int_equal(got.bytes, 0);
        fx_group_free(g);
        waits = begin(&r);
        sched_peer_queued(r.sched, CLIENT, 0); /* and then all */
        sched_turn_end(r.sched);
        take(&got, waits);
        said = got.bytes;
        assert_true(said > 0 && said < ROOM);
    }
    fx_group_free(waits);
    assert_int_equal(got.rows, 2 * JOBS);
    sched_free(r.sched);
}

/* An Error names no Query: it must not overtake the answer to an earlier one. */
static void an_error_waits_for_the_answers_before_it(void **state)
{
    struct got got = { .id = 1 };
    struct rig r;

    (void)state;
    rig_many(&r);
    struct fx_group *g = ask(&r, 1, "jobs");
    take(&got, g);
    fx_group_free(commit(&r, g));
    g = ask(&r, 2, "nothing");
    for (bool refused = false; !refused;) {
        take(&got, g);
        refused = sent(g, MSG_ERROR) != NULL;
        assert_int_equal(refused, got.whole == 1);
        fx_group_free(commit(&r, g));
        g = begin(&r);
        sched_peer_queued(r.sched, CLIENT, 0);
        sched_turn_end(r.sched);
    }
    fx_group_free(g);
    assert_int_equal(got.rows, JOBS);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_answer_goes_on_as_there_is_room),
        cmocka_unit_test(an_error_waits_for_the_answers_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
