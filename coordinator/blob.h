/* Bytes shared between the scheduler, the store's thread and messages on their way out:
 * one copy, counted. Any thread may take and give back references. */
#ifndef COORDINATOR_BLOB_H
#define COORDINATOR_BLOB_H

#include <stdatomic.h>
#include "base/buf.h"

struct blob {
    atomic_uint refs;
    size_t len;
    uint8_t data[];
};

struct blob *blob_new(struct span bytes); /* a copy, one reference */
struct blob *blob_alloc(size_t len);      /* not filled yet, one reference */
/* What is left of one that nobody else has and of which so much was filled. */
struct blob *blob_cut(struct blob *b, size_t len);
struct blob *blob_ref(struct blob *b); /* takes and returns NULL too */
void blob_unref(struct blob *b);       /* takes NULL */
static inline struct span blob_span(const struct blob *b)
{
    return b ? span_of(b->data, b->len) : SPAN_NONE;
}

#endif
