#include "coordinator/blob.h"
#include "base/err.h"

struct blob *blob_alloc(size_t len)
{
    struct blob *b = xmalloc(sizeof(*b) + len);
    atomic_init(&b->refs, 1);
    b->len = len;
    return b;
}

struct blob *blob_new(struct span bytes)
{
    struct blob *b = blob_alloc(bytes.len);
    if (bytes.len)
        memcpy(b->data, bytes.data, bytes.len);
    return b;
}

struct blob *blob_cut(struct blob *b, size_t len)
{
    CHECK(len <= b->len);
    if (len < b->len)
        b = xrealloc(b, sizeof(*b) + len);
    b->len = len;
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    if (b)
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void blob_unref(struct blob *b)
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        free(b);
}
