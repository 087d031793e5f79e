/* Random bytes, secure memory and libsodium's engine of the primitives (the only user of
 * sodium.h). No format and no file lives here. Call crypto_init before anything else. */
#ifndef BASE_CRYPTO_H
#define BASE_CRYPTO_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/buf.h"

enum { CRYPTO_DIGEST_BYTES = 16, X25519_BYTES = 32, HMAC_SHA256_BYTES = 32 };
/* Characters of so many bytes as base64url without padding (RFC 4648), with a NUL. */
#define CRYPTO_TEXT(bytes) (((bytes)*4 + 2) / 3 + 1)

void crypto_init(
    void); /* aborts when the library cannot start; thread-safe, repeatable */
void crypto_random(void *out, size_t len);
uint32_t crypto_random_u32(void);
/* SipHash-2-4 under a key of this process: for tables whose keys a peer chooses. */
uint64_t crypto_short_hash(const void *data, size_t len);
void crypto_zero(void *p, size_t len);                       /* not optimised away */
bool crypto_equal(const void *a, const void *b, size_t len); /* constant time */
/* Keys of this process get into no core, and to no other process of its user. */
void crypto_no_core(void);
/* Locked, guarded, zeroed-on-free memory for keys. */
void *crypto_secret_alloc(size_t len);
void crypto_secret_free(void *p); /* takes NULL */

/* base64url without padding, in constant time: for keys. out has CRYPTO_TEXT(len). */
void crypto_text(const void *data, size_t len, char *out);
/* Bytes of a text, or -1: another alphabet, padding, a longer or not the only text of
 * these bytes. out has room for max. */
ssize_t crypto_text_parse(struct span text, uint8_t *out, size_t max);

/* BLAKE2b-128 over the concatenation of n spans (RFC 7693): names what is long. */
void crypto_digest(const struct span *parts, size_t n, uint8_t out[CRYPTO_DIGEST_BYTES]);

/* X25519 (RFC 7748). crypto_x25519: -1 when the shared secret is all zero. */
void crypto_x25519_base(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES]);
int crypto_x25519(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES],
                  const uint8_t point[X25519_BYTES]);
void crypto_hmac_sha256(uint8_t out[HMAC_SHA256_BYTES], struct span key, struct span msg);
/* HKDF-SHA256 (RFC 5869), out_len <= 255 * 32. An empty salt counts as 32 zero bytes. */
void crypto_hkdf_sha256(uint8_t *out, size_t out_len, struct span ikm, struct span salt,
                        struct span info);

/* One-shot digests of libsodium's engine (sha256, sha512, blake2b-512), streaming: */
enum crypto_hash { CRYPTO_SHA256, CRYPTO_SHA512, CRYPTO_BLAKE2B };
struct crypto_hash_state;
struct crypto_hash_state *crypto_hash_new(enum crypto_hash kind);
void crypto_hash_update(struct crypto_hash_state *st, const void *data, size_t len);
/* Writes 32 or 64 bytes and frees the state. */
void crypto_hash_final(struct crypto_hash_state *st, uint8_t *out);
void crypto_hash_free(struct crypto_hash_state *st); /* takes NULL */

/* ChaCha20-Poly1305 IETF (RFC 8439), no associated data. out has len + 16 (seal). */
void crypto_aead_seal(uint8_t *out, const uint8_t *in, size_t len,
                      const uint8_t nonce[12], const uint8_t key[32]);
/* in has len bytes with the tag, out gets len - 16; -1 when it is not authentic. */
int crypto_aead_open(uint8_t *out, const uint8_t *in, size_t len, const uint8_t nonce[12],
                     const uint8_t key[32]);

#endif
