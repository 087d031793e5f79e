/* age headers as the specification (C2SP age.md) allows and forbids them. Whatever is
 * wrong ends in one line of words, the same however the bytes come, and leaves no output.
 */
#include "tests/unit/age_rig.h"

static const struct {
    const char *name, *stanzas, *words;
} stanza_cases[] = {
    { "plain", STANZA, NULL },
    { "an unknown one before", "-> grease a {}~!\n\n" STANZA, NULL },
    { "an unknown one behind", STANZA "-> grease\nAAAA\n", NULL },
    { "a body of 48 bytes", "-> long\n@L\n\n" STANZA, NULL },
    { "a body of 99 bytes", "-> long\n@L\n@L\nAAAA\n" STANZA, NULL },
    { "twice ours", STANZA STANZA, NULL },
    { "share padded", "-> X25519 @S=\n@B\n", "X25519 recipient" },
    { "share too short", "-> X25519 AAAA\n@B\n", "X25519 recipient" },
    { "share of 33 bytes", "-> X25519 @SA\n@B\n", "X25519 recipient" },
    { "share of low order", "-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n@B\n",
      "X25519 recipient" },
    { "share of low order, one",
      "-> X25519 AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n@B\n", "X25519 recipient" },
    { "no share", "-> X25519\n@B\n", "X25519 recipient" },
    { "an argument too many", "-> X25519 @S 1\n@B\n", "X25519 recipient" },
    { "two shares", "-> X25519 @S @S\n@B\n", "X25519 recipient" },
    { "other case", "-> x25519 @S\n@B\n", "no identity opens it" },
    { "a longer name", "-> X25519x @S\n@B\n", "no identity opens it" },
    { "none of ours", "-> grease\n\n", "no identity opens it" },
    { "none at all", "", "no identity opens it" },
    { "body padded", "-> X25519 @S\n@B=\n", "recipient's key" },
    { "body not canonical", "-> X25519 @S\nAAB\n", "recipient's key" },
    { "body of one character", "-> X25519 @S\nA\n", "recipient's key" },
    { "body empty", "-> X25519 @S\n\n", "X25519 recipient" },
    { "body in two lines", "-> X25519 @S\nAAAA\n@B\n", "X25519 recipient" },
    { "body of 48 bytes for X25519", "-> X25519 @S\n@L\n\n", "X25519 recipient" },
    { "body's character", "-> X25519 @S\nAA-A\n", "recipient's key" },
    { "body with CR", "-> X25519 @S\n@B\r\n", "recipient's key" },
    { "body's line of 68", "-> long\n@LAAAA\n\n" STANZA, "recipient's key" },
    { "no short last line", "-> long\n@L\n" STANZA, "recipient's key" },
    { "no short last line, at the end", STANZA "-> long\n@L\n", "recipient's key" },
    { "no body", "-> long\n" STANZA, "recipient's key" },
    { "an empty line between", STANZA "\n", "recipient's line" },
    { "arguments with CR", "-> X25519 @S\r\n@B\n", "recipient's line" },
    { "no space behind the arrow", "->X25519 @S\n@B\n", "recipient's line" },
    { "two spaces", "->  X25519 @S\n@B\n", "recipient's line" },
    { "an empty argument", "-> X25519  @S\n@B\n", "recipient's line" },
    { "a space at the end", "-> X25519 @S \n@B\n", "recipient's line" },
    { "no argument", "->\n@B\n" STANZA, "recipient's line" },
    { "no argument but a space", "-> \n@B\n" STANZA, "recipient's line" },
    { "a tab", "-> grease\ta\n\n" STANZA, "recipient's line" },
    { "a letter outside of ASCII", "-> gr\xc3\xa4se\n\n" STANZA, "recipient's line" },
    { "a line of another kind", "recipient\n" STANZA, "recipient's line" },
};

static void stanzas(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stanza_cases); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_add_span(&file, SPAN_LIT(MADE_INTRO));
        add_template(&file, stanza_cases[i].stanzas);
        end_with_hello(&file);
        expect(stanza_cases[i].name, buf_span(&file), stanza_cases[i].words, hello);
    }
}

/* Base64's last character of 32 bytes has two bits to spare: they must be zeros. */
static void spare_bits_are_zeros(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) /* share, body, MAC */
        for (uint8_t spare = 1; spare < 4; spare++) {
            static const char alphabet[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            AUTO_BUF file = BUF_INIT;
            buf_add_span(&file, SPAN_LIT(MADE_INTRO));
            size_t first = file.len + strlen("-> X25519 ") + 42;
            add_template(&file, STANZA);
            size_t at[] = { first, first + 44, first + 44 + 48 };
            if (which < 2)
                file.data[at[which]] = (uint8_t)
                    alphabet[strchr(alphabet, file.data[at[which]]) - alphabet + spare];
            made_end(&file);
            if (which == 2)
                file.data[at[2]] = (uint8_t)
                    alphabet[strchr(alphabet, file.data[at[2]]) - alphabet + spare];
            add_hello(&file);
            expect("spare bits", buf_span(&file), "damaged age header", SPAN_NONE);
        }
}

static void file_keys_of_another_size(void **state)
{
    static const uint8_t key[32] = { 1 };
    static const size_t sizes[] = { 0, 15, 17, 32 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO_BUF file = BUF_INIT;
        uint8_t share[32], body[48];
        made_wrap(key, sizes[i], share, body);
        buf_printf(&file, MADE_INTRO "-> X25519 ");
        base64_write(&file, span_of(share, 32), false);
        buf_add_u8(&file, '\n');
        base64_write(&file, span_of(body, sizes[i] + 16), false);
        if (sizes[i] == 32)
            buf_add_u8(&file, '\n'); /* 64 columns: an empty line ends it */
        buf_add_u8(&file, '\n');
        made_end(&file);
        expect("size of a file key", buf_span(&file), "X25519 recipient", SPAN_NONE);
    }
}

static void versions(void **state)
{
    static const char *const t[] = {
        "age-encryption.org/v2\n",  "age-encryption.org/v1\r\n",
        "age-encryption.org/v1 \n", "age-encryption.org/v1",
        " age-encryption.org/v1\n", "Age-encryption.org/v1\n",
        "\nage-encryption.org/v1\n"
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_printf(&file, "%s", t[i]);
        add_template(&file, STANZA);
        end_with_hello(&file);
        expect(t[i], buf_span(&file), "not an age file", SPAN_NONE);
    }
    expect("nothing", SPAN_NONE, "not an age file: it is empty", SPAN_NONE);
    expect("white space", SPAN_LIT(" \n\r\t"), "not an age file: it is empty", SPAN_NONE);
    expect("a part of the first line", SPAN_LIT("age-encr"), "truncated", SPAN_NONE);
}

static void header_ends(void **state)
{
    static const struct {
        const char *name, *end; /* @: the MAC; ~: but its last character */
        const char *words;
    } t[] = {
        { "as it should be", "--- @\n", NULL },
        { "padded", "--- @=\n", "its end" },
        { "two spaces", "---  @\n", "its end" },
        { "no space", "---@\n", "its end" },
        { "a space behind", "--- @ \n", "its end" },
        { "CR", "--- @\r\n", "its end" },
        { "another word", "--- @ A\n", "its end" },
        { "four dashes", "---- @\n", "its end" },
        { "short", "--- ~\n", "its end" },
        { "long", "--- @A\n", "its end" },
        { "no MAC", "--- \n", "its end" },
        { "neither space nor MAC", "---\n", "its end" },
        { "another MAC", "--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
          "not authentic" },
        { "no end", "", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT, text = BUF_INIT;
        uint8_t mac[32];
        buf_add_span(&file, SPAN_LIT(MADE_INTRO));
        add_template(&file, STANZA);
        made_mac(buf_span(&file), made_file_key, mac);
        base64_write(&text, span_of(mac, sizeof(mac)), false);
        for (const char *c = t[i].end; *c; c++) {
            if (*c == '@' || *c == '~')
                buf_add(&file, text.data, text.len - (*c == '~'));
            else
                buf_add_u8(&file, (uint8_t)*c);
        }
        add_hello(&file);
        expect(t[i].name, buf_span(&file), t[i].words, hello);
    }
}

/* A header may be long, but not without end. */
static void long_headers(void **state)
{
    AUTO_BUF file = BUF_INIT;

    (void)state;
    buf_add_span(&file, SPAN_LIT(MADE_INTRO));
    while (file.len < AGE_HEADER_MAX - 4 * KIB)
        add_template(&file, "-> grease\n@L\n@L\n\n");
    add_template(&file, STANZA);
    size_t len = file.len;
    end_with_hello(&file);
    AUTO_BUF out = BUF_INIT;
    struct err err = { 0 };
    assert_int_equal(decrypt(buf_span(&file), 32 * KIB, &out, &err), 0);
    file.len = len;
    while (file.len < AGE_HEADER_MAX)
        add_template(&file, "-> grease\n@L\n@L\n\n");
    end_with_hello(&file);
    for (size_t step = 32 * KIB; step <= MIB; step *= 32) {
        buf_clear(&out);
        assert_int_equal(decrypt(buf_span(&file), step, &out, &err), -1);
        assert_non_null(strstr(err.text, "too long"));
    }
}

static unsigned exchanges;

int __real_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32]);
int __wrap_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32]);
int __wrap_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32])
{
    exchanges++;
    return __real_crypto_x25519(out, scalar, point);
}

/* A key exchange is slow: a header of many recipients costs one for each, not one for
 * each and each piece that the header comes in, which are many when it is armored. */
static void a_recipient_is_tried_once(void **state)
{
    static const size_t steps[] = { 1, 30, 64 * KIB };
    enum { OTHERS = 200 };

    (void)state;
    for (int armor = 0; armor < 2; armor++)
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            AUTO_BUF plain = BUF_INIT, file = BUF_INIT, out = BUF_INIT;
            buf_add_span(&plain, SPAN_LIT(MADE_INTRO));
            for (int k = 0; k < OTHERS; k++) /* the body is somebody else's */
                add_template(
                    &plain,
                    "-> X25519 @S\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
            add_template(&plain, STANZA);
            end_with_hello(&plain);
            if (armor) {
                buf_printf(&file, "-----BEGIN AGE ENCRYPTED FILE-----\n");
                for (size_t at = 0; at < plain.len; at += 48) {
                    base64_write(&file, span_of(plain.data + at, MIN(48, plain.len - at)),
                                 true);
                    buf_add_u8(&file, '\n');
                }
                buf_printf(&file, "-----END AGE ENCRYPTED FILE-----\n");
            } else {
                buf_add_span(&file, buf_span(&plain));
            }
            exchanges = 0;
            assert_int_equal(decrypt(buf_span(&file), steps[i], &out, NULL), 0);
            assert_true(span_eq(buf_span(&out), hello));
            assert_int_equal(exchanges, OTHERS + 1);
        }
}

/* Its X25519 stanza is for its identity; its whole header is for somebody else. */
static void the_specification_s_stanzas(void **state)
{
    static const char *const headers[] = {
        MADE_INTRO "-> X25519 XEl0dJ6y3C7KZkgmgWUicg63EyXJiwBJW8PdYJ/cYBE\n"
                   "qRS0AMjdjPvZ/WT08U2KL4G+PIooA3hy38SvLpvaC1E\n"
                   "--- HK2NmOBN9Dpq0Gw6xMCuhFcQlQLvZ/wQUi/2scLG75s\n",
        MADE_INTRO "-> X25519 O6DLx/wDIawpUC978NSPjYvrfDtJVnZApXKp4FMPHCY\n"
                   "3aKjozt9agh7jGmvOKvR4iax41Wl4zj95MKK4X9JuWc\n"
                   "--- HK2NmOBN9Dpq0Gw6xMCuhFcQlQLvZ/wQUi/2scLG75s\n",
    };

    (void)state;
    expect("header", span_str(headers[0]), "no identity opens it", SPAN_NONE);
    expect("stanza", span_str(headers[1]), "not authentic", SPAN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stanzas),
        cmocka_unit_test(spare_bits_are_zeros),
        cmocka_unit_test(file_keys_of_another_size),
        cmocka_unit_test(versions),
        cmocka_unit_test(header_ends),
        cmocka_unit_test(long_headers),
        cmocka_unit_test(a_recipient_is_tried_once),
        cmocka_unit_test(the_specification_s_stanzas),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
