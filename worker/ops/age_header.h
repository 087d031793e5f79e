/* The header of an age v1 file: who may open it, and its file key wrapped for each.
 * Format: C2SP age.md. Text in, text out; no payload here. */
#ifndef WORKER_OPS_AGE_HEADER_H
#define WORKER_OPS_AGE_HEADER_H

#include "base/agekey.h"
#include "base/buf.h"
#include "base/err.h"

enum { AGE_FILE_KEY = 16, AGE_HEADER_MAX = 256 * KIB };

/* Secret keys of X25519 identities, in locked memory. */
struct age_identities;
/* Reads an identity file's text; err names the line. */
int age_identities_new(struct span text, struct age_identities **ret, struct err *err);
void age_identities_free(struct age_identities *ids); /* takes NULL */
/* Their recipients as text, '\n' between, appended. */
void age_identities_recipients(const struct age_identities *ids, struct buf *out);

/* Appends a header that wraps file_key for each recipient ("age1..."). */
int age_header_write(struct buf *out, const struct span *recipients, size_t n,
                     const uint8_t file_key[AGE_FILE_KEY], struct err *err);
/* Whether bytes, perhaps not all of them yet, begin as an age file does. */
bool age_header_begins(struct span bytes);
/* Whether a line, without its newline, is the one that ends a header. */
bool age_header_ends(struct span line);
/* Reads a header from the front of bytes: 1 = done, *ret_len is its length; 0 = more
 * bytes are needed; -1 = not an age file, damaged, or nobody here can open it. */
int age_header_read(struct span bytes, const struct age_identities *ids, size_t *ret_len,
                    uint8_t ret_file_key[AGE_FILE_KEY], struct err *err);

/* Base64 (RFC 4648), standard alphabet; reading is strict: canonical, nothing else. */
void base64_write(struct buf *out, struct span bytes, bool padded);
/* -1 when malformed; appends to out. */
int base64_read(struct buf *out, struct span text, bool padded);

#endif
