/* Several digests of one stream of bytes in one pass. Contexts are kept between uses. */
#ifndef WORKER_OPS_HASH_H
#define WORKER_OPS_HASH_H

#include "proto/pack.h"

struct hash;

struct hash *hash_new(void);
void hash_free(struct hash *h);                  /* takes NULL */
void hash_begin(struct hash *h, uint32_t algos); /* mask of BIT(enum algo), may be 0 */
void hash_update(struct hash *h, struct span bytes);
/* Writes the digests, in order of enum algo; their bytes live in h until hash_begin.
 * Returns how many there are. */
uint32_t hash_end(struct hash *h, struct digest ret[PACK_DIGESTS_MAX]);

#endif
