#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>

struct world *the_world;

/* ---- chance ---- */

uint64_t mix64(uint64_t z)
{
    /* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t world_random(struct world *w)
{
    return mix64(w->random += 0x9e3779b97f4a7c15u);
}

bool chance(struct world *w, uint32_t per_mille)
{
    return per_mille && world_random(w) % 1000 < per_mille;
}

int64_t between(struct world *w, int64_t lo, int64_t hi)
{
    return hi <= lo ? lo : lo + (int64_t)(world_random(w) % (uint64_t)(hi - lo + 1));
}

int64_t mostly_short(struct world *w, int64_t lo, int64_t hi)
{
    int64_t top = chance(w, 100) ? hi : lo + (hi - lo) / 8;
    return between(w, lo, top);
}

/* ---- the heap of events ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq);
}

static void put(struct world *w, size_t i, struct event *e)
{
    w->heap[i] = e;
    e->place = i;
}

static void rise(struct world *w, size_t i)
{
    struct event *e = w->heap[i];

    for (; i > 1 && before(e, w->heap[i / 2]); i /= 2)
        put(w, i, w->heap[i / 2]);
    put(w, i, e);
}

static void sink(struct world *w, size_t i)
{
    struct event *e = w->heap[i];

    for (;;) {
        size_t child = 2 * i;
        if (child > w->n)
            break;
        if (child < w->n && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], e))
            break;
        put(w, i, w->heap[child]);
        i = child;
    }
    put(w, i, e);
}

void event_cancel(struct world *w, struct event *e)
{
    size_t i = e->place;
    struct event *last;

    if (!i)
        return;
    e->place = 0;
    last = w->heap[w->n--];
    if (last == e)
        return;
    put(w, i, last);
    rise(w, i);
    sink(w, last->place);
}

void event_post(struct world *w, struct event *e, int64_t delay_ns)
{
    event_cancel(w, e);
    e->at_ns = w->now_ns + (delay_ns > 0 ? delay_ns : 0);
    e->seq = ++w->next_seq;
    if (w->n + 1 >= w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->heap = xrealloc(w->heap, w->cap * sizeof(struct event *));
    }
    put(w, ++w->n, e);
    rise(w, w->n);
}

struct event *world_after(struct world *w, struct host *h, int64_t delay_ns, event_fn *fn,
                          void *arg)
{
    struct event *e = xcalloc(1, sizeof(*e));

    e->fn = fn;
    e->arg = arg;
    e->host = h;
    e->owned = true;
    event_post(w, e, delay_ns);
    return e;
}

static void event_drop(struct world *w, struct event *e)
{
    event_cancel(w, e);
    if (e->drop)
        e->drop(e->arg);
    if (e->owned)
        free(e);
}

void host_kill(struct host *h)
{
    struct world *w = h->w;
    size_t i = 1;

    h->alive = false;
    while (i <= w->n) {
        if (w->heap[i]->host == h) {
            event_drop(w, w->heap[i]);
            i = 1; /* the heap has changed */
        } else {
            i++;
        }
    }
}

bool host_stopped(const struct host *h)
{
    return h->stopped_until_ns > h->w->now_ns;
}

/* ---- the run ---- */

static void happen(struct world *w, struct event *e)
{
    struct host *h = e->host;

    if (h && host_stopped(h)) {
        event_post(w, e, h->stopped_until_ns - w->now_ns);
        return;
    }
    bool owned = e->owned; /* an embedded one may be gone after it */
    w->events++;
    e->fn(e->arg);
    if (owned)
        free(e);
}

void world_run(struct world *w, int64_t until_ns)
{
    while (w->n && !w->failure[0] && w->heap[1]->at_ns <= until_ns) {
        struct event *e = w->heap[1];
        w->now_ns = e->at_ns;
        event_cancel(w, e);
        happen(w, e);
    }
    if (!w->failure[0])
        w->now_ns = until_ns;
}

struct world *world_new(uint64_t seed, bool trace)
{
    struct world *w = xcalloc(1, sizeof(*w));

    w->seed = seed;
    w->random = mix64(seed + 0x6a09e667f3bcc909u);
    w->now_ns = NS_PER_S;
    w->trace = trace;
    the_world = w;
    return w;
}

void world_drop_events(struct world *w)
{
    while (w->n)
        event_drop(w, w->heap[w->n]);
}

void world_free(struct world *w)
{
    free(w->heap);
    free(w);
    the_world = NULL;
}

/* ---- what is told ---- */

void world_note(struct world *w, const char *what, const char *a_name, uint64_t a,
                const char *b_name, uint64_t b, const char *c_name, uint64_t c)
{
    uint64_t h = w->hash ^ (uint64_t)w->now_ns;

    for (const char *p = what; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    w->hash = mix64(mix64(mix64(h + a) + b) + c);
    if (w->trace)
        printf("%12.6f %-18s %s=%" PRIu64 " %s=%" PRIu64 " %s=%" PRIu64 "\n",
               (double)w->now_ns / NS_PER_S, what, a_name, a, b_name, b, c_name, c);
}

void broken(struct world *w, const char *fmt, ...)
{
    va_list ap;

    if (w->failure[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->failure, sizeof(w->failure), fmt, ap);
    va_end(ap);
    if (w->trace)
        printf("%12.6f BROKEN %s\n", (double)w->now_ns / NS_PER_S, w->failure);
}
