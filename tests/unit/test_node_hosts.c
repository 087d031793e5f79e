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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_is_shared_and_then_gone),
        cmocka_unit_test(turns_are_a_rate_apart),
        cmocka_unit_test(a_rate_is_kept_as_long_as_it_says_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
