#include "base/buf.h"

#include <ctype.h>
#include <stdarg.h>

#include "base/err.h"

enum { BUF_FIRST_BYTES = 64 };

bool span_is_text(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c == 0x7f || (c < 0x20 && c != '\n' && c != '\t' && c != '\r' && c != '\f'))
            return false;
    }
    return true;
}

struct span span_trim(struct span s)
{
    while (s.len && isspace(s.data[s.len - 1]))
        s.len--;
    while (s.len && isspace(s.data[0]))
        s = span_of(s.data + 1, s.len - 1);
    return s;
}

char *span_dup(struct span s)
{
    char *copy = xmalloc(s.len + 1);
    if (s.len)
        memcpy(copy, s.data, s.len);
    copy[s.len] = '\0';
    return copy;
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf)BUF_INIT;
}

void buf_grow(struct buf *b, size_t more)
{
    size_t cap = MAX(b->cap * 2, (size_t)BUF_FIRST_BYTES);

    CHECK(more <= SIZE_MAX / 4 && b->len <= SIZE_MAX / 4);
    b->cap = MAX(cap, b->len + more);
    b->data = xrealloc(b->data, b->cap);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    vsnprintf((char *)buf_reserve(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
    va_end(again);
    b->len += (size_t)n;
}

void buf_drop(struct buf *b, size_t n)
{
    CHECK(n <= b->len);
    b->len -= n;
    if (n && b->len)
        memmove(b->data, b->data + n, b->len);
}

const char *buf_str(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return (const char *)b->data;
}
