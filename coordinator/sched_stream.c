/* Chunks that are for one node, beside those that are for any. A job's chunks for the
 * same node are a stream: read back and leased on its own, so that a node that is away
 * keeps its tasks waiting and nobody else's. What nobody can run now, its node away or
 * drained, stays on disk: the memory is for what others can. */
#include "coordinator/sched_state.h"

/* ---- names of nodes ---- */

struct place *place_get(struct sched *s, struct span name)
{
    struct place *p;

    HASH_FIND(hh, s->places, name.data, name.len, p);
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->name = span_dup(name);
        HASH_ADD_KEYPTR(hh, s->places, p->name, name.len, p);
    }
    p->refs++;
    return p;
}

void place_put(struct sched *s, struct place *p)
{
    if (!p || --p->refs)
        return;
    HASH_DEL(s->places, p);
    free(p->name);
    free(p);
}

/* ---- streams ---- */

void streams_init(struct sched *s, struct job *j)
{
    j->any.job = j;
    TAILQ_INIT(&j->any.ready);
    j->any.runs = stream_can_run(s, &j->any);
}

void streams_free(struct sched *s, struct job *j)
{
    struct stream *st, *tmp;

    HASH_ITER (hh, j->streams, st, tmp) {
        HASH_DEL(j->streams, st);
        place_put(s, st->place);
        free(st);
    }
}

static struct stream *find(struct job *j, const struct place *at)
{
    struct stream *st;

    HASH_FIND_PTR(j->streams, &at, st);
    return st;
}

struct stream *stream_of(struct sched *s, struct job *j, struct span node)
{
    struct place *at;
    struct stream *st;

    if (node.len == 0)
        return &j->any;
    at = place_get(s, node);
    st = find(j, at);
    if (st) {
        place_put(s, at);
        return st;
    }
    st = xcalloc(1, sizeof(*st));
    st->job = j;
    st->place = at;
    TAILQ_INIT(&st->ready);
    st->runs = stream_can_run(s, st);
    HASH_ADD_PTR(j->streams, place, st);
    return st;
}

bool stream_is_new(struct sched *s, struct job *j, struct span node)
{
    struct place *at;

    if (node.len == 0)
        return false;
    HASH_FIND(hh, s->places, node.data, node.len, at);
    return !at || !find(j, at);
}

struct stream *stream_next(struct job *j, const struct stream *st)
{
    return st == &j->any ? j->streams : st->hh.next;
}

bool stream_is_here(const struct stream *st)
{
    return !st->place || (st->place->node && st->place->node->peer);
}

bool stream_fits(const struct stream *st, const struct sched_node *n)
{
    return !st->place || st->place == n->place;
}

struct chunk *stream_chunk_for(struct job *j, const struct sched_node *n)
{
    struct stream *own = j->streams ? find(j, n->place) : NULL;
    struct chunk *c = own ? TAILQ_FIRST(&own->ready) : NULL;

    return c ? c : TAILQ_FIRST(&j->any.ready);
}

bool stream_all_open(struct stream *st)
{
    struct job *j = st->job;

    while (st->next_open < j->row.chunks && j->chunks[st->next_open].stream != st)
        st->next_open++;
    return st->next_open == j->row.chunks;
}

/* ---- nodes come and go ---- */

static bool takes_leases(const struct sched_node *n)
{
    return n->peer && !n->draining;
}

/* Where no node takes any, none is kept from the memory. */
bool stream_can_run(const struct sched *s, const struct stream *st)
{
    const struct sched_node *n;
    bool any = false;

    if (!stream_is_here(st))
        return false;
    if (st->place && takes_leases(st->place->node))
        return node_fits(st->place->node, st->job);
    TAILQ_FOREACH (n, &s->nodes, node) {
        if (takes_leases(n) && !st->place && node_fits(n, st->job))
            return true;
        any |= takes_leases(n);
    }
    return !any;
}

void streams_place(struct sched *s, struct job *j)
{
    for (struct stream *st = &j->any; st; st = stream_next(j, st)) {
        st->runs = stream_can_run(s, st);
        if (!st->runs && st->n_open)
            job_put_chunks_away(s, j, st);
    }
}
