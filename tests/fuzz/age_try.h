/* Decrypting one file in one piece and in many: the end must be the same. */
#ifndef TESTS_FUZZ_AGE_TRY_H
#define TESTS_FUZZ_AGE_TRY_H

#include "tests/fuzz/fuzz.h"
#include "tests/unit/age_made.h"

static inline int age_try_pieces(struct span file, size_t step, struct buf *out,
                                 struct err *err)
{
    static struct age_identities *ids;
    struct age_dec *d;
    int rc = 0;

    if (!ids) {
        crypto_init();
        CHECK(age_identities_new(SPAN_LIT(MADE_IDENTITY), &ids, NULL) == 0);
    }
    d = age_dec_new(ids);
    for (size_t at = 0; at < file.len && rc == 0; at += step)
        rc = age_dec_update(d, span_of(file.data + at, MIN(step, file.len - at)), out,
                            err);
    if (rc == 0)
        rc = age_dec_end(d, out, err);
    age_dec_free(d);
    return rc;
}

/* 0 with the plain bytes in out, or -1. */
static inline int age_try(struct span file, size_t step, struct buf *out)
{
    AUTO_BUF other = BUF_INIT;
    struct err a = { 0 }, b = { 0 };
    int rc = age_try_pieces(file, SIZE_MAX / 2, out, &a);

    CHECK(age_try_pieces(file, step, &other, &b) == rc);
    CHECK(strcmp(a.text, b.text) == 0);
    if (rc < 0)
        fuzz_check_err(&a);
    else
        CHECK(span_eq(buf_span(out), buf_span(&other)));
    return rc;
}

#endif
