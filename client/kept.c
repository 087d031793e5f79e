#include "client/kept.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

struct place {
    uint64_t task;
    off_t at;
};
struct kept {
    FILE *file;
    struct place *places;
    size_t n, cap;
};

enum { FIELDS_MAX = 5 + 2 * TM_DIGESTS_MAX };

/* Where a result points to bytes, as far as they are printed. */
static size_t fields_of(struct tm_result *r, struct tm_bytes *fields[FIELDS_MAX])
{
    size_t n = 0;

    fields[n++] = &r->shown;
    fields[n++] = &r->output;
    fields[n++] = &r->error;
    fields[n++] = &r->body;
    fields[n++] = &r->node;
    for (uint32_t i = 0; i < r->n_digests; i++)
        fields[n++] = &r->digests[i].bytes;
    for (uint32_t i = 0; i < r->n_out_digests; i++)
        fields[n++] = &r->out_digests[i].bytes;
    return n;
}

struct kept *kept_new(void)
{
    FILE *file = tmpfile();
    struct kept *k = file ? xcalloc(1, sizeof(*k)) : NULL;

    if (k)
        k->file = file;
    return k;
}

void kept_add(struct kept *k, const struct tm_result *r)
{
    struct tm_result copy = *r;
    struct tm_bytes *fields[FIELDS_MAX];
    size_t n = fields_of(&copy, fields);

    if (k->n == k->cap) {
        k->cap = MAX(256, k->cap * 2);
        k->places = xrealloc(k->places, k->cap * sizeof(*k->places));
    }
    k->places[k->n++] = (struct place){ r->task, ftello(k->file) };
    fwrite(&copy, sizeof(copy), 1, k->file); /* kept_each looks for errors */
    for (size_t i = 0; i < n; i++)
        if (fields[i]->len)
            fwrite(fields[i]->data, 1, fields[i]->len, k->file);
}

static int by_task(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return (x->task > y->task) - (x->task < y->task);
}

/* One result; its bytes are in scratch. */
static int read_at(struct kept *k, off_t at, struct tm_result *r, struct buf *scratch)
{
    struct tm_bytes *fields[FIELDS_MAX];
    size_t total = 0, used = 0;

    if (fseeko(k->file, at, SEEK_SET) < 0 || fread(r, sizeof(*r), 1, k->file) != 1)
        return -1;
    size_t n = fields_of(r, fields);
    for (size_t i = 0; i < n; i++)
        total += fields[i]->len;
    scratch->len = 0;
    uint8_t *bytes = buf_reserve(scratch, total + 1);
    if (fread(bytes, 1, total, k->file) != total)
        return -1;
    for (size_t i = 0; i < n; i++) {
        fields[i]->data = bytes + used;
        used += fields[i]->len;
    }
    return 0;
}

int kept_each(struct kept *k, void (*fn)(void *arg, const struct tm_result *r), void *arg)
{
    AUTO_BUF scratch = BUF_INIT;
    struct tm_result r;

    if (fflush(k->file) != 0)
        return -1;
    if (ferror(k->file)) {
        errno = EIO;
        return -1;
    }
    if (k->n)
        qsort(k->places, k->n, sizeof(*k->places), by_task);
    for (size_t i = 0; i < k->n; i++) {
        if (read_at(k, k->places[i].at, &r, &scratch) < 0)
            return -1;
        fn(arg, &r);
    }
    return 0;
}

void kept_free(struct kept *k)
{
    if (!k)
        return;
    fclose(k->file);
    free(k->places);
    free(k);
}
