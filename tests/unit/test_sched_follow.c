/* Followers at one peer share what may wait for it (R10, R14). */
#include "sched_rig.h"

enum { JOBS = 12, PAGES_MOST = 5 };

/* Job i of this client, with one record: it is cancelled. Ids count from 1, which is the
 * rig's. */
static void ended_job(struct rig *r, uint8_t i)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel.job = i };

    fx_group_free(commit(r, say_submit(r, i)));
    fx_group_free(commit(r, say_inputs_of(r, i, 0, 1, INPUT_BYTES, SPAN_LIT("abcd"))));
    say_and_commit(r, CLIENT, &cancel);
}

static unsigned pages(const struct fx_group *g)
{
    const struct fx *fx;
    unsigned n = 0;

    STAILQ_FOREACH (fx, &g->list, node)
        n += fx->type == FX_READ_RESULTS;
    return n;
}

/* The pages come; with nothing that is to be shown, up to the end of their jobs. */
static struct fx_group *pages_come(struct rig *r, struct fx_group *g)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == FX_READ_RESULTS)
            fx->read_results.ret_next = 1;
    return commit(r, g);
}

/* Whatever the number of jobs a client follows, so many pages at most are read for it at
 * a time: they would all wait for its link, or find no room there. All get their turn. */
static void pages_for_one_peer_are_few_at_a_time(void **state)
{
    struct rig r = { 0 };
    struct fx_group *waiting[JOBS] = { NULL };
    unsigned asked = 0, n = 0;

    (void)state;
    rig_init(&r);
    for (uint8_t i = 2; i < JOBS + 2; i++)
        ended_job(&r, i);
    for (uint8_t i = 2; i < JOBS + 2; i++) {
        struct msg m = { .type = MSG_FOLLOW };
        m.follow = (struct msg_follow){ .job = i, .credit_bytes = MIB };
        struct fx_group *g = say(&r, CLIENT, &m);
        asked += pages(g);
        if (pages(g))
            waiting[n++] = g;
        else
            fx_group_free(g);
    }
    assert_int_equal(asked, PAGES_MOST);
    while (n) {
        struct fx_group *after = pages_come(&r, waiting[0]);
        memmove(waiting, waiting + 1, --n * sizeof(*waiting));
        assert_true(pages(after) <= 1);
        asked += pages(after);
        if (pages(after))
            waiting[n++] = after;
        else
            fx_group_free(after);
    }
    assert_int_equal(asked, JOBS);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_for_one_peer_are_few_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
