#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/crypto.h"

/* The bytes of a hex string. */
static struct buf unhex(const char *hex)
{
    struct buf out = BUF_INIT;
    for (unsigned v; sscanf(hex, "%2x", &v) == 1; hex += 2)
        buf_add_u8(&out, (uint8_t)v);
    return out;
}

static void assert_hex(const void *got, const char *want)
{
    AUTO_BUF bytes = unhex(want);
    assert_memory_equal(got, bytes.data, bytes.len);
}

/* FIPS 180-4's example "abc" and RFC 7693, appendix A. */
static void digests_of_abc_are_the_published_ones(void **state)
{
    (void)state;
    static const struct {
        enum crypto_hash kind;
        const char *want;
    } t[] = {
        { CRYPTO_SHA256,
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { CRYPTO_SHA512,
          "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
          "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
        { CRYPTO_BLAKE2B,
          "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
          "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923" },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        uint8_t out[64];
        struct crypto_hash_state *st = crypto_hash_new(t[i].kind);
        crypto_hash_update(st, "a", 1);
        crypto_hash_update(st, "bc", 2);
        crypto_hash_final(st, out);
        assert_hex(out, t[i].want);
    }
}

static void both_sides_of_x25519_agree_and_a_zero_point_is_refused(void **state)
{
    (void)state;
    uint8_t alice[X25519_BYTES], bob[X25519_BYTES], a_public[X25519_BYTES];
    uint8_t b_public[X25519_BYTES], ab[X25519_BYTES], ba[X25519_BYTES];
    static const uint8_t zero[X25519_BYTES];
    crypto_random(alice, sizeof(alice));
    crypto_random(bob, sizeof(bob));
    crypto_x25519_base(a_public, alice);
    crypto_x25519_base(b_public, bob);
    assert_int_equal(crypto_x25519(ab, alice, b_public), 0);
    assert_int_equal(crypto_x25519(ba, bob, a_public), 0);
    assert_true(crypto_equal(ab, ba, sizeof(ab)));
    assert_int_equal(crypto_x25519(ab, bob, zero), -1);
}

/* RFC 5869, test cases 1 and 3 (no salt, no info). */
static void hkdf_gives_the_rfc_s_keys(void **state)
{
    (void)state;
    AUTO_BUF ikm = unhex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    AUTO_BUF salt = unhex("000102030405060708090a0b0c");
    AUTO_BUF info = unhex("f0f1f2f3f4f5f6f7f8f9");
    uint8_t out[42];
    crypto_hkdf_sha256(out, sizeof(out), buf_span(&ikm), buf_span(&salt),
                       buf_span(&info));
    assert_hex(out, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                    "34007208d5b887185865");
    crypto_hkdf_sha256(out, sizeof(out), buf_span(&ikm), SPAN_NONE, SPAN_NONE);
    assert_hex(out, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                    "9d201395faa4b61a96c8");
}

static void a_sealed_text_opens_and_a_changed_one_does_not(void **state)
{
    (void)state;
    uint8_t key[32], nonce[12] = { 0 }, sealed[5 + 16], opened[5];
    crypto_random(key, sizeof(key));
    crypto_aead_seal(sealed, (const uint8_t *)"hello", 5, nonce, key);
    assert_int_equal(crypto_aead_open(opened, sealed, sizeof(sealed), nonce, key), 0);
    assert_memory_equal(opened, "hello", 5);
    for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(crypto_aead_open(opened, sealed, sizeof(sealed), nonce, key),
                         -1);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Cutting the same bytes elsewhere changes nothing. */
static void a_chunk_digest_is_of_the_bytes_not_of_the_cut(void **state)
{
    (void)state;
    uint8_t one[CHUNK_DIGEST_BYTES], two[CHUNK_DIGEST_BYTES];
    crypto_chunk_digest((struct span[]){ SPAN_LIT("abc"), SPAN_LIT("de") }, 2, one);
    crypto_chunk_digest((struct span[]){ SPAN_LIT("a"), SPAN_LIT("bcde") }, 2, two);
    assert_true(crypto_equal(one, two, sizeof(one)));
}

static int init(void **state)
{
    (void)state;
    crypto_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_of_abc_are_the_published_ones),
        cmocka_unit_test(both_sides_of_x25519_agree_and_a_zero_point_is_refused),
        cmocka_unit_test(hkdf_gives_the_rfc_s_keys),
        cmocka_unit_test(a_sealed_text_opens_and_a_changed_one_does_not),
        cmocka_unit_test(a_chunk_digest_is_of_the_bytes_not_of_the_cut),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
