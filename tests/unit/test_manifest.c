#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "client/manifest.h"

/* A line written is the line GNU writes, and reads back as the same name and digest. */
static void lines_are_gnu_lines_and_read_back(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool tag;
        const char *line;
    } t[] = {
        { "a b", false, "000102030405060708090a0b0c0d0e0f  a b\n" },
        { "a\nb", false, "\\000102030405060708090a0b0c0d0e0f  a\\nb\n" },
        { "a\\b", true, "\\MD5 (a\\\\b) = 000102030405060708090a0b0c0d0e0f\n" },
        { "\xff", true, "MD5 (\xff) = 000102030405060708090a0b0c0d0e0f\n" },
    };
    uint8_t digest[16];
    for (size_t i = 0; i < sizeof(digest); i++)
        digest[i] = (uint8_t)i;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF line = BUF_INIT;
        manifest_line(&line, ALGO_MD5, span_of(digest, 16), span_str(t[i].name),
                      t[i].tag);
        assert_string_equal(buf_str(&line), t[i].line);
        struct manifest_entry entry = { 0 };
        assert_int_equal(manifest_parse(span_of(line.data, line.len - 1), -1, &entry), 0);
        assert_int_equal(entry.algo, ALGO_MD5);
        assert_memory_equal(entry.digest, digest, 16);
        assert_true(span_eq(buf_span(&entry.name), span_str(t[i].name)));
        buf_fini(&entry.name);
    }
}

static void what_is_no_line_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "",
                                       "\\",
                                       "abc  x",
                                       "MD5 () = 00",
                                       "000102030405060708090a0b0c0d0e0f x",
                                       "000102030405060708090a0b0c0d0e0f  " };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct manifest_entry entry = { 0 };
        assert_int_equal(manifest_parse(span_str(bad[i]), -1, &entry), -1);
        buf_fini(&entry.name);
    }
    struct manifest_entry entry = { 0 }; /* a file's name has no NUL */
    assert_int_equal(
        manifest_parse(SPAN_LIT("000102030405060708090a0b0c0d0e0f  a\0b"), -1, &entry),
        -1);
    buf_fini(&entry.name);
}

static void an_unknown_algorithm_gets_a_hint(void **state)
{
    (void)state;
    struct err err = { 0 };
    uint32_t mask = 0;
    assert_int_equal(manifest_algos_parse("sha256,b2", &mask, &err), 0);
    assert_int_equal(mask, BIT(ALGO_SHA256) | BIT(ALGO_BLAKE2B));
    assert_int_equal(manifest_algos_parse("sha-256", &mask, &err), -1);
    assert_int_equal(err.code, 2);
    assert_string_equal(err.text, "unknown algorithm 'sha-256' in -a");
    assert_non_null(strstr(err.hint, "did you mean 'sha256'?"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_gnu_lines_and_read_back),
        cmocka_unit_test(what_is_no_line_is_refused),
        cmocka_unit_test(an_unknown_algorithm_gets_a_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
