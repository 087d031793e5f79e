/* A set of digests: what was added is in it, nothing else, in few bytes each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "client/digests.h"

static void digest_of(uint32_t i, uint8_t ret[DIGEST_BYTES])
{
    struct span part = span_of(&i, sizeof(i));
    crypto_digest(&part, 1, ret);
}

static void what_was_added_is_there(void **state)
{
    struct digests set = { 0 };
    uint8_t d[DIGEST_BYTES];

    (void)state;
    digest_of(0, d);
    assert_false(digests_has(&set, d));
    for (uint32_t i = 0; i < 100000; i++) {
        digest_of(i, d);
        assert_true(digests_add(&set, d));
        assert_false(digests_add(&set, d));
        assert_true(set.n <= set.cap / 4 * 3 &&
                    (i < 1000 || set.cap <= set.n * 8 / 3 + 8));
    }
    for (uint32_t i = 0; i < 200000; i++) {
        digest_of(i, d);
        assert_int_equal(digests_has(&set, d), i < 100000);
    }
    assert_int_equal(set.n, 100000);
    digests_fini(&set);
}

/* Those that fall into one place, at the end of the table too, are told apart. */
static void neighbours_are_told_apart(void **state)
{
    struct digests set = { 0 };
    uint8_t d[DIGEST_BYTES];

    (void)state;
    memset(d, 0xff, sizeof(d));
    for (int i = 0; i < 200; i++) {
        d[15] = (uint8_t)i;
        assert_true(digests_add(&set, d));
    }
    for (int i = 0; i < 256; i++) {
        d[15] = (uint8_t)i;
        assert_int_equal(digests_has(&set, d), i < 200);
    }
    digests_fini(&set);
}

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_added_is_there),
        cmocka_unit_test(neighbours_are_told_apart),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
