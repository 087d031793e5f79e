/* How much bulk may be in flight (R10), on virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/link_window.h"

enum { PIECE = 64 * KIB };
#define MS NS_PER_MS

/* Sends as much as may go; says how much that was. */
static uint64_t fill(struct link_window *w, int64_t now_ns)
{
    uint64_t before = w->sent;

    while (link_window_open(w, now_ns))
        w->sent += PIECE;
    return w->sent - before;
}

static void at_first_a_quarter_of_a_mebibyte(void **state)
{
    struct link_window w = { 0 };

    (void)state;
    assert_int_equal(fill(&w, 0), LINK_WINDOW_MIN);
    assert_int_equal(fill(&w, 3600 * NS_PER_S), 0); /* nothing was taken */
    link_window_taken(&w, PIECE, 3600 * NS_PER_S);
    assert_int_equal(fill(&w, 3600 * NS_PER_S), PIECE);
}

/* A link of `rate` bytes a second whose peer says what it took every 20 ms. */
static void it_is_what_the_link_moves_in_two_seconds(void **state)
{
    static const uint64_t rates[] = { 20 * KIB, 100 * KIB, 1 * MIB, 3 * MIB, 100 * MIB };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        struct link_window w = { 0 };
        uint64_t arrived = 0;
        uint64_t most = MIN(MAX(2 * rates[i], LINK_WINDOW_MIN), LINK_WINDOW_MAX);
        for (int64_t now = 0; now < 20 * NS_PER_S; now += 20 * MS) {
            fill(&w, now);
            arrived = MIN(w.sent, arrived + rates[i] / 50);
            link_window_taken(&w, arrived, now);
            if (now < 10 * NS_PER_S)
                continue;
            assert_true(link_window_in_flight(&w) <= most + PIECE);
            /* and the link is never idle: that costs nobody speed */
            assert_true(link_window_in_flight(&w) >= MIN(most / 2, 2 * rates[i] / 50));
        }
    }
}

static void what_was_moved_is_forgotten(void **state)
{
    struct link_window w = { 0 };
    int64_t now = 5 * NS_PER_S;

    (void)state;
    for (int i = 0; i < 10; i++) {
        fill(&w, now);
        link_window_taken(&w, w.sent, now);
    }
    assert_int_equal(fill(&w, now + 1 * NS_PER_S), LINK_WINDOW_MAX);
    link_window_taken(&w, w.sent, now + 1 * NS_PER_S);
    assert_int_equal(fill(&w, now + 4 * NS_PER_S), LINK_WINDOW_MIN);
}

/* A peer that says nonsense gets no more than one that says it took all. */
static void nonsense_is_worth_no_more_than_all(void **state)
{
    struct link_window w = { 0 };

    (void)state;
    link_window_taken(&w, UINT64_MAX, 0);
    assert_int_equal(link_window_in_flight(&w), 0);
    fill(&w, 0);
    link_window_taken(&w, UINT64_MAX, 0);
    assert_int_equal(link_window_in_flight(&w), 0);
    link_window_taken(&w, 1, 0); /* not so much after all */
    assert_int_equal(link_window_in_flight(&w), 0);
    assert_int_equal(fill(&w, 0), LINK_WINDOW_MIN);
}

/* The other side can always send on: what it is not told of is less than the window. */
static void the_peer_is_told_in_time(void **state)
{
    struct link_window w = { 0 };
    uint64_t told = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        link_window_got(&w, (uint64_t)(i * 37 % 1000));
        assert_int_equal(link_window_untold(&w), w.got - w.told >= LINK_TAKEN_EVERY);
        if (link_window_untold(&w) && i % 3) /* not each one leaves at once */
            told = w.told = w.got;
        assert_true(w.got - told < LINK_TAKEN_EVERY + 3000);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_first_a_quarter_of_a_mebibyte),
        cmocka_unit_test(it_is_what_the_link_moves_in_two_seconds),
        cmocka_unit_test(what_was_moved_is_forgotten),
        cmocka_unit_test(nonsense_is_worth_no_more_than_all),
        cmocka_unit_test(the_peer_is_told_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
