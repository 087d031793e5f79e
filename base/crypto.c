#include "base/crypto.h"

#include <pthread.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/err.h"

void crypto_init(void)
{
    CHECK(sodium_init() >= 0);
}

void crypto_random(void *out, size_t len)
{
    randombytes_buf(out, len);
}

uint32_t crypto_random_u32(void)
{
    return randombytes_random();
}

static uint8_t short_hash_key[crypto_shorthash_KEYBYTES];

static void short_hash_init(void)
{
    crypto_shorthash_keygen(short_hash_key);
}

uint64_t crypto_short_hash(const void *data, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t h;

    pthread_once(&once, short_hash_init);
    crypto_shorthash((uint8_t *)&h, data, len, short_hash_key);
    return h;
}

void crypto_zero(void *p, size_t len)
{
    if (len)
        sodium_memzero(p, len);
}

void crypto_no_core(void)
{
    struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they look inside  \
                                                                     */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return sodium_memcmp(a, b, len) == 0;
}

void *crypto_secret_alloc(size_t len)
{
    void *p = sodium_malloc(len);
    if (!p) {
        fprintf(stderr, "out of locked memory: %zu bytes (ulimit -l)\n", len);
        abort();
    }
    return p;
}

void crypto_secret_free(void *p)
{
    sodium_free(p);
}

void crypto_text(const void *data, size_t len, char *out)
{
    sodium_bin2base64(out, CRYPTO_TEXT(len), data, len,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

ssize_t crypto_text_parse(struct span text, uint8_t *out, size_t max)
{
    size_t len = 0;

    if (sodium_base642bin(out, max, (const char *)text.data, text.len, NULL, &len, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return -1;
    return (ssize_t)len;
}

void crypto_digest(const struct span *parts, size_t n, uint8_t out[CRYPTO_DIGEST_BYTES])
{
    crypto_generichash_state st;
    CHECK(crypto_generichash_init(&st, NULL, 0, CRYPTO_DIGEST_BYTES) == 0);
    for (size_t i = 0; i < n; i++)
        crypto_generichash_update(&st, parts[i].data, parts[i].len);
    crypto_generichash_final(&st, out, CRYPTO_DIGEST_BYTES);
}

void crypto_x25519_base(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES])
{
    CHECK(crypto_scalarmult_base(out, scalar) == 0);
}

int crypto_x25519(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES],
                  const uint8_t point[X25519_BYTES])
{
    return crypto_scalarmult(out, scalar, point) == 0 ? 0 : -1;
}

void crypto_hmac_sha256(uint8_t out[HMAC_SHA256_BYTES], struct span key, struct span msg)
{
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, key.data, key.len);
    crypto_auth_hmacsha256_update(&st, msg.data, msg.len);
    crypto_auth_hmacsha256_final(&st, out);
    sodium_memzero(&st, sizeof(st));
}

/* RFC 5869: extract, then T(i) = HMAC(PRK, T(i-1) | info | i). */
void crypto_hkdf_sha256(uint8_t *out, size_t out_len, struct span ikm, struct span salt,
                        struct span info)
{
    static const uint8_t zero_salt[HMAC_SHA256_BYTES];
    uint8_t prk[HMAC_SHA256_BYTES], block[HMAC_SHA256_BYTES];
    CHECK(out_len <= 255 * HMAC_SHA256_BYTES);
    if (salt.len == 0)
        salt = span_of(zero_salt, sizeof(zero_salt));
    crypto_hmac_sha256(prk, salt, ikm);
    for (size_t done = 0, prev = 0; done < out_len; prev = sizeof(block)) {
        uint8_t counter = (uint8_t)(done / sizeof(block) + 1);
        crypto_auth_hmacsha256_state st;
        crypto_auth_hmacsha256_init(&st, prk, sizeof(prk));
        crypto_auth_hmacsha256_update(&st, block, prev);
        crypto_auth_hmacsha256_update(&st, info.data, info.len);
        crypto_auth_hmacsha256_update(&st, &counter, 1);
        crypto_auth_hmacsha256_final(&st, block);
        sodium_memzero(&st, sizeof(st));
        size_t take = MIN(sizeof(block), out_len - done);
        memcpy(out + done, block, take);
        done += take;
    }
    sodium_memzero(prk, sizeof(prk));
    sodium_memzero(block, sizeof(block));
}

struct crypto_hash_state {
    enum crypto_hash kind;
    union {
        crypto_hash_sha256_state sha256;
        crypto_hash_sha512_state sha512;
        crypto_generichash_state blake2b;
    };
};

struct crypto_hash_state *crypto_hash_new(enum crypto_hash kind)
{
    /* blake2b's state wants 64-byte alignment */
    size_t size = (sizeof(struct crypto_hash_state) + 63) & ~(size_t)63;
    struct crypto_hash_state *st = aligned_alloc(64, size);
    CHECK(st);
    st->kind = kind;
    switch (kind) {
    case CRYPTO_SHA256:
        crypto_hash_sha256_init(&st->sha256);
        break;
    case CRYPTO_SHA512:
        crypto_hash_sha512_init(&st->sha512);
        break;
    case CRYPTO_BLAKE2B:
        crypto_generichash_init(&st->blake2b, NULL, 0, 64);
        break;
    }
    return st;
}

void crypto_hash_update(struct crypto_hash_state *st, const void *data, size_t len)
{
    switch (st->kind) {
    case CRYPTO_SHA256:
        crypto_hash_sha256_update(&st->sha256, data, len);
        break;
    case CRYPTO_SHA512:
        crypto_hash_sha512_update(&st->sha512, data, len);
        break;
    case CRYPTO_BLAKE2B:
        crypto_generichash_update(&st->blake2b, data, len);
        break;
    }
}

void crypto_hash_final(struct crypto_hash_state *st, uint8_t *out)
{
    switch (st->kind) {
    case CRYPTO_SHA256:
        crypto_hash_sha256_final(&st->sha256, out);
        break;
    case CRYPTO_SHA512:
        crypto_hash_sha512_final(&st->sha512, out);
        break;
    case CRYPTO_BLAKE2B:
        crypto_generichash_final(&st->blake2b, out, 64);
        break;
    }
    crypto_hash_free(st);
}

void crypto_hash_free(struct crypto_hash_state *st)
{
    free(st);
}

void crypto_aead_seal(uint8_t *out, const uint8_t *in, size_t len,
                      const uint8_t nonce[12], const uint8_t key[32])
{
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, NULL, 0, NULL, nonce,
                                              key);
}

int crypto_aead_open(uint8_t *out, const uint8_t *in, size_t len, const uint8_t nonce[12],
                     const uint8_t key[32])
{
    return crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, NULL, 0,
                                                     nonce, key) == 0
               ? 0
               : -1;
}
