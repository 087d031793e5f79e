#include "worker/ring.h"

/* Before each record: its length. Records begin at multiples of 8. */
enum { HEAD_BYTES = 8, ALIGN = 8 };
#define WRAP UINT32_MAX /* instead of a length: go on at the start */

static uint64_t record_bytes(uint64_t len)
{
    return HEAD_BYTES + ((len + ALIGN - 1) & ~(uint64_t)(ALIGN - 1));
}

/* The header at a position; the other side may be writing there, so it is read once. */
static uint32_t *head_at(const struct ring *ring, uint64_t pos)
{
    return (uint32_t *)(void *)(ring->bytes + (pos & (ring->cap - 1)));
}

void ring_init(struct ring *ring, struct ring_shared *shared, uint8_t *bytes, size_t cap)
{
    CHECK(cap >= 64 && (cap & (cap - 1)) == 0 && cap <= UINT32_MAX);
    CHECK((uintptr_t)bytes % ALIGN == 0);
    *ring = (struct ring){ .shared = shared, .bytes = bytes, .cap = cap };
}

size_t ring_record_max(const struct ring *ring)
{
    return ring->cap / 2 - HEAD_BYTES;
}

/* Takes over where the reader says it is. */
static void see_tail(struct ring *ring, memory_order order)
{
    uint64_t tail = atomic_load_explicit(&ring->shared->tail, order);
    /* It may only move forward, up to what was pushed. */
    if (tail % ALIGN != 0 || tail - ring->other > ring->own - ring->other)
        ring->broken = true;
    else
        ring->other = tail;
}

static uint64_t to_end(const struct ring *ring)
{
    return ring->cap - (ring->own & (ring->cap - 1));
}

/* Bytes that a record takes here, with what is skipped at the end. */
static uint64_t bytes_needed(const struct ring *ring, size_t len)
{
    uint64_t need = record_bytes(len), end = to_end(ring);
    return need > end ? end + need : need;
}

static bool has_room(const struct ring *ring, size_t len)
{
    return bytes_needed(ring, len) <= ring->cap - (ring->own - ring->other);
}

void *ring_reserve(struct ring *ring, size_t len)
{
    CHECK(len <= ring_record_max(ring));
    if (!ring->broken && !has_room(ring, len))
        see_tail(ring, memory_order_acquire);
    if (ring->broken || !has_room(ring, len))
        return NULL;
    uint64_t pos = ring->own;
    if (record_bytes(len) > to_end(ring)) {
        *head_at(ring, pos) = WRAP;
        pos += to_end(ring);
    }
    uint32_t *head = head_at(ring, pos);
    *head = (uint32_t)len;
    ring->step = bytes_needed(ring, len);
    return (uint8_t *)head + HEAD_BYTES;
}

void ring_push(struct ring *ring)
{
    CHECK(ring->step > 0);
    ring->own += ring->step;
    ring->step = 0;
    atomic_store_explicit(&ring->shared->head, ring->own, memory_order_release);
}

/* Says `pos` once more, so that it stands before the look at the flag in the one order of
 * all sequentially consistent operations, then takes the flag. */
static bool take_flag(_Atomic uint64_t *pos, uint64_t own, _Atomic uint32_t *flag)
{
    atomic_store(pos, own);
    return atomic_load(flag) != 0 && atomic_exchange(flag, 0) != 0;
}

bool ring_push_notify(struct ring *ring)
{
    return take_flag(&ring->shared->head, ring->own, &ring->shared->reader_asleep);
}

bool ring_wait_room(struct ring *ring, size_t len)
{
    atomic_store(&ring->shared->writer_waits, 1);
    see_tail(ring, memory_order_seq_cst);
    if (!ring->broken && !has_room(ring, len))
        return true;
    atomic_store_explicit(&ring->shared->writer_waits, 0, memory_order_relaxed);
    return false;
}

/* Takes over where the writer says it is. */
static void see_head(struct ring *ring, memory_order order)
{
    uint64_t head = atomic_load_explicit(&ring->shared->head, order);
    if (head % ALIGN != 0 || head - ring->own > ring->cap)
        ring->broken = true;
    else
        ring->other = head;
}

int ring_next(struct ring *ring, struct span *ret)
{
    if (ring->own == ring->other)
        see_head(ring, memory_order_acquire);
    while (!ring->broken && ring->own != ring->other) {
        uint64_t ready = ring->other - ring->own, end = to_end(ring);
        uint32_t *head = head_at(ring, ring->own);
        uint32_t len = __atomic_load_n(head, __ATOMIC_RELAXED);
        if (len != WRAP) {
            ring->step = record_bytes(len);
            ring->broken = ring->step > MIN(ready, end);
            *ret = span_of((uint8_t *)head + HEAD_BYTES, len);
            return ring->broken ? -1 : 1;
        }
        /* No record is so long that it cannot begin at the start. */
        ring->broken = end == ring->cap || end >= ready;
        ring->own += ring->broken ? 0 : end;
    }
    return ring->broken ? -1 : 0;
}

void ring_release(struct ring *ring)
{
    CHECK(ring->step > 0);
    ring->own += ring->step;
    ring->step = 0;
    atomic_store_explicit(&ring->shared->tail, ring->own, memory_order_release);
}

bool ring_release_notify(struct ring *ring)
{
    return take_flag(&ring->shared->tail, ring->own, &ring->shared->writer_waits);
}

bool ring_sleep(struct ring *ring)
{
    atomic_store(&ring->shared->reader_asleep, 1);
    see_head(ring, memory_order_seq_cst);
    if (!ring->broken && ring->own == ring->other)
        return true;
    atomic_store_explicit(&ring->shared->reader_asleep, 0, memory_order_relaxed);
    return false;
}
