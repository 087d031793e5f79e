/* Followers: results in commit order or task order, paid for with byte credit (R14). Only
 * what is on disk is sent (R3). */
#include "coordinator/sched_state.h"

/* A page comes from the disk for it, or does no more. */
static void reading(struct sched *s, struct follower *f, bool on)
{
    struct peer *p = sched_peer(s, f->peer);

    if (p)
        p->reading += (uint32_t)on - (uint32_t)f->reading;
    f->reading = on;
}

/* Takes records in commit order, all there are: so can it be sent them from memory. */
static bool takes_all(const struct follower *f)
{
    return !f->task_order && !f->failed_only;
}

/* What every one of them has passed, or nobody waits for, need not stay in memory. */
static void drop_passed(struct sched *s, struct job *j)
{
    uint64_t cursor = UINT64_MAX;
    const struct follower *f;

    LIST_FOREACH (f, &j->followers, job_node)
        if (takes_all(f))
            cursor = MIN(cursor, f->cursor);
    recent_passed(s, j, cursor);
}

void follow_free(struct sched *s, struct follower *f)
{
    reading(s, f, false);
    LIST_REMOVE(f, job_node);
    HASH_DEL(s->followers, f);
    drop_passed(s, f->job);
    free(f);
}

void follow_drop_peer(struct sched *s, peer_id peer)
{
    struct follower *f, *tmp;

    HASH_ITER (hh, s->followers, f, tmp)
        if (f->peer == peer)
            follow_free(s, f);
}

/* Nothing will follow what this cursor has seen. */
static bool at_end(const struct follower *f, uint64_t cursor)
{
    return job_ended(f->job) && f->job->committed_cursor == f->job->row.tasks &&
           cursor == f->job->row.tasks;
}

/* The common part of a Results message; records are added by the caller. What comes from
 * the disk needs not pass through the store again; that the job has ended does while its
 * state is on its way there (R1), and then what comes after that. */
static struct fx *results(struct sched *s, struct follower *f, uint64_t cursor,
                          uint64_t next)
{
    struct job *j = f->job;
    bool behind = (job_ended(j) && !j->end_on_disk) || f->behind > s->turn_on_disk;
    struct fx *fx = behind ? sched_send(s, f->peer, MSG_RESULTS)
                           : sched_send_now(s, f->peer, MSG_RESULTS);
    struct msg_results *r = &fx->send.msg.results;

    r->job = j->row.id;
    r->cursor = cursor;
    r->next_cursor = next;
    r->end = at_end(f, next);
    r->state = j->row.state;
    r->counts = (struct msg_job_counts){ j->row.tasks,  j->row.ok,        j->row.failed,
                                         j->row.poison, j->row.cancelled, j->leased };
    f->cursor = next;
    f->ended = r->end;
    if (behind)
        f->behind = s->turn;
    return fx;
}

static void fill(struct sched *s, struct fx *fx, const struct batch_row *b)
{
    struct msg_results *r = &fx->send.msg.results;

    r->batch.n = b->n;
    r->batch.tasks = fx_keep_bytes(s->g, b->tasks->data, b->tasks->len);
    r->batch.statuses = fx_keep_bytes(s->g, b->statuses->data, b->statuses->len);
    r->batch.lens = fx_keep_bytes(s->g, b->lens->data, b->lens->len);
    r->attempts = fx_keep_bytes(s->g, b->attempts->data, b->attempts->len);
    r->n_attempts = b->n;
    r->node = fx_keep(s->g, b->node);
}

/* Joins values and inputs into one body, or shares the values where there are no inputs.
 */
static void fill_body(struct fx *fx, struct blob *values, struct span inputs)
{
    if (inputs.len == 0) {
        fx->send.body = blob_ref(values);
    } else {
        fx->send.body = blob_alloc(values->len + inputs.len);
        memcpy(fx->send.body->data, values->data, values->len);
        memcpy(fx->send.body->data + values->len, inputs.data, inputs.len);
    }
    fx->send.msg.body = blob_span(fx->send.body);
}

/* ---- from memory: what has just been committed ---- */

static void live_inputs(struct sched *s, struct fx *fx, const struct chunk *c,
                        const struct batch_row *b)
{
    const uint32_t *tasks = (const uint32_t *)b->tasks->data;
    const uint32_t *lens = (const uint32_t *)c->lens->data;
    uint32_t *in = arena_alloc(&s->g->arena, b->n * sizeof(*in));
    AUTO_BUF inputs = BUF_INIT;

    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t at = (uint32_t)(tasks[i] - c->first);
        in[i] = lens[at];
        buf_add(&inputs, c->body->data + c->offsets[at], lens[at]);
    }
    fx->send.msg.results.input_lens = in;
    fx->send.msg.results.n_input_lens = b->n;
    fill_body(fx, b->values, buf_span(&inputs));
}

/* All followers at one peer share what may wait for it. */
static bool peer_full(struct sched *s, const struct follower *f)
{
    struct peer *p = sched_peer(s, f->peer);

    return !p || bulk_must_wait(s, p);
}

/* What is in the message is paid for, and waits for its peer. */
static void pay(struct sched *s, struct follower *f, const struct fx *fx)
{
    f->credit -=
        (int64_t)fx->send.msg.body.len + 16 * (int64_t)fx->send.msg.results.batch.n;
    bulk_said(s, fx);
}

static bool may_send(struct sched *s, struct follower *f)
{
    return !f->reading && !f->ended && f->credit > 0 && !peer_full(s, f);
}

/* Sends the next records, if they are in memory still. */
static bool send_recent(struct sched *s, struct follower *f)
{
    const struct batch_row *b = takes_all(f) ? recent_at(s, f->job, f->cursor) : NULL;
    const struct chunk *c = b && f->inputs ? f->job->chunks[b->chunk].open : NULL;

    if (!b || (f->inputs && !c))
        return false;
    struct fx *fx = results(s, f, b->cursor, b->cursor + b->n);
    fill(s, fx, b);
    if (f->inputs)
        live_inputs(s, fx, c, b);
    else
        fill_body(fx, b->values, SPAN_NONE);
    pay(s, f, fx);
    return true;
}

void follow_live(struct sched *s, struct job *j, const struct batch_row *b)
{
    const struct follower *f;
    bool wanted = false;

    LIST_FOREACH (f, &j->followers, job_node)
        wanted |= takes_all(f);
    if (wanted)
        recent_add(s, j, b);
    follow_pump(s, j);
}

/* ---- from memory, or else from the store ---- */

/* The chunk that holds a task; chunks are in order of their first task. */
static uint32_t chunk_of(const struct job *j, uint64_t task)
{
    uint32_t lo = 0, hi = j->row.chunks;

    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (j->chunks[mid].first <= task)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static void read_on(struct sched *s, struct follower *f)
{
    struct job *j = f->job;
    uint32_t seq = f->task_order && j->row.chunks ? chunk_of(j, f->cursor) : 0;

    while (may_send(s, f) && send_recent(s, f))
        ;
    if (!may_send(s, f))
        return;
    if (at_end(f, f->cursor)) {
        results(s, f, f->cursor, f->cursor);
        return;
    }
    if (f->task_order ? seq >= j->first_incomplete || f->cursor >= j->row.tasks
                      : f->cursor >= j->committed_cursor)
        return;
    struct fx_read_results *r = &fx_add(s->g, FX_READ_RESULTS)->read_results;
    *r = (struct fx_read_results){
        .job = j->row.id,
        .follow = f->id,
        .cursor = f->cursor,
        .limit = j->committed_cursor,
        .task_order = f->task_order,
        .inputs = f->inputs,
        .failed_only = f->failed_only,
        .first_chunk = seq,
        .chunk_end = seq < j->row.chunks ? j->chunks[seq].first + j->chunks[seq].n : 0,
        .max_bytes = FOLLOW_PAGE_BYTES,
    };
    reading(s, f, true);
}

static void read_more(struct sched *s, struct follower *f)
{
    read_on(s, f);
    drop_passed(s, f->job);
}

void follow_pump(struct sched *s, struct job *j)
{
    struct follower *f;

    LIST_FOREACH (f, &j->followers, job_node)
        read_on(s, f);
    drop_passed(s, j); /* which looks at all of them: once */
}

/* Nothing else wakes a follower that found its peer full: what it has read so far may be
 * too little for it to give credit. */
void follow_pump_peer(struct sched *s, struct peer *p)
{
    struct follower *f;

    for (f = s->followers; f; f = f->hh.next)
        if (f->peer == p->id)
            read_more(s, f);
}

static void page_read(struct sched *s, struct follower *f, struct fx_read_results *r)
{
    reading(s, f, false);
    if (r->damaged) {
        sched_error(s, f->peer, 1, r->job, MSG_FOLLOW,
                    "results are damaged on the coordinator's disk",
                    "there: tidemill-coordinator check --state DIR");
        follow_free(s, f);
        return;
    }
    if (r->ret.n == 0 && r->ret_next <= f->cursor)
        return;
    if (r->ret.n || at_end(f, r->ret_next)) {
        struct fx *fx = results(s, f, f->cursor, r->ret_next);
        if (r->ret.n) {
            fill(s, fx, &r->ret);
            if (r->inputs) {
                fx->send.msg.results.input_lens =
                    fx_keep_bytes(s->g, r->ret_input_lens->data, r->ret_input_lens->len);
                fx->send.msg.results.n_input_lens = r->ret.n;
            }
            fill_body(fx, r->ret.values, blob_span(r->ret_inputs));
        }
        pay(s, f, fx);
    }
    f->cursor = r->ret_next;
    read_more(s, f);
}

void sched_results_read(struct sched *s, struct fx_read_results *r)
{
    struct follower *f;

    HASH_FIND(hh, s->followers, &r->follow, sizeof(r->follow), f);
    if (!f || !f->reading)
        return;
    struct peer *p = sched_peer(s, f->peer);
    page_read(s, f, r);
    if (p)
        bulk_pump(s, p);
}

/* ---- what followers say ---- */

static struct follower *find(struct job *j, peer_id peer)
{
    struct follower *f;

    LIST_FOREACH (f, &j->followers, job_node)
        if (f->peer == peer)
            return f;
    return NULL;
}

void sched_load_lost(struct sched *s, uint64_t job, uint64_t cursor, uint64_t epoch)
{
    struct job *j = sched_job(s, job);

    CHECK(j);
    j->losts = xrealloc(j->losts, (j->n_losts + 1) * sizeof(*j->losts));
    j->losts[j->n_losts++] = (struct lost){ cursor, epoch };
}

/* An earlier coordinator told of records that its disk did not get, as it may with
 * --durability none: the cursor counts them, and those that came in their place are not
 * they. What is sent in task order was read from the disk. */
static bool cursor_is_lost(const struct job *j, const struct msg_follow *w)
{
    bool lost = false;

    if (!w->epoch_counter || w->task_order)
        return false;
    for (uint32_t i = 0; i < j->n_losts; i++)
        lost |= w->epoch_counter < j->losts[i].epoch && w->cursor > j->losts[i].cursor;
    return lost;
}

void sched_follow(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_follow *w = &m->follow;
    struct job *j = sched_job_of(s, p, w->job);
    struct follower *f;

    if (!j) {
        sched_error(s, p->id, 9, w->job, MSG_FOLLOW, "no such job", "tidemill job ls");
        return;
    }
    if (cursor_is_lost(j, w)) {
        sched_error(s, p->id, 1, w->job, MSG_FOLLOW,
                    "the coordinator has lost results it had told of",
                    "it ran with --durability none and was killed; their tasks are done "
                    "again: read all results anew");
        return;
    }
    if (w->cursor > (w->task_order ? j->row.tasks : j->committed_cursor)) {
        sched_error(s, p->id, 1, w->job, MSG_FOLLOW, "the cursor is past the end", "");
        return;
    }
    f = find(j, p->id);
    if (f)
        follow_free(s, f); /* said again: from this cursor on */
    f = xcalloc(1, sizeof(*f));
    *f = (struct follower){ .id = s->next_follow++,
                            .peer = p->id,
                            .job = j,
                            .cursor = w->cursor,
                            .credit = w->credit_bytes,
                            .task_order = w->task_order,
                            .inputs = w->inputs,
                            .failed_only = w->failed_only };
    LIST_INSERT_HEAD(&j->followers, f, job_node);
    HASH_ADD(hh, s->followers, id, sizeof(f->id), f);
    read_more(s, f);
    if (!job_ended(j) && job_is_stuck(s, j))
        job_refuse(s, p->id, j, MSG_FOLLOW);
}

void sched_credit(struct sched *s, struct peer *p, const struct msg *m)
{
    struct job *j = sched_job_of(s, p, m->credit.job);
    struct follower *f = j ? find(j, p->id) : NULL;

    if (!f)
        return;
    f->credit = MIN(f->credit + m->credit.bytes, 1024 * (int64_t)MIB);
    read_more(s, f);
}
