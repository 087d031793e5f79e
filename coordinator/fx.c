#include "coordinator/fx.h"
#include "base/queue.h"

struct fx_group *fx_group_new(void)
{
    struct fx_group *g = xcalloc(1, sizeof(*g));
    arena_init(&g->arena, 0);
    STAILQ_INIT(&g->list);
    g->only_pages = true;
    return g;
}

static void batch_fini(struct batch_row *b)
{
    blob_unref(b->tasks);
    blob_unref(b->statuses);
    blob_unref(b->attempts);
    blob_unref(b->lens);
    blob_unref(b->values);
}

static void chunk_fini(struct chunk_row *c)
{
    blob_unref(c->lens);
    blob_unref(c->body);
}

static void fx_fini(struct fx *fx)
{
    switch (fx->type) {
    case FX_CHUNK:
        chunk_fini(&fx->chunk);
        break;
    case FX_BATCH:
        batch_fini(&fx->batch);
        break;
    case FX_SHOW:
        blob_unref(fx->show.tasks);
        blob_unref(fx->show.statuses);
        blob_unref(fx->show.lens);
        blob_unref(fx->show.values);
        break;
    case FX_READ_CHUNK:
        chunk_fini(&fx->read_chunk.ret);
        blob_unref(fx->read_chunk.ret_recorded);
        break;
    case FX_READ_RESULTS:
        batch_fini(&fx->read_results.ret);
        blob_unref(fx->read_results.ret_node);
        blob_unref(fx->read_results.ret_input_lens);
        blob_unref(fx->read_results.ret_inputs);
        break;
    case FX_SEND:
    case FX_SEND_NOW:
        blob_unref(fx->send.body);
        break;
    case FX_JOB:
    case FX_STATE:
    case FX_REMOVE:
    case FX_RUN:
    case FX_PAUSE:
    case FX_NODE:
    case FX_KEY:
        break;
    }
}

void fx_group_free(struct fx_group *g)
{
    struct fx *fx;

    if (!g)
        return;
    STAILQ_FOREACH (fx, &g->list, node)
        fx_fini(fx);
    arena_fini(&g->arena);
    free(g);
}

struct fx *fx_add(struct fx_group *g, enum fx_type type)
{
    struct fx *fx = arena_alloc(&g->arena, sizeof(*fx));
    fx->type = type;
    if (type < FX_READ_CHUNK)
        g->saves = true;
    else if (type < FX_SEND)
        g->reads = true;
    g->removes |= type == FX_REMOVE;
    g->waits |= type != FX_SEND_NOW;
    g->only_pages &= type == FX_SEND_NOW || type == FX_READ_RESULTS;
    STAILQ_INSERT_TAIL(&g->list, fx, node);
    return fx;
}

struct fx_group *fx_group_split_pages(struct fx_group *g)
{
    struct fx_group *pages = NULL;
    struct fx *fx, *tmp;

    if (g->only_pages || !g->reads)
        return NULL;
    STAILQ_FOREACH_SAFE(fx, &g->list, node, tmp)
    {
        if (fx->type != FX_READ_RESULTS)
            continue;
        if (!pages)
            pages = fx_group_new();
        STAILQ_REMOVE(&g->list, fx, fx, node);
        fx_add(pages, FX_READ_RESULTS)->read_results = fx->read_results;
    }
    if (pages)
        pages->turn = g->turn;
    return pages;
}

bool fx_group_may_be_behind(const struct fx_group *g)
{
    const uint32_t harmless =
        BIT(FX_CHUNK) | BIT(FX_BATCH) | BIT(FX_RUN) | BIT(FX_SEND) | BIT(FX_SEND_NOW);
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (!(BIT(fx->type) & harmless) || (fx->type == FX_BATCH && fx->batch.pending))
            return false;
    return true;
}

void fx_group_sent(struct fx_group *g)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type != FX_SEND && fx->type != FX_SEND_NOW)
            continue;
        blob_unref(fx->send.body);
        fx->send.body = NULL;
    }
}

void *fx_keep_bytes(struct fx_group *g, const void *p, size_t len)
{
    void *copy = arena_alloc(&g->arena, len ? len : 1);
    if (len)
        memcpy(copy, p, len);
    return copy;
}

struct span fx_keep(struct fx_group *g, struct span s)
{
    return span_of(fx_keep_bytes(g, s.data, s.len), s.len);
}

uint64_t job_row_bytes(const struct job_row *j)
{
    return j->spec.len + j->name.len;
}

uint64_t chunk_row_bytes(const struct chunk_row *c)
{
    return c->lens->len + c->body->len + c->node.len;
}
