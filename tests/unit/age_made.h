/* age files made piece by piece, right or wrong, without the product's writer: header
 * lines as given, the true MAC over them, chunks sealed by libsodium's engine under any
 * counter. Format: C2SP age.md. */
#ifndef TESTS_UNIT_AGE_MADE_H
#define TESTS_UNIT_AGE_MADE_H

#include "base/crypto.h"
#include "worker/ops/age.h"

/* The specification's example: 32 bytes of 0x42. */
#define MADE_IDENTITY                                                                    \
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
#define MADE_INTRO "age-encryption.org/v1\n"

static const uint8_t made_file_key[AGE_FILE_KEY] = "file key, fixed";

/* An X25519 stanza's share and body (wrapped file key) for the example's identity. */
static inline void made_wrap(const uint8_t *file_key, size_t len, uint8_t ret_share[32],
                             uint8_t *ret_body)
{
    static const uint8_t nonce[12];
    uint8_t to[32], secret[32], ephemeral[32], salt[64], key[32];

    memset(secret, 0x42, sizeof(secret));
    crypto_x25519_base(to, secret);
    memset(ephemeral, 0x17, sizeof(ephemeral));
    crypto_x25519_base(ret_share, ephemeral);
    CHECK(crypto_x25519(secret, ephemeral, to) == 0);
    memcpy(salt, ret_share, 32);
    memcpy(salt + 32, to, 32);
    crypto_hkdf_sha256(key, sizeof(key), span_of(secret, 32), span_of(salt, 64),
                       SPAN_LIT("age-encryption.org/v1/X25519"));
    crypto_aead_seal(ret_body, file_key, len, nonce, key);
}

/* Over all of `header` and three dashes more. */
static inline void made_mac(struct span header, const uint8_t file_key[AGE_FILE_KEY],
                            uint8_t ret[32])
{
    AUTO_BUF text = BUF_INIT;
    uint8_t key[32];

    buf_add_span(&text, header);
    buf_add_span(&text, SPAN_LIT("---"));
    crypto_hkdf_sha256(key, sizeof(key), span_of(file_key, AGE_FILE_KEY), SPAN_NONE,
                       SPAN_LIT("header"));
    crypto_hmac_sha256(ret, span_of(key, sizeof(key)), buf_span(&text));
}

/* Ends a header with its MAC. */
static inline void made_end(struct buf *file)
{
    uint8_t mac[32];

    made_mac(buf_span(file), made_file_key, mac);
    buf_add_span(file, SPAN_LIT("--- "));
    base64_write(file, span_of(mac, sizeof(mac)), false);
    buf_add_u8(file, '\n');
}

/* The payload's nonce; sixteen times 9. */
static inline void made_nonce(struct buf *file)
{
    for (int i = 0; i < 16; i++)
        buf_add_u8(file, 9);
}

static inline void made_chunk(struct buf *file, uint64_t counter, bool last,
                              struct span plain)
{
    uint8_t key[32], salt[16], nonce[12] = { 0 };

    memset(salt, 9, sizeof(salt));
    crypto_hkdf_sha256(key, sizeof(key), span_of(made_file_key, AGE_FILE_KEY),
                       span_of(salt, sizeof(salt)), SPAN_LIT("payload"));
    for (int i = 0; i < 8; i++)
        nonce[10 - i] = (uint8_t)(counter >> 8 * i);
    nonce[11] = last;
    crypto_aead_seal(buf_reserve(file, plain.len + 16), plain.data, plain.len, nonce,
                     key);
    file->len += plain.len + 16;
}

#endif
