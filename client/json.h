/* JSON objects on one line (RFC 8259), written; nothing is read here. */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include <stdint.h>
#include "base/buf.h"

void json_open(struct buf *out);
void json_close(struct buf *out);
void json_uint(struct buf *out, const char *key, uint64_t value);
void json_real(struct buf *out, const char *key, double value);
void json_null(struct buf *out, const char *key);
void json_bool(struct buf *out, const char *key, bool value);
/* Bytes that are not UTF-8 become U+FFFD, and KEY_base64 holds them as they are. */
void json_text(struct buf *out, const char *key, struct span value);
void json_hex(struct buf *out, const char *key, struct span value);
void json_object(struct buf *out, const char *key); /* opens a nested one */

#endif
