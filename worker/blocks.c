#include "worker/blocks.h"

#include "worker/ops/task.h"

enum { KEPT = 64 }; /* of those that nobody has: 8 MiB of a fetch's */

struct block {
    struct block *next;
};

struct blocks {
    size_t bytes, nfree;
    struct block *free; /* owned */
};

struct blocks *blocks_new(size_t bytes)
{
    struct blocks *p = xcalloc(1, sizeof(*p));

    CHECK(bytes >= sizeof(struct block));
    p->bytes = bytes;
    return p;
}

void blocks_free(struct blocks *p)
{
    if (!p)
        return;
    for (struct block *b = p->free, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(p);
}

struct buf blocks_take(struct blocks *p)
{
    struct block *b = p->free;

    if (!b)
        return (struct buf){ task_pages(p->bytes), 0, p->bytes };
    p->free = b->next;
    p->nfree--;
    return (struct buf){ (uint8_t *)b, 0, p->bytes };
}

void blocks_give(struct blocks *p, struct buf *block)
{
    struct block *b = (struct block *)block->data;

    if (b && p->nfree < KEPT) {
        b->next = p->free;
        p->free = b;
        p->nfree++;
    } else {
        free(b);
    }
    *block = (struct buf)BUF_INIT;
}
