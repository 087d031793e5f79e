#include "worker/ops/hash.h"

#include "worker/ops/evp.h"

/* Bytes that every algorithm takes in turn while they are in the cache. */
enum { SLICE_BYTES = 128 * KIB };

struct hash {
    uint32_t algos;
    struct evp_hash *engines[ALGO_COUNT]; /* made when first wanted */
    uint8_t out[ALGO_COUNT][64];
};

/* For each of the algos of a mask, in the order of their numbers. */
#define EACH_ALGO(a, mask)                                                               \
    for (uint32_t left_ = (mask), a; left_ && (a = (uint32_t)__builtin_ctz(left_), 1);   \
         left_ &= left_ - 1)

struct hash *hash_new(void)
{
    return xcalloc(1, sizeof(struct hash));
}

void hash_free(struct hash *h)
{
    if (!h)
        return;
    for (int a = 0; a < ALGO_COUNT; a++)
        evp_hash_free(h->engines[a]);
    free(h);
}

void hash_begin(struct hash *h, uint32_t algos)
{
    h->algos = algos;
    EACH_ALGO (a, algos) {
        if (!h->engines[a])
            h->engines[a] = evp_hash_new((enum algo)a);
        evp_hash_begin(h->engines[a]);
    }
}

void hash_update(struct hash *h, struct span bytes)
{
    for (size_t at = 0; at < bytes.len; at += SLICE_BYTES) {
        struct span slice = span_of(bytes.data + at, MIN(bytes.len - at, SLICE_BYTES));
        EACH_ALGO (a, h->algos)
            evp_hash_update(h->engines[a], slice);
    }
}

uint32_t hash_end(struct hash *h, struct digest ret[PACK_DIGESTS_MAX])
{
    uint32_t n = 0;

    EACH_ALGO (a, h->algos) {
        evp_hash_end(h->engines[a], h->out[a]);
        ret[n++] =
            (struct digest){ (enum algo)a, span_of(h->out[a], algo_bytes((enum algo)a)) };
    }
    return n;
}
