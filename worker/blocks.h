/* Blocks of memory of one size that begin where a page does. The one given back last is
 * taken first, while it is in the cache. One thread. */
#ifndef WORKER_BLOCKS_H
#define WORKER_BLOCKS_H

#include "base/buf.h"

struct blocks;

struct blocks *blocks_new(size_t bytes);
/* Those that are taken stay valid, and are freed as any buf. Takes NULL. */
void blocks_free(struct blocks *blocks);
/* Empty, with room for `bytes`. */
struct buf blocks_take(struct blocks *blocks);
/* Empties it; one that holds no block is let be. */
void blocks_give(struct blocks *blocks, struct buf *block);

#endif
