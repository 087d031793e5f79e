/* A bump allocator with a budget: what a message is decoded into; freed at once.
 * Single thread. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;
struct arena {
    struct arena_block *blocks; /* owned, newest first */
    size_t used;                /* bytes handed out since the last reset */
    size_t budget;              /* bytes that may be handed out; 0 = no limit */
};

void arena_init(struct arena *a, size_t budget_bytes);
/* 16-byte aligned, zeroed; NULL when the budget is spent (never when out of memory:
 * aborts). */
void *arena_alloc(struct arena *a, size_t size);
/* Forgets everything, keeps one block for reuse. */
void arena_reset(struct arena *a);
void arena_fini(struct arena *a);

#endif
