/* age payloads: what is written, what age wrote, and chunks in the wrong order. */
#include "tests/unit/age_rig.h"

static void what_age_wrote_is_opened(void **state)
{
    (void)state;
    expect("of age", span_str(of_age), NULL, SPAN_LIT("written by age\n"));
}

/* What is written is what the specification says, read here without the product's reader:
 * the stanza's body gives the file key, the MAC is over the header, the chunks open. */
static void what_is_written_is_as_specified(void **state)
{
    enum { C = AGE_CHUNK };
    static const struct {
        size_t size, before; /* before: given while it is not known whether more comes */
    } t[] = { { 0, 0 },         { 1, 0 },     { 1, 1 },         { C, 0 },
              { C, 1 },         { C, C },     { C + 1, 0 },     { C + 1, C },
              { C + 1, C + 1 }, { 2 * C, 0 }, { 2 * C, C - 1 }, { 2 * C, 2 * C } };
    static const char to[] =
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    static const uint8_t zero[12];
    uint8_t ours[32], recipient[32];

    (void)state;
    memset(ours, 0x42, sizeof(ours));
    crypto_x25519_base(recipient, ours);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT, share = BUF_INIT, body = BUF_INIT, mac = BUF_INIT;
        struct span r = span_str(to);
        struct age_enc *e;
        uint8_t secret[32], salt[64], key[32], file_key[AGE_FILE_KEY], want[32];
        assert_int_equal(age_enc_new(&r, 1, false, &file, &e, NULL), 0);
        age_enc_update(e, span_of(noise, t[i].before), &file);
        age_enc_end(e, span_of(noise + t[i].before, t[i].size - t[i].before), &file);
        age_enc_free(e);
        const uint8_t *at = file.data + strlen(MADE_INTRO);
        assert_memory_equal(file.data, MADE_INTRO "-> X25519 ", 32);
        assert_int_equal(base64_read(&share, span_of(at + 10, 43), false), 0);
        assert_int_equal(base64_read(&body, span_of(at + 54, 43), false), 0);
        assert_memory_equal(at + 97, "\n--- ", 5);
        assert_int_equal(base64_read(&mac, span_of(at + 102, 43), false), 0);
        assert_int_equal(crypto_x25519(secret, ours, share.data), 0);
        memcpy(salt, share.data, 32);
        memcpy(salt + 32, recipient, 32);
        crypto_hkdf_sha256(key, 32, span_of(secret, 32), span_of(salt, 64),
                           SPAN_LIT("age-encryption.org/v1/X25519"));
        assert_int_equal(crypto_aead_open(file_key, body.data, 32, zero, key), 0);
        made_mac(span_of(file.data, (size_t)(at + 98 - file.data)), file_key, want);
        assert_memory_equal(mac.data, want, 32);
        size_t pos = (size_t)(at + 146 - file.data), done = 0;
        crypto_hkdf_sha256(key, 32, span_of(file_key, AGE_FILE_KEY),
                           span_of(file.data + pos, 16), SPAN_LIT("payload"));
        pos += 16;
        for (uint8_t chunk = 0; pos < file.len; chunk++) {
            static uint8_t plain[AGE_CHUNK];
            size_t n = MIN(file.len - pos, AGE_CHUNK + 16);
            uint8_t nonce[12] = { [10] = chunk, [11] = pos + n == file.len };
            assert_int_equal(crypto_aead_open(plain, file.data + pos, n, nonce, key), 0);
            assert_memory_equal(plain, noise + done, n - 16);
            assert_true(n > 16 || t[i].size == 0);
            done += n - 16;
            pos += n;
        }
        assert_int_equal(done, t[i].size);
    }
}

/* A chunk: under which counter, how many bytes of noise from where. */
struct piece {
    enum { NO_MORE, MORE, LAST } kind;
    uint64_t counter;
    size_t at, len;
};
#define C AGE_CHUNK

static const struct {
    const char *name, *words;
    size_t plain, garbage; /* bytes that come out; behind the last chunk */
    struct piece pieces[4];
} payload_cases[] = {
    { "empty", NULL, 0, 0, { { LAST, 0, 0, 0 } } },
    { "one byte", NULL, 1, 0, { { LAST, 0, 0, 1 } } },
    { "full", NULL, C, 0, { { LAST, 0, 0, C } } },
    { "two", NULL, C + 1, 0, { { MORE, 0, 0, C }, { LAST, 1, C, 1 } } },
    { "two, full", NULL, 2 * C, 0, { { MORE, 0, 0, C }, { LAST, 1, C, C } } },
    { "no chunk", "truncated", 0, 0, { { 0 } } },
    { "last is empty", "truncated", C, 0, { { MORE, 0, 0, C }, { LAST, 1, 0, 0 } } },
    { "none is last", "not authentic", 0, 0, { { MORE, 0, 0, 9 } } },
    { "none is last, full", "authentic", C, 0, { { MORE, 0, 0, C } } },
    { "none of two is last", "chunk 1", C, 0, { { MORE, 0, 0, C }, { MORE, 1, C, 9 } } },
    { "two are last", "chunk 0", 0, 0, { { LAST, 0, 0, C }, { LAST, 1, C, 9 } } },
    { "the last comes twice", "chunk 0", 0, 0, { { LAST, 0, 0, 9 }, { LAST, 0, 0, 9 } } },
    { "the last follows a short one",
      "chunk 0",
      0,
      0,
      { { MORE, 0, 0, 9 }, { LAST, 1, 9, 9 } } },
    { "swapped",
      "chunk 0",
      0,
      0,
      { { MORE, 1, C, C }, { MORE, 0, 0, C }, { LAST, 2, 2 * C, 9 } } },
    { "swapped behind the first",
      "chunk 1",
      C,
      0,
      { { MORE, 0, 0, C }, { LAST, 2, 2 * C, C }, { MORE, 1, C, C } } },
    { "one is missing", "chunk 1", C, 0, { { MORE, 0, 0, C }, { LAST, 2, 2 * C, 9 } } },
    { "the first is missing", "chunk 0", 0, 0, { { LAST, 1, C, 9 } } },
    { "one comes twice",
      "chunk 1",
      C,
      0,
      { { MORE, 0, 0, C }, { MORE, 0, 0, C }, { LAST, 1, C, 9 } } },
    { "counted from 1", "chunk 0", 0, 0, { { MORE, 1, 0, C }, { LAST, 2, C, 9 } } },
    { "a byte behind", "chunk 0", 0, 1, { { LAST, 0, 0, 9 } } },
    { "a chunk's bytes behind", "chunk 0", 0, 17, { { LAST, 0, 0, C } } },
    { "a tag's bytes behind a full one", "chunk 0", 0, 16, { { LAST, 0, 0, C } } },
    { "few bytes behind a full one", "chunk 0", 0, 3, { { LAST, 0, 0, C } } },
};

static void payloads(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(payload_cases); i++) {
        AUTO_BUF file = BUF_INIT;
        add_good_header(&file);
        made_nonce(&file);
        for (const struct piece *p = payload_cases[i].pieces; p->kind; p++)
            made_chunk(&file, p->counter, p->kind == LAST,
                       span_of(noise + p->at, p->len));
        buf_add(&file, noise, payload_cases[i].garbage);
        expect(payload_cases[i].name, buf_span(&file), payload_cases[i].words,
               span_of(noise, payload_cases[i].plain));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_age_wrote_is_opened),
        cmocka_unit_test(what_is_written_is_as_specified),
        cmocka_unit_test(payloads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
