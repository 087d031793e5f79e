#include "worker/ops/evp.h"

#include <openssl/evp.h>

struct evp_hash {
    EVP_MD_CTX *ctx;
    EVP_MD *md;
};

struct evp_hash *evp_hash_new(enum algo algo)
{
    static const char *const names[ALGO_COUNT] = {
        [ALGO_MD5] = "MD5",
        [ALGO_SHA1] = "SHA1",
        [ALGO_SHA256] = "SHA2-256",
        [ALGO_SHA512] = "SHA2-512",
        [ALGO_BLAKE2B] = "BLAKE2B-512",
    };
    struct evp_hash *h = xcalloc(1, sizeof(*h));

    h->md = EVP_MD_fetch(NULL, names[algo], NULL);
    h->ctx = EVP_MD_CTX_new();
    CHECK(h->md && h->ctx);
    return h;
}

void evp_hash_begin(struct evp_hash *h)
{
    CHECK(EVP_DigestInit_ex2(h->ctx, h->md, NULL) == 1);
}

void evp_hash_update(struct evp_hash *h, struct span bytes)
{
    CHECK(EVP_DigestUpdate(h->ctx, bytes.data, bytes.len) == 1);
}

void evp_hash_end(struct evp_hash *h, uint8_t *out)
{
    CHECK(EVP_DigestFinal_ex(h->ctx, out, NULL) == 1);
}

void evp_hash_free(struct evp_hash *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    EVP_MD_free(h->md);
    free(h);
}

struct evp_aead {
    EVP_CIPHER_CTX *seal, *open;
    EVP_CIPHER *cipher;
};

struct evp_aead *evp_aead_new(void)
{
    struct evp_aead *a = xcalloc(1, sizeof(*a));

    a->cipher = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    a->seal = EVP_CIPHER_CTX_new();
    a->open = EVP_CIPHER_CTX_new();
    CHECK(a->cipher && a->seal && a->open);
    return a;
}

void evp_aead_key(struct evp_aead *a, const uint8_t key[32])
{
    CHECK(EVP_EncryptInit_ex2(a->seal, a->cipher, key, NULL, NULL) == 1);
    CHECK(EVP_DecryptInit_ex2(a->open, a->cipher, key, NULL, NULL) == 1);
}

void evp_aead_seal(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                   const uint8_t nonce[12])
{
    int n = 0;

    CHECK(len <= INT32_MAX - EVP_AEAD_TAG);
    CHECK(EVP_EncryptInit_ex2(a->seal, NULL, NULL, nonce, NULL) == 1);
    CHECK(EVP_EncryptUpdate(a->seal, out, &n, in, (int)len) == 1);
    CHECK(EVP_EncryptFinal_ex(a->seal, out + n, &n) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_AEAD_GET_TAG, EVP_AEAD_TAG, out + len) ==
          1);
}

int evp_aead_open(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                  const uint8_t nonce[12])
{
    int n = 0;

    if (len < EVP_AEAD_TAG || len > INT32_MAX)
        return -1;
    len -= EVP_AEAD_TAG;
    CHECK(EVP_DecryptInit_ex2(a->open, NULL, NULL, nonce, NULL) == 1);
    if (len && EVP_DecryptUpdate(a->open, out, &n, in, (int)len) != 1)
        return -1;
    CHECK(EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_AEAD_SET_TAG, EVP_AEAD_TAG,
                              (void *)(in + len)) == 1);
    return EVP_DecryptFinal_ex(a->open, out + n, &n) == 1 ? 0 : -1;
}

void evp_aead_free(struct evp_aead *a)
{
    if (!a)
        return;
    EVP_CIPHER_CTX_free(a->seal); /* clears what it held */
    EVP_CIPHER_CTX_free(a->open);
    EVP_CIPHER_free(a->cipher);
    free(a);
}
