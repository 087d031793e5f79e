#include "base/arena.h"

#include <string.h>

#include "base/err.h"

/* Under AddressSanitizer what was not handed out may not be touched, and a gap stands
 * between two pieces: reading past the end of a decoded array is seen. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
enum { ARENA_GAP = 16 };
#else
#define ASAN_POISON_MEMORY_REGION(p, size)   ((void)(p), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
enum { ARENA_GAP = 0 };
#endif

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
    size_t asked = size;

    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (a->budget && (size > a->budget || a->used > a->budget - size))
        return NULL;
    struct arena_block *block = a->blocks;
    if (!block || block->size - block->used < size + ARENA_GAP) {
        size_t room = MAX(size + ARENA_GAP, (size_t)ARENA_BLOCK_BYTES);
        block = xmalloc(sizeof(*block) + room);
        block->next = a->blocks;
        block->size = room;
        block->used = 0;
        a->blocks = block;
        ASAN_POISON_MEMORY_REGION(block->data, room);
    }
    void *p = block->data + block->used;
    block->used += size + ARENA_GAP;
    a->used += size;
    ASAN_UNPOISON_MEMORY_REGION(p, asked);
    memset(p, 0, asked);
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
    ASAN_POISON_MEMORY_REGION(a->blocks->data, a->blocks->size);
}

void arena_fini(struct arena *a)
{
    free_blocks(a->blocks);
    a->blocks = NULL;
    a->used = 0;
}
