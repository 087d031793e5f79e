/* Every message survives the wire; what is inconsistent, too large or unknown does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/wire.h"

static const uint32_t tasks[] = { 7, 9, 4000000000u };
static const uint8_t statuses[] = { TASK_OK, TASK_FAILED, TASK_POISON };
static const uint8_t placed[] = { TASK_OK, TASK_FAILED, TASK_OK };
static const uint32_t lens[] = { 3, 0, 2 };
#define BATCH                                                                            \
    {                                                                                    \
        3, tasks, statuses, lens                                                         \
    } /* as a constant: a const struct is none */
static const struct range ranges[] = { { 5, 2 }, { 9, 1 } };
static const uint64_t leases[] = { 1, 1ull << 40 };
static const struct held_lease held[] = { { 1, 2, 3, ranges, 2, { 1 } },
                                          { 4, 5, 6, NULL, 0, { 2 } } };

static const struct msg samples[] = {
    { .type = MSG_HELLO,
      .hello = { ROLE_WORKER,
                 1,
                 2,
                 { 3, { 4 } },
                 SPAN_LIT("node"),
                 5,
                 6,
                 { 7 },
                 held,
                 2,
                 8,
                 SPAN_LIT("age1x"),
                 true,
                 true,
                 SPAN_LIT("disk=ssd\nrack=r3") } },
    { .type = MSG_WELCOME,
      .welcome = { 1,
                   { 2, { 3 } },
                   4,
                   5,
                   6,
                   7,
                   8,
                   9,
                   10,
                   11,
                   SPAN_LIT("0123456789abcdef0123456789abcdef") } },
    { .type = MSG_BEAT, .beat = { 1, 2, 3, leases, 2, true } },
    { .type = MSG_SUBMIT,
      .submit = { { 1 }, SPAN_LIT("spec"), SPAN_LIT("name"), -3, 4, 5, 6, true } },
    { .type = MSG_CHUNK,
      .body = SPAN_LIT("abcde"),
      .chunk = { 1, 2, 3, lens, { 4 }, SPAN_LIT("node") } },
    { .type = MSG_SEAL, .seal = { 1, 2, 1ull << 40 } },
    { .type = MSG_ACCEPTED, .accepted = { { 1 }, 2, 3, true, JOB_SEALED, 4 } },
    { .type = MSG_LEASE,
      .body = SPAN_LIT("abcde"),
      .lease = { 1, 2, 3, { 4 }, SPAN_LIT("spec"), ranges, 2, lens, 3, 5, true, 6 } },
    { .type = MSG_DONE,
      .body = SPAN_LIT("abcde"),
      .done = { 1, 2, { 3, { 4 } }, { 5 }, 6, BATCH, true, true } },
    { .type = MSG_COMMITTED, .committed = { 1, tasks, tasks, 3, 2 } },
    { .type = MSG_PUBLISHED,
      .body = SPAN_LIT("abcde"),
      .published = { 1, 2, { 3, { 4 } }, { 3, tasks, placed, lens } } },
    { .type = MSG_FOLLOW, .follow = { 1, 2, 3, true, false, true, 4 } },
    { .type = MSG_RESULTS,
      .body = SPAN_LIT("abcdeABCDE"),
      .results = { 1,
                   2,
                   5,
                   BATCH,
                   lens,
                   3,
                   SPAN_LIT("node"),
                   tasks,
                   3,
                   true,
                   JOB_DONE,
                   { 1, 2, 3, 4, 5, 6 } } },
    { .type = MSG_REMOVE, .remove = { 1ull << 51, 7 } },
    { .type = MSG_CANCEL, .cancel = { 1ull << 50, 3 } },
    { .type = MSG_DRAIN, .drain = { SPAN_LIT("node"), true, 4 } },
    { .type = MSG_QUERY, .query = { 1, SPAN_LIT("jobs"), 2 } },
    { .type = MSG_ANSWER, .body = SPAN_LIT("rows"), .answer = { 1, 2, true } },
    { .type = MSG_ERROR,
      .error = { 9, SPAN_LIT("text"), SPAN_LIT("hint"), 3, MSG_FOLLOW } },
    { .type = MSG_REVOKE, .revoke = { 1, 2 } },
    { .type = MSG_CREDIT, .credit = { 1, 2 } },
    { .type = MSG_PAUSE, .pause = { 1, true, 2 } },
    { .type = MSG_TAKEN, .taken = { 1ull << 40 } },
    { .type = MSG_ENROL, .enrol = { 1, { 2 }, SPAN_LIT("store1") } },
    { .type = MSG_KEY,
      .key = { 1,
               KEY_INVITE,
               { 2 },
               SPAN_LIT("store1"),
               SPAN_LIT("ops"),
               ROLE_WORKER,
               1ll << 60,
               3 } },
};

/* Decoded and encoded again, every message gives the same bytes. */
static void every_message_survives(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(samples), MSG_TYPE_COUNT - 1);
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        AUTO_BUF first = BUF_INIT, second = BUF_INIT;
        struct arena arena;
        struct msg m;
        struct err err = { 0 };
        arena_init(&arena, MIB);
        wire_encode(&samples[i], &first);
        if (wire_decode(buf_span(&first), samples[i].body, &arena, &m, &err) < 0)
            fail_msg("%s: %s", msg_type_name(samples[i].type), err.text);
        assert_int_equal(m.type, samples[i].type);
        wire_encode(&m, &second);
        assert_true(span_eq(buf_span(&first), buf_span(&second)));
        arena_fini(&arena);
    }
}

static void fields_arrive(void **state)
{
    AUTO_BUF out = BUF_INIT;
    struct arena arena;
    struct msg m;

    (void)state;
    arena_init(&arena, MIB);
    wire_encode(&samples[MSG_RESULTS - 1], &out);
    assert_int_equal(
        wire_decode(buf_span(&out), SPAN_LIT("abcdeABCDE"), &arena, &m, NULL), 0);
    assert_int_equal(m.results.next_cursor, 5);
    assert_int_equal(m.results.batch.tasks[2], 4000000000u);
    assert_int_equal(m.results.batch.statuses[1], TASK_FAILED);
    assert_int_equal(m.results.counts.cancelled, 5);
    assert_true(span_eq(m.results.node, SPAN_LIT("node")));
    assert_true(m.results.end);
    arena_fini(&arena);
}

static int decode(const struct msg *m, struct span body, size_t budget, struct err *err)
{
    AUTO_BUF out = BUF_INIT;
    struct arena arena;
    struct msg got;
    int rc;

    arena_init(&arena, budget);
    wire_encode(m, &out);
    rc = wire_decode(buf_span(&out), body, &arena, &got, err);
    arena_fini(&arena);
    return rc;
}

/* A file is in place or it is not; a worker has a number of slots that can be. */
static void what_cannot_be_is_refused(void **state)
{
    struct msg published = samples[MSG_PUBLISHED - 1], hello = samples[MSG_HELLO - 1];
    struct err err = { 0 };

    (void)state;
    assert_int_equal(decode(&published, published.body, MIB, &err), 0);
    published.published.batch.statuses = statuses;
    assert_int_equal(decode(&published, published.body, MIB, &err), -1);
    assert_int_equal(decode(&hello, hello.body, MIB, &err), 0);
    hello.hello.io_slots = 4000000000u;
    assert_int_equal(decode(&hello, hello.body, MIB, &err), -1);
    hello = samples[MSG_HELLO - 1];
    hello.hello.role = ROLE_ADMIN; /* a key's role alone */
    assert_int_equal(decode(&hello, hello.body, MIB, &err), -1);
}

/* A public key has 32 bytes; an invitation invites no invitations. */
static void what_is_no_key_is_refused(void **state)
{
    struct msg welcome = samples[MSG_WELCOME - 1], key = samples[ARRAY_LEN(samples) - 1];
    struct err err = { 0 };

    (void)state;
    assert_int_equal(decode(&welcome, SPAN_NONE, MIB, &err), 0);
    welcome.welcome.next_server.len--;
    assert_int_equal(decode(&welcome, SPAN_NONE, MIB, &err), -1);
    welcome.welcome.next_server.len = 0;
    assert_int_equal(decode(&welcome, SPAN_NONE, MIB, &err), 0);
    assert_int_equal(decode(&key, SPAN_NONE, MIB, &err), 0);
    key.key.role = ROLE_INVITE;
    assert_int_equal(decode(&key, SPAN_NONE, MIB, &err), -1);
    key.key.role = ROLE_ADMIN;
    key.key.verb = KEY_VERB_COUNT;
    assert_int_equal(decode(&key, SPAN_NONE, MIB, &err), -1);
}

static void lengths_must_fit_the_body(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        if (samples[i].body.len < 5)
            continue;
        struct span body = samples[i].body;
        body.len--;
        struct err err = { 0 };
        assert_int_equal(decode(&samples[i], body, MIB, &err), -1);
        assert_non_null(strstr(err.text, msg_type_name(samples[i].type)));
    }
}

static void limits_hold(void **state)
{
    static uint32_t many[WIRE_CHUNK_TASKS_MAX + 1];
    struct msg chunk = { .type = MSG_CHUNK,
                         .chunk = { 1, 2, ARRAY_LEN(many), many, { 0 } } };
    struct msg good = samples[MSG_CHUNK - 1];
    struct err err = { 0 };

    (void)state;
    assert_int_equal(decode(&chunk, SPAN_NONE, 16 * MIB, &err), -1);
    assert_int_equal(decode(&good, good.body, 64, &err), -1); /* the budget */
    assert_int_equal(decode(&good, good.body, MIB, &err), 0);
}

static void garbage_is_refused(void **state)
{
    static const uint8_t cases[][6] = {
        { 0 },
        { 0x08, 0x07, 0x10, 0x06 },
        { 0x08, 0x01, 0x10, 0x63 },
        { 0x08, 0x01, 0x10, 0x06 },
        { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
    };
    struct arena arena;
    struct msg m;

    (void)state;
    arena_init(&arena, MIB);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        assert_int_equal(
            wire_decode(span_of(cases[i], sizeof(cases[i])), SPAN_NONE, &arena, &m, &err),
            -1);
        assert_true(err.text[0]);
    }
    arena_fini(&arena);
}

/* Cut anywhere, a message is refused or decoded, never a crash. */
static void cut_messages_do_no_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        AUTO_BUF out = BUF_INIT;
        wire_encode(&samples[i], &out);
        for (size_t cut = 0; cut < out.len; cut++) {
            AUTO_FREE uint8_t *copy = xmalloc(cut + 1);
            struct arena arena;
            struct msg m;
            memcpy(copy, out.data, cut);
            arena_init(&arena, MIB);
            wire_decode(span_of(copy, cut), samples[i].body, &arena, &m, NULL);
            arena_fini(&arena);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_survives),
        cmocka_unit_test(fields_arrive),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(lengths_must_fit_the_body),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(cut_messages_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
