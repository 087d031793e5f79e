/* A ring of variable-length records between one writer and one reader, which may be two
 * processes that share its memory. Records lie in one piece: where one does not fit
 * before the end, a marker sends the reader back to the start.
 *
 * Each side keeps its own position in private memory and checks what the other side
 * says, so that a peer gone mad can stop the ring but neither crash this side nor make it
 * read or write outside.
 *
 * Nothing here waits or calls the system: the functions that end in _notify say when the
 * other side may be asleep and must be woken (an eventfd, the callers' business). No
 * wake-up is lost: each side first says in shared memory what it is about to do, then
 * looks once more, both sequentially consistent (Dekker's pattern). */
#ifndef WORKER_RING_H
#define WORKER_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include "base/buf.h"

/* In shared memory, zeroed at first; positions are counts of bytes that never wrap. Each
 * line of the cache has one usual writer. */
struct ring_shared {
    alignas(64) _Atomic uint64_t head; /* written up to here */
    alignas(64) _Atomic uint64_t tail; /* read up to here */
    alignas(64) _Atomic uint32_t reader_asleep;
    alignas(64) _Atomic uint32_t writer_waits;
};

/* One side of it. */
struct ring {
    struct ring_shared *shared; /* borrowed */
    uint8_t *bytes;             /* borrowed */
    uint64_t cap;               /* of bytes */
    uint64_t own;               /* this side's position, */
    uint64_t other;             /* the other's, as last seen */
    uint64_t step;              /* what ring_push or ring_release will add to own */
    bool broken;                /* the other side wrote nonsense; for good */
};

/* cap: a power of two of at least 64; bytes aligned to 8. Positions start at 0. */
void ring_init(struct ring *ring, struct ring_shared *shared, uint8_t *bytes, size_t cap);
/* The longest record that always fits once the reader has caught up. */
size_t ring_record_max(const struct ring *ring);

/* The writer's side. */

/* Room for a record of len bytes (at most ring_record_max), aligned to 8; NULL while
 * there is none, or when the ring is broken. */
void *ring_reserve(struct ring *ring, size_t len);
/* Lets the reader see the record reserved last. */
void ring_push(struct ring *ring);
/* After one or more ring_push: must the reader be woken? */
bool ring_push_notify(struct ring *ring);
/* After ring_reserve said NULL: true = the reader will notify, wait for it; false = there
 * may be room by now, try again. */
bool ring_wait_room(struct ring *ring, size_t len);

/* The reader's side. */

/* 1 = *ret is the next record, until ring_release; 0 = none; -1 = the ring is broken. */
int ring_next(struct ring *ring, struct span *ret);
/* Gives back the record that ring_next returned last. */
void ring_release(struct ring *ring);
/* After one or more ring_release: must the writer be woken? */
bool ring_release_notify(struct ring *ring);
/* After ring_next said 0: true = the writer will notify, wait for it; false = there is
 * something, look again. */
bool ring_sleep(struct ring *ring);

#endif
