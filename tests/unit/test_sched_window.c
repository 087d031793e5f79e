/* P4: chunks in memory have a window, which those that nobody can run now leave to
 * others. */
#include "sched_rig.h"

enum { FILLING = 60, OTHERS = 6 }; /* chunks: more than the window has; a few */
#define WINDOW_BYTES (4 * KIB)

static void come(struct rig *r, peer_id peer, const char *name, uint32_t io_slots)
{
    struct msg m = hello_of(peer, name, (uint8_t)(peer + 1));

    m.hello.cpu_slots = OTHERS;
    m.hello.io_slots = io_slots;
    say_and_commit(r, peer, &m);
}

static void drain_y(struct rig *r, bool undo)
{
    struct msg m = { .type = MSG_DRAIN, .drain = { SPAN_LIT("y"), undo, 0 } };
    say_and_commit(r, CLIENT, &m);
}

/* Job number `key` (rig_init's is 1). */
static void submit(struct rig *r, uint8_t key, const char *on, enum source_kind source)
{
    struct job_spec spec = { .command = SPAN_LIT("map"),
                             .source = source,
                             .on = span_str(on) };
    struct msg m = { .type = MSG_SUBMIT };
    AUTO_BUF packed = BUF_INIT;

    spec_pack(&packed, &spec);
    m.submit = (struct msg_submit){ .key = { key }, .spec = buf_span(&packed) };
    say_and_commit(r, CLIENT, &m);
}

/* A chunk of one input for a node ("" = any); true: it is leased at once. */
static bool give(struct rig *r, uint64_t job, uint32_t seq, const char *node)
{
    struct span body = SPAN_LIT("abcd");
    uint32_t len = 4;
    struct msg m = { .type = MSG_CHUNK, .body = body };
    struct span parts[] = { span_of(&len, sizeof(len)), body, span_str(node) };

    m.chunk = (struct msg_chunk){
        .job = job, .seq = seq, .n = 1, .lens = &len, .node = span_str(node)
    };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    struct fx_group *g = commit(r, say(r, CLIENT, &m));
    bool leased = sent(g, MSG_LEASE) != NULL;
    fx_group_free(g);
    return leased;
}

/* Job 3, which x can run, has room for all its chunks: they are leased as they come. */
static void others_have_room(struct rig *r)
{
    submit(r, 3, "", SOURCE_PATH);
    for (uint32_t seq = 0; seq < OTHERS; seq++)
        assert_true(give(r, 3, seq, ""));
}

/* Its node is drained, before its inputs come or after; they are for that node, or its
 * job is. */
static void a_drained_node_leaves_the_window_to_others(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        bool before = i & 1, named = i & 2, io = i & 4;
        struct rig r = { .open_bytes = WINDOW_BYTES };
        rig_init(&r);
        come(&r, WORKER, "x", 8);
        come(&r, OTHER, "y", 8);
        submit(&r, 2, named ? "" : "y", io ? SOURCE_URL : SOURCE_PATH);
        if (before)
            drain_y(&r, false);
        for (uint32_t seq = 0; seq < FILLING; seq++)
            give(&r, 2, seq, named ? "y" : "");
        if (!before)
            drain_y(&r, false);
        others_have_room(&r);
        sched_free(r.sched);
    }
}

/* One that waits for a node which is not there, while others are. */
static void what_nobody_can_run_yet_leaves_the_window_to_others(void **state)
{
    struct rig r = { .open_bytes = WINDOW_BYTES };

    (void)state;
    rig_init(&r);
    submit(&r, 2, "y", SOURCE_PATH);
    for (uint32_t seq = 0; seq < FILLING; seq++)
        give(&r, 2, seq, "");
    come(&r, WORKER, "x", 0);
    others_have_room(&r);
    sched_free(r.sched);
}

/* When it is undrained its chunks are read back, and it gets them. */
static void an_undrained_node_gets_its_chunks(void **state)
{
    struct msg undrain = { .type = MSG_DRAIN, .drain = { SPAN_LIT("y"), true, 0 } };
    struct rig r = { .open_bytes = WINDOW_BYTES };

    (void)state;
    rig_init(&r);
    come(&r, WORKER, "x", 0);
    come(&r, OTHER, "y", 0);
    drain_y(&r, false);
    for (uint32_t seq = 0; seq < FILLING; seq++)
        assert_false(give(&r, 1, seq, "y"));
    struct fx_group *g = say(&r, CLIENT, &undrain);
    assert_null(sent_to(g, OTHER, MSG_LEASE));
    assert_true(answer_reads(g) > 0);
    g = commit(&r, g);
    assert_non_null(sent_to(g, OTHER, MSG_LEASE));
    assert_null(sent_to(g, WORKER, MSG_LEASE));
    fx_group_free(g);
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drained_node_leaves_the_window_to_others),
        cmocka_unit_test(what_nobody_can_run_yet_leaves_the_window_to_others),
        cmocka_unit_test(an_undrained_node_gets_its_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
