/* Won tasks whose files are not in place yet: told to publish, shown once they are, given
 * up after a time (R8). */
#include "coordinator/sched_state.h"

void files_wait(struct sched *s, const struct batch_row *b)
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
        .bytes = b->values ? b->values->len : b->bytes,
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
    files_wait(s, row);
    TAILQ_LAST(&s->pending, pending_list)->committed = true;
    TAILQ_LAST(&s->pending, pending_list)->telling = true;
}

/* ---- a node that has forgotten what it won ---- */

/* The task numbers in their order, as ranges. */
static void ranges_of(struct sched *s, const struct pending *p, struct msg_lease *m)
{
    const uint32_t *tasks = (const uint32_t *)p->tasks->data;
    struct range *ranges = arena_alloc(&s->g->arena, p->n * sizeof(*ranges));
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        if (n && ranges[n - 1].first + ranges[n - 1].count == tasks[i])
            ranges[n - 1].count++;
        else
            ranges[n++] = (struct range){ tasks[i], 1 };
    }
    m->ranges = ranges;
    m->n_ranges = n;
}

static void publish_again(struct sched *s, struct sched_node *n, const struct pending *p,
                          const struct chunk *c)
{
    const uint32_t *tasks = (const uint32_t *)p->tasks->data;
    const uint32_t *all = (const uint32_t *)c->lens->data;
    uint32_t *lens = arena_alloc(&s->g->arena, p->n * sizeof(*lens));
    struct fx *fx = sched_send_now(s, n->peer, MSG_LEASE);
    struct msg_lease *m = &fx->send.msg.lease;
    AUTO_BUF body = BUF_INIT;

    m->lease = p->lease;
    m->job = p->job;
    m->chunk = c->seq;
    memcpy(m->digest, c->digest, sizeof(m->digest));
    if (!lease_spec_known(n, p->job))
        m->spec = fx_keep(s->g, c->job->row.spec);
    m->publish = true;
    m->attempt_epoch = p->epoch;
    ranges_of(s, p, m);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t at = (uint32_t)(tasks[i] - c->first);
        lens[i] = all[at];
        buf_add(&body, c->body->data + c->offsets[at], all[at]);
    }
    m->lens = lens;
    m->n_lens = p->n;
    fx->send.body = blob_new(buf_span(&body));
    fx->send.msg.body = blob_span(fx->send.body);
    bulk_said(s, fx);
}

static bool is_owed(const struct pending *p, const struct sched_node *n)
{
    return p->telling && strcmp(p->node, n->name) == 0;
}

/* The chunk is in memory: false when there is no room to say all of it now. */
static bool tell(struct sched *s, struct peer *peer, struct sched_node *n,
                 struct pending *p, const struct chunk *c)
{
    bool was_read_for_it = n->publish_job == p->job && n->publish_chunk == p->chunk;

    if (!was_read_for_it && bulk_must_wait(s, peer))
        return false;
    publish_again(s, n, p, c);
    p->telling = false; /* until it forgets it again */
    return true;
}

/* What it has forgotten, as far as there is room for it, and a chunk at a time from the
 * disk; then that this was all. */
void files_pump(struct sched *s, struct sched_node *n)
{
    struct peer *peer = n->peer ? sched_peer(s, n->peer) : NULL;
    struct pending *p;
    bool all = true;

    if (!peer || !n->welcomed || n->told_all)
        return;
    TAILQ_FOREACH (p, &s->pending, node_entry) {
        if (!is_owed(p, n))
            continue;
        struct job *j = sched_job(s, p->job);
        struct chunk *c = j->chunks[p->chunk].open;
        if (!p->committed) {
            all = false; /* its commit goes on with it */
        } else if (c) {
            if (!tell(s, peer, n, p, c))
                return;
        } else {
            if (bulk_must_wait(s, peer))
                return;
            n->publish_job = p->job;
            n->publish_chunk = p->chunk;
            job_read_chunk(s, j, p->chunk);
            return; /* files_chunk_read goes on */
        }
    }
    n->told_all = all;
    if (all)
        sched_send_now(s, n->peer, MSG_REVOKE); /* of nothing: of all that it found */
}

static void pump_all(struct sched *s)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &s->nodes, node)
        files_pump(s, n);
}

/* The chunk may be put away again: what it was read for is said first, whatever the room.
 * It is no more than a chunk. */
void files_chunk_read(struct sched *s, struct chunk *c)
{
    struct sched_node *n;
    struct pending *p;

    TAILQ_FOREACH (n, &s->nodes, node) {
        struct peer *peer = n->peer ? sched_peer(s, n->peer) : NULL;
        if (!peer || !n->welcomed || n->publish_job != c->job->row.id ||
            n->publish_chunk != c->seq)
            continue;
        TAILQ_FOREACH (p, &s->pending, node_entry)
            if (is_owed(p, n) && p->committed && p->job == c->job->row.id &&
                p->chunk == c->seq)
                tell(s, peer, n, p, c);
        n->publish_job = 0;
    }
    pump_all(s);
}

/* Its session is another one. */
void files_forgotten(struct sched *s, struct sched_node *n)
{
    struct pending *p;

    n->told_all = false;
    n->publish_job = 0;
    TAILQ_FOREACH (p, &s->pending, node_entry)
        if (strcmp(p->node, n->name) == 0)
            p->telling = true;
}

void files_committed(struct sched *s, uint64_t row)
{
    struct pending *p;

    TAILQ_FOREACH (p, &s->pending, node_entry)
        if (p->row == row)
            break;
    if (!p)
        return;
    p->committed = true;
    if (p->telling)
        pump_all(s);
}

/* ---- what nodes say ---- */

bool files_pending(const struct sched *s, const struct msg_done *d, uint32_t task)
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

uint64_t files_waiting(const struct sched *s, const char *node)
{
    const struct pending *p;
    uint64_t n = 0;

    TAILQ_FOREACH (p, &s->pending, node_entry)
        if (strcmp(p->node, node) == 0)
            n += p->n;
    return n;
}

/* Only who has won it can have put its files in place. */
static struct pending *pending_find(struct sched *s, const struct sched_node *n,
                                    const struct msg_published *m)
{
    struct pending *p;

    TAILQ_FOREACH (p, &s->pending, node_entry)
        if (strcmp(p->node, n->name) == 0 && p->job == m->job && p->lease == m->lease &&
            p->n == m->batch.n &&
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
    fx->show.cursor = record_next_cursor(j);
    fx->show.n = p->n;
    fx->show.tasks = blob_ref(p->tasks);
    fx->show.statuses = blob_new(span_of(statuses, p->n));
    if (lens) {
        fx->show.lens = blob_new(span_of(lens, p->n * sizeof(*lens)));
        fx->show.values = blob_new(values);
        s->g->bytes += values.len;
    }
    fx->show.bytes = lens ? values.len : p->bytes;
    job_stores(j, fx->show.bytes);
    j->pending -= p->n;
    record_count(j, statuses, p->n);
    record_visible(j, p->chunk, p->n);
    pending_free(s, p);
    job_settle(s, j);
}

void sched_published(struct sched *s, struct peer *peer, const struct msg *m)
{
    const struct task_batch *b = &m->published.batch;
    struct pending *p = pending_find(s, peer->node, &m->published);
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

/* Its tasks end in an error: nobody will put their files in place. */
static void fail(struct sched *s, struct pending *p, const char *why)
{
    struct task_value v = { .error = span_str(why) };
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

/* The inputs of a chunk are not what was accepted: nobody can be told where the files are
 * that are not in place yet. */
void files_damaged(struct sched *s, uint64_t job, uint32_t seq)
{
    struct pending *p, *tmp;

    TAILQ_FOREACH_SAFE (p, &s->pending, node_entry, tmp)
        if (p->committed && p->job == job && p->chunk == seq)
            fail(s, p,
                 "unpublished: its input in the coordinator's state is damaged, so its "
                 "file could not be put in place");
}

/* A won file whose node never said Published ends in an error. */
void files_expire(struct sched *s)
{
    struct pending *p, *tmp;

    TAILQ_FOREACH_SAFE (p, &s->pending, node_entry, tmp) {
        if (p->committed && s->now - p->since_ns >= s->config.unpublished_ns)
            fail(s, p, "unpublished: its node went away before the file was in place");
    }
}

void files_free(struct sched *s)
{
    struct pending *p;

    while ((p = TAILQ_FIRST(&s->pending)))
        pending_free(s, p);
}
