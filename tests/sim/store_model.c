#include "tests/sim/store_model_state.h"

#include "base/crypto.h"
#include "coordinator/store_state.h"
#include "tests/sim/check.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/sim_keys.h"

static void commit(void *arg);
static void deliver(void *arg);

void store_model_new(struct world *w)
{
    struct store_model *s = xcalloc(1, sizeof(*s));

    w->store = s;
    STAILQ_INIT(&s->waiting);
    STAILQ_INIT(&s->done);
    s->commit = (struct event){ .fn = commit, .arg = w, .host = coord_host(w) };
    s->deliver = (struct event){ .fn = deliver, .arg = w, .host = coord_host(w) };
}

struct epoch store_model_epoch(struct world *w)
{
    struct epoch e = { .counter = ++w->store->epoch };

    behind_epoch(w);
    memcpy(e.nonce, &(uint64_t){ world_random(w) }, sizeof(uint64_t));
    return e;
}

uint32_t stored_jobs(struct world *w, struct stored_job **ret_first)
{
    *ret_first = w->store->jobs;
    return w->store->n_jobs;
}

struct stored_job *stored_job(struct world *w, uint64_t id)
{
    for (uint32_t i = 0; i < w->store->n_jobs; i++)
        if (w->store->jobs[i].row.id == id)
            return &w->store->jobs[i];
    return NULL;
}

struct stored_job *stored_by_key(struct world *w, const uint8_t *key)
{
    for (uint32_t i = 0; i < w->store->n_jobs; i++)
        if (memcmp(w->store->jobs[i].row.key, key, WIRE_KEY_BYTES) == 0)
            return &w->store->jobs[i];
    return NULL;
}

bool store_model_was_full(const struct world *w)
{
    return w->store->was_full;
}

/* ---- saving ---- */

static void save_job(struct world *w, const struct job_row *row)
{
    struct store_model *s = w->store;
    struct stored_job *j;

    if (stored_job(w, row->id) || stored_by_key(w, row->key)) {
        broken(w, "store: job %llu is inserted twice", (unsigned long long)row->id);
        return;
    }
    s->jobs = xrealloc(s->jobs, (s->n_jobs + 1) * sizeof(*s->jobs));
    j = &s->jobs[s->n_jobs++];
    *j = (struct stored_job){ .row = *row };
    j->spec = blob_new(row->spec);
    j->name = blob_new(row->name);
    j->owner = blob_new(row->owner);
    j->row.spec = blob_span(j->spec);
    j->row.name = blob_span(j->name);
    j->row.owner = blob_span(j->owner);
}

static void save_chunk(struct world *w, struct stored_job *j, const struct chunk_row *row)
{
    if (row->seq != j->n_chunks || row->first != j->row.tasks) {
        broken(w, "store: chunk %u of job %llu does not follow the one before", row->seq,
               (unsigned long long)row->job);
        return;
    }
    j->chunks = xrealloc(j->chunks, (j->n_chunks + 1) * sizeof(*j->chunks));
    j->chunks[j->n_chunks] = *row;
    j->chunks[j->n_chunks].node = span_str(span_dup(row->node));
    j->chunks[j->n_chunks].lens = blob_ref(row->lens);
    j->chunks[j->n_chunks].body = blob_ref(row->body);
    j->n_chunks++;
    j->row.chunks++;
    j->row.tasks += row->n;
    j->row.bytes += chunk_row_bytes(row);
}

void stored_chunk_pop(struct stored_job *j)
{
    struct chunk_row *c = &j->chunks[--j->n_chunks];

    j->row.chunks--;
    j->row.tasks -= c->n;
    j->row.bytes -= chunk_row_bytes(c);
    free((void *)c->node.data);
    blob_unref(c->lens);
    blob_unref(c->body);
}

static uint64_t *count_of(struct stored_job *j, uint8_t status)
{
    switch (status) {
    case TASK_OK:
        return &j->row.ok;
    case TASK_POISON:
        return &j->row.poison;
    case TASK_CANCELLED:
        return &j->row.cancelled;
    default:
        return &j->row.failed;
    }
}

static void count_up(struct stored_job *j, const struct blob *statuses, uint32_t n,
                     uint64_t bytes)
{
    j->row.bytes += bytes;
    for (uint32_t i = 0; i < n; i++)
        ++*count_of(j, statuses->data[i]);
}

static void save_batch(struct stored_job *j, const struct batch_row *row)
{
    struct stored_batch *b;

    j->batches = xrealloc(j->batches, (j->n_batches + 1) * sizeof(*j->batches));
    b = &j->batches[j->n_batches++];
    *b = (struct stored_batch){ .row = *row };
    blob_ref(row->tasks);
    blob_ref(row->statuses);
    blob_ref(row->attempts);
    blob_ref(row->lens);
    blob_ref(row->values);
    snprintf(b->node, sizeof(b->node), "%.*s", (int)row->node.len,
             (const char *)row->node.data);
    b->row.node = SPAN_NONE; /* b moves */
    if (!row->pending)
        count_up(j, row->statuses, row->n, row->values->len);
}

void stored_batch_pop(struct stored_job *j)
{
    struct batch_row *b = &j->batches[--j->n_batches].row;

    if (!b->pending) {
        j->row.bytes -= b->values->len;
        for (uint32_t i = 0; i < b->n; i++)
            --*count_of(j, b->statuses->data[i]);
    }
    blob_unref(b->tasks);
    blob_unref(b->statuses);
    blob_unref(b->attempts);
    blob_unref(b->lens);
    blob_unref(b->values);
}

static void save_show(struct world *w, struct stored_job *j, const struct fx *fx)
{
    struct stored_batch *b = NULL;

    for (uint32_t i = 0; i < j->n_batches; i++)
        if (j->batches[i].row.row == fx->show.row)
            b = &j->batches[i];
    if (!b || !b->row.pending) {
        broken(w, "store: a row is shown that does not wait");
        return;
    }
    b->row.pending = false;
    b->row.cursor = fx->show.cursor;
    if (fx->show.lens) {
        blob_unref(b->row.statuses);
        blob_unref(b->row.lens);
        blob_unref(b->row.values);
        b->row.statuses = blob_ref(fx->show.statuses);
        b->row.lens = blob_ref(fx->show.lens);
        b->row.values = blob_ref(fx->show.values);
        b->unpublished = true;
    }
    if (fx->show.bytes != b->row.values->len)
        broken(w, "store: the size of shown values is wrong");
    count_up(j, fx->show.statuses, fx->show.n, fx->show.bytes);
}

static void job_free(struct stored_job *j);

static void save_remove(struct world *w, struct stored_job *j)
{
    struct store_model *s = w->store;

    s->removed = xrealloc(s->removed, (s->n_removed + 1) * sizeof(*s->removed));
    s->removed[s->n_removed].job = j->row.id;
    memcpy(s->removed[s->n_removed++].key, j->row.key, WIRE_KEY_BYTES);
    job_free(j);
    *j = s->jobs[--s->n_jobs];
}

static uint64_t job_of(const struct fx *fx)
{
    switch (fx->type) {
    case FX_CHUNK:
        return fx->chunk.job;
    case FX_STATE:
        return fx->state.job;
    case FX_BATCH:
        return fx->batch.job;
    case FX_SHOW:
        return fx->show.job;
    case FX_REMOVE:
        return fx->remove.job;
    case FX_PAUSE:
        return fx->pause.job;
    default:
        return 0;
    }
}

static void save_node(struct world *w, const struct fx *fx)
{
    struct span name = fx->node_known.name;
    char *to = w->store->nodes[name.data[1] - '0'];

    snprintf(to, 8, "%.*s", fx->node_known.gone ? 0 : (int)name.len,
             (const char *)name.data);
}

static void save(struct world *w, const struct fx *fx)
{
    struct stored_job *j;

    if (fx->type == FX_JOB) {
        save_job(w, &fx->job);
        return;
    }
    if (fx->type == FX_RUN) {
        w->store->run_ns = fx->run.ns;
        return;
    }
    if (fx->type == FX_KEY) {
        key_saved(w, &fx->key);
        return;
    }
    if (fx->type == FX_NODE) {
        save_node(w, fx);
        return;
    }
    j = stored_job(w, job_of(fx));
    if (!j) {
        broken(w, "store: an effect of a job that is not there");
        return;
    }
    NOTE(w, "save", fx->type, j->row.id, j->row.tasks);
    if (fx->type == FX_CHUNK) {
        save_chunk(w, j, &fx->chunk);
    } else if (fx->type == FX_STATE) {
        check_state(w, j, fx->state.state);
        j->row.state = fx->state.state;
        j->row.ended_wall_ns = fx->state.ended_wall_ns;
        j->row.ended_run_ns = fx->state.ended_run_ns;
    } else if (fx->type == FX_BATCH) {
        check_batch(w, j, &fx->batch);
        save_batch(j, &fx->batch);
    } else if (fx->type == FX_SHOW) {
        check_show(w, j, fx);
        save_show(w, j, fx);
    } else if (fx->type == FX_REMOVE) {
        check_removed(w, j);
        save_remove(w, j);
    } else if (fx->type == FX_PAUSE) {
        j->row.paused = fx->pause.paused;
        if (!fx->pause.paused)
            flow_resumed(w, fx->pause.job);
    }
}

/* ---- reading ---- */

struct sql {
    struct world *w;
};

enum read_result sql_chunk_input(struct sql *sql, uint64_t job, uint32_t seq,
                                 uint64_t task, struct span *ret, struct err *err)
{
    struct stored_job *j = stored_job(sql->w, job);
    const struct chunk_row *c = j && seq < j->n_chunks ? &j->chunks[seq] : NULL;
    size_t at = 0;

    (void)err;
    if (!c || task < c->first || task - c->first >= c->n)
        return READ_DAMAGED;
    const uint32_t *lens = (const uint32_t *)c->lens->data;
    for (uint64_t i = 0; i < task - c->first; i++)
        at += lens[i];
    *ret = span_of(c->body->data + at, lens[task - c->first]);
    return READ_OK;
}

static void read_chunk(struct world *w, struct fx_read_chunk *r)
{
    struct stored_job *j = stored_job(w, r->job);

    r->damaged = !j; /* it was removed meanwhile: the real store finds no row */
    if (!j) {
        r->ret_recorded = blob_alloc(r->n);
        memset(r->ret_recorded->data, 0, r->n);
        return;
    }
    CHECK(r->seq < j->n_chunks);
    r->ret = j->chunks[r->seq];
    blob_ref(r->ret.lens);
    blob_ref(r->ret.body);
    r->ret_recorded = blob_alloc(r->ret.n);
    memset(r->ret_recorded->data, 0, r->ret.n);
    for (uint32_t b = 0; b < j->n_batches; b++) {
        const struct batch_row *row = &j->batches[b].row;
        for (uint32_t i = 0; row->chunk == r->seq && i < row->n; i++)
            r->ret_recorded
                ->data[((const uint32_t *)row->tasks->data)[i] - r->ret.first] = 1;
    }
}

static int by_cursor(const void *a, const void *b)
{
    uint64_t x = (*(struct stored_batch *const *)a)->row.cursor;
    uint64_t y = (*(struct stored_batch *const *)b)->row.cursor;
    return x < y ? -1 : x > y;
}

/* As store_sql.c asks for rows; the page itself is the real one. */
static void read_results(struct world *w, struct fx_read_results *r)
{
    struct stored_job none = { 0 }, *found = stored_job(w, r->job);
    struct stored_job *j = found ? found : &none; /* removed since it was asked */
    struct sql sql = { w };
    struct page *page = page_new(&sql, r);
    struct stored_batch **rows = xcalloc(j->n_batches + 1, sizeof(struct stored_batch *));
    struct err err = { 0 };
    uint32_t n = 0, first = 0;

    for (uint32_t i = 0; i < j->n_batches; i++)
        if (!j->batches[i].row.pending &&
            (!r->task_order || j->batches[i].row.chunk == r->first_chunk))
            rows[n++] = &j->batches[i];
    if (!r->task_order) {
        qsort(rows, n, sizeof(struct stored_batch *), by_cursor);
        while (first + 1 < n && rows[first + 1]->row.cursor <= r->cursor)
            first++;
    }
    uint32_t end = first;
    bool more = true;
    for (; end < n && more; end++)
        more = page_row(page, &rows[end]->row, rows[end]->node);
    page_choose(page);
    for (uint32_t i = first; i < end; i++)
        if (page_wants(page, i - first))
            page_values(page, i - first, blob_span(rows[i]->row.values));
    if (page_end(page, &err) != READ_OK)
        broken(w, "store: a page cannot be read");
    page_free(page);
    free(rows);
}

static void answer_reads(struct world *w, struct fx_group *g)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type == FX_READ_CHUNK)
            read_chunk(w, &fx->read_chunk);
        else if (fx->type == FX_READ_RESULTS)
            read_results(w, &fx->read_results);
    }
}

/* ---- transactions ---- */

static bool somebody_waits(const struct store_model *s)
{
    const struct fx_group *g;

    STAILQ_FOREACH (g, &s->waiting, node)
        if (!g->behind)
            return true;
    return false;
}

static void commit_later(struct world *w)
{
    struct store_model *s = w->store;
    int64_t ns = mostly_short(w, 100 * NS_PER_US, w->k.commit_ns);

    if (s->commit.place || STAILQ_EMPTY(&s->waiting))
        return;
    s->gathers = !somebody_waits(s);
    if (s->gathers)
        ns += w->k.gather_ns;
    event_post(w, &s->commit, MAX(ns, s->stalled_ns - w->now_ns));
}

void store_model_push(struct world *w, struct fx_group *g)
{
    w->store->backlog += g->bytes;
    STAILQ_INSERT_TAIL(&w->store->waiting, g, node);
    if (w->store->gathers && !g->behind)
        event_cancel(w, &w->store->commit);
    commit_later(w);
}

size_t store_model_backlog(const struct world *w)
{
    return w->store->backlog;
}

static void set_full(struct world *w, bool full)
{
    if (w->store->full == full)
        return;
    w->store->full = full;
    w->store->was_full |= full;
    coord_full(w, full);
}

void store_model_save(struct world *w, const struct fx_group *g)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type < FX_READ_CHUNK)
            save(w, fx);
}

static void is_on_disk(struct store_model *s, const struct fx_group *g)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == FX_RUN)
            s->run_disk_ns = fx->run.ns;
}

static void commit(void *arg)
{
    struct world *w = arg;
    struct store_model *s = w->store;
    uint32_t groups = (uint32_t)between(w, 1, 8);
    struct fx_group *g, *first;

    if (s->full_ns > w->now_ns) { /* R2: the same groups, again */
        set_full(w, true);
        event_post(w, &s->commit, 250 * NS_PER_MS);
        return;
    }
    set_full(w, false);
    first = STAILQ_FIRST(&s->waiting);
    while (groups-- && (g = STAILQ_FIRST(&s->waiting)) && !w->failure[0]) {
        STAILQ_REMOVE_HEAD(&s->waiting, node);
        if (!g->behind)
            store_model_save(w, g);
        is_on_disk(s, g);
        STAILQ_INSERT_TAIL(&s->done, g, node);
    }
    for (g = first; g && g != STAILQ_FIRST(&s->waiting); g = STAILQ_NEXT(g, node))
        answer_reads(w, g);
    if (!s->deliver.place)
        event_post(w, &s->deliver, between(w, 0, 2 * NS_PER_MS));
    commit_later(w);
}

static void deliver(void *arg)
{
    struct world *w = arg;
    struct store_model *s = w->store;
    struct fx_group *g;

    while ((g = STAILQ_FIRST(&s->done))) {
        STAILQ_REMOVE_HEAD(&s->done, node);
        s->backlog -= g->bytes;
        coord_committed(w, g);
    }
}

void store_model_crash(struct world *w)
{
    struct store_model *s = w->store;
    struct fx_group *g;

    STAILQ_CONCAT(&s->done, &s->waiting);
    while ((g = STAILQ_FIRST(&s->done))) {
        STAILQ_REMOVE_HEAD(&s->done, node);
        fx_group_free(g);
    }
    event_cancel(w, &s->commit);
    event_cancel(w, &s->deliver);
    s->backlog = 0;
    s->full = false;
}

void store_model_stall(struct world *w, int64_t ns)
{
    w->store->stalled_ns = w->now_ns + ns;
}

void store_model_fill(struct world *w, int64_t ns)
{
    w->store->full_ns = w->now_ns + ns;
}

/* ---- loading ---- */

static uint32_t recorded(const struct stored_job *j, uint32_t seq)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < j->n_batches; i++)
        if (j->batches[i].row.chunk == seq)
            n += j->batches[i].row.n;
    return n;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct stored_job *)a)->row.id;
    uint64_t y = ((const struct stored_job *)b)->row.id;
    return x < y ? -1 : x > y;
}

void store_model_load(struct world *w, struct sched *sched)
{
    struct store_model *s = w->store;
    uint64_t next_row = 1;

    if (s->n_jobs)
        qsort(s->jobs, s->n_jobs, sizeof(*s->jobs), by_id); /* removing mixes them */
    for (uint32_t i = 0; i < s->n_jobs; i++)
        sched_load_job(sched, &s->jobs[i].row);
    for (uint32_t i = 0; i < s->n_jobs; i++)
        for (uint32_t c = 0; c < s->jobs[i].n_chunks; c++) {
            struct chunk_row row = s->jobs[i].chunks[c];
            row.lens = row.body = NULL;
            sched_load_chunk(sched, &row, recorded(&s->jobs[i], c));
        }
    for (uint32_t i = 0; i < s->n_jobs; i++)
        for (uint32_t b = 0; b < s->jobs[i].n_batches; b++) {
            struct batch_row row = s->jobs[i].batches[b].row;
            next_row = MAX(next_row, row.row + 1);
            row.node = span_str(s->jobs[i].batches[b].node);
            if (row.pending)
                sched_load_pending(sched, &row);
        }
    for (uint32_t i = 0; i < s->n_removed; i++)
        sched_load_removed(sched, s->removed[i].job, s->removed[i].key);
    behind_load(w, sched);
    sched_load_run(sched, s->run_ns);
    sim_keys_load(w, sched);
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if (s->nodes[i][0])
            sched_load_node(sched, span_str(s->nodes[i]));
    sched_loaded(sched, next_row);
}

static void job_free(struct stored_job *j)
{
    while (j->n_batches)
        stored_batch_pop(j);
    while (j->n_chunks)
        stored_chunk_pop(j);
    free(j->chunks);
    free(j->batches);
    blob_unref(j->spec);
    blob_unref(j->name);
    blob_unref(j->owner);
}

void store_model_free(struct world *w)
{
    store_model_crash(w);
    for (uint32_t i = 0; i < w->store->n_jobs; i++)
        job_free(&w->store->jobs[i]);
    free(w->store->jobs);
    free(w->store->removed);
    free(w->store->lost);
    free(w->store);
}
