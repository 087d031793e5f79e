/* Keys as text, held to the age tool's own and to what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/agekey.h"
#include "base/crypto.h"

/* 32 bytes of 0x42; age-keygen -y (age 1.1.1) gives the same recipient. */
static const char identity[] =
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
static const char recipient[] =
    "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

static void the_published_pair_fits(void **state)
{
    uint8_t secret[AGEKEY_BYTES], public_key[AGEKEY_BYTES], parsed[AGEKEY_BYTES];
    char text[AGEKEY_TEXT];

    (void)state;
    assert_int_equal(agekey_identity_parse(span_str(identity), secret, NULL), 0);
    for (int i = 0; i < AGEKEY_BYTES; i++)
        assert_int_equal(secret[i], 0x42);
    agekey_public(secret, public_key);
    agekey_recipient_text(public_key, text);
    assert_string_equal(text, recipient);
    assert_int_equal(agekey_recipient_parse(span_str(text), parsed, NULL), 0);
    assert_memory_equal(parsed, public_key, sizeof(parsed));
    agekey_identity_text(secret, text);
    assert_string_equal(text, identity);
}

static void every_wrong_letter_is_noticed(void **state)
{
    uint8_t key[AGEKEY_BYTES];

    (void)state;
    for (size_t i = 0; i < strlen(recipient); i++) {
        char s[AGEKEY_TEXT];
        struct err err = { 0 };
        strcpy(s, recipient);
        s[i] = s[i] == 'q' ? 'p' : 'q';
        assert_int_equal(agekey_recipient_parse(span_str(s), key, &err), -1);
        assert_int_equal(err.code, 2);
    }
}

static void malformed_keys_are_refused(void **state)
{
    static const char *const cases[] = { "", "age1", "age1qqqq", "AGE-SECRET-KEY-1",
                                         "x" };
    uint8_t key[AGEKEY_BYTES];
    char lower[AGEKEY_TEXT];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(agekey_recipient_parse(span_str(cases[i]), key, NULL), -1);
        assert_int_equal(agekey_identity_parse(span_str(cases[i]), key, NULL), -1);
    }
    strcpy(lower, identity);
    lower[20] |= 0x20; /* mixed case */
    assert_int_equal(agekey_identity_parse(span_str(lower), key, NULL), -1);
}

static int count_keys(void *arg, const uint8_t secret[AGEKEY_BYTES])
{
    (void)secret;
    ++*(int *)arg;
    return 0;
}

static void identity_files_are_read(void **state)
{
    AUTO_FREE char *good = xasprintf("# made today\n%s\n\n%s\r\n", identity, identity);
    AUTO_FREE char *bad = xasprintf("# x\n%s\nnonsense\n", identity);
    struct err err = { 0 };
    int n = 0;

    (void)state;
    assert_int_equal(agekey_identities_each(span_str(good), count_keys, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_int_equal(agekey_identities_each(span_str(bad), count_keys, &n, &err), -1);
    assert_non_null(strstr(err.text, "line 3"));
    assert_null(strstr(err.text, "nonsense"));
    assert_int_equal(agekey_identities_each(SPAN_LIT("# none\n"), count_keys, &n, &err),
                     -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_pair_fits),
        cmocka_unit_test(every_wrong_letter_is_noticed),
        cmocka_unit_test(malformed_keys_are_refused),
        cmocka_unit_test(identity_files_are_read),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
