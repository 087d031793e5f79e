/* Leases: who gets which tasks, how many, and what happens when one ends. */
#include "coordinator/sched_state.h"

/* ---- leases ---- */

static void lease_free(struct sched *s, struct lease *l)
{
    LIST_REMOVE(l, node_node);
    HASH_DEL(s->leases, l);
    free(l->live);
    free(l);
}

struct lease *lease_new(struct sched *s, struct sched_node *n, struct chunk *c,
                        uint64_t id)
{
    struct lease *l = xcalloc(1, sizeof(*l));

    l->id = id;
    l->node = n;
    l->chunk = c;
    l->live = xcalloc(1, c->n / 8 + 1);
    l->given_ns = l->moved_ns = s->now;
    c->leases++;
    if (!c->job->io)
        n->cpu_leases++;
    LIST_INSERT_HEAD(&n->leases, l, node_node);
    HASH_ADD(hh, s->leases, id, sizeof(l->id), l);
    return l;
}

void lease_take_task(struct lease *l, uint32_t index)
{
    struct chunk *c = l->chunk;

    if (c->state[index] == TASK_WAITING)
        c->waiting--;
    c->state[index] = TASK_LEASED;
    c->holders[index]++;
    l->live[index / 8] |= BIT(index % 8);
    l->n++;
    l->left++;
}

/* Its share of what a slot may have ahead. */
static uint32_t weight(const struct lease *l)
{
    const struct job *j = l->chunk->job;

    if (j->io)
        return 0;
    return j->light ? 1 + l->n * LEASE_WEIGHT / (WIRE_CHUNK_TASKS_MAX + 1) : LEASE_WEIGHT;
}

void lease_give_end(struct sched *s, struct lease *l)
{
    struct chunk *c = l->chunk;
    struct job *j = c->job;

    l->weight = weight(l);
    l->node->cpu_weight += l->weight;
    j->leased += l->n;
    j->owner->leased += l->n;
    if (j->io)
        l->node->io_tasks += l->n;
    while (c->hint < c->n && c->state[c->hint] != TASK_WAITING)
        c->hint++;
    chunk_list(s, c);
}

void lease_end(struct sched *s, struct lease *l)
{
    struct chunk *c = l->chunk;
    struct job *j = c->job;

    for (uint32_t i = 0; l->left && i < c->n; i++) {
        if (!(l->live[i / 8] & BIT(i % 8)))
            continue;
        l->left--;
        j->leased--;
        j->owner->leased--;
        if (j->io)
            l->node->io_tasks--;
        if (--c->holders[i] == 0 && c->state[i] == TASK_LEASED) {
            c->state[i] = TASK_WAITING;
            c->waiting++;
            c->hint = MIN(c->hint, i);
        }
    }
    if (!j->io)
        l->node->cpu_leases--;
    l->node->cpu_weight -= l->weight;
    lease_free(s, l);
    c->leases--;
    chunk_list(s, c);
    chunk_release(s, c);
}

void lease_revoke(struct sched *s, struct lease *l)
{
    if (l->node->peer)
        sched_send_now(s, l->node->peer, MSG_REVOKE)->send.msg.revoke.lease = l->id;
    lease_end(s, l);
}

void lease_moved(struct sched *s, const struct sched_node *n, const struct msg_beat *b)
{
    struct lease *l;

    for (uint32_t i = 0; i < b->n_progressing; i++) {
        HASH_FIND(hh, s->leases, &b->progressing[i], sizeof(uint64_t), l);
        if (l && l->node == n)
            l->moved_ns = s->now;
    }
}

/* A node that is there but does not get on with a lease has lost it. */
void lease_expire(struct sched *s)
{
    struct lease *l, *tmp;

    if (s->now - s->leases_looked_ns < TICK_NS)
        return;
    s->leases_looked_ns = s->now;
    HASH_ITER (hh, s->leases, l, tmp)
        if (s->now - l->moved_ns > s->config.lease_ns)
            lease_revoke(s, l);
}

void lease_revoke_job(struct sched *s, struct job *j)
{
    struct lease *l, *tmp;

    HASH_ITER (hh, s->leases, l, tmp)
        if (l->chunk->job == j)
            lease_revoke(s, l);
}

static struct pace *pace_of(struct sched_node *n, uint64_t job)
{
    struct pace *p;

    HASH_FIND(hh, n->paces, &job, sizeof(job), p);
    if (!p) {
        p = xcalloc(1, sizeof(*p));
        p->job = job;
        p->shard = SHARD_FIRST;
        HASH_ADD(hh, n->paces, job, sizeof(p->job), p);
    }
    return p;
}

/* n of the lease's tasks came back: the books, and how large the next shard is. */
void lease_done(struct sched *s, struct lease *l, uint32_t n)
{
    struct sched_node *node = l->node;
    struct job *j = l->chunk->job;
    struct pace *p = pace_of(node, j->row.id);
    int64_t window = s->now - p->since_ns;

    j->leased -= n;
    j->owner->leased -= n;
    node->done += n;
    if (j->io)
        node->io_tasks -= n;
    p->done += n;
    if (j->io || window < 50 * NS_PER_MS)
        return;
    /* Tasks that one slot does in SHARD_NS; at most four times the last shard, since the
     * first tasks of a job say little about the rest. */
    uint64_t per_slot = p->done * (uint64_t)SHARD_NS / (uint64_t)window / node->cpu_slots;
    p->shard = (uint32_t)MAX(1u, MIN(per_slot, MIN(p->shard * 4, WIRE_CHUNK_TASKS_MAX)));
    p->done = 0;
    p->since_ns = s->now;
}

/* ---- giving ---- */

bool lease_spec_known(struct sched_node *n, uint64_t job)
{
    struct pace *p = pace_of(n, job);
    bool known = p->told == n->sessions && !p->again;

    p->told = n->sessions;
    p->again = false;
    return known;
}

/* A lease comes back untouched: perhaps its node has no spec for it. */
void lease_spec_again(const struct lease *l)
{
    if (l->left == l->n)
        pace_of(l->node, l->chunk->job->row.id)->again = true;
}

uint32_t lease_shard_tasks(struct sched *s, struct sched_node *n, const struct chunk *c)
{
    struct job *j = c->job;
    struct pace *p = pace_of(n, j->row.id);

    if (!p->since_ns)
        p->since_ns = s->now;
    if (j->io) {
        uint64_t room = n->io_slots + n->io_slots / 4 - n->io_tasks;
        return (uint32_t)MIN(room, MIN(MAX(8u, n->io_slots / 4), c->n));
    }
    /* Towards the end of what waits, in all chunks that are ready, shards shrink, so that
     * all slots end together. A straggler's chunk may be in no list. */
    uint32_t parts = LEASES_PER_SLOT * n->cpu_slots;
    uint32_t least = j->light ? SHARD_LIGHT : 1;
    uint32_t most = j->light ? WIRE_CHUNK_TASKS_MAX : p->shard;
    uint64_t waiting = c->waiting;
    while (c->listed && waiting < (uint64_t)most * parts &&
           (c = TAILQ_NEXT(c, ready_node)))
        waiting += c->waiting;
    return (uint32_t)MIN(most, MAX(waiting / parts, least));
}

/* Takes up to max waiting tasks, ascending. One that has killed a mill goes alone. */
static uint32_t shard_cut(struct lease *l, uint32_t *indexes, uint32_t max)
{
    struct chunk *c = l->chunk;
    uint32_t n = 0;

    for (uint32_t i = c->hint; i < c->n && n < max; i++) {
        if (c->state[i] != TASK_WAITING)
            continue;
        if (c->deaths[i] && n)
            break;
        indexes[n++] = i;
        lease_take_task(l, i);
        if (c->deaths[i])
            break;
    }
    return n;
}

/* One range is a piece of the chunk's body; several are put together. */
static struct span shard_body(struct fx *fx, const struct chunk *c,
                              const struct range *ranges, uint32_t n, size_t bytes)
{
    uint32_t first = (uint32_t)(ranges[0].first - c->first);
    uint8_t *to;

    if (n == 1) {
        fx->send.body = blob_ref(c->body);
        return span_of(c->body->data + c->offsets[first], bytes);
    }
    fx->send.body = blob_alloc(bytes);
    to = fx->send.body->data;
    for (uint32_t r = 0; r < n; r++) {
        uint32_t i = (uint32_t)(ranges[r].first - c->first);
        size_t len = c->offsets[i + ranges[r].count] - c->offsets[i];
        memcpy(to, c->body->data + c->offsets[i], len);
        to += len;
    }
    return blob_span(fx->send.body);
}

void lease_say(struct sched *s, const struct lease *l, const uint32_t *indexes,
               uint32_t n)
{
    const struct chunk *c = l->chunk;
    const uint32_t *all = (const uint32_t *)c->lens->data;
    struct fx *fx = sched_send_now(s, l->node->peer, MSG_LEASE);
    struct msg_lease *m = &fx->send.msg.lease;
    struct range *ranges = arena_alloc(&s->g->arena, n * sizeof(*ranges)), *last = NULL;
    uint32_t *lens = arena_alloc(&s->g->arena, n * sizeof(*lens));
    size_t bytes = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t task = (uint32_t)(c->first + indexes[i]);
        lens[i] = all[indexes[i]];
        bytes += lens[i];
        if (last && last->first + last->count == task) {
            last->count++;
        } else {
            last = &ranges[m->n_ranges++];
            *last = (struct range){ task, 1 };
        }
    }
    m->lease = l->id;
    m->job = c->job->row.id;
    m->chunk = c->seq;
    memcpy(m->digest, c->digest, sizeof(m->digest));
    if (!lease_spec_known(l->node, c->job->row.id))
        m->spec = fx_keep(s->g, c->job->row.spec);
    m->ranges = ranges;
    m->lens = lens;
    m->n_lens = n;
    m->task_timeout_ns = c->job->row.task_timeout_ns;
    fx->send.msg.body = shard_body(fx, c, ranges, m->n_ranges, bytes);
    bulk_said(s, fx);
}

static void lease_give(struct sched *s, struct sched_node *n, struct chunk *c)
{
    struct lease *l = lease_new(s, n, c, s->next_lease++);
    uint32_t max = lease_shard_tasks(s, n, c);
    uint32_t *indexes = arena_alloc(&s->g->arena, max * sizeof(*indexes));

    lease_say(s, l, indexes, shard_cut(l, indexes, max));
    lease_give_end(s, l);
    stream_open_chunks(s, c->stream);
}

/* Of one owner: what a walk finds is work for the others. */
static bool is_before(const struct job *a, const struct job *b)
{
    bool walk = a->spec.source == SOURCE_DIR;

    return walk == (b->spec.source == SOURCE_DIR) ? a->row.id < b->row.id : walk;
}

/* Priority, then who of the submitters has least out, then walks, then first in. */
static struct job *job_for(struct sched *s, const struct sched_node *n, bool io)
{
    struct job *j, *best = NULL;

    TAILQ_FOREACH (j, &s->ready, ready_node) {
        if (j->io != io || !node_fits(n, j) || !stream_chunk_for(j, n))
            continue;
        if (!best || j->row.priority > best->row.priority ||
            (j->row.priority == best->row.priority &&
             (j->owner->leased < best->owner->leased ||
              (j->owner == best->owner && is_before(j, best)))))
            best = j;
    }
    return best;
}

bool lease_node_takes(struct sched *s, const struct sched_node *n, bool io)
{
    const struct peer *p = n->peer ? sched_peer(s, n->peer) : NULL;

    if (!p || !n->welcomed || n->draining || !bulk_room(p))
        return false;
    if (io)
        return n->io_slots && n->io_tasks < n->io_slots + n->io_slots / 4;
    return n->cpu_weight < n->cpu_slots * LEASES_PER_SLOT * LEASE_WEIGHT;
}

void lease_pump(struct sched *s)
{
    struct sched_node *n;
    struct job *j;
    bool gave, tail = s->now - s->tail_looked_ns >= TAIL_LOOK_NS;

    if (s->draining || !room_to_lease(s) || node_awaited(s))
        return;
    if (tail)
        s->tail_looked_ns = s->now;
    do { /* one lease to each node in turn, so that none gets all */
        gave = false;
        TAILQ_FOREACH (n, &s->nodes, node)
            for (int io = 0; io <= 1; io++) {
                if (!lease_node_takes(s, n, io))
                    continue;
                j = job_for(s, n, io);
                if (j)
                    lease_give(s, n, stream_chunk_for(j, n));
                gave |= j || (!io && tail && hedge(s, n));
            }
    } while (gave);
}
