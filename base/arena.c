#include "base/arena.h"

#include <string.h>

#include "base/err.h"

enum { ARENA_BLOCK_BYTES = 16 * KIB, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

void arena_init(struct arena *a, size_t budget_bytes)
{
    *a = (struct arena){ NULL, 0, budget_bytes };
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (a->budget && (size > a->budget || a->used > a->budget - size))
        return NULL;
    struct arena_block *block = a->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = MAX(size, (size_t)ARENA_BLOCK_BYTES);
        block = xmalloc(sizeof(*block) + room);
        block->next = a->blocks;
        block->size = room;
        block->used = 0;
        a->blocks = block;
    }
    void *p = block->data + block->used;
    block->used += size;
    a->used += size;
    memset(p, 0, size);
    return p;
}

static void free_blocks(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    if (!a->blocks)
        return;
    free_blocks(a->blocks->next);
    a->blocks->next = NULL;
    a->blocks->used = 0;
}

void arena_fini(struct arena *a)
{
    free_blocks(a->blocks);
    a->blocks = NULL;
    a->used = 0;
}
