/* OpenSSL's engine of the bulk primitives (the only user of openssl/): digests and
 * ChaCha20-Poly1305, 2 to 4 times as fast as libsodium's on current CPUs. Contexts are
 * made once and reused: nothing is allocated per use. A context belongs to one thread. */
#ifndef WORKER_OPS_EVP_H
#define WORKER_OPS_EVP_H

#include "base/buf.h"
#include "proto/pack.h"

struct evp_hash;

struct evp_hash *evp_hash_new(enum algo algo);
void evp_hash_begin(struct evp_hash *h);
void evp_hash_update(struct evp_hash *h, struct span bytes);
void evp_hash_end(struct evp_hash *h, uint8_t *out); /* algo_bytes(algo) */
void evp_hash_free(struct evp_hash *h);              /* takes NULL */

/* ChaCha20-Poly1305, IETF (RFC 8439), no associated data, 16 bytes of tag at the end. */
enum { EVP_AEAD_TAG = 16 };
struct evp_aead;

struct evp_aead *evp_aead_new(void);
void evp_aead_key(struct evp_aead *a, const uint8_t key[32]);
/* out: len + 16 bytes; may be where `in` is. */
void evp_aead_seal(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                   const uint8_t nonce[12]);
/* len with the tag; out: len - 16 bytes. -1: not authentic, out is worthless. */
int evp_aead_open(struct evp_aead *a, uint8_t *out, const uint8_t *in, size_t len,
                  const uint8_t nonce[12]);
void evp_aead_free(struct evp_aead *a); /* zeroes the key; takes NULL */

#endif
