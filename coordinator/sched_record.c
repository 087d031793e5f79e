/* From Done to records: which results count (R4), which are tried again, which wait for
 * their files (R8). */
#include "coordinator/sched_state.h"

/* ---- tasks that wait for their time ---- */

static void heap_swap(struct sched *s, size_t a, size_t b)
{
    struct deferred t = s->heap[a];
    s->heap[a] = s->heap[b];
    s->heap[b] = t;
}

static void defer(struct sched *s, struct chunk *c, uint32_t index, int64_t due_ns)
{
    size_t i = s->heap_n;

    if (s->heap_n == s->heap_cap) {
        s->heap_cap = MAX(64, s->heap_cap * 2);
        s->heap = xrealloc(s->heap, s->heap_cap * sizeof(*s->heap));
    }
    s->heap[s->heap_n++] = (struct deferred){ due_ns, c->job->row.id, c->seq, index };
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

static void task_wait(struct chunk *c, uint32_t index)
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

static int64_t backoff_ns(struct sched *s, uint32_t tries, uint32_t retry_after_s)
{
    int64_t ns = tries > 6 ? BACKOFF_MAX_NS : BACKOFF_NS << (tries - 1);

    ns = MIN(ns, BACKOFF_MAX_NS);
    ns = ns / 2 + (int64_t)(sched_random(s) % (uint32_t)(ns / 2 / 1000)) * 1000;
    return MAX(ns, MIN(retry_after_s, 3600u) * NS_PER_S);
}

/* ---- batches ---- */

/* Records being gathered into one row. */
struct gather {
    uint32_t n;
    uint32_t *tasks, *attempts, *lens;
    uint8_t *statuses;
    struct buf values;
};

static void gather_init(struct sched *s, struct gather *g, uint32_t max)
{
    max = max ? max : 1;
    *g = (struct gather){
        .tasks = arena_alloc(&s->g->arena, max * sizeof(uint32_t)),
        .attempts = arena_alloc(&s->g->arena, max * sizeof(uint32_t)),
        .lens = arena_alloc(&s->g->arena, max * sizeof(uint32_t)),
        .statuses = arena_alloc(&s->g->arena, max),
    };
}

static void gather_add(struct gather *g, struct chunk *c, uint32_t index, uint8_t status,
                       struct span value)
{
    g->tasks[g->n] = (uint32_t)(c->first + index);
    g->attempts[g->n] = c->tries[index] + c->deaths[index] + 1u;
    g->statuses[g->n] = status;
    g->lens[g->n] = (uint32_t)value.len;
    buf_add_span(&g->values, value);
    g->n++;
    c->state[index] = TASK_RECORDED;
    c->recorded++;
}

static void count(struct job *j, const uint8_t *statuses, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        switch (statuses[i]) {
        case TASK_OK:
            j->row.ok++;
            break;
        case TASK_POISON:
            j->row.poison++;
            break;
        case TASK_CANCELLED:
            j->row.cancelled++;
            break;
        default:
            j->row.failed++;
        }
    }
}

static uint64_t next_cursor(const struct job *j)
{
    return j->row.ok + j->row.failed + j->row.poison + j->row.cancelled;
}

static void made_visible(struct job *j, uint32_t seq, uint32_t n)
{
    j->chunks[seq].visible += n;
    while (j->first_incomplete < j->row.chunks &&
           j->chunks[j->first_incomplete].visible == j->chunks[j->first_incomplete].n)
        j->first_incomplete++;
}

static void pending_add(struct sched *s, const struct batch_row *b)
{
    struct pending *p = xcalloc(1, sizeof(*p));

    *p = (struct pending){
        .row = b->row,
        .job = b->job,
        .epoch = b->epoch,
        .lease = b->lease,
        .chunk = b->chunk,
        .n = b->n,
        .tasks = blob_ref(b->tasks),
        .node = span_dup(b->node),
        .since_ns = s->now,
    };
    TAILQ_INSERT_TAIL(&s->pending, p, node_entry);
}

static void pending_free(struct sched *s, struct pending *p)
{
    TAILQ_REMOVE(&s->pending, p, node_entry);
    blob_unref(p->tasks);
    free(p->node);
    free(p);
}

void sched_load_pending(struct sched *s, const struct batch_row *row)
{
    struct job *j = sched_job(s, row->job);

    j->chunks[row->chunk].visible -= row->n;
    j->pending += row->n;
    pending_add(s, row);
    TAILQ_LAST(&s->pending, pending_list)->committed = true;
}

/* Puts what was gathered into the group as one row. */
static void gather_emit(struct sched *s, struct gather *g, struct job *j, uint32_t seq,
                        const struct lease *l, bool pending)
{
    if (g->n) {
        struct batch_row *b = &fx_add(s->g, FX_BATCH)->batch;
        *b = (struct batch_row){
            .row = s->next_row++,
            .job = j->row.id,
            .chunk = seq,
            .pending = pending,
            .cursor = next_cursor(j),
            .epoch = s->config.epoch.counter,
            .lease = l ? l->id : 0,
            .n = g->n,
            .tasks = blob_new(span_of(g->tasks, g->n * sizeof(uint32_t))),
            .statuses = blob_new(span_of(g->statuses, g->n)),
            .attempts = blob_new(span_of(g->attempts, g->n * sizeof(uint32_t))),
            .lens = blob_new(span_of(g->lens, g->n * sizeof(uint32_t))),
            .values = blob_new(buf_span(&g->values)),
            .node = l ? fx_keep(s->g, span_str(l->node->name)) : SPAN_NONE,
        };
        s->g->bytes += b->values->len + g->n * 13;
        if (j->chunks[seq].open)
            j->chunks[seq].open->uncommitted++;
        if (pending) {
            j->pending += g->n;
            pending_add(s, b);
        } else {
            count(j, g->statuses, g->n);
            made_visible(j, seq, g->n);
        }
    }
    buf_fini(&g->values);
}

/* What becomes of a task whose attempt ended so: true = a record. */
static bool task_ends(struct sched *s, struct chunk *c, uint32_t index, uint8_t status,
                      struct span value)
{
    struct task_value v;

    switch (status) {
    case TASK_OK:
    case TASK_FAILED:
        return true;
    case TASK_RETRYABLE:
        if (c->tries[index] >= MIN(c->job->row.retries, TRIES_MAX))
            return true;
        c->tries[index]++;
        if (value_unpack(value, &v, NULL) < 0)
            v.retry_after_s = 0;
        defer(s, c, index, s->now + backoff_ns(s, c->tries[index], v.retry_after_s));
        return false;
    case TASK_POISON:
        if (c->deaths[index] + 1 >= DEATHS_MAX)
            return true;
        c->deaths[index]++;
        break;
    default: /* lost, or cancelled by a node that is about to end */
        break;
    }
    if (c->holders[index] == 0)
        task_wait(c, index);
    return false;
}

static bool pending_has(const struct sched *s, const struct msg_done *d, uint32_t task)
{
    const struct pending *p;

    TAILQ_FOREACH (p, &s->pending, node_entry) {
        if (p->lease != d->lease || p->job != d->job)
            continue;
        const uint32_t *tasks = (const uint32_t *)p->tasks->data;
        for (uint32_t i = 0; i < p->n; i++)
            if (tasks[i] == task)
                return true;
    }
    return false;
}

/* The lease a Done may speak for, or NULL: it is stale (R4). */
static struct lease *done_lease(struct sched *s, const struct peer *p,
                                const struct msg_done *d)
{
    struct lease *l;

    HASH_FIND(hh, s->leases, &d->lease, sizeof(d->lease), l);
    if (!l || l->node != p->node || d->epoch.counter != s->config.epoch.counter ||
        l->chunk->job->row.id != d->job || l->chunk->seq != d->chunk ||
        memcmp(l->chunk->digest, d->digest, WIRE_DIGEST_BYTES) != 0)
        return NULL;
    return l;
}

/* Takes a task out of what the lease owes; false: it does not owe it. */
static bool lease_take(struct lease *l, uint64_t task, uint32_t *ret_index)
{
    struct chunk *c = l->chunk;
    uint32_t i = (uint32_t)(task - c->first);

    if (task < c->first || i >= c->n || !(l->live[i / 8] & BIT(i % 8)))
        return false;
    l->live[i / 8] &= (uint8_t)~BIT(i % 8);
    l->left--;
    c->holders[i]--;
    *ret_index = i;
    return true;
}

void sched_done(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_done *d = &m->done;
    const struct task_batch *b = &d->batch;
    struct lease *l = done_lease(s, p, d);
    struct chunk *c = l ? l->chunk : NULL;
    uint32_t *won = arena_alloc(&s->g->arena, (b->n + 1) * sizeof(*won)), n_won = 0;
    uint32_t *lost = arena_alloc(&s->g->arena, (b->n + 1) * sizeof(*lost)), n_lost = 0;
    uint32_t at = 0, index = 0, taken = 0;
    struct gather shown, files;

    gather_init(s, &shown, b->n);
    gather_init(s, &files, d->files ? b->n : 0);
    for (uint32_t i = 0; i < b->n; at += b->lens[i++]) {
        struct span value = span_of(m->body.data + at, b->lens[i]);
        bool mine = l && lease_take(l, b->tasks[i], &index);
        taken += mine;
        if (mine && c->state[index] != TASK_RECORDED &&
            task_ends(s, c, index, b->statuses[i], value)) {
            bool waits = d->files && b->statuses[i] == TASK_OK;
            gather_add(waits ? &files : &shown, c, index, b->statuses[i], value);
            won[n_won++] = b->tasks[i];
        } else if (!mine && pending_has(s, d, b->tasks[i])) {
            won[n_won++] = b->tasks[i]; /* said again: its files are to be published */
        } else {
            lost[n_lost++] = b->tasks[i];
        }
    }
    if (l) {
        gather_emit(s, &shown, c->job, c->seq, l, false);
        gather_emit(s, &files, c->job, c->seq, l, true);
        lease_done(s, l, taken);
        chunk_list(s, c);
        struct job *j = c->job;
        if (d->last || l->left == 0)
            lease_end(s, l);
        job_settle(s, j);
    }
    if (b->n) {
        struct fx *fx = sched_send(s, p->id, MSG_COMMITTED);
        fx->send.msg.committed =
            (struct msg_committed){ d->lease, won, lost, n_won, n_lost };
    }
}

void sched_batch_committed(struct sched *s, const struct batch_row *b)
{
    struct job *j = sched_job(s, b->job);
    struct chunk *c = j ? j->chunks[b->chunk].open : NULL;
    struct pending *p;

    if (!j)
        return;
    if (b->pending) {
        TAILQ_FOREACH (p, &s->pending, node_entry)
            if (p->row == b->row)
                p->committed = true;
    } else {
        j->committed_cursor = b->cursor + b->n;
        follow_live(s, j, b);
    }
    if (c && c->uncommitted) {
        c->uncommitted--;
        chunk_release(s, c);
    }
}

void record_cancelled(struct sched *s, struct job *j, struct chunk *c, uint32_t seq)
{
    struct chunk_info *info = &j->chunks[seq];
    struct chunk blank = { .first = info->first, .n = info->n };
    struct gather g;

    gather_init(s, &g, info->n);
    if (c) {
        for (uint32_t i = 0; i < c->n; i++)
            if (c->state[i] != TASK_RECORDED)
                gather_add(&g, c, i, TASK_CANCELLED, SPAN_NONE);
        c->waiting = 0;
        chunk_list(s, c);
    } else {
        blank.state = arena_alloc(&s->g->arena, 3 * (size_t)info->n);
        blank.tries = blank.state + info->n;
        blank.deaths = blank.tries + info->n;
        for (uint32_t i = 0; i < info->n; i++)
            gather_add(&g, &blank, i, TASK_CANCELLED, SPAN_NONE);
        info->recorded = info->n;
    }
    gather_emit(s, &g, j, seq, NULL, false);
    if (c)
        chunk_release(s, c);
}

/* The inputs of an open chunk are not what was accepted: what has no record fails. */
void record_damaged(struct sched *s, struct job *j, struct chunk *c)
{
    struct task_value v = { .error = SPAN_LIT("damaged: its input in the coordinator's "
                                              "state is not what was accepted") };
    AUTO_BUF value = BUF_INIT;
    struct gather g;

    value_pack(&value, &v);
    gather_init(s, &g, c->n);
    for (uint32_t i = 0; i < c->n; i++)
        if (c->state[i] != TASK_RECORDED)
            gather_add(&g, c, i, TASK_FAILED, buf_span(&value));
    c->waiting = 0;
    gather_emit(s, &g, j, c->seq, NULL, false);
}

/* ---- files ---- */

static struct pending *pending_find(struct sched *s, const struct msg_published *m)
{
    struct pending *p;

    TAILQ_FOREACH (p, &s->pending, node_entry)
        if (p->job == m->job && p->lease == m->lease && p->n == m->batch.n &&
            memcmp(p->tasks->data, m->batch.tasks, p->n * sizeof(uint32_t)) == 0)
            return p;
    return NULL;
}

/* The row becomes visible. values: NULL lens = as they were. */
static void show(struct sched *s, struct pending *p, const uint8_t *statuses,
                 const uint32_t *lens, struct span values)
{
    struct job *j = sched_job(s, p->job);
    struct fx *fx = fx_add(s->g, FX_SHOW);

    fx->show.row = p->row;
    fx->show.job = p->job;
    fx->show.cursor = next_cursor(j);
    fx->show.n = p->n;
    fx->show.tasks = blob_ref(p->tasks);
    fx->show.statuses = blob_new(span_of(statuses, p->n));
    if (lens) {
        fx->show.lens = blob_new(span_of(lens, p->n * sizeof(*lens)));
        fx->show.values = blob_new(values);
        s->g->bytes += values.len;
    }
    j->pending -= p->n;
    count(j, statuses, p->n);
    made_visible(j, p->chunk, p->n);
    pending_free(s, p);
    job_settle(s, j);
}

void sched_published(struct sched *s, struct peer *peer, const struct msg *m)
{
    const struct task_batch *b = &m->published.batch;
    struct pending *p = pending_find(s, &m->published);
    struct fx *fx;
    bool failed = false;

    for (uint32_t i = 0; i < b->n; i++)
        failed |= b->statuses[i] != TASK_OK;
    if (p)
        show(s, p, b->statuses, failed ? b->lens : NULL, m->body);
    /* Said again, it is answered again. */
    fx = sched_send(s, peer->id, MSG_COMMITTED);
    fx->send.msg.committed.lease = m->published.lease;
    fx->send.msg.committed.won = fx_keep_bytes(s->g, b->tasks, b->n * sizeof(uint32_t));
    fx->send.msg.committed.n_won = b->n;
}

void sched_show_committed(struct sched *s, uint64_t job, uint64_t cursor, uint32_t n)
{
    struct job *j = sched_job(s, job);

    if (j) {
        j->committed_cursor = cursor + n;
        follow_pump(s, j);
    }
}

/* A won file whose node never said Published ends in an error. */
void record_unpublished(struct sched *s)
{
    struct pending *p, *tmp;

    TAILQ_FOREACH_SAFE (p, &s->pending, node_entry, tmp) {
        if (!p->committed || s->now - p->since_ns < s->config.unpublished_ns)
            continue;
        struct task_value v = { .error = SPAN_LIT("unpublished: its node went away "
                                                  "before the file was in place") };
        uint8_t *statuses = arena_alloc(&s->g->arena, p->n);
        uint32_t *lens = arena_alloc(&s->g->arena, p->n * sizeof(*lens));
        AUTO_BUF values = BUF_INIT;
        for (uint32_t i = 0; i < p->n; i++) {
            size_t before = values.len;
            value_pack(&values, &v);
            statuses[i] = TASK_FAILED;
            lens[i] = (uint32_t)(values.len - before);
        }
        show(s, p, statuses, lens, buf_span(&values));
    }
}
