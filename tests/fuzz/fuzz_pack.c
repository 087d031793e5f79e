/* Inputs, values, specs and pages of directories. Input: which of them (1 byte), its
 * bytes. What is understood is packed, understood and packed again: the same bytes. */
#include "proto/pack.h"
#include "proto/page.h"
#include "tests/fuzz/fuzz.h"

static void try_input(struct span in)
{
    AUTO_BUF once = BUF_INIT, twice = BUF_INIT;
    struct task_input v;
    struct err err = { 0 };

    if (input_unpack(in, &v, &err) < 0) {
        fuzz_check_err(&err);
        return;
    }
    CHECK(fuzz_within(v.path, in) && fuzz_within(v.url, in) && fuzz_within(v.out, in));
    fuzz_touch(input_shown(&v));
    input_pack(&once, &v);
    CHECK(input_unpack(buf_span(&once), &v, &err) == 0);
    input_pack(&twice, &v);
    CHECK(span_eq(buf_span(&once), buf_span(&twice)));
}

static void try_value(struct span in)
{
    AUTO_BUF once = BUF_INIT, twice = BUF_INIT;
    struct task_value v;
    struct err err = { 0 };

    if (value_unpack(in, &v, &err) < 0) {
        fuzz_check_err(&err);
        return;
    }
    CHECK(v.n_digests <= PACK_DIGESTS_MAX && v.n_out_digests <= PACK_DIGESTS_MAX);
    for (uint32_t i = 0; i < v.n_digests; i++)
        CHECK(v.digests[i].bytes.len == algo_bytes(v.digests[i].algo) &&
              fuzz_within(v.digests[i].bytes, in));
    CHECK(fuzz_within(v.body, in) && fuzz_within(v.error, in));
    value_pack(&once, &v);
    CHECK(value_unpack(buf_span(&once), &v, &err) == 0);
    value_pack(&twice, &v);
    CHECK(span_eq(buf_span(&once), buf_span(&twice)));
}

static void try_spec(struct span in)
{
    AUTO_BUF once = BUF_INIT, twice = BUF_INIT;
    struct job_spec v;
    struct err err = { 0 };

    if (spec_unpack(in, &v, &err) < 0) {
        fuzz_check_err(&err);
        return;
    }
    CHECK(v.source <= SOURCE_DIR && v.sink <= SINK_FILE);
    CHECK(v.n_recipients <= SPEC_RECIPIENTS_MAX && v.algos < BIT(ALGO_COUNT));
    for (uint32_t i = 0; i < v.n_recipients; i++)
        fuzz_touch(v.recipients[i]);
    spec_pack(&once, &v);
    CHECK(spec_unpack(buf_span(&once), &v, &err) == 0);
    spec_pack(&twice, &v);
    CHECK(span_eq(buf_span(&once), buf_span(&twice)));
}

/* Names are such as may stand below a directory, and a page is what its entries make. */
static void try_page(struct span in)
{
    AUTO_BUF once = BUF_INIT, twice = BUF_INIT;
    struct page_entry e;
    struct err err = { 0 };
    size_t pos = 0;
    int rc;

    while ((rc = page_next(in, &pos, &e, &err)) == 1) {
        CHECK(fuzz_within(e.name, in) && e.name.len &&
              !memchr(e.name.data, 0, e.name.len));
        CHECK(!memchr(e.name.data, '/', e.name.len) && pos <= in.len);
        CHECK(!span_eq(e.name, SPAN_LIT("..")) && !span_eq(e.name, SPAN_LIT(".")));
        page_add(&once, &e);
    }
    if (rc < 0)
        fuzz_check_err(&err);
    pos = 0;
    while (page_next(buf_span(&once), &pos, &e, &err) == 1)
        page_add(&twice, &e);
    CHECK(span_eq(buf_span(&once), buf_span(&twice)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(struct span) = { try_input, try_value, try_spec,
                                                  try_page };
    struct span in = span_of(data, size);

    tries[fuzz_number(&in, 1) % ARRAY_LEN(tries)](in);
    return 0;
}
