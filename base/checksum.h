/* XXH3, 128 bits (xxHash specification 0.2, canonical form): what tells damage and
 * mix-ups of chunks and records. Runs at memory's speed. Not for what a stranger may
 * choose to collide: crypto_digest is for that. Any thread. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include "base/buf.h"

enum { CHECKSUM_BYTES = 16 };

/* Over the concatenation of n spans. */
void checksum(const struct span *parts, size_t n, uint8_t out[CHECKSUM_BYTES]);

#endif
