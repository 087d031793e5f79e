#include "worker/ops/age_payload.h"

#include "base/crypto.h"

struct age_payload {
    struct evp_aead *aead;
};

void age_payload_key(const uint8_t file_key[AGE_FILE_KEY], const uint8_t *nonce,
                     uint8_t ret_key[AGE_PAYLOAD_KEY])
{
    crypto_hkdf_sha256(ret_key, AGE_PAYLOAD_KEY, span_of(file_key, AGE_FILE_KEY),
                       span_of(nonce, AGE_NONCE), SPAN_LIT("payload"));
}

int age_payload_begin(const struct span *recipients, size_t n, struct buf *out,
                      uint8_t ret_key[AGE_PAYLOAD_KEY], struct err *err)
{
    uint8_t fresh[AGE_FILE_KEY + AGE_NONCE]; /* one system call for both */
    uint8_t *file_key = fresh, *nonce = fresh + AGE_FILE_KEY;
    int rc;

    crypto_random(fresh, sizeof(fresh));
    rc = age_header_write(out, recipients, n, file_key, err);
    if (rc == 0) {
        buf_add(out, nonce, AGE_NONCE);
        age_payload_key(file_key, nonce, ret_key);
    }
    crypto_zero(fresh, sizeof(fresh));
    return rc;
}

int age_payload_find(struct span bytes, const struct age_identities *ids, size_t *ret_len,
                     uint8_t ret_key[AGE_PAYLOAD_KEY], struct err *err)
{
    uint8_t file_key[AGE_FILE_KEY];
    size_t len = 0;
    int rc = age_header_read(bytes, ids, &len, file_key, err);

    if (rc == 1 && bytes.len - len < AGE_NONCE)
        rc = 0;
    if (rc == 1) {
        age_payload_key(file_key, bytes.data + len, ret_key);
        *ret_len = len + AGE_NONCE;
    }
    crypto_zero(file_key, sizeof(file_key));
    return rc;
}

struct age_payload *age_payload_new(const uint8_t key[AGE_PAYLOAD_KEY])
{
    struct age_payload *p = xcalloc(1, sizeof(*p));

    p->aead = evp_aead_new();
    evp_aead_key(p->aead, key);
    return p;
}

void age_payload_free(struct age_payload *p)
{
    if (!p)
        return;
    evp_aead_free(p->aead);
    free(p);
}

/* An 11-byte big-endian counter, then 1 for the last chunk. */
static void chunk_nonce(uint64_t chunk, bool last, uint8_t out[12])
{
    memset(out, 0, 12);
    for (int i = 0; i < 8; i++)
        out[10 - i] = (uint8_t)(chunk >> 8 * i);
    out[11] = last;
}

void age_payload_seal(struct age_payload *p, uint64_t chunk, bool last, struct span plain,
                      uint8_t *out)
{
    uint8_t nonce[12];

    chunk_nonce(chunk, last, nonce);
    evp_aead_seal(p->aead, out, plain.data, plain.len, nonce);
}

int age_payload_open(struct age_payload *p, uint64_t chunk, bool last, struct span sealed,
                     uint8_t *out, struct err *err)
{
    uint8_t nonce[12];

    if (sealed.len < EVP_AEAD_TAG || (last && sealed.len == EVP_AEAD_TAG && chunk > 0))
        return err_set(err, 1, "truncated age file");
    chunk_nonce(chunk, last, nonce);
    if (evp_aead_open(p->aead, out, sealed.data, sealed.len, nonce) < 0)
        return err_set(err, 1,
                       "damaged or truncated age file: chunk %llu is not authentic",
                       (unsigned long long)chunk);
    return 0;
}

uint64_t age_payload_chunks(bool seal, uint64_t header, uint64_t size)
{
    uint64_t len = seal ? size : size - MIN(header, size);
    uint64_t of = seal ? AGE_CHUNK : AGE_SEALED;

    return len ? (len + of - 1) / of : 1;
}

struct age_range age_payload_range(bool seal, uint64_t header, uint64_t size,
                                   uint64_t first, uint64_t n)
{
    uint64_t in_of = seal ? AGE_CHUNK : AGE_SEALED,
             out_of = seal ? AGE_SEALED : AGE_CHUNK;
    uint64_t in_from = seal ? 0 : header, out_from = seal ? header : 0;
    uint64_t end = MIN(size, in_from + (first + n) * in_of);
    struct age_range r = { .in_at = in_from + first * in_of,
                           .out_at = out_from + first * out_of,
                           .last = first + n >= age_payload_chunks(seal, header, size) };

    r.in_len = end - MIN(r.in_at, end);
    return r;
}
