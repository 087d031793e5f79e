#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "tests/unit/hex.h"

/* RFC 7748, 5.2: two products, and the base point run through itself. */
static void x25519_gives_the_rfc_s_points(void **state)
{
    static const struct {
        const char *scalar, *point, *want;
    } t[] = {
        { "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
          "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
          "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552" },
        { "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
          "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
          "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957" },
    };
    uint8_t k[X25519_BYTES] = { 9 }, u[X25519_BYTES] = { 9 }, out[X25519_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF scalar = unhex(t[i].scalar), point = unhex(t[i].point);
        assert_int_equal(crypto_x25519(out, scalar.data, point.data), 0);
        assert_hex(out, t[i].want);
    }
    for (int i = 1; i <= 1000; i++) {
        assert_int_equal(crypto_x25519(out, k, u), 0);
        memcpy(u, k, sizeof(u));
        memcpy(k, out, sizeof(k));
        if (i == 1)
            assert_hex(
                k, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
    assert_hex(k, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

/* RFC 7748, 6.1. */
static void x25519_gives_the_rfc_s_shared_secret(void **state)
{
    AUTO_BUF alice =
        unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    AUTO_BUF bob =
        unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    static const char a_want[] =
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    static const char b_want[] =
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    static const char shared[] =
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    AUTO_BUF a_public = unhex(a_want), b_public = unhex(b_want);
    uint8_t out[X25519_BYTES];

    (void)state;
    crypto_x25519_base(out, alice.data);
    assert_hex(out, a_want);
    crypto_x25519_base(out, bob.data);
    assert_hex(out, b_want);
    assert_int_equal(crypto_x25519(out, alice.data, b_public.data), 0);
    assert_hex(out, shared);
    assert_int_equal(crypto_x25519(out, bob.data, a_public.data), 0);
    assert_hex(out, shared);
}

/* Every point of low order, in each form that 32 bytes can have: RFC 7748, 6.1 wants an
 * all-zero secret noticed. */
static void x25519_refuses_points_of_low_order(void **state)
{
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t scalar[X25519_BYTES], out[X25519_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        AUTO_BUF point = unhex(points[i]);
        crypto_random(scalar, sizeof(scalar));
        assert_int_equal(crypto_x25519(out, scalar, point.data), -1);
        point.data[31] |= 0x80; /* the highest bit does not count */
        assert_int_equal(crypto_x25519(out, scalar, point.data), -1);
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

/* RFC 4231: cases 1 to 4; 6 and 7, whose keys are longer than a block. */
static void hmac_gives_the_rfc_s_digests(void **state)
{
    static const struct {
        uint8_t key_byte;
        size_t key_len;
        struct span msg;
        const char *want;
    } t[] = {
        { 0x0b, 20, SPAN_LIT("Hi There"),
          "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
        { 0, 4, SPAN_LIT("what do ya want for nothing?"),
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
        { 0xaa, 131, SPAN_LIT("Test Using Larger Than Block-Size Key - Hash Key First"),
          "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
        { 0xaa, 131,
          SPAN_LIT("This is a test using a larger than block-size key and a larger than "
                   "block-size data. The key needs to be hashed before being used by the "
                   "HMAC algorithm."),
          "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
    };
    uint8_t key[131], msg[50], out[HMAC_SHA256_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        memset(key, t[i].key_byte, sizeof(key));
        if (!t[i].key_byte)
            memcpy(key, "Jefe", 4);
        crypto_hmac_sha256(out, span_of(key, t[i].key_len), t[i].msg);
        assert_hex(out, t[i].want);
    }
    memset(key, 0xaa, sizeof(key));
    memset(msg, 0xdd, sizeof(msg));
    crypto_hmac_sha256(out, span_of(key, 20), span_of(msg, sizeof(msg)));
    assert_hex(out, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    for (size_t i = 0; i < 25; i++)
        key[i] = (uint8_t)(i + 1);
    memset(msg, 0xcd, sizeof(msg));
    crypto_hmac_sha256(out, span_of(key, 25), span_of(msg, sizeof(msg)));
    assert_hex(out, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
}

/* The bytes first, first + 1, ...: 80 of them. */
static struct buf counted(uint8_t first)
{
    struct buf out = BUF_INIT;
    for (int i = 0; i < 80; i++)
        buf_add_u8(&out, (uint8_t)(first + i));
    return out;
}

/* RFC 5869, A.1 to A.3. */
static void hkdf_gives_the_rfc_s_keys(void **state)
{
    AUTO_BUF ikm = unhex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    AUTO_BUF salt = unhex("000102030405060708090a0b0c");
    AUTO_BUF info = unhex("f0f1f2f3f4f5f6f7f8f9");
    AUTO_BUF ikm2 = counted(0x00), salt2 = counted(0x60), info2 = counted(0xb0);
    uint8_t out[82];

    (void)state;
    crypto_hkdf_sha256(out, 42, buf_span(&ikm), buf_span(&salt), buf_span(&info));
    assert_hex(out, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
                    "34007208d5b887185865");
    crypto_hkdf_sha256(out, 82, buf_span(&ikm2), buf_span(&salt2), buf_span(&info2));
    assert_hex(out, "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                    "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                    "cc30c58179ec3e87c14c01d5c1f3434f1d87");
    crypto_hkdf_sha256(out, 42, buf_span(&ikm), SPAN_NONE, SPAN_NONE);
    assert_hex(out, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
                    "9d201395faa4b61a96c8");
}

/* A shorter key is the longer one's beginning, up to the most that there is. */
static void hkdf_of_every_length(void **state)
{
    static uint8_t longest[255 * HMAC_SHA256_BYTES], out[sizeof(longest) + 1];

    (void)state;
    crypto_hkdf_sha256(longest, sizeof(longest), SPAN_LIT("k"), SPAN_NONE, SPAN_LIT("i"));
    for (size_t len = 0; len <= sizeof(longest); len += len < 100 ? 1 : 1009) {
        memset(out, 0x5a, sizeof(out));
        crypto_hkdf_sha256(out, len, SPAN_LIT("k"), SPAN_NONE, SPAN_LIT("i"));
        assert_memory_equal(out, longest, len);
        assert_int_equal(out[len], 0x5a);
    }
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

/* Cutting the same bytes elsewhere changes nothing. b2sum -l 128 says the same of "abc".
 */
static void a_digest_is_of_the_bytes_not_of_the_cut(void **state)
{
    (void)state;
    uint8_t one[CRYPTO_DIGEST_BYTES], two[CRYPTO_DIGEST_BYTES];
    crypto_digest((struct span[]){ SPAN_LIT("abc"), SPAN_LIT("de") }, 2, one);
    crypto_digest((struct span[]){ SPAN_LIT("a"), SPAN_LIT("bcde") }, 2, two);
    assert_true(crypto_equal(one, two, sizeof(one)));
    crypto_digest((struct span[]){ SPAN_LIT("abc"), SPAN_NONE }, 2, one);
    assert_hex(one, "cf4ab791c62b8d2b2109c90275287816");
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
        cmocka_unit_test(x25519_gives_the_rfc_s_points),
        cmocka_unit_test(x25519_gives_the_rfc_s_shared_secret),
        cmocka_unit_test(x25519_refuses_points_of_low_order),
        cmocka_unit_test(both_sides_of_x25519_agree_and_a_zero_point_is_refused),
        cmocka_unit_test(hmac_gives_the_rfc_s_digests),
        cmocka_unit_test(hkdf_gives_the_rfc_s_keys),
        cmocka_unit_test(hkdf_of_every_length),
        cmocka_unit_test(a_sealed_text_opens_and_a_changed_one_does_not),
        cmocka_unit_test(a_digest_is_of_the_bytes_not_of_the_cut),
    };
    return cmocka_run_group_tests(tests, init, NULL);
}
