/* Chunks in memory: opened, listed while tasks of them wait, read back from the disk,
 * let go. */
#include "coordinator/sched_state.h"

void chunk_list(struct sched *s, struct chunk *c)
{
    struct job *j = c->job;
    struct stream *st = c->stream;
    bool want = c->committed && c->waiting > 0 && !j->cancelling && !j->row.paused;

    if (want && !c->listed) {
        struct chunk *at; /* from the end: chunks mostly come in order */
        TAILQ_FOREACH_REVERSE(at, &st->ready, chunk_queue, ready_node)
        if (at->seq < c->seq)
            break;
        if (at)
            TAILQ_INSERT_AFTER(&st->ready, at, c, ready_node);
        else
            TAILQ_INSERT_HEAD(&st->ready, c, ready_node);
        j->n_ready++;
    } else if (!want && c->listed) {
        TAILQ_REMOVE(&st->ready, c, ready_node);
        j->n_ready--;
    }
    c->listed = want;
    want = j->n_ready > 0;
    if (want && !j->listed)
        TAILQ_INSERT_TAIL(&s->ready, j, ready_node);
    else if (!want && j->listed)
        TAILQ_REMOVE(&s->ready, j, ready_node);
    j->listed = want;
}

/* Small inputs cost more than their bytes. */
size_t chunk_bytes(const struct chunk *c)
{
    enum { PER_TASK = 4 + 4 + 5 }; /* length, offset, and state with its counts */
    return sizeof(*c) + c->body->len + c->n * (size_t)PER_TASK;
}

void chunk_free(struct sched *s, struct chunk *c)
{
    struct chunk_info *info = &c->job->chunks[c->seq];

    if (c->listed) {
        c->waiting = 0;
        chunk_list(s, c);
    }
    s->open_bytes -= chunk_bytes(c);
    c->job->n_open--;
    c->stream->n_open--;
    info->open = NULL;
    info->recorded = c->recorded; /* a chunk with none is cancelled unseen */
    blob_unref(c->lens);
    blob_unref(c->body);
    free(c->offsets);
    free(c->state);
    free(c);
}

void chunk_release(struct sched *s, struct chunk *c)
{
    if (c->recorded == c->n && c->committed && !c->uncommitted && !c->leases)
        chunk_free(s, c);
}

struct chunk *chunk_open(struct sched *s, struct job *j, const struct chunk_row *row,
                         const uint8_t *recorded)
{
    struct chunk *c = xcalloc(1, sizeof(*c));
    const uint32_t *lens = (const uint32_t *)row->lens->data;

    c->job = j;
    c->stream = j->chunks[row->seq].stream;
    c->seq = row->seq;
    c->n = row->n;
    c->first = row->first;
    memcpy(c->digest, row->digest, sizeof(c->digest));
    c->lens = blob_ref(row->lens);
    c->body = blob_ref(row->body);
    c->offsets = xcalloc(c->n + 1, sizeof(*c->offsets));
    c->state = xcalloc(c->n ? c->n : 1, 5);
    c->holders = c->state + c->n;
    c->tries = c->holders + c->n;
    c->deaths = c->tries + c->n;
    c->losses = c->deaths + c->n;
    c->waiting = c->n;
    for (uint32_t i = 0; i < c->n; i++) {
        c->offsets[i + 1] = c->offsets[i] + lens[i];
        if (recorded && recorded[i]) {
            c->state[i] = TASK_RECORDED;
            c->recorded++;
            c->waiting--;
        }
    }
    j->chunks[c->seq].open = c;
    j->n_open++;
    c->stream->n_open++;
    s->open_bytes += chunk_bytes(c);
    return c;
}

struct chunk_info *chunk_info_add(struct sched *s, struct job *j,
                                  const struct chunk_row *row)
{
    struct chunk_info *info;

    if (row->seq >= j->chunks_cap) {
        j->chunks_cap = MAX(8, j->chunks_cap * 2);
        j->chunks = xrealloc(j->chunks, j->chunks_cap * sizeof(*j->chunks));
    }
    info = &j->chunks[row->seq];
    *info = (struct chunk_info){ .first = row->first,
                                 .n = row->n,
                                 .stream = stream_of(s, j, row->node) };
    memcpy(info->digest, row->digest, sizeof(info->digest));
    return info;
}

void job_read_chunk(struct sched *s, struct job *j, uint32_t seq)
{
    struct chunk_info *info = &j->chunks[seq];
    struct fx_read_chunk *r;

    if (info->reading)
        return;
    info->reading = true;
    info->stream->n_reading++;
    s->reading++;
    r = &fx_add(s->g, FX_READ_CHUNK)->read_chunk;
    r->job = j->row.id;
    r->seq = seq;
    r->first = info->first;
    r->n = info->n;
}

/* P4: what is open stays within its window, whatever the number of jobs. Beyond it a
 * stream that could run may have one chunk, so that none starves, up to twice the window.
 */
static bool has_room(const struct sched *s, const struct stream *st, uint32_t of_stream)
{
    size_t bytes = s->open_bytes + s->reading * (size_t)WIRE_CHUNK_BYTES_MAX;

    if (!st->runs)
        return false;
    if (bytes <= s->config.open_bytes)
        return true;
    return of_stream == 0 && st->job->placeable && !st->job->row.paused &&
           bytes <= 2 * s->config.open_bytes;
}

bool stream_lacks_room(const struct sched *s, struct stream *st)
{
    return st->runs && !st->job->row.paused && TAILQ_EMPTY(&st->ready) &&
           !stream_all_open(st) && !has_room(s, st, st->n_open + st->n_reading);
}

void stream_open_chunks(struct sched *s, struct stream *st)
{
    enum { AHEAD = 8 };
    struct job *j = st->job;
    uint32_t ahead = st->n_reading;
    struct chunk *c;

    for (c = TAILQ_FIRST(&st->ready); c && ahead < AHEAD; c = TAILQ_NEXT(c, ready_node))
        ahead++;
    while (!stream_all_open(st) && ahead < AHEAD) {
        struct chunk_info *info = &j->chunks[st->next_open];
        if (!info->open && !info->reading && info->recorded < info->n) {
            if (!has_room(s, st, st->n_open + st->n_reading))
                return;
            job_read_chunk(s, j, st->next_open);
            ahead++;
        }
        st->next_open++;
    }
}

/* True: nothing is known of it that the disk does not know. */
static bool is_untouched(const struct chunk *c)
{
    if (!c->committed || c->leases || c->uncommitted)
        return false;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->tries[i] || c->deaths[i] || c->losses[i] || c->state[i] == TASK_DEFERRED)
            return false;
    return true;
}

static void put_away(struct sched *s, struct chunk *c)
{
    struct stream *st = c->stream;
    uint32_t seq = c->seq;

    if (!is_untouched(c))
        return;
    chunk_free(s, c);
    st->next_open = MIN(st->next_open, seq);
}

void job_put_chunks_away(struct sched *s, struct job *j, const struct stream *st)
{
    for (uint32_t seq = 0; seq < j->row.chunks; seq++) {
        struct chunk *c = j->chunks[seq].open;
        if (c && (!st || c->stream == st))
            put_away(s, c);
    }
}

/* The inputs are lost: a chunk of empty ones, for its tasks to end in an error. */
static struct chunk *open_blank(struct sched *s, struct job *j,
                                const struct fx_read_chunk *r)
{
    struct chunk_row row = { .job = r->job, .seq = r->seq, .first = r->first, .n = r->n };
    struct chunk *c;

    row.lens = blob_alloc(r->n * sizeof(uint32_t));
    memset(row.lens->data, 0, row.lens->len);
    row.body = blob_alloc(0);
    memcpy(row.digest, j->chunks[r->seq].digest, sizeof(row.digest));
    c = chunk_open(s, j, &row, r->ret_recorded->data);
    blob_unref(row.lens);
    blob_unref(row.body);
    return c;
}

void sched_chunk_read(struct sched *s, struct fx_read_chunk *r)
{
    struct job *j = sched_job(s, r->job);
    struct chunk *c;

    s->reading--;
    if (!j) {
        adopt_read(s, r->job, r->seq);
        return;
    }
    j->chunks[r->seq].stream->n_reading--;
    j->chunks[r->seq].reading = false;
    if (j->chunks[r->seq].open) { /* it came from its submitter meanwhile */
        adopt_read(s, r->job, r->seq);
        files_chunk_read(s, j->chunks[r->seq].open);
        return;
    }
    c = r->damaged ? open_blank(s, j, r)
                   : chunk_open(s, j, &r->ret, r->ret_recorded->data);
    c->committed = true;
    c->leases++; /* so that it stays until all have looked at it */
    if (j->cancelling)
        record_cancelled(s, j, c, c->seq);
    else if (r->damaged)
        record_damaged(s, j, c);
    if (r->damaged)
        files_damaged(s, r->job, r->seq);
    adopt_read(s, r->job, r->seq);
    files_chunk_read(s, c);
    c->leases--;
    chunk_list(s, c);
    if (c->stream->runs || c->recorded == c->n)
        chunk_release(s, c);
    else
        put_away(s, c); /* its node was drained meanwhile */
    job_settle(s, j);
}

void sched_chunk_committed(struct sched *s, const struct chunk_row *row)
{
    struct job *j = sched_job(s, row->job);
    struct chunk *c = j ? j->chunks[row->seq].open : NULL;

    if (j)
        j->chunks_on_disk = row->seq + 1;
    if (!c)
        return;
    c->committed = true;
    struct stream *st = c->stream;
    if (c->recorded == 0 && !has_room(s, st, st->n_open - 1)) {
        chunk_free(s, c);
        st->next_open = MIN(st->next_open, row->seq);
        return;
    }
    chunk_list(s, c);
    chunk_release(s, c);
}
