/* A ring whose other side is mad. Input: a step a byte, each with what it needs: the
 * other side's position, new bytes anywhere, or one of this side's moves. Both sides are
 * tried; neither may look outside of the ring, and no record reaches past what was said.
 */
#include "tests/fuzz/fuzz.h"
#include "worker/ring.h"

enum { CAP = 256 };

struct mad {
    struct ring_shared *shared;
    uint8_t *bytes; /* of their own, so that the sanitizer knows their end */
    struct ring reader, writer;
};

static void read_one(struct mad *m)
{
    struct span record;
    int rc = ring_next(&m->reader, &record);

    if (rc == 1) {
        CHECK(fuzz_within(record, span_of(m->bytes, CAP)));
        fuzz_touch(record);
        ring_release(&m->reader);
        ring_release_notify(&m->reader);
    } else {
        CHECK((rc == -1) == m->reader.broken);
        if (rc == 0)
            ring_sleep(&m->reader);
    }
}

static void write_one(struct mad *m, size_t len)
{
    uint8_t *room;

    len = MIN(len, ring_record_max(&m->writer));
    room = ring_reserve(&m->writer, len);
    if (!room) {
        ring_wait_room(&m->writer, len);
        return;
    }
    CHECK(!m->writer.broken && fuzz_within(span_of(room, len), span_of(m->bytes, CAP)));
    memset(room, 0xee, len);
    ring_push(&m->writer);
    ring_push_notify(&m->writer);
}

static void step(struct mad *m, struct span *in)
{
    struct span part;
    uint64_t at;

    switch (fuzz_number(in, 1) % 8) {
    case 0: /* a plausible position */
        atomic_store(&m->shared->head, m->reader.own + fuzz_number(in, 1) * 8);
        break;
    case 1:
        atomic_store(&m->shared->head, fuzz_number(in, 8));
        break;
    case 2:
        atomic_store(&m->shared->tail, m->writer.other + fuzz_number(in, 1) * 8);
        break;
    case 3:
        atomic_store(&m->shared->tail, fuzz_number(in, 8));
        break;
    case 4: /* a length where the next record begins */
        at = m->reader.own & (CAP - 1);
        part = fuzz_take(in, 4);
        memcpy(m->bytes + at, part.data, part.len);
        break;
    case 5:
        at = fuzz_number(in, 1) % (CAP - 8);
        for (int i = 0; i < 8; i++)
            m->bytes[at + (size_t)i] = (uint8_t)fuzz_number(in, 1);
        break;
    case 6:
        read_one(m);
        break;
    case 7:
        write_one(m, fuzz_number(in, 1));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct mad m = { .shared = aligned_alloc(64, sizeof(*m.shared)),
                     .bytes = aligned_alloc(8, CAP) };

    CHECK(m.shared && m.bytes);
    memset(m.shared, 0, sizeof(*m.shared));
    memset(m.bytes, 0, CAP);
    ring_init(&m.reader, m.shared, m.bytes, CAP);
    ring_init(&m.writer, m.shared, m.bytes, CAP);
    while (in.len)
        step(&m, &in);
    free(m.shared);
    free(m.bytes);
    return 0;
}
