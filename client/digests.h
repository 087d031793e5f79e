/* A set of digests of 16 bytes: what stands for an input where all of them must be known.
 * 21 to 43 bytes each, twice that while it grows. */
#ifndef CLIENT_DIGESTS_H
#define CLIENT_DIGESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 16 };

struct digests {
    uint8_t (*slots)[DIGEST_BYTES]; /* all zeros = free */
    size_t n, cap;                  /* cap: a power of two */
};

/* False: it is there already. */
bool digests_add(struct digests *d, const uint8_t digest[DIGEST_BYTES]);
bool digests_has(const struct digests *d, const uint8_t digest[DIGEST_BYTES]);
void digests_fini(struct digests *d);

#endif
