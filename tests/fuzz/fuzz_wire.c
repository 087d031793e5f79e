/* Envelopes of every message. Input: length of the envelope (2 bytes), envelope, body. */
#include "proto/wire.h"
#include "tests/fuzz/fuzz.h"

static uint64_t sum(const uint32_t *lens, uint32_t n)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += lens[i];
    return total;
}

/* What the users of a message rely on. */
static void check(const struct msg *m)
{
    const struct task_batch *b = m->type == MSG_DONE        ? &m->done.batch
                                 : m->type == MSG_PUBLISHED ? &m->published.batch
                                 : m->type == MSG_RESULTS   ? &m->results.batch
                                                            : NULL;

    if (b) {
        CHECK(b->n <= WIRE_CHUNK_TASKS_MAX);
        for (uint32_t i = 0; i < b->n; i++)
            CHECK(b->statuses[i] < TASK_STATUS_COUNT);
        uint64_t inputs = m->type == MSG_RESULTS
                              ? sum(m->results.input_lens, m->results.n_input_lens)
                              : 0;
        CHECK(sum(b->lens, b->n) + inputs == m->body.len);
    }
    if (m->type == MSG_CHUNK) {
        CHECK(m->chunk.n <= WIRE_CHUNK_TASKS_MAX);
        CHECK(sum(m->chunk.lens, m->chunk.n) == m->body.len);
    }
    if (m->type == MSG_LEASE) {
        uint64_t tasks = 0;
        for (uint32_t i = 0; i < m->lease.n_ranges; i++)
            tasks += m->lease.ranges[i].count;
        CHECK(tasks == m->lease.n_lens);
        CHECK(sum(m->lease.lens, m->lease.n_lens) == m->body.len);
    }
    if (m->type == MSG_HELLO)
        for (uint32_t i = 0; i < m->hello.n_held; i++)
            fuzz_touch(span_of(m->hello.held[i].ranges,
                               m->hello.held[i].n_ranges * sizeof(struct range)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct span envelope = fuzz_take(&in, fuzz_number(&in, 2));
    AUTO_BUF once = BUF_INIT, twice = BUF_INIT;
    struct arena arena;
    struct err err = { 0 };
    struct msg m;

    arena_init(&arena, 2 * MIB);
    if (wire_decode(envelope, in, &arena, &m, &err) < 0) {
        fuzz_check_err(&err);
    } else {
        CHECK(strcmp(msg_type_name(m.type), "?") != 0);
        check(&m);
        wire_encode(&m, &once); /* what was understood can be said, and said again */
        CHECK(wire_decode(buf_span(&once), in, &arena, &m, &err) == 0 ||
              strstr(err.text, "too large"));
        if (!err.text[0]) {
            wire_encode(&m, &twice);
            CHECK(span_eq(buf_span(&once), buf_span(&twice)));
        }
    }
    CHECK(arena.used <= arena.budget);
    arena_fini(&arena);
    return 0;
}
