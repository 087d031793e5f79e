/* The checksum is the published XXH3, and of the bytes, not of how they are cut. The
 * values are what xxhsum -H2 says of the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/checksum.h"
#include "tests/unit/hex.h"

static void it_is_xxh3_128(void **state)
{
    uint8_t out[CHECKSUM_BYTES], many[300];
    struct span abc = SPAN_LIT("abc"), a300 = span_of(many, sizeof(many));

    (void)state;
    memset(many, 'a', sizeof(many));
    checksum(NULL, 0, out);
    assert_hex(out, "99aa06d3014798d86001c324468d497f");
    checksum(&abc, 1, out);
    assert_hex(out, "06b05ab6733a618578af5f94892f3950");
    checksum(&a300, 1, out);
    assert_hex(out, "5e563f2cb28d2005c1d17581d8eb7e21");
}

static void every_cut_of_the_same_bytes_gives_the_same(void **state)
{
    uint8_t bytes[700], whole[CHECKSUM_BYTES], cut[CHECKSUM_BYTES];
    struct span all = span_of(bytes, sizeof(bytes));

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    checksum(&all, 1, whole);
    for (size_t at = 0; at <= sizeof(bytes); at++) {
        struct span parts[] = { span_of(bytes, at), SPAN_NONE,
                                span_of(bytes + at, sizeof(bytes) - at) };
        checksum(parts, 3, cut);
        assert_memory_equal(cut, whole, sizeof(whole));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_xxh3_128),
        cmocka_unit_test(every_cut_of_the_same_bytes_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
