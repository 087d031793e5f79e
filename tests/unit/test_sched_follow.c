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

static struct fx_group *say_follow(struct rig *r, uint32_t credit)
{
    struct msg m = { .type = MSG_FOLLOW, .follow = { .job = 1, .credit_bytes = credit } };

    return say(r, CLIENT, &m);
}

static struct fx_group *say_credit(struct rig *r, uint32_t bytes)
{
    struct msg m = { .type = MSG_CREDIT, .credit = { .job = 1, .bytes = bytes } };

    return say(r, CLIENT, &m);
}

/* Job 1 is followed, without credit, and ends: two records of tasks that are cancelled.
 */
static void records_wait(struct rig *r)
{
    struct msg cancel = { .type = MSG_CANCEL, .cancel.job = 1 };

    rig_init(r);
    fx_group_free(commit(r, say_chunk(r, 0, 'a')));
    fx_group_free(commit(r, say_chunk(r, 1, 'b')));
    fx_group_free(commit(r, say_follow(r, 0)));
    struct fx_group *after = commit(r, say(r, CLIENT, &cancel));
    assert_null(sent(after, MSG_RESULTS));
    assert_int_equal(pages(after), 0);
    fx_group_free(commit(r, after));
}

static const struct msg_results *results_of(const struct fx_group *g)
{
    const struct msg *m = sent_to(g, CLIENT, MSG_RESULTS);

    assert_non_null(m);
    return &m->results;
}

/* Who has given no credit, as one who is slow, is sent from memory what was committed
 * meanwhile, in order and each once; what he was sent before is read from the disk. */
static void what_was_just_committed_is_not_read_back(void **state)
{
    struct rig r = { 0 };
    struct fx_group *g;

    (void)state;
    records_wait(&r);
    for (uint32_t i = 0; i < 2; i++) {
        g = say_credit(&r, 1); /* which one message overdraws */
        assert_int_equal(results_of(g)->cursor, i);
        assert_int_equal(results_of(g)->next_cursor, i + 1);
        assert_int_equal(results_of(g)->batch.tasks[0], i);
        assert_int_equal(results_of(g)->end, i == 1);
        assert_int_equal(pages(g), 0);
        fx_group_free(commit(&r, g));
        fx_group_free(commit(&r, say_credit(&r, 15))); /* which is what it cost, and 1 */
    }
    g = say_follow(&r, MIB);
    assert_int_equal(pages(g), 1);
    fx_group_free(g);
    sched_free(r.sched);
}

/* What finds no room in memory is on the disk, and so is what nobody waited for. */
static void what_memory_has_no_room_for_is_read_back(void **state)
{
    struct rig r = { .recent_bytes = 600 }; /* one of the two */
    struct fx_group *g;

    (void)state;
    records_wait(&r);
    g = say_credit(&r, MIB);
    assert_null(sent(g, MSG_RESULTS));
    assert_int_equal(pages(g), 1);
    fx_group_free(g);
    sched_free(r.sched);

    r = (struct rig){ 0 };
    records_wait(&r);
    fx_group_free(
        commit(&r, say_follow(&r, 0))); /* another one, for the first has gone */
    g = say_credit(&r, MIB);
    assert_null(sent(g, MSG_RESULTS));
    assert_int_equal(pages(g), 1);
    fx_group_free(g);
    sched_free(r.sched);
}

/* ---- cursors of before a loss ---- */

enum { VISIBLE = 3, CHUNK_TASKS = 4 };
struct lost {
    uint64_t cursor, epoch;
};

/* What is said to a client that follows job 1, loaded with two chunks and three records
 * after what was lost: the Error's text, or NULL. */
static const char *follow_said(const struct lost *losts, const struct msg_follow *w)
{
    static char text[128];
    struct sched_config config = { .epoch = { 9, { 1 } } };
    struct rig r = { .sched = sched_new(&config) };
    struct job_row job = { .id = 1, .state = JOB_OPEN, .ok = VISIBLE };
    AUTO_BUF spec = BUF_INIT;
    struct msg m = { .type = MSG_HELLO };

    spec_pack(&spec, &(struct job_spec){ .source = SOURCE_BYTES });
    job.spec = buf_span(&spec);
    sched_load_job(r.sched, &job);
    for (uint32_t seq = 0; seq < 2; seq++) {
        struct chunk_row chunk = { .job = 1, .seq = seq, .n = CHUNK_TASKS };
        chunk.first = seq * CHUNK_TASKS;
        sched_load_chunk(r.sched, &chunk, seq ? 0 : VISIBLE);
    }
    for (; losts->epoch; losts++)
        sched_load_lost(r.sched, 1, losts->cursor, losts->epoch);
    sched_loaded(r.sched, 2);
    m.hello = (struct msg_hello){ .version_max = WIRE_VERSION, .name = SPAN_LIT("c") };
    fx_group_free(say(&r, CLIENT, &m));
    m = (struct msg){ .type = MSG_FOLLOW, .follow = *w };
    struct fx_group *g = say(&r, CLIENT, &m);
    const struct msg *error = sent_to(g, CLIENT, MSG_ERROR);
    if (error)
        snprintf(text, sizeof(text), "%.*s", (int)error->error.text.len,
                 (const char *)error->error.text.data);
    fx_group_free(g);
    sched_free(r.sched);
    return error ? text : NULL;
}

/* A cursor that counts records which an earlier coordinator told of, and lost, is
 * refused, whatever has come in their place; one that counts none of them is not. */
static void a_cursor_that_counts_lost_records_is_refused(void **state)
{
    static const struct {
        struct lost losts[3];
        uint64_t told, cursor;
        bool task_order, refused;
    } t[] = {
        { {}, 4, VISIBLE, false, false }, /* nothing was lost */
        { { { 2, 5 } }, 4, 2, false, false },
        { { { 2, 5 } }, 4, 3, false, true },
        { { { 2, 5 } }, 5, 3, false, false }, /* told after the loss */
        { { { 2, 5 } }, 0, 3, false, false }, /* nobody told it */
        { { { 2, 5 } }, 4, 3, true, false },  /* that was on the disk */
        { { { 1, 5 }, { 2, 7 } }, 4, 1, false, false },
        { { { 1, 5 }, { 2, 7 } }, 4, 2, false, true },
        { { { 1, 5 }, { 2, 7 } }, 5, 2, false, false },
        { { { 1, 5 }, { 2, 7 } }, 6, 3, false, true },
        { { { 1, 5 }, { 2, 7 } }, 7, 3, false, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct msg_follow w = { .job = 1,
                                .cursor = t[i].cursor,
                                .credit_bytes = MIB,
                                .task_order = t[i].task_order,
                                .epoch_counter = t[i].told };
        const char *said = follow_said(t[i].losts, &w);
        if (t[i].refused)
            assert_string_equal(said ? said : "row of the table",
                                "the coordinator has lost results it had told of");
        else
            assert_null(said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_for_one_peer_are_few_at_a_time),
        cmocka_unit_test(a_cursor_that_counts_lost_records_is_refused),
        cmocka_unit_test(what_was_just_committed_is_not_read_back),
        cmocka_unit_test(what_memory_has_no_room_for_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
