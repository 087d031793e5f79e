#include "base/checksum.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/macros.h"

_Static_assert(sizeof(XXH128_canonical_t) == CHECKSUM_BYTES, "a checksum's bytes");

void checksum(const struct span *parts, size_t n, uint8_t out[CHECKSUM_BYTES])
{
    XXH128_canonical_t canonical;
    XXH3_state_t st;

    XXH3_128bits_reset(&st);
    for (size_t i = 0; i < n; i++)
        if (parts[i].len)
            XXH3_128bits_update(&st, parts[i].data, parts[i].len);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&st));
    memcpy(out, canonical.digest, CHECKSUM_BYTES);
}
