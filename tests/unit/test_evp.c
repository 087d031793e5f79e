/* Both engines against what is published, and against each other at every size and cut
 * where block, buffer or slice ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/crypto.h"
#include "tests/unit/hex.h"
#include "worker/ops/evp.h"
#include "worker/ops/hash.h"

enum { LONG = 300 * KIB + 77 };
static uint8_t noise[LONG];

/* libsodium's engine has three of the five. */
static int sodium_kind(enum algo algo)
{
    switch (algo) {
    case ALGO_SHA256:
        return CRYPTO_SHA256;
    case ALGO_SHA512:
        return CRYPTO_SHA512;
    case ALGO_BLAKE2B:
        return CRYPTO_BLAKE2B;
    default:
        return -1;
    }
}

static void digest_evp(enum algo algo, struct span text, unsigned repeat, uint8_t *out)
{
    struct evp_hash *h = evp_hash_new(algo);

    evp_hash_begin(h);
    while (repeat--)
        evp_hash_update(h, text);
    evp_hash_end(h, out);
    evp_hash_free(h);
}

static void digest_sodium(enum algo algo, struct span text, unsigned repeat, uint8_t *out)
{
    struct crypto_hash_state *st = crypto_hash_new((enum crypto_hash)sodium_kind(algo));

    while (repeat--)
        crypto_hash_update(st, text.data, text.len);
    crypto_hash_final(st, out);
}

#define MSG_448 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
#define MSG_896                                                                          \
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq"   \
    "klmnopqrlmnopqrsmnopqrstnopqrstu"
#define LETTERS "abcdefghijklmnopqrstuvwxyz"
#define DIGITS  "1234567890"

/* FIPS 180 (its example messages, the million of 'a' among them), CAVP SHAVS short
 * messages, RFC 1321 A.5, RFC 7693 A and the first of BLAKE2's known answers. */
static const struct vector {
    enum algo algo;
    struct span text;
    unsigned repeat;
    const char *want;
} vectors[] = {
    { ALGO_MD5, SPAN_LIT(""), 1, "d41d8cd98f00b204e9800998ecf8427e" },
    { ALGO_MD5, SPAN_LIT("a"), 1, "0cc175b9c0f1b6a831c399e269772661" },
    { ALGO_MD5, SPAN_LIT("abc"), 1, "900150983cd24fb0d6963f7d28e17f72" },
    { ALGO_MD5, SPAN_LIT("message digest"), 1, "f96b697d7cb7938d525a2f31aaf161d0" },
    { ALGO_MD5, SPAN_LIT(LETTERS), 1, "c3fcd3d76192e4007dfb496cca67e13b" },
    { ALGO_MD5, SPAN_LIT("ABCDEFGHIJKLMNOPQRSTUVWXYZ" LETTERS "0123456789"), 1,
      "d174ab98d277d9f5a5611c2c9f419d9f" },
    { ALGO_MD5, SPAN_LIT(DIGITS), 8, "57edf4a22be3c955ac49da2e2107b67a" },
    { ALGO_SHA1, SPAN_LIT(""), 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
    { ALGO_SHA1, SPAN_LIT("\x36"), 1, "c1dfd96eea8cc2b62785275bca38ac261256e278" },
    { ALGO_SHA1, SPAN_LIT("abc"), 1, "a9993e364706816aba3e25717850c26c9cd0d89d" },
    { ALGO_SHA1, SPAN_LIT(MSG_448), 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1" },
    { ALGO_SHA1, SPAN_LIT(MSG_896), 1, "a49b2446a02c645bf419f995b67091253a04a259" },
    { ALGO_SHA1, SPAN_LIT("a"), 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f" },
    { ALGO_SHA256, SPAN_LIT(""), 1,
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { ALGO_SHA256, SPAN_LIT("\xd3"), 1,
      "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1" },
    { ALGO_SHA256, SPAN_LIT("\x11\xaf"), 1,
      "5ca7133fa735326081558ac312c620eeca9970d1e70a4b95533d956f072d1f98" },
    { ALGO_SHA256, SPAN_LIT("abc"), 1,
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { ALGO_SHA256, SPAN_LIT(MSG_448), 1,
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
    { ALGO_SHA256, SPAN_LIT(MSG_896), 1,
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
    { ALGO_SHA256, SPAN_LIT("a"), 1000000,
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
    { ALGO_SHA512, SPAN_LIT(""), 1,
      "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
      "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e" },
    { ALGO_SHA512, SPAN_LIT("\x21"), 1,
      "3831a6a6155e509dee59a7f451eb35324d8f8f2df6e3708894740f98fdee2388"
      "9f4de5adb0c5010dfb555cda77c8ab5dc902094c52de3278f35a75ebc25f093a" },
    { ALGO_SHA512, SPAN_LIT("abc"), 1,
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f" },
    { ALGO_SHA512, SPAN_LIT(MSG_896), 1,
      "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
      "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909" },
    { ALGO_SHA512, SPAN_LIT("a"), 1000000,
      "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
      "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b" },
    { ALGO_BLAKE2B, SPAN_LIT(""), 1,
      "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
      "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce" },
    { ALGO_BLAKE2B, SPAN_LIT("\x00"), 1,
      "2fa3f686df876995167e7c2e5d74c4c7b6e48f8068fe0e44208344d480f7904c"
      "36963e44115fe3eb2a3ac8694c28bcb4f5a0f3276f2e79487d8219057a506e4b" },
    { ALGO_BLAKE2B, SPAN_LIT("abc"), 1,
      "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
      "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923" },
};

static void digests_are_the_published_ones(void **state)
{
    uint8_t out[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        assert_int_equal(strlen(v->want), 2 * algo_bytes(v->algo));
        digest_evp(v->algo, v->text, v->repeat, out);
        assert_hex(out, v->want);
        if (sodium_kind(v->algo) < 0)
            continue;
        memset(out, 0, sizeof(out));
        digest_sodium(v->algo, v->text, v->repeat, out);
        assert_hex(out, v->want);
    }
}

/* BLAKE2's known answers: the input is 00 01 02 ..., one block and nearly two. */
static void blake2b_of_counted_bytes(void **state)
{
    uint8_t text[255], out[64];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)i;
    digest_evp(ALGO_BLAKE2B, span_of(text, 128), 1, out);
    assert_hex(out, "2319e3789c47e2daa5fe807f61bec2a1a6537fa03f19ff32e87eecbfd64b7e0e"
                    "8ccff439ac333b040f19b0c4ddd11a61e24ac1fe0f10a039806c5dcc0da3d115");
    digest_sodium(ALGO_BLAKE2B, span_of(text, 255), 1, out);
    assert_hex(out, "5b21c5fd8868367612474fa2e70e9cfa2201ffeee8fafab5797ad58fefa17c9b"
                    "5b107da4a3db6320baaf2c8617d5a51df914ae88da3867c2d41f0cc14fa67928");
}

/* Sizes around everything that ends somewhere: blocks, chunks of age, slices of hash. */
static const size_t ends[] = { 64, 128, 4 * KIB, 64 * KIB, 128 * KIB, 256 * KIB };

static size_t size_of_case(size_t i)
{
    if (i < 300)
        return i;
    i -= 300;
    return ends[i / 3] + i % 3 - 1;
}
enum { CASES = 300 + 3 * ARRAY_LEN(ends) };

/* One digest in pieces of random length; empty ones among them. */
static void in_pieces(struct evp_hash *h, struct span text, uint8_t *out)
{
    evp_hash_begin(h);
    for (size_t at = 0; at < text.len;) {
        size_t n = crypto_random_u32() % (text.len / 3 + 2);
        n = MIN(n, text.len - at);
        evp_hash_update(h, span_of(text.data + at, n));
        at += n;
    }
    evp_hash_end(h, out);
}

static void engines_and_cuts_agree_on_digests(void **state)
{
    (void)state;
    for (enum algo a = 0; a < ALGO_COUNT; a++) {
        struct evp_hash *h = evp_hash_new(a); /* reused, as hash.c does */
        for (size_t i = 0; i < CASES; i++) {
            struct span text = span_of(noise + i % 9, size_of_case(i));
            uint8_t whole[64], cut[64], other[64];
            evp_hash_begin(h);
            evp_hash_update(h, text);
            evp_hash_end(h, whole);
            in_pieces(h, text, cut);
            assert_memory_equal(whole, cut, algo_bytes(a));
            if (sodium_kind(a) < 0)
                continue;
            digest_sodium(a, text, 1, other);
            assert_memory_equal(whole, other, algo_bytes(a));
        }
        evp_hash_free(h);
    }
}

/* All algorithms over one read are what each is alone. */
static void several_digests_at_once(void **state)
{
    struct hash *h = hash_new();
    struct digest got[PACK_DIGESTS_MAX];

    (void)state;
    for (uint32_t mask = 1; mask < BIT(ALGO_COUNT); mask++) {
        size_t len = 120 * KIB + crypto_random_u32() % (20 * KIB), cut = len / 3;
        hash_begin(h, mask);
        hash_update(h, span_of(noise, cut));
        hash_update(h, span_of(noise + cut, len - cut));
        uint32_t n = hash_end(h, got);
        assert_int_equal(n, __builtin_popcount(mask));
        for (uint32_t i = 0; i < n; i++) {
            uint8_t want[64];
            assert_true(mask & BIT(got[i].algo));
            assert_int_equal(got[i].bytes.len, algo_bytes(got[i].algo));
            digest_evp(got[i].algo, span_of(noise, len), 1, want);
            assert_memory_equal(got[i].bytes.data, want, got[i].bytes.len);
        }
    }
    hash_free(h);
}

/* RFC 8439, 2.8.2. Its associated data, which neither engine here has, changes the tag
 * alone: the text must be the RFC's, and the tag the other engine's. */
static void aead_gives_the_rfc_s_text(void **state)
{
    static const char plain[] =
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
        "the future, sunscreen would be it.";
    static const char want[] =
        "d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b 6116";
    AUTO_BUF key =
        unhex("808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f");
    AUTO_BUF nonce = unhex("070000004041424344454647");
    uint8_t a[sizeof(plain) - 1 + EVP_AEAD_TAG], b[sizeof(a)];
    struct evp_aead *aead = evp_aead_new();

    (void)state;
    evp_aead_key(aead, key.data);
    evp_aead_seal(aead, a, (const uint8_t *)plain, sizeof(plain) - 1, nonce.data);
    crypto_aead_seal(b, (const uint8_t *)plain, sizeof(plain) - 1, nonce.data, key.data);
    evp_aead_free(aead);
    assert_hex(a, want);
    assert_memory_equal(a, b, sizeof(a));
}

static void what_one_engine_seals_the_other_opens(void **state)
{
    static uint8_t a[LONG], b[LONG], back[LONG];
    struct evp_aead *aead = evp_aead_new();

    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        size_t len = size_of_case(i);
        uint8_t key[32], nonce[12];
        crypto_random(key, sizeof(key));
        crypto_random(nonce, sizeof(nonce));
        evp_aead_key(aead, key); /* one context for all */
        evp_aead_seal(aead, a, noise, len, nonce);
        crypto_aead_seal(b, noise, len, nonce, key);
        assert_memory_equal(a, b, len + EVP_AEAD_TAG);
        assert_int_equal(evp_aead_open(aead, back, b, len + EVP_AEAD_TAG, nonce), 0);
        assert_memory_equal(back, noise, len);
        memset(back, 0, len);
        assert_int_equal(crypto_aead_open(back, a, len + EVP_AEAD_TAG, nonce, key), 0);
        assert_memory_equal(back, noise, len);
        memcpy(back, noise, len); /* in place */
        evp_aead_seal(aead, back, back, len, nonce);
        assert_memory_equal(back, a, len + EVP_AEAD_TAG);
        assert_int_equal(evp_aead_open(aead, back, back, len + EVP_AEAD_TAG, nonce), 0);
        assert_memory_equal(back, noise, len);
    }
    evp_aead_free(aead);
}

/* Refused by both; and a context that refused goes on. */
static void what_is_not_authentic_is_refused(void **state)
{
    enum { LEN = 40 };
    uint8_t key[32] = { 1 }, nonce[12] = { 2 }, sealed[LEN + EVP_AEAD_TAG];
    uint8_t back[sizeof(sealed)], other[12] = { 3 };
    struct evp_aead *aead = evp_aead_new();

    (void)state;
    evp_aead_key(aead, key);
    evp_aead_seal(aead, sealed, noise, LEN, nonce);
    for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(evp_aead_open(aead, back, sealed, sizeof(sealed), nonce), -1);
        assert_int_equal(crypto_aead_open(back, sealed, sizeof(sealed), nonce, key), -1);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(evp_aead_open(aead, back, sealed, sizeof(sealed), nonce), 0);
    }
    for (size_t len = 0; len < sizeof(sealed); len++) {
        assert_int_equal(evp_aead_open(aead, back, sealed, len, nonce), -1);
        assert_int_equal(crypto_aead_open(back, sealed, len, nonce, key), -1);
    }
    assert_int_equal(evp_aead_open(aead, back, sealed, sizeof(sealed), other), -1);
    key[31] ^= 0x80;
    evp_aead_key(aead, key);
    assert_int_equal(evp_aead_open(aead, back, sealed, sizeof(sealed), nonce), -1);
    evp_aead_free(aead);
}

static int set_up(void **state)
{
    (void)state;
    crypto_init();
    crypto_random(noise, sizeof(noise));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_the_published_ones),
        cmocka_unit_test(blake2b_of_counted_bytes),
        cmocka_unit_test(engines_and_cuts_agree_on_digests),
        cmocka_unit_test(several_digests_at_once),
        cmocka_unit_test(aead_gives_the_rfc_s_text),
        cmocka_unit_test(what_one_engine_seals_the_other_opens),
        cmocka_unit_test(what_is_not_authentic_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
