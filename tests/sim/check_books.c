/* The scheduler's numbers: windows are kept (P4), and books that are kept twice agree. */
#include "coordinator/sched_state.h"
#include "tests/sim/check.h"

static const struct peer *peer_of(const struct sched *s, peer_id id)
{
    struct peer *p;

    HASH_FIND(hh, s->peers, &id, sizeof(id), p);
    return p;
}

static void check_chunk(struct world *w, const struct sched *s, const struct chunk *c)
{
    uint32_t states[4] = { 0 }, leases = 0;
    const struct lease *l;

    for (uint32_t i = 0; i < c->n; i++)
        states[c->state[i]]++;
    for (l = s->leases; l; l = l->hh.next)
        leases += l->chunk == c;
    if (states[TASK_WAITING] != c->waiting || states[TASK_RECORDED] != c->recorded ||
        leases != c->leases)
        broken(
            w, "books: chunk %u of job %llu: waiting %u/%u recorded %u/%u leases %u/%u",
            c->seq, (unsigned long long)c->job->row.id, c->waiting, states[TASK_WAITING],
            c->recorded, states[TASK_RECORDED], c->leases, leases);
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t holders = 0;
        for (l = s->leases; l; l = l->hh.next)
            holders += l->chunk == c && (l->live[i / 8] & BIT(i % 8)) != 0;
        if (holders != c->holders[i] || (c->state[i] == TASK_LEASED && !holders))
            broken(w, "books: task %u of chunk %u has %u holders, %u are counted", i,
                   c->seq, holders, c->holders[i]);
    }
}

static void check_job(struct world *w, const struct sched *s, const struct job *j)
{
    uint64_t leased = 0;
    uint32_t open = 0;

    for (const struct lease *l = s->leases; l; l = l->hh.next)
        if (l->chunk->job == j)
            leased += l->left;
    for (uint32_t i = 0; i < j->row.chunks; i++)
        if (j->chunks[i].open) {
            open++;
            check_chunk(w, s, j->chunks[i].open);
        }
    if (leased != j->leased || open != j->n_open)
        broken(w, "books: job %llu: leased %llu/%llu open %u/%u",
               (unsigned long long)j->row.id, (unsigned long long)j->leased,
               (unsigned long long)leased, j->n_open, open);
}

/* Who ends a session ends what its node holds. */
static void check_session(struct world *w, const struct sched *s,
                          const struct sched_node *n)
{
    const struct peer *p = n->peer ? peer_of(s, n->peer) : NULL;

    if (n->peer && (!p || p->node != n))
        broken(w, "books: node %s is of peer %llu, which has no session", n->name,
               (unsigned long long)n->peer);
}

static void check_node(struct world *w, const struct sched_node *n)
{
    uint32_t cpu = 0, weight = 0, given = 0; /* given: in this session */
    uint64_t io = 0, given_io = 0;
    const struct lease *l;

    LIST_FOREACH (l, &n->leases, node_node) {
        weight += l->weight;
        cpu += !l->chunk->job->io;
        io += l->chunk->job->io ? l->left : 0;
        if (check_given_to(w, l->id) != n->peer)
            continue;
        given += l->weight;
        given_io += l->chunk->job->io ? l->left : 0;
    }
    if (cpu != n->cpu_leases || weight != n->cpu_weight || io != n->io_tasks)
        broken(w, "books: node %s: leases %u/%u weight %u/%u fetching %llu/%llu", n->name,
               n->cpu_leases, cpu, n->cpu_weight, weight, (unsigned long long)n->io_tasks,
               (unsigned long long)io);
    if (given >= n->cpu_slots * LEASES_PER_SLOT * LEASE_WEIGHT + LEASE_WEIGHT ||
        given_io > n->io_slots + n->io_slots / 4 + 8)
        broken(w,
               "P4: node %s holds a weight of %u and %llu fetches, more than its slots "
               "allow",
               n->name, given, (unsigned long long)given_io);
}

/* What is kept of jobs on nodes is of jobs that go on. */
static void check_paces(struct world *w, const struct sched *s,
                        const struct sched_node *n)
{
    for (const struct pace *p = n->paces; p; p = p->hh.next) {
        struct job *j;
        HASH_FIND(hh, s->jobs, &p->job, sizeof(p->job), j);
        if (!j || job_ended(j))
            broken(w, "P4: node %s is remembered for job %llu, which has ended", n->name,
                   (unsigned long long)p->job);
    }
}

/* What quotas are held against. */
static void check_owner(struct world *w, const struct sched *s, const struct owner *o)
{
    uint64_t tasks = 0, bytes = 0;
    uint32_t jobs = 0, submitting = 0;
    const struct job *j;

    TAILQ_FOREACH (j, &s->all, node) {
        if (j->owner != o)
            continue;
        jobs++;
        submitting += j->client != 0;
        tasks +=
            j->row.tasks - j->row.ok - j->row.failed - j->row.poison - j->row.cancelled;
        bytes += j->row.bytes;
    }
    if (tasks != o->tasks || bytes != o->bytes || jobs != o->jobs ||
        submitting != o->submitting)
        broken(w, "books: owner %s: tasks %llu/%llu bytes %llu/%llu jobs %u/%u", o->name,
               (unsigned long long)o->tasks, (unsigned long long)tasks,
               (unsigned long long)o->bytes, (unsigned long long)bytes, o->jobs, jobs);
}

/* Who may have chunks in memory is known of each stream. */
static void check_streams(struct world *w, const struct sched *s, struct job *j)
{
    for (const struct stream *st = &j->any; st; st = stream_next(j, st))
        if (st->runs != stream_can_run(s, st))
            broken(w, "books: job %llu: chunks for %s run: %d",
                   (unsigned long long)j->row.id, st->place ? st->place->name : "any",
                   st->runs);
}

/* Records are kept in memory for who follows their job, within their window (P4). */
static void check_recent(struct world *w, const struct sched *s)
{
    const struct job *j;

    if (s->recent_bytes > s->config.recent_bytes ||
        (s->recent_bytes == 0) != TAILQ_EMPTY(&s->recents))
        broken(w, "books: %zu bytes of records in memory", s->recent_bytes);
    TAILQ_FOREACH (j, &s->all, node)
        if (LIST_EMPTY(&j->followers) && !TAILQ_EMPTY(&j->recents))
            broken(w, "P4: records of job %llu stay in memory for nobody",
                   (unsigned long long)j->row.id);
}

void check_books(struct world *w, const struct sched *s)
{
    size_t bytes = 0;
    const struct sched_node *n;
    struct job *j;

    TAILQ_FOREACH (j, &s->live, live_node)
        check_streams(w, s, j);
    TAILQ_FOREACH (j, &s->all, node) {
        check_job(w, s, j);
        for (uint32_t i = 0; i < j->row.chunks; i++)
            if (j->chunks[i].open)
                bytes += chunk_bytes(j->chunks[i].open);
    }
    TAILQ_FOREACH (n, &s->nodes, node) {
        check_session(w, s, n);
        check_node(w, n);
        check_paces(w, s, n);
    }
    for (const struct owner *o = s->owners; o; o = o->hh.next)
        check_owner(w, s, o);
    check_recent(w, s);
    if (bytes != s->open_bytes)
        broken(w, "books: open bytes %zu, counted %zu", bytes, s->open_bytes);
}

void books_tell(const struct sched *s)
{
    const struct sched_node *n;
    const struct job *j;

    TAILQ_FOREACH (n, &s->nodes, node)
        printf("node %s: peer %llu welcomed %d draining %d slots %u+%u leases %u+%llu\n",
               n->name, (unsigned long long)n->peer, n->welcomed, n->draining,
               n->cpu_slots, n->io_slots, n->cpu_leases, (unsigned long long)n->io_tasks);
    for (const struct lease *l = s->leases; l; l = l->hh.next)
        printf("lease %llu: node %s job %llu chunk %u, %u of %u left\n",
               (unsigned long long)l->id, l->node->name,
               (unsigned long long)l->chunk->job->row.id, l->chunk->seq, l->left, l->n);
    TAILQ_FOREACH (j, &s->all, node) {
        printf("job %llu: state %d sealed %d cancelling %d paused %d io %d tasks %llu of "
               "%u chunks, leased %llu deferred %llu pending %llu open %u next %u\n",
               (unsigned long long)j->row.id, j->row.state, j->sealed, j->cancelling,
               j->row.paused, j->io, (unsigned long long)j->row.tasks, j->row.chunks,
               (unsigned long long)j->leased, (unsigned long long)j->deferred,
               (unsigned long long)j->pending, j->n_open, j->any.next_open);
        for (uint32_t i = 0; i < j->row.chunks; i++) {
            const struct chunk *c = j->chunks[i].open;
            printf("  chunk %u: %u tasks, reading %d recorded %u", i, j->chunks[i].n,
                   j->chunks[i].reading, j->chunks[i].recorded);
            if (c)
                printf(
                    ", open: waiting %u recorded %u leases %u uncommitted %u listed %d",
                    c->waiting, c->recorded, c->leases, c->uncommitted, c->listed);
            printf("\n");
        }
    }
}

bool books_alone(const struct sched *s, uint64_t lease, uint64_t task)
{
    const struct lease *l, *other = NULL;

    for (l = s->leases; l && l->id != lease; l = l->hh.next)
        ;
    for (struct lease *o = s->leases; l && o; o = o->hh.next)
        if (o != l && o->chunk == l->chunk &&
            (o->live[(task - l->chunk->first) / 8] & BIT((task - l->chunk->first) % 8)))
            other = o;
    return !other;
}

bool books_holds(const struct sched *s, peer_id peer, uint64_t lease, uint64_t task)
{
    const struct peer *p = peer_of(s, peer);
    const struct lease *l;

    if (p && p->key && key_wrong(s, p->key))
        return false; /* revoked in this turn: whatever it says is refused */
    for (l = s->leases; l; l = l->hh.next)
        if (l->id == lease && l->node->peer == peer && task >= l->chunk->first &&
            task - l->chunk->first < l->chunk->n)
            return l->live[(task - l->chunk->first) / 8] &
                   BIT((task - l->chunk->first) % 8);
    return false;
}

void check_books_empty(struct world *w, const struct sched *s)
{
    const struct job *j;

    check_books(w, s);
    if (HASH_COUNT(s->leases))
        broken(w, "P4: all jobs have ended and leases are out");
    if (!TAILQ_EMPTY(&s->pending))
        broken(w, "P2: all jobs have ended and files wait to be published");
    TAILQ_FOREACH (j, &s->all, node)
        if (j->n_open || j->leased || j->pending)
            broken(w, "P4: job %llu has ended and keeps %u chunks in memory",
                   (unsigned long long)j->row.id, j->n_open);
}

void check_turn(struct world *w, const struct sched *s)
{
    if (world_random(w) % 8 == 0)
        check_books(w, s);
}
