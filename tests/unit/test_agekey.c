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

/* ---- Bech32 itself, written once more: any prefix, any data, either checksum ---- */

enum { BECH32 = 1, BECH32M = 0x2bc830a3, KEY_GROUPS = 52 };
static const char charset[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t polymod(const uint8_t *values, size_t n)
{
    uint32_t chk = 1;

    for (size_t i = 0; i < n; i++) {
        uint32_t top = chk >> 25;
        chk = (chk & 0x1ffffff) << 5 ^ values[i];
        chk ^= (top & 1 ? 0x3b6a57b2 : 0) ^ (top & 2 ? 0x26508e6d : 0) ^
               (top & 4 ? 0x1ea119fa : 0) ^ (top & 8 ? 0x3d4233dd : 0) ^
               (top & 16 ? 0x2a1462b3 : 0);
    }
    return chk;
}

static void bech32(const char *prefix, const uint8_t *groups, size_t n, uint32_t constant,
                   char *ret)
{
    uint8_t values[256] = { 0 };
    size_t len = strlen(prefix), at = 0, out;

    for (size_t i = 0; i < len; i++)
        values[at++] = (uint8_t)prefix[i] >> 5;
    at++;
    for (size_t i = 0; i < len; i++)
        values[at++] = prefix[i] & 31;
    memcpy(values + at, groups, n);
    uint32_t chk = polymod(values, at + n + 6) ^ constant;
    out = (size_t)sprintf(ret, "%s1", prefix);
    for (size_t i = 0; i < n; i++)
        ret[out++] = charset[groups[i]];
    for (int i = 0; i < 6; i++)
        ret[out++] = charset[chk >> 5 * (5 - i) & 31];
    ret[out] = 0;
}

/* BIP 173's valid strings: the writer above is Bech32. */
static void the_writer_of_this_test_is_bech32(void **state)
{
    uint8_t counted[32], ones[82] = { 0 };
    char text[256];

    (void)state;
    for (uint8_t i = 0; i < sizeof(counted); i++)
        counted[i] = i;
    bech32("a", ones, 0, BECH32, text);
    assert_string_equal(text, "a12uel5l");
    bech32("abcdef", counted, sizeof(counted), BECH32, text);
    assert_string_equal(text, "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw");
    bech32("1", ones, sizeof(ones), BECH32, text);
    assert_int_equal(strspn(text + 2, "q"), sizeof(ones));
    assert_string_equal(text + 2 + sizeof(ones), "c8247j");
    bech32("a", ones, 0, BECH32M, text); /* BIP 350's */
    assert_string_equal(text, "a1lqfn3a");
}

/* Checksums that fit, around what is no key of age. */
static void only_32_bytes_under_the_right_prefix_are_a_key(void **state)
{
    static const struct {
        const char *prefix;
        size_t groups;
        uint8_t last; /* of the groups; only its highest bit belongs to the key */
        uint32_t checksum;
        int rc;
    } t[] = {
        { "age", KEY_GROUPS, 16, BECH32, 0 },
        { "age", KEY_GROUPS, 0, BECH32, 0 },
        { "age", KEY_GROUPS, 1, BECH32, -1 }, /* filled with something */
        { "age", KEY_GROUPS, 24, BECH32, -1 },
        { "age", KEY_GROUPS, 0, BECH32M, -1 },
        { "age", KEY_GROUPS - 1, 0, BECH32, -1 },
        { "age", KEY_GROUPS + 1, 0, BECH32, -1 },
        { "age", 0, 0, BECH32, -1 },
        { "agf", KEY_GROUPS, 0, BECH32, -1 },
        { "age1", KEY_GROUPS, 0, BECH32, -1 },
        { "ag", KEY_GROUPS + 1, 0, BECH32, -1 },
        { "", KEY_GROUPS, 0, BECH32, -1 },
        { "age-secret-key-", KEY_GROUPS, 0, BECH32, -1 },
    };
    uint8_t groups[64], key[AGEKEY_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        char text[256];
        struct err err = { 0 };
        memset(groups, 7, sizeof(groups));
        groups[MAX(t[i].groups, 1) - 1] = t[i].last;
        bech32(t[i].prefix, groups, t[i].groups, t[i].checksum, text);
        if (agekey_recipient_parse(span_str(text), key, &err) != t[i].rc)
            fail_msg("case %zu: %s: %s", i, text, err.text);
    }
}

/* Nothing may hide behind a key: not even after a NUL. */
static void a_key_is_the_whole_text(void **state)
{
    uint8_t key[AGEKEY_BYTES];
    char text[AGEKEY_TEXT + 8] = "";
    size_t len;

    (void)state;
    len = (size_t)sprintf(text, "%s", recipient);
    assert_int_equal(agekey_recipient_parse(span_of(text, len + 1), key, NULL), -1);
    memcpy(text + len + 1, "xyz", 3);
    assert_int_equal(agekey_recipient_parse(span_of(text, len + 4), key, NULL), -1);
    len = (size_t)sprintf(text, "%s", identity);
    memcpy(text + len + 1, "XYZ", 3);
    assert_int_equal(agekey_identity_parse(span_of(text, len + 1), key, NULL), -1);
    assert_int_equal(agekey_identity_parse(span_of(text, len + 4), key, NULL), -1);
}

/* Random keys come back; text of either case stands for an identity's prefix alone. */
static void random_keys_come_back(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint8_t secret[AGEKEY_BYTES], back[AGEKEY_BYTES];
        char text[AGEKEY_TEXT];
        agekey_identity_new(secret);
        agekey_identity_text(secret, text);
        assert_int_equal(agekey_identity_parse(span_str(text), back, NULL), 0);
        assert_memory_equal(secret, back, sizeof(back));
        assert_int_equal(agekey_recipient_parse(span_str(text), back, NULL), -1);
        agekey_recipient_text(secret, text); /* any 32 bytes will do */
        assert_int_equal(agekey_recipient_parse(span_str(text), back, NULL), 0);
        assert_memory_equal(secret, back, sizeof(back));
        assert_int_equal(agekey_identity_parse(span_str(text), back, NULL), -1);
    }
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
        cmocka_unit_test(the_writer_of_this_test_is_bech32),
        cmocka_unit_test(only_32_bytes_under_the_right_prefix_are_a_key),
        cmocka_unit_test(a_key_is_the_whole_text),
        cmocka_unit_test(random_keys_come_back),
        cmocka_unit_test(identity_files_are_read),
    };
    crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
