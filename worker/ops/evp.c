#include "worker/ops/evp.h"

/* The digests' own functions are called deprecated since 3.0, and are the same code. What
 * stands in front of them now allocates and wipes a context for every digest: 200 of the
 * 300 ns of a small one. BLAKE2b can be had no other way. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#include <pthread.h>

union state {
    MD5_CTX md5;
    SHA_CTX sha1;
    SHA256_CTX sha256;
    SHA512_CTX sha512;
    EVP_MD_CTX *evp;
};

struct evp_hash {
    const struct digest_calls *calls;
    union state st;
};

/* begin, update and end of one of libcrypto's digests, over the union's member. */
#define CALLS(member, NAME)                                                              \
    static int member##_begin(union state *st)                                           \
    {                                                                                    \
        return NAME##_Init(&st->member);                                                 \
    }                                                                                    \
    static int member##_update(union state *st, const void *data, size_t len)            \
    {                                                                                    \
        return NAME##_Update(&st->member, data, len);                                    \
    }                                                                                    \
    static int member##_end(union state *st, uint8_t *out)                               \
    {                                                                                    \
        return NAME##_Final(out, &st->member);                                           \
    }

CALLS(md5, MD5)
CALLS(sha1, SHA1)
CALLS(sha256, SHA256)
CALLS(sha512, SHA512)

static int evp_begin(union state *st)
{
    return EVP_DigestInit_ex2(st->evp, NULL, NULL); /* again what evp_hash_new chose */
}
static int evp_update(union state *st, const void *data, size_t len)
{
    return EVP_DigestUpdate(st->evp, data, len);
}
static int evp_end(union state *st, uint8_t *out)
{
    return EVP_DigestFinal_ex(st->evp, out, NULL);
}

static const struct digest_calls {
    int (*begin)(union state *st);
    int (*update)(union state *st, const void *data, size_t len);
    int (*end)(union state *st, uint8_t *out);
    const char *evp_name; /* of one that needs a context */
} calls[ALGO_COUNT] = {
    [ALGO_MD5] = { md5_begin, md5_update, md5_end, NULL },
    [ALGO_SHA1] = { sha1_begin, sha1_update, sha1_end, NULL },
    [ALGO_SHA256] = { sha256_begin, sha256_update, sha256_end, NULL },
    [ALGO_SHA512] = { sha512_begin, sha512_update, sha512_end, NULL },
    [ALGO_BLAKE2B] = { evp_begin, evp_update, evp_end, "BLAKE2B-512" },
};

struct evp_hash *evp_hash_new(enum algo algo)
{
    struct evp_hash *h = xcalloc(1, sizeof(*h));

    h->calls = &calls[algo];
    if (h->calls->evp_name) {
        EVP_MD *md = EVP_MD_fetch(NULL, h->calls->evp_name, NULL);
        h->st.evp = EVP_MD_CTX_new();
        CHECK(md && h->st.evp && EVP_DigestInit_ex2(h->st.evp, md, NULL) == 1);
        EVP_MD_free(md); /* the context holds it */
    }
    return h;
}

void evp_hash_begin(struct evp_hash *h)
{
    CHECK(h->calls->begin(&h->st) == 1);
}

void evp_hash_update(struct evp_hash *h, struct span bytes)
{
    CHECK(h->calls->update(&h->st, bytes.data, bytes.len) == 1);
}

void evp_hash_end(struct evp_hash *h, uint8_t *out)
{
    CHECK(h->calls->end(&h->st, out) == 1);
}

void evp_hash_free(struct evp_hash *h)
{
    if (!h)
        return;
    if (h->calls->evp_name)
        EVP_MD_CTX_free(h->st.evp);
    free(h);
}

/* ---- ChaCha20-Poly1305 ---- */

struct evp_aead {
    EVP_CIPHER_CTX *ctx; /* its key serves both ways */
};

static EVP_CIPHER *chacha;

static void chacha_fetch(void)
{
    chacha = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    CHECK(chacha);
}

struct evp_aead *evp_aead_new(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct evp_aead *a = xcalloc(1, sizeof(*a));

    pthread_once(&once, chacha_fetch);
    a->ctx = EVP_CIPHER_CTX_new();
    CHECK(a->ctx);
    return a;
}

void evp_aead_key(struct evp_aead *a, const uint8_t key[32])
{
    CHECK(EVP_CipherInit_ex2(a->ctx, chacha, key, NULL, 1, NULL) == 1);
}

void evp_aead_seal(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                   const uint8_t nonce[12])
{
    int n = 0;

    CHECK(len <= INT32_MAX - EVP_AEAD_TAG);
    CHECK(EVP_CipherInit_ex2(a->ctx, NULL, NULL, nonce, 1, NULL) == 1);
    CHECK(EVP_EncryptUpdate(a->ctx, out, &n, in, (int)len) == 1);
    CHECK(EVP_EncryptFinal_ex(a->ctx, out + n, &n) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, EVP_AEAD_TAG, out + len) ==
          1);
}

int evp_aead_open(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                  const uint8_t nonce[12])
{
    int n = 0;

    if (len < EVP_AEAD_TAG || len > INT32_MAX)
        return -1;
    len -= EVP_AEAD_TAG;
    CHECK(EVP_CipherInit_ex2(a->ctx, NULL, NULL, nonce, 0, NULL) == 1);
    if (len && EVP_DecryptUpdate(a->ctx, out, &n, in, (int)len) != 1)
        return -1;
    CHECK(EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, EVP_AEAD_TAG,
                              (void *)(in + len)) == 1);
    return EVP_DecryptFinal_ex(a->ctx, out + n, &n) == 1 ? 0 : -1;
}

void evp_aead_free(struct evp_aead *a)
{
    if (!a)
        return;
    EVP_CIPHER_CTX_free(a->ctx); /* clears what it held */
    free(a);
}
