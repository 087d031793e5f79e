/* The digests that stand beside rows: checksums over numbers and bytes in one order. */
#include "base/checksum.h"
#include "coordinator/store_sql.h"

/* Lengths are among the numbers, so that bytes cannot wander from one column to the
 * next unnoticed. */
static void digest(const uint64_t *numbers, size_t n, const struct span *bytes,
                   size_t n_bytes, uint8_t out[WIRE_DIGEST_BYTES])
{
    enum { MAX_PARTS = 8 };
    uint64_t lens[MAX_PARTS];
    struct span parts[MAX_PARTS + 2];

    CHECK(n_bytes <= MAX_PARTS);
    for (size_t i = 0; i < n_bytes; i++) {
        lens[i] = bytes[i].len;
        parts[i + 2] = bytes[i];
    }
    parts[0] = span_of(numbers, n * sizeof(*numbers));
    parts[1] = span_of(lens, n_bytes * sizeof(*lens));
    checksum(parts, n_bytes + 2, out);
}

void digest_job(const struct job_row *j, uint8_t out[WIRE_DIGEST_BYTES])
{
    const uint64_t numbers[] = { j->id,
                                 (uint64_t)j->priority,
                                 j->retries,
                                 (uint64_t)j->task_timeout_ns,
                                 (uint64_t)j->deadline_ns,
                                 j->detached,
                                 (uint64_t)j->created_wall_ns };
    const struct span bytes[] = { span_of(j->key, sizeof(j->key)), j->spec, j->name,
                                  j->owner };
    digest(numbers, ARRAY_LEN(numbers), bytes, ARRAY_LEN(bytes), out);
}

void digest_key(const struct key_row *k, uint8_t out[WIRE_DIGEST_BYTES])
{
    const uint64_t numbers[] = { k->role,
                                 k->grants,
                                 k->uses,
                                 (uint64_t)k->created_wall_ns,
                                 (uint64_t)k->not_after_wall_ns,
                                 (uint64_t)k->revoked_wall_ns };
    const struct span bytes[] = { span_of(k->public_key, sizeof(k->public_key)), k->name,
                                  k->owner,
                                  span_of(k->invited_by, sizeof(k->invited_by)) };
    digest(numbers, ARRAY_LEN(numbers), bytes, ARRAY_LEN(bytes), out);
}

void digest_place(uint64_t id, uint64_t at, uint64_t size, uint8_t out[WIRE_DIGEST_BYTES])
{
    const uint64_t numbers[] = { id, at, size };
    digest(numbers, ARRAY_LEN(numbers), NULL, 0, out);
}

/* As the client made it (R3). */
void digest_chunk(struct span lens, struct span body, struct span node,
                  uint8_t out[WIRE_DIGEST_BYTES])
{
    const struct span parts[] = { lens, body, node };
    checksum(parts, ARRAY_LEN(parts), out);
}

void digest_batch_head(const struct batch_row *b, uint8_t out[WIRE_DIGEST_BYTES])
{
    const uint64_t numbers[] = { b->row, b->job, b->chunk, b->epoch, b->lease, b->n };
    const struct span bytes[] = { b->node, blob_span(b->tasks), blob_span(b->attempts) };
    digest(numbers, ARRAY_LEN(numbers), bytes, ARRAY_LEN(bytes), out);
}

bool batch_head_whole(const struct batch_row *b, struct span head)
{
    uint8_t now[WIRE_DIGEST_BYTES];

    digest_batch_head(b, now);
    return span_eq(head, span_of(now, sizeof(now)));
}

void digest_batch_rest(struct span statuses, struct span lens, struct span values,
                       uint8_t out[WIRE_DIGEST_BYTES])
{
    const struct span bytes[] = { statuses, lens, values };
    digest(NULL, 0, bytes, ARRAY_LEN(bytes), out);
}
