/* Published vectors are in hex. Include after cmocka.h. */
#ifndef TESTS_UNIT_HEX_H
#define TESTS_UNIT_HEX_H

#include "base/buf.h"

/* The bytes of a hex string; white space may stand between two bytes. */
static inline struct buf unhex(const char *hex)
{
    struct buf out = BUF_INIT;
    unsigned v;
    int n;

    for (; sscanf(hex, " %2x%n", &v, &n) == 1; hex += n)
        buf_add_u8(&out, (uint8_t)v);
    return out;
}

static inline void assert_hex(const void *got, const char *want)
{
    AUTO_BUF bytes = unhex(want);

    assert_true(bytes.len > 0);
    assert_memory_equal(got, bytes.data, bytes.len);
}

#endif
