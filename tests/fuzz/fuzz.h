/* What the fuzz targets share: a target is one function that takes any bytes and must
 * come back. CHECK says what must hold. Built with libFuzzer (preset fuzz) or with
 * replay.c. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/buf.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes n bytes from the front, or what is there. */
static inline struct span fuzz_take(struct span *in, size_t n)
{
    struct span part = span_of(in->data, MIN(n, in->len));

    *in = span_of(in->data + part.len, in->len - part.len);
    return part;
}

/* A number from the front, little-endian; zeros where there is nothing. */
static inline uint64_t fuzz_number(struct span *in, size_t bytes)
{
    struct span part = fuzz_take(in, bytes);
    uint64_t v = 0;

    for (size_t i = 0; i < part.len; i++)
        v |= (uint64_t)part.data[i] << 8 * i;
    return v;
}

/* The promise of err.h: a failure has words, and they are one line. */
static inline void fuzz_check_err(const struct err *err)
{
    CHECK(err->text[0] && !strchr(err->text, '\n') && !strchr(err->hint, '\n'));
}

/* Reads every byte, so that the sanitizer sees where they lie. */
static inline void fuzz_touch(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        __asm__ volatile("" : : "r"(s.data[i]));
}

/* Whether a span lies within another's bytes, as what is borrowed must. */
static inline bool fuzz_within(struct span part, struct span whole)
{
    return part.len == 0 || (part.data >= whole.data && part.len <= whole.len &&
                             (size_t)(part.data - whole.data) <= whole.len - part.len);
}

#endif
