/* The payload of an age v1 file: chunks of 64 KiB, each sealed on its own under one key.
 * What chunk i becomes depends on the key, on i and on whether it is the last, so chunks
 * may be made in any order and by several processes. Format: C2SP age.md. */
#ifndef WORKER_OPS_AGE_PAYLOAD_H
#define WORKER_OPS_AGE_PAYLOAD_H

#include "worker/ops/age_header.h"
#include "worker/ops/evp.h"

enum {
    AGE_CHUNK = 64 * KIB,
    AGE_SEALED = AGE_CHUNK + EVP_AEAD_TAG,
    AGE_NONCE = 16, /* between header and payload */
    AGE_PAYLOAD_KEY = 32,
};

/* nonce: AGE_NONCE bytes. */
void age_payload_key(const uint8_t file_key[AGE_FILE_KEY], const uint8_t *nonce,
                     uint8_t ret_key[AGE_PAYLOAD_KEY]);
/* Makes a file key that nobody had before (R19), appends header and nonce to out. */
int age_payload_begin(const struct span *recipients, size_t n, struct buf *out,
                      uint8_t ret_key[AGE_PAYLOAD_KEY], struct err *err);
/* Reads header and nonce from the front of bytes: 1 = done, *ret_len is what they take; 0
 * = more bytes are needed; -1 as age_header_read. */
int age_payload_find(struct span bytes, const struct age_identities *ids, size_t *ret_len,
                     uint8_t ret_key[AGE_PAYLOAD_KEY], struct err *err);

/* One payload's key, ready for use. One thread. */
struct age_payload;
struct age_payload *age_payload_new(const uint8_t key[AGE_PAYLOAD_KEY]);
void age_payload_free(struct age_payload *p); /* zeroes the key; takes NULL */
/* out: EVP_AEAD_TAG bytes more than plain. Only the last chunk may be short. */
void age_payload_seal(struct age_payload *p, uint64_t chunk, bool last, struct span plain,
                      uint8_t *out);
/* out: EVP_AEAD_TAG bytes less than sealed. -1: not the chunk it should be; out is
 * worthless. */
int age_payload_open(struct age_payload *p, uint64_t chunk, bool last, struct span sealed,
                     uint8_t *out, struct err *err);

/* Chunks [first, first + n) of a payload that lies behind `header` bytes of its file:
 * where they are read and where what they become is written. */
struct age_range {
    uint64_t in_at, in_len, out_at;
    bool last; /* the payload's last chunk is the last of these */
};
/* How many chunks a file has: size is of the file that is read, plain (seal) or sealed.
 * At least 1. */
uint64_t age_payload_chunks(bool seal, uint64_t header, uint64_t size);
struct age_range age_payload_range(bool seal, uint64_t header, uint64_t size,
                                   uint64_t first, uint64_t n);

#endif
