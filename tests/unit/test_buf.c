#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/nearest.h"

static void a_buf_grows_drops_and_prints(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%03d,", i);
    assert_int_equal(b.len, 4000);
    buf_drop(&b, 3996);
    assert_string_equal(buf_str(&b), "999,");
    assert_int_equal(b.len, 4);
    assert_true(span_eq(buf_span(&b), SPAN_LIT("999,")));
}

static void an_arena_keeps_to_its_budget(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 64 * KIB);
    uint8_t *first = arena_alloc(&a, 1);
    assert_non_null(first);
    assert_int_equal((uintptr_t)first % 16, 0);
    assert_int_equal(*first, 0);
#ifdef __SANITIZE_ADDRESS__ /* the sanitizer knows where a piece ends */
    assert_false(__asan_address_is_poisoned(first));
    assert_true(__asan_address_is_poisoned(first + 1));
    uint8_t *second = arena_alloc(&a, 16);
    assert_false(__asan_address_is_poisoned(second + 15));
    assert_true(__asan_address_is_poisoned(second + 16));
#endif
    assert_null(arena_alloc(&a, 64 * KIB));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_non_null(arena_alloc(&a, 60 * KIB));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 64 * KIB));
    arena_fini(&a);
}

static void an_error_is_prefixed_on_its_way_up(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_int_equal(err_set(&err, 3, "line %d is bad", 7), -1);
    assert_int_equal(err_hint(&err, "look at it"), -1);
    assert_int_equal(err_prefix(&err, "%s", "urls"), -1);
    assert_string_equal(err.text, "urls: line 7 is bad");
    assert_string_equal(err.hint, "look at it");
    assert_int_equal(err.code, 3);
    for (int i = 0; i < 1000; i++) /* never past the end */
        err_prefix(&err, "prefix");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_int_equal(err_set(NULL, 1, "nobody listens"), -1);
}

/* What it quotes may be a stranger's: it forges no second line and drives no terminal. */
static void an_error_is_one_line_whatever_it_quotes(void **state)
{
    struct err err = { 0 };

    (void)state;
    err_set(&err, 1, "no '%s'", "a\nb\x1b[2J\x7f\xc3\xa4");
    assert_string_equal(err.text, "no 'a?b?[2J?\xc3\xa4'");
    err_hint(&err, "%s", "x\ry");
    assert_string_equal(err.hint, "x?y");
    err_prefix(&err, "%s", "f\ng");
    assert_string_equal(err.text, "f?g: no 'a?b?[2J?\xc3\xa4'");
    errno = ENOENT;
    err_sys(&err, 1, "%s", "f\ng");
    assert_string_equal(err.text, "f?g: No such file or directory");
}

static void the_nearest_word_is_near_or_none(void **state)
{
    (void)state;
    static const char *const words[] = { "hash", "encrypt", "decrypt", "fetch" };
    static const struct {
        const char *typed, *want;
    } t[] = {
        { "hahs", NULL }, /* two edits in four letters */
        { "has", "hash" },       { "encript", "encrypt" },
        { "dcrypt", "decrypt" }, { "zzz", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        const char *got = nearest(t[i].typed, words, ARRAY_LEN(words));
        if (t[i].want)
            assert_string_equal(got, t[i].want);
        else
            assert_null(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buf_grows_drops_and_prints),
        cmocka_unit_test(an_arena_keeps_to_its_budget),
        cmocka_unit_test(an_error_is_prefixed_on_its_way_up),
        cmocka_unit_test(an_error_is_one_line_whatever_it_quotes),
        cmocka_unit_test(the_nearest_word_is_near_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
