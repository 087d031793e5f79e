/* What a walk's results say of a directory. */
#include "client/lib/internal.h"
#include "proto/page.h"

int tm_entry_next(struct tm_bytes body, size_t *pos, struct tm_entry *ret,
                  struct tm_error *terr)
{
    struct err err = { 0 };
    struct page_entry e;
    int rc = page_next(span_of(body.data, body.len), pos, &e, &err);

    if (rc < 0)
        return error_out(terr, &err);
    if (rc == 1)
        *ret = (struct tm_entry){ .is_dir = e.kind == PAGE_DIR,
                                  .name = { e.name.data, e.name.len },
                                  .size = e.size };
    return rc;
}
