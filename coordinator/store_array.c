/* Arrays beside bodies: a number for each task of a row. Of the usual row they say
 * little: all ok, at the first attempt, of one length, of tasks that follow one another.
 * Such an array is stored as its first element: 17 bytes of a task that are not written
 * twice. */
#include "coordinator/store_sql.h"

enum { NUMBER_BYTES = sizeof(uint32_t) };

static struct span same(struct span all, size_t size)
{
    bool is = all.len > size && memcmp(all.data, all.data + size, all.len - size) == 0;

    return is ? span_of(all.data, size) : all;
}

struct span bytes_stored(const struct blob *bytes)
{
    return same(blob_span(bytes), 1);
}

struct span numbers_stored(const struct blob *numbers)
{
    return same(blob_span(numbers), NUMBER_BYTES);
}

struct span tasks_stored(const struct blob *tasks)
{
    const uint32_t *task = (const uint32_t *)tasks->data;
    size_t n = tasks->len / NUMBER_BYTES;
    uint32_t other = 0;

    for (size_t i = 1; i < n; i++)
        other |= task[i] ^ (task[0] + (uint32_t)i);
    return n && !other ? span_of(tasks->data, NUMBER_BYTES) : blob_span(tasks);
}

/* What is stored is one element of `size` bytes for n, not an array that does not fit. */
static bool one_for_all(struct span stored, size_t size, uint32_t n)
{
    return stored.len == size && n <= WIRE_CHUNK_TASKS_MAX;
}

struct blob *bytes_taken(struct span stored, uint32_t n)
{
    if (!one_for_all(stored, 1, n))
        return blob_new(stored);
    struct blob *all = blob_alloc(n);
    memset(all->data, stored.data[0], n);
    return all;
}

static struct blob *numbers(struct span stored, uint32_t n, uint32_t step)
{
    uint32_t number;

    if (!one_for_all(stored, NUMBER_BYTES, n))
        return blob_new(stored);
    struct blob *all = blob_alloc(n * (size_t)NUMBER_BYTES);
    memcpy(&number, stored.data, NUMBER_BYTES);
    for (uint32_t i = 0; i < n; i++, number += step)
        ((uint32_t *)all->data)[i] = number;
    return all;
}

struct blob *numbers_taken(struct span stored, uint32_t n)
{
    return numbers(stored, n, 0);
}

struct blob *tasks_taken(struct span stored, uint32_t n)
{
    return numbers(stored, n, 1);
}
