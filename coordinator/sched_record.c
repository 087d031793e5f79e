/* From Done to records: which results count (R4), which are tried again, which become
 * records. Their files are sched_files.c's. */
#include "coordinator/sched_state.h"

/* ---- batches ---- */

/* Records being gathered into one row: at once where they will stay, for a copy more of
 * each was a fifteenth of what the loop's thread does for a small task. */
struct gather {
    uint32_t n, max;
    size_t bytes, bytes_max;
    /* From the first record on. */
    struct blob *tasks, *attempts, *lens, *statuses, *values;
};

/* So many records at most, with so many bytes of values. */
static struct gather gather_of(uint32_t max, size_t bytes_max)
{
    return (struct gather){ .max = max, .bytes_max = bytes_max };
}

static void gather_begin(struct gather *g)
{
    g->tasks = blob_alloc(g->max * sizeof(uint32_t));
    g->attempts = blob_alloc(g->max * sizeof(uint32_t));
    g->lens = blob_alloc(g->max * sizeof(uint32_t));
    g->statuses = blob_alloc(g->max);
    g->values = blob_alloc(g->bytes_max);
}

static void gather_add(struct gather *g, struct chunk *c, uint32_t index, uint8_t status,
                       struct span value)
{
    if (g->n == 0)
        gather_begin(g);
    CHECK(g->n < g->max && value.len <= g->bytes_max - g->bytes);
    ((uint32_t *)g->tasks->data)[g->n] = (uint32_t)(c->first + index);
    ((uint32_t *)g->attempts->data)[g->n] = c->tries[index] + c->deaths[index] + 1u;
    g->statuses->data[g->n] = status;
    ((uint32_t *)g->lens->data)[g->n] = (uint32_t)value.len;
    if (value.len)
        memcpy(g->values->data + g->bytes, value.data, value.len);
    g->bytes += value.len;
    g->n++;
    c->state[index] = TASK_RECORDED;
    c->recorded++;
}

void record_count(struct job *j, const uint8_t *statuses, uint32_t n)
{
    j->owner->tasks -= n;
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

uint64_t record_next_cursor(const struct job *j)
{
    return j->row.ok + j->row.failed + j->row.poison + j->row.cancelled;
}

void record_visible(struct job *j, uint32_t seq, uint32_t n)
{
    j->chunks[seq].visible += n;
    while (j->first_incomplete < j->row.chunks &&
           j->chunks[j->first_incomplete].visible == j->chunks[j->first_incomplete].n)
        j->first_incomplete++;
}

/* Nobody made its records; they would have been made there, or anywhere. */
static struct span meant_for(struct sched *s, const struct job *j, uint32_t seq)
{
    const struct place *at = j->chunks[seq].stream->place;

    return at ? fx_keep(s->g, span_str(at->name)) : SPAN_NONE;
}

/* Puts what was gathered into the group as one row. */
static void gather_emit(struct sched *s, struct gather *g, struct job *j, uint32_t seq,
                        const struct lease *l, bool pending)
{
    if (g->n == 0)
        return;
    struct batch_row *b = &fx_add(s->g, FX_BATCH)->batch;
    *b = (struct batch_row){
        .row = s->next_row++,
        .job = j->row.id,
        .chunk = seq,
        .pending = pending,
        .cursor = record_next_cursor(j),
        .epoch = l ? lease_epoch(l->id) : 0,
        .lease = l ? l->id : 0,
        .n = g->n,
        .tasks = blob_cut(g->tasks, g->n * sizeof(uint32_t)),
        .statuses = blob_cut(g->statuses, g->n),
        .attempts = blob_cut(g->attempts, g->n * sizeof(uint32_t)),
        .lens = blob_cut(g->lens, g->n * sizeof(uint32_t)),
        .values = blob_cut(g->values, g->bytes),
        .node = l ? fx_keep(s->g, span_str(l->node->name)) : meant_for(s, j, seq),
    };
    s->g->bytes += b->values->len + g->n * 13;
    if (j->chunks[seq].open)
        j->chunks[seq].open->uncommitted++;
    if (pending) {
        j->pending += g->n;
        files_wait(s, b);
    } else {
        record_count(j, b->statuses->data, g->n);
        job_stores(j, g->bytes);
        record_visible(j, seq, g->n);
    }
}

/* R11: how long its server asks to wait, as far as it is heard. */
static uint32_t asked_wait_s(struct span value)
{
    enum { MOST_S = 3600 };
    struct task_value v;

    return value_unpack(value, &v, NULL) < 0 ? 0 : MIN(v.retry_after_s, MOST_S);
}

/* What becomes of a task whose attempt ended so: true = a record. */
static bool task_ends(struct sched *s, struct chunk *c, uint32_t index, uint8_t status,
                      struct span value)
{
    if (status == TASK_POISON && c->deaths[index] + 1 < DEATHS_MAX)
        c->deaths[index]++, status = TASK_LOST;
    if (status != TASK_OK && status != TASK_POISON && c->holders[index]) {
        c->hedge_off = true;
        return false; /* another node is on it too: it decides */
    }
    switch (status) {
    case TASK_OK:
    case TASK_FAILED:
    case TASK_POISON:
        return true;
    case TASK_RETRYABLE:
        if (c->tries[index] >= MIN(c->job->row.retries, TRIES_MAX))
            return true;
        c->tries[index]++;
        defer(s, c, index, s->now + backoff_ns(s, c->tries[index], asked_wait_s(value)),
              false);
        return false;
    case TASK_NOT_YET: /* it was not tried; and never again at once, whoever says so */
        defer(s, c, index, s->now + MAX(1u, asked_wait_s(value)) * NS_PER_S, true);
        return false;
    default: /* lost, or cancelled by a node that is about to end */
        if (status == TASK_LOST && ++c->losses[index] > LOSSES_MAX)
            return true;
        break;
    }
    if (c->holders[index] == 0)
        task_wait(c, index);
    return false;
}

/* An adopted lease is of an earlier epoch, whose nonce nobody keeps. */
static bool of_epoch(const struct sched *s, const struct lease *l, const struct epoch *e)
{
    const struct epoch *now = &s->config.epoch;

    return e->counter == lease_epoch(l->id) &&
           (e->counter != now->counter ||
            memcmp(e->nonce, now->nonce, sizeof(now->nonce)) == 0);
}

/* The lease a Done may speak for, or NULL: it is stale (R4). */
static struct lease *done_lease(struct sched *s, const struct peer *p,
                                const struct msg_done *d)
{
    struct lease *l;

    HASH_FIND(hh, s->leases, &d->lease, sizeof(d->lease), l);
    if (!l || l->node != p->node || !of_epoch(s, l, &d->epoch) ||
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
    struct gather shown = gather_of(b->n, m->body.len), files = shown;

    for (uint32_t i = 0; i < b->n; at += b->lens[i++]) {
        struct span value = span_of(m->body.data + at, b->lens[i]);
        bool mine = l && lease_take(l, b->tasks[i], &index);
        taken += mine;
        if (mine && c->state[index] != TASK_RECORDED &&
            task_ends(s, c, index, b->statuses[i], value)) {
            bool waits = d->files && b->statuses[i] == TASK_OK;
            gather_add(waits ? &files : &shown, c, index, b->statuses[i], value);
            won[n_won++] = b->tasks[i];
        } else if (!mine && files_pending(s, d, b->tasks[i])) {
            won[n_won++] = b->tasks[i]; /* said again: its files are to be published */
        } else {
            lost[n_lost++] = b->tasks[i];
        }
    }
    if (l) {
        gather_emit(s, &shown, c->job, c->seq, l, false);
        gather_emit(s, &files, c->job, c->seq, l, true);
        l->moved_ns = s->now;
        lease_done(s, l, taken);
        chunk_list(s, c);
        struct job *j = c->job;
        c->leases++; /* it is looked at once more */
        if (d->last && b->n == 0)
            lease_spec_again(l);
        if (d->last)
            lease_end(s, l);
        else if (l->left == 0) /* it is on tasks still that others have recorded */
            lease_revoke(s, l);
        hedge_over(s, c);
        c->leases--;
        chunk_release(s, c);
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

    if (!j)
        return;
    if (b->pending) {
        files_committed(s, b->row);
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
    struct gather g = gather_of(info->n, 0);

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

    value_pack(&value, &v);
    struct gather g = gather_of(c->n, c->n * value.len);
    for (uint32_t i = 0; i < c->n; i++)
        if (c->state[i] != TASK_RECORDED)
            gather_add(&g, c, i, TASK_FAILED, buf_span(&value));
    c->waiting = 0;
    gather_emit(s, &g, j, c->seq, NULL, false);
}
