/* Servers that a node fetches from: kept while somebody needs them, and no longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/err.h"
#include "worker/node_hosts.h"

static void a_host_is_shared_and_then_gone(void **state)
{
    struct io_host *hosts = NULL, *a, *b;

    (void)state;
    a = host_get(&hosts, "1 http://a", 3);
    b = host_get(&hosts, "1 http://b", 3);
    assert_ptr_equal(host_get(&hosts, "1 http://a", 5), a);
    assert_int_equal(a->places.free, 3);
    host_put(&hosts, a, 0);
    assert_int_equal(HASH_COUNT(hosts), 2);
    host_put(&hosts, a, 0);
    host_put(&hosts, b, 0);
    assert_int_equal(HASH_COUNT(hosts), 0);
}

static void turns_are_a_rate_apart(void **state)
{
    struct io_host *hosts = NULL, *h = host_get(&hosts, "1 http://a", 1);

    (void)state;
    assert_int_equal(host_turn(h, 7, 2.0), 7);
    assert_int_equal(host_turn(h, 8, 2.0), 7 + NS_PER_S / 2);
    assert_int_equal(host_turn(h, 10 * NS_PER_S, 2.0), 10 * NS_PER_S);
    assert_true(host_turn(h, 0, 1e-9) > 0); /* a very low one overflows nothing */
    assert_true(h->next_ns > 0);
    hosts_free(&hosts);
    assert_null(hosts);
}

/* The next one of the job to this server waits for its turn though none is under way;
 * when that time has passed, nothing is known of the server that a new start would not
 * know. */
static void a_rate_is_kept_as_long_as_it_says_something(void **state)
{
    struct io_host *hosts = NULL;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        char key[32];
        snprintf(key, sizeof(key), "1 http://%d", i);
        struct io_host *h = host_get(&hosts, key, 1);
        host_turn(h, 0, 1.0);
        host_put(&hosts, h, 1);
    }
    assert_int_equal(HASH_COUNT(hosts), 1000);
    struct io_host *used = host_get(&hosts, "1 http://7", 1);
    hosts_tend(&hosts, NS_PER_S - 1);
    assert_int_equal(HASH_COUNT(hosts), 1000);
    hosts_tend(&hosts, NS_PER_S);
    assert_int_equal(HASH_COUNT(hosts), 1);
    host_put(&hosts, used, NS_PER_S);
    assert_int_equal(HASH_COUNT(hosts), 0);
}

/* A thousand tasks of one server that bears one a second come at once, from a coordinator
 * that brings each back when it was told to: nobody waits for more than a second here,
 * the server is never idle nor asked too often, and few are sent back twice. */
static void a_slow_server_s_tasks_come_one_by_one(void **state)
{
    enum { TASKS = 1000 };
    static int64_t due_ns[TASKS];
    static bool done[TASKS];
    struct io_host *hosts = NULL, *h = host_get(&hosts, "1 http://a", 8);
    int64_t now = 5 * NS_PER_S, started = -1;
    uint32_t left = TASKS, sent_back = 0;

    (void)state;
    memset(done, 0, sizeof(done));
    for (int i = 0; i < TASKS; i++)
        due_ns[i] = now;
    for (; left && now < 2 * TASKS * NS_PER_S; now += 100 * NS_PER_MS)
        for (int i = 0; i < TASKS; i++) {
            if (done[i] || due_ns[i] > now)
                continue;
            uint32_t later_s = host_later_s(h, now, 1.0, false);
            due_ns[i] = now + later_s * NS_PER_S;
            sent_back += later_s > 0;
            if (later_s)
                continue;
            int64_t at = host_turn(h, now, 1.0);
            assert_true(at - now <= HOST_WAIT_NS);
            assert_true(started < 0 || at - started >= NS_PER_S);
            started = at;
            done[i] = true;
            left--;
        }
    assert_int_equal(left, 0);
    assert_true(now < (TASKS + 30) * NS_PER_S);
    assert_true(sent_back <= 2 * TASKS);
    hosts_free(&hosts);
}

/* All places are held: who comes waits for a second, or is told when one may be free. */
static void who_finds_no_place_is_sent_back(void **state)
{
    struct io_host *hosts = NULL, *h = host_get(&hosts, "1 http://a", 2);
    int64_t now = 5 * NS_PER_S;

    (void)state;
    h->places.free = 0;
    host_entered(h, now);
    assert_int_equal(host_later_s(h, now, 0, false), 0); /* it may be quick */
    now += 4 * NS_PER_S; /* it is not: two places in four seconds, at best */
    assert_int_equal(host_send_back(h, now, 0), 2);
    assert_int_equal(host_later_s(h, now, 0, false), 4);
    assert_int_equal(host_later_s(h, now, 0, false), 6);
    assert_int_equal(host_later_s(h, now, 0, true), 0); /* who has a place needs none */
    for (int i = 0; i < 100; i++) { /* never for long: it may become quick */
        uint32_t later_s = host_later_s(h, now, 0, false);
        assert_true(later_s >= 1 && later_s <= 10);
    }
    host_left(h, now, now - NS_PER_MS);
    assert_int_equal(host_later_s(h, now, 0, false), 0);
    h->places.free = 1;
    assert_int_equal(host_later_s(h, now, 0, false), 0);
    hosts_free(&hosts);
}

/* The turns that were promised are known until the last of them has come. */
static void a_host_with_promises_is_kept(void **state)
{
    struct io_host *hosts = NULL, *h = host_get(&hosts, "1 http://a", 1);

    (void)state;
    host_turn(h, 1, 0.5);
    host_turn(h, 1, 0.5);
    assert_int_equal(host_later_s(h, 1, 0.5, false), 4);
    assert_int_equal(host_later_s(h, 1, 0.5, false), 6);
    host_put(&hosts, h, 1);
    hosts_tend(&hosts, 5 * NS_PER_S);
    assert_int_equal(HASH_COUNT(hosts), 1);
    hosts_tend(&hosts, 7 * NS_PER_S);
    assert_int_equal(HASH_COUNT(hosts), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_is_shared_and_then_gone),
        cmocka_unit_test(turns_are_a_rate_apart),
        cmocka_unit_test(a_rate_is_kept_as_long_as_it_says_something),
        cmocka_unit_test(a_slow_server_s_tasks_come_one_by_one),
        cmocka_unit_test(who_finds_no_place_is_sent_back),
        cmocka_unit_test(a_host_with_promises_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
