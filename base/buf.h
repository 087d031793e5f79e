/* Bytes with a length. span is borrowed, buf is owned. Neither is NUL-ended. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/macros.h"

struct span {
    const uint8_t *data; /* borrowed; may be NULL when len is 0 */
    size_t len;
};

#define SPAN_NONE   ((struct span){ NULL, 0 })
#define SPAN_LIT(s) ((struct span){ (const uint8_t *)(s), sizeof(s) - 1 })

static inline struct span span_of(const void *data, size_t len)
{
    return (struct span){ (const uint8_t *)data, len };
}
static inline struct span span_str(const char *s)
{
    return span_of(s, s ? strlen(s) : 0);
}
static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
/* Nothing in it that a terminal would take for more than text: control characters other
 * than white space. */
bool span_is_text(struct span s);
/* Without the white space around it. */
struct span span_trim(struct span s);
/* A NUL-ended copy; the caller frees. Bytes after an inner NUL are unreachable. */
char *span_dup(struct span s);

struct buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
};

#define BUF_INIT                                                                         \
    {                                                                                    \
        NULL, 0, 0                                                                       \
    }

/* Frees the bytes and makes it empty again. */
void buf_fini(struct buf *b);
void buf_grow(struct buf *b, size_t more); /* of buf_reserve */
/* Room for `more` bytes after len; returns where they go, which is never NULL. */
static inline uint8_t *buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len < more || !b->data)
        buf_grow(b, more);
    return b->data + b->len;
}
static inline void buf_add(struct buf *b, const void *data, size_t len)
{
    if (len == 0)
        return;
    memcpy(buf_reserve(b, len), data, len);
    b->len += len;
}
static inline void buf_add_span(struct buf *b, struct span s)
{
    buf_add(b, s.data, s.len);
}
static inline void buf_add_u8(struct buf *b, uint8_t v)
{
    *buf_reserve(b, 1) = v;
    b->len++;
}
/* Host order, for arrays of uint32_t. */
static inline void buf_add_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof(v));
}
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* Ensures a NUL after the bytes (not counted in len) and returns them as a string. */
const char *buf_str(struct buf *b);
static inline struct span buf_span(const struct buf *b)
{
    return span_of(b->data, b->len);
}
static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}
#define AUTO_BUF __attribute__((cleanup(buf_fini))) struct buf

#endif
