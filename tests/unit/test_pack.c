/* Inputs, values and specs come back as they were packed; what is malformed is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/pack.h"
#include "proto/page.h"

static void inputs_come_back(void **state)
{
    const struct task_input cases[] = {
        { .path = SPAN_LIT("/a/b"), .shown = SPAN_LIT("b"), .size = 1ull << 40 },
        { .url = SPAN_LIT("http://x/"), .out = SPAN_LIT("/o") },
        { .data = SPAN_LIT("bytes"), .has_data = true },
        { .has_data = true },
        { .path = SPAN_LIT("/d"), .after = SPAN_LIT("\xff\n"), .named = true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF out = BUF_INIT;
        struct task_input got;
        input_pack(&out, &cases[i]);
        assert_int_equal(input_unpack(buf_span(&out), &got, NULL), 0);
        assert_true(span_eq(got.path, cases[i].path));
        assert_true(span_eq(got.url, cases[i].url));
        assert_true(span_eq(got.data, cases[i].data));
        assert_true(span_eq(got.shown, cases[i].shown));
        assert_true(span_eq(got.out, cases[i].out));
        assert_int_equal(got.size, cases[i].size);
        assert_int_equal(got.has_data, cases[i].has_data);
        assert_true(span_eq(got.after, cases[i].after));
        assert_int_equal(got.named, cases[i].named);
    }
}

static void an_input_has_one_source(void **state)
{
    const struct task_input none = { .shown = SPAN_LIT("x") };
    const struct task_input two = { .path = SPAN_LIT("/x"), .url = SPAN_LIT("http://x") };
    AUTO_BUF a = BUF_INIT, b = BUF_INIT;
    struct task_input got;

    (void)state;
    input_pack(&a, &none);
    input_pack(&b, &two);
    assert_int_equal(input_unpack(buf_span(&a), &got, NULL), -1);
    assert_int_equal(input_unpack(buf_span(&b), &got, NULL), -1);
}

static void values_come_back(void **state)
{
    static const uint8_t digest[64] = { 1, 2, 3 };
    const struct task_value v = {
        .bytes = 5,
        .out_bytes = 7,
        .digests = { { ALGO_SHA256, span_of(digest, 32) },
                     { ALGO_MD5, span_of(digest, 16) } },
        .n_digests = 2,
        .out_digests = { { ALGO_BLAKE2B, span_of(digest, 64) } },
        .n_out_digests = 1,
        .error = SPAN_LIT("why"),
        .output = SPAN_LIT("/o"),
        .body = SPAN_LIT("body"),
        .has_body = true,
        .http_status = 200,
        .retry_after_s = 3,
        .elapsed_us = 1234567,
        .skipped = 9,
        .more = true,
        .is_file = true,
    };
    AUTO_BUF out = BUF_INIT;
    struct task_value got;

    (void)state;
    value_pack(&out, &v);
    assert_int_equal(value_unpack(buf_span(&out), &got, NULL), 0);
    assert_int_equal(got.bytes, 5);
    assert_int_equal(got.n_digests, 2);
    assert_int_equal(got.digests[1].algo, ALGO_MD5);
    assert_true(span_eq(got.digests[0].bytes, span_of(digest, 32)));
    assert_int_equal(got.out_digests[0].algo, ALGO_BLAKE2B);
    assert_true(span_eq(got.error, v.error));
    assert_true(span_eq(got.body, v.body));
    assert_int_equal(got.http_status, 200);
    assert_int_equal(got.elapsed_us, 1234567);
    assert_true(got.more && got.is_file && got.skipped == 9);
    for (size_t cut = 0; cut < out.len; cut++)
        assert_int_equal(value_unpack(span_of(out.data, cut), &got, NULL), -1);
}

static void specs_come_back(void **state)
{
    struct job_spec s = { .command = SPAN_LIT("encrypt"),
                          .source = SOURCE_URL,
                          .algos = BIT(ALGO_SHA256),
                          .transform = TRANSFORM_ENCRYPT,
                          .recipients = { SPAN_LIT("age1a"), SPAN_LIT("age1b") },
                          .n_recipients = 2,
                          .sink = SINK_FILE,
                          .armor = true,
                          .no_sync = true,
                          .rate = 2.5,
                          .max_bytes = 1ull << 50,
                          .on = SPAN_LIT("disk=ssd\neach"),
                          .present = SPAN_LIT("\xff\x00") };
    AUTO_BUF out = BUF_INIT;
    struct job_spec got;

    (void)state;
    spec_pack(&out, &s);
    assert_int_equal(spec_unpack(buf_span(&out), &got, NULL), 0);
    assert_int_equal(got.source, SOURCE_URL);
    assert_int_equal(got.n_recipients, 2);
    assert_true(span_eq(got.recipients[1], SPAN_LIT("age1b")));
    assert_true(got.armor && got.no_sync && !got.force);
    assert_true(got.rate == 2.5);
    assert_true(span_eq(got.on, s.on));
    assert_true(span_eq(got.present, s.present));
    s.n_recipients = 0;
    buf_clear(&out);
    spec_pack(&out, &s);
    assert_int_equal(spec_unpack(buf_span(&out), &got, NULL), -1);
}

static void pages_come_back(void **state)
{
    const struct page_entry t[] = {
        { PAGE_FILE, SPAN_LIT("a\nb"), 0 },       { PAGE_DIR, SPAN_LIT("\xff"), 0 },
        { PAGE_FILE, SPAN_LIT("..."), 127 },      { PAGE_FILE, SPAN_LIT("x"), 128 },
        { PAGE_FILE, SPAN_LIT("y"), UINT64_MAX },
    };
    AUTO_BUF page = BUF_INIT;
    struct page_entry e;
    size_t pos = 0, most = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        page_add(&page, &t[i]);
        most += page_entry_bytes(t[i].name.len);
    }
    assert_true(page.len <= most);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(page_next(buf_span(&page), &pos, &e, NULL), 1);
        assert_int_equal(e.kind, t[i].kind);
        assert_true(span_eq(e.name, t[i].name));
        assert_int_equal(e.size, t[i].size);
    }
    assert_int_equal(page_next(buf_span(&page), &pos, &e, NULL), 0);
}

static void pages_that_lead_elsewhere_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } t[] = {
        { "d..", 4 },  { "d.", 3 },
        { "da/b", 5 }, { "d", 2 },
        { "da", 2 },   { "xa\0", 3 },
        { "fa\0", 3 }, { "fa\0\x80", 4 },
        { "f", 1 },    { "fa\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 14 },
    };
    struct page_entry e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        size_t pos = 0;
        assert_int_equal(page_next(span_of(t[i].bytes, t[i].len), &pos, &e, NULL), -1);
    }
}

/* Keys of a later release are skipped, however they are nested. */
static void unknown_keys_are_skipped(void **state)
{
    static const uint8_t bytes[] =
        "\x83\xa1x\x92\x81\xa1y\x90\xc0\xa1p\xa1z\xa1q\xca\0\0\0\0";
    struct task_input got;

    (void)state;
    assert_int_equal(input_unpack(span_of(bytes, sizeof(bytes) - 1), &got, NULL), 0);
    assert_true(span_eq(got.path, SPAN_LIT("z")));
}

static void bombs_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        { "\xdf\xff\xff\xff\xff", 5 },              /* a map of 2^32 - 1 */
        { "\x81\xa1p\xdd\x02\0\0\0", 8 },           /* an array of 2^25 */
        { "\x81\xa1p\xdb\xff\xff\xff\xff", 8 },     /* a string of 4 GiB */
        { "\x81\xa1x\x91\x91\x91\x91\x91\x91", 9 }, /* never ends */
        { "\x81\xa1p\x01", 4 },                     /* a number for a path */
        { "\xc1", 1 },
        { "", 0 },
    };
    struct task_input got;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(input_unpack(span_of(cases[i].bytes, cases[i].len), &got, NULL),
                         -1);
}

static void a_rate_is_a_finite_number(void **state)
{
    static const struct {
        const char *bytes;
        int rc;
    } cases[] = {
        { "\x81\xa2pr\xcb\x40\x00\0\0\0\0\0\0", 0 },
        { "\x81\xa2pr\xcb\x7f\xf0\0\0\0\0\0\0", -1 }, /* infinite */
        { "\x81\xa2pr\xcb\x7f\xf8\0\0\0\0\0\0", -1 }, /* not a number */
        { "\x81\xa2pr\xcb\xbf\xf0\0\0\0\0\0\0", -1 }, /* -1 */
    };
    struct job_spec got;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(spec_unpack(span_of(cases[i].bytes, 13), &got, NULL),
                         cases[i].rc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_come_back),
        cmocka_unit_test(an_input_has_one_source),
        cmocka_unit_test(values_come_back),
        cmocka_unit_test(specs_come_back),
        cmocka_unit_test(pages_come_back),
        cmocka_unit_test(pages_that_lead_elsewhere_are_refused),
        cmocka_unit_test(unknown_keys_are_skipped),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(a_rate_is_a_finite_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
