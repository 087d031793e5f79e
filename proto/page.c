/* An entry is its kind (a byte), its name ended by NUL, and of a file its size: seven
 * bits a byte, the lowest first, the highest bit set where more follow. */
#include "proto/page.h"

enum { SIZE_BYTES_MAX = 10 }; /* of 64 bits, seven at a time */

size_t page_entry_bytes(size_t name_len)
{
    return 1 + name_len + 1 + SIZE_BYTES_MAX;
}

void page_add(struct buf *page, const struct page_entry *e)
{
    uint64_t size = e->size;

    buf_add_u8(page, (uint8_t)e->kind);
    buf_add_span(page, e->name);
    buf_add_u8(page, 0);
    if (e->kind != PAGE_FILE)
        return;
    for (; size >= 0x80; size >>= 7)
        buf_add_u8(page, (uint8_t)(size | 0x80));
    buf_add_u8(page, (uint8_t)size);
}

static int malformed(struct err *err)
{
    return err_set(err, 1, "malformed page of a directory");
}

/* Whoever made the page, nothing in it leads out of its directory. */
static bool is_name(struct span s)
{
    return s.len && !memchr(s.data, '/', s.len) && !span_eq(s, SPAN_LIT(".")) &&
           !span_eq(s, SPAN_LIT(".."));
}

static int take_size(struct span page, size_t *pos, uint64_t *ret, struct err *err)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < SIZE_BYTES_MAX && *pos < page.len; i++) {
        uint8_t byte = page.data[(*pos)++];
        size |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        *ret = size;
        return 0;
    }
    return malformed(err);
}

int page_next(struct span page, size_t *pos, struct page_entry *ret, struct err *err)
{
    const uint8_t *name, *end;

    if (*pos >= page.len)
        return 0;
    ret->kind = (enum page_kind)page.data[*pos];
    name = page.data + *pos + 1;
    end = memchr(name, 0, page.len - *pos - 1);
    if ((ret->kind != PAGE_FILE && ret->kind != PAGE_DIR) || !end)
        return malformed(err);
    ret->name = span_of(name, (size_t)(end - name));
    ret->size = 0;
    if (!is_name(ret->name))
        return malformed(err);
    *pos += 1 + ret->name.len + 1;
    if (ret->kind == PAGE_FILE && take_size(page, pos, &ret->size, err) < 0)
        return -1;
    return 1;
}
