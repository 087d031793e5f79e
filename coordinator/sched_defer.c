/* Tasks that wait for their time: a heap by when it comes, and how long it is. */
#include "coordinator/sched_state.h"

static void heap_swap(struct sched *s, size_t a, size_t b)
{
    struct deferred t = s->heap[a];
    s->heap[a] = s->heap[b];
    s->heap[b] = t;
}

void defer(struct sched *s, struct chunk *c, uint32_t index, int64_t due_ns, bool not_yet)
{
    size_t i = s->heap_n;

    if (s->heap_n == s->heap_cap) {
        s->heap_cap = MAX(64, s->heap_cap * 2);
        s->heap = xrealloc(s->heap, s->heap_cap * sizeof(*s->heap));
    }
    s->heap[s->heap_n++] =
        (struct deferred){ due_ns, c->job->row.id, c->seq, index, not_yet };
    for (; i && s->heap[i].due_ns < s->heap[(i - 1) / 2].due_ns; i = (i - 1) / 2)
        heap_swap(s, i, (i - 1) / 2);
    c->state[index] = TASK_DEFERRED;
    c->job->deferred++;
}

static struct deferred heap_pop(struct sched *s)
{
    struct deferred top = s->heap[0];
    size_t i = 0;

    s->heap[0] = s->heap[--s->heap_n];
    for (;;) {
        size_t least = i, l = 2 * i + 1, r = l + 1;
        if (l < s->heap_n && s->heap[l].due_ns < s->heap[least].due_ns)
            least = l;
        if (r < s->heap_n && s->heap[r].due_ns < s->heap[least].due_ns)
            least = r;
        if (least == i)
            return top;
        heap_swap(s, i, least);
        i = least;
    }
}

int64_t defer_next_ns(const struct sched *s)
{
    return s->heap_n ? s->heap[0].due_ns : INT64_MAX;
}

void task_wait(struct chunk *c, uint32_t index)
{
    c->state[index] = TASK_WAITING;
    c->waiting++;
    c->hint = MIN(c->hint, index);
}

void defer_due(struct sched *s)
{
    while (s->heap_n && s->heap[0].due_ns <= s->now) {
        struct deferred d = heap_pop(s);
        struct job *j = sched_job(s, d.job);
        struct chunk *c = j ? j->chunks[d.seq].open : NULL;
        if (j)
            j->deferred--;
        if (!c || c->state[d.index] != TASK_DEFERRED)
            continue; /* recorded meanwhile */
        task_wait(c, d.index);
        chunk_list(s, c);
    }
}

int64_t backoff_ns(struct sched *s, uint32_t tries, uint32_t asked_s)
{
    int64_t ns = tries > 6 ? BACKOFF_MAX_NS : BACKOFF_NS << (tries - 1);

    ns = MIN(ns, BACKOFF_MAX_NS);
    ns = ns / 2 + (int64_t)(sched_random(s) % (uint32_t)(ns / 2 / 1000)) * 1000;
    return MAX(ns, asked_s * NS_PER_S);
}
