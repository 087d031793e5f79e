#include "client/digests.h"

#include <string.h>

#include "base/err.h"

enum { CAP_FIRST = 1024 };

/* Where the digest is, or the free slot where it belongs. */
static uint8_t *slot_of(const struct digests *d, const uint8_t digest[DIGEST_BYTES])
{
    static const uint8_t none[DIGEST_BYTES];
    uint64_t at;

    memcpy(&at, digest, sizeof(at));
    while (memcmp(d->slots[at & (d->cap - 1)], none, DIGEST_BYTES) != 0 &&
           memcmp(d->slots[at & (d->cap - 1)], digest, DIGEST_BYTES) != 0)
        at++;
    return d->slots[at & (d->cap - 1)];
}

/* At three quarters it takes twice the room. */
static void grow(struct digests *d)
{
    struct digests old = *d;

    d->cap = old.cap ? old.cap * 2 : CAP_FIRST;
    d->slots = xcalloc(d->cap, sizeof(*d->slots));
    d->n = 0;
    for (size_t i = 0; i < old.cap; i++)
        digests_add(d, old.slots[i]);
    free(old.slots);
}

bool digests_add(struct digests *d, const uint8_t digest[DIGEST_BYTES])
{
    static const uint8_t none[DIGEST_BYTES];

    if (memcmp(digest, none, DIGEST_BYTES) == 0)
        return true; /* no digest is */
    if (d->n >= d->cap / 4 * 3)
        grow(d);
    uint8_t *slot = slot_of(d, digest);
    if (memcmp(slot, digest, DIGEST_BYTES) == 0)
        return false;
    memcpy(slot, digest, DIGEST_BYTES);
    d->n++;
    return true;
}

bool digests_has(const struct digests *d, const uint8_t digest[DIGEST_BYTES])
{
    return d->cap && memcmp(slot_of(d, digest), digest, DIGEST_BYTES) == 0;
}

void digests_fini(struct digests *d)
{
    free(d->slots);
    *d = (struct digests){ 0 };
}
