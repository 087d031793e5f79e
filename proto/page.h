/* A page of a directory, the body of a walk's value: entries one after another, in the
 * order of their names as bytes. Pure. */
#ifndef PROTO_PAGE_H
#define PROTO_PAGE_H

#include "base/buf.h"
#include "base/err.h"

enum page_kind { PAGE_FILE = 'f', PAGE_DIR = 'd' };

struct page_entry {
    enum page_kind kind;
    struct span name; /* bytes without NUL and '/'; never empty, "." or ".." */
    uint64_t size;    /* bytes of a file, as the walk saw it; 0 of a directory */
};

/* What an entry takes in a page at most, so that a page can be filled to a limit. */
size_t page_entry_bytes(size_t name_len);
void page_add(struct buf *page, const struct page_entry *e);
/* The entry at *pos, which moves on: 1, 0 at the end, -1 when it is malformed, or is no
 * name that may stand below a directory. *ret borrows from page. */
int page_next(struct span page, size_t *pos, struct page_entry *ret, struct err *err);

#endif
