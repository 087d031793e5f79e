#include "worker/gunzip.h"

#include <zlib.h>

enum { OUT_BYTES = 64 * KIB, GZIP_ONLY = 15 + 16 };

struct gunzip {
    z_stream z;
    bool begun, ended; /* ended: a member, and nothing of a next one came */
    uint8_t out[OUT_BYTES];
};

struct gunzip *gunzip_new(void)
{
    struct gunzip *g = xcalloc(1, sizeof(*g));

    CHECK(inflateInit2(&g->z, GZIP_ONLY) == Z_OK);
    return g;
}

void gunzip_free(struct gunzip *g)
{
    if (!g)
        return;
    inflateEnd(&g->z);
    free(g);
}

int gunzip_pass(struct gunzip *g, struct span in,
                int (*sink)(void *arg, struct span out, struct err *err), void *arg,
                struct err *err)
{
    int rc = Z_OK;

    g->z.next_in = (Bytef *)in.data;
    g->z.avail_in = (uInt)in.len;
    while (g->z.avail_in || (g->begun && !g->ended && g->z.avail_out == 0)) {
        if (g->ended) { /* members may follow each other */
            inflateReset(&g->z);
            g->ended = false;
        }
        g->begun = true;
        g->z.next_out = g->out;
        g->z.avail_out = OUT_BYTES;
        rc = inflate(&g->z, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return err_set(err, 1, "the body's compression is not valid");
        if (g->z.avail_out < OUT_BYTES &&
            sink(arg, span_of(g->out, OUT_BYTES - g->z.avail_out), err) < 0)
            return -2;
        g->ended = rc == Z_STREAM_END;
    }
    return 0;
}

bool gunzip_ended(const struct gunzip *g)
{
    return g->ended || !g->begun;
}
