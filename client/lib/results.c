/* Results of a job: batches wait here for its reader, never more than the credit given
 * (and one message). The reader owns the batch it is in and walks it without the mutex.
 * A follower is sent a result once: after a reconnect it asks again from the cursor after
 * the last batch received, and batches that do not join on there are dropped. */
#include "base/failpoint.h"
#include "client/lib/internal.h"

/* What a result costs of the credit besides its bytes, as the coordinator counts it. */
enum { RESULT_CREDIT_EACH = 16 };

/* One Results message, copied. */
struct batch {
    STAILQ_ENTRY(batch) node;
    uint64_t next_cursor;
    bool end;
    uint32_t n;
    const uint32_t *tasks, *lens, *input_lens, *attempts; /* the last two may be NULL */
    const uint8_t *statuses;
    struct span maker;
    struct span values, inputs;
    size_t credit_bytes;
    uint32_t i; /* the reader's place, as the next two */
    size_t value_at, input_at;
};

const char *tm_status_name(enum tm_status s)
{
    static const char *const names[] = {
        [TM_OK] = "ok",
        [TM_FAILED] = "failed",
        [TM_RETRIES_USED] = "failed",
        [TM_QUARANTINED] = "quarantined",
        [TM_TASK_CANCELLED] = "cancelled",
    };
    return (size_t)s < ARRAY_LEN(names) ? names[s] : "?";
}

const char *tm_class_name(enum tm_status s)
{
    static const char *const names[] = {
        [TM_OK] = "",
        [TM_FAILED] = "permanent",
        [TM_RETRIES_USED] = "retryable",
        [TM_QUARANTINED] = "poison",
        [TM_TASK_CANCELLED] = "cancelled",
    };
    return (size_t)s < ARRAY_LEN(names) ? names[s] : "?";
}

static enum tm_status status_of(uint8_t status)
{
    static const enum tm_status of[TASK_STATUS_COUNT] = {
        [TASK_OK] = TM_OK,
        [TASK_FAILED] = TM_FAILED,
        [TASK_RETRYABLE] = TM_RETRIES_USED,
        [TASK_POISON] = TM_QUARANTINED,
        [TASK_LOST] = TM_RETRIES_USED,
        [TASK_CANCELLED] = TM_TASK_CANCELLED,
        [TASK_NOT_YET] = TM_RETRIES_USED,
    };
    return status < TASK_STATUS_COUNT ? of[status] : TM_FAILED;
}

/* ---- the thread's side ---- */

static const void *copy(uint8_t **at, const void *from, size_t size, size_t n)
{
    if (!from || n == 0)
        return NULL;
    uint8_t *to = *at;
    memcpy(to, from, size * n);
    *at += (size * n + 7) & ~(size_t)7;
    return to;
}

static size_t sum(const uint32_t *lens, uint32_t n)
{
    size_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += lens[i];
    return total;
}

/* The message as one block of memory; NULL when its parts do not fit together. */
static struct batch *batch_new(const struct msg *m)
{
    const struct msg_results *r = &m->results;
    uint32_t n = r->batch.n;
    size_t value_bytes = sum(r->batch.lens, n);
    size_t input_bytes = sum(r->input_lens, r->n_input_lens);
    bool fits = (r->n_input_lens == 0 || r->n_input_lens == n) &&
                (r->n_attempts == 0 || r->n_attempts == n) &&
                value_bytes + input_bytes == m->body.len;
    if (!fits)
        return NULL;
    size_t room =
        sizeof(struct batch) + 17 * (size_t)n + 6 * 8 + r->node.len + 8 + m->body.len + 8;
    struct batch *b = xmalloc(room);
    uint8_t *at = (uint8_t *)(b + 1);
    *b = (struct batch){ .next_cursor = r->next_cursor,
                         .end = r->end,
                         .n = n,
                         .credit_bytes = m->body.len + RESULT_CREDIT_EACH * (size_t)n };
    b->tasks = copy(&at, r->batch.tasks, sizeof(uint32_t), n);
    b->lens = copy(&at, r->batch.lens, sizeof(uint32_t), n);
    b->input_lens = copy(&at, r->input_lens, sizeof(uint32_t), r->n_input_lens);
    b->attempts = copy(&at, r->attempts, sizeof(uint32_t), r->n_attempts);
    b->statuses = copy(&at, r->batch.statuses, 1, n);
    b->maker = span_of(copy(&at, r->node.data, 1, r->node.len), r->node.len);
    const uint8_t *body = copy(&at, m->body.data, 1, m->body.len);
    b->values = span_of(body, value_bytes);
    b->inputs = span_of(body ? body + value_bytes : NULL, input_bytes);
    return b;
}

static void raise_counts(struct tm_counts *to, const struct tm_counts *from)
{
    to->tasks = MAX(to->tasks, from->tasks);
    to->ok = MAX(to->ok, from->ok);
    to->failed = MAX(to->failed, from->failed);
    to->quarantined = MAX(to->quarantined, from->quarantined);
    to->cancelled = MAX(to->cancelled, from->cancelled);
}

static void count(struct tm_job *job, const struct msg_results *r)
{
    struct tm_counts *own = &job->counted;
    uint64_t *const by_status[] = {
        [TM_OK] = &own->ok,
        [TM_FAILED] = &own->failed,
        [TM_RETRIES_USED] = &own->failed,
        [TM_QUARANTINED] = &own->quarantined,
        [TM_TASK_CANCELLED] = &own->cancelled,
    };
    for (uint32_t i = 0; i < r->batch.n; i++)
        ++*by_status[status_of(r->batch.statuses[i])];
    own->tasks += r->batch.n;
    struct tm_counts told = { r->counts.tasks,     r->counts.ok,
                              r->counts.failed,    r->counts.quarantined,
                              r->counts.cancelled, r->counts.running };
    raise_counts(&job->heard.counts, own);
    raise_counts(&job->heard.counts, &told);
    job->heard.counts.running = told.running;
    job->heard.state = MAX(job->heard.state, (enum tm_state)r->state);
    job->heard.ended = job->heard.ended || r->end;
    if (r->state == JOB_DONE) { /* then all of it is on disk */
        job->sealed = true;
        chunk_acknowledge(job, job->next_seq);
    }
}

void results_on_message(struct conn *c, const struct msg *m)
{
    const struct msg_results *r = &m->results;
    struct tm_job *job;
    HASH_FIND(hh_id, c->ids, &r->job, sizeof(r->job), job);
    if (!job || !job->follow_sent || job->orphan || r->cursor < job->received)
        return;
    /* A gap is what a follower of failed tasks only was spared. */
    bool joins = r->cursor == job->received || (job->flags & TM_FAILED_ONLY);
    struct batch *b = joins ? batch_new(m) : NULL;
    if (!b) {
        struct err why;
        err_set(&why, TM_ERROR, "the results of job %llu do not %s",
                (unsigned long long)job->id,
                joins ? "fit together" : "go on where they stopped");
        job_fail(job, &why);
        return;
    }
    count(job, r);
    job->received = r->next_cursor;
    job->received_epoch = c->epoch.counter;
    job->held_bytes += b->credit_bytes;
    STAILQ_INSERT_TAIL(&job->batches, b, node);
    conn_notify(c);
}

static int send_follow(struct tm_job *job)
{
    int64_t credit = (int64_t)RESULT_CREDIT_BYTES - (int64_t)job->held_bytes;
    struct msg m = { .type = MSG_FOLLOW };
    m.follow = (struct msg_follow){
        .job = job->id,
        .cursor = job->received,
        .credit_bytes = (uint32_t)MAX(credit, 0),
        .task_order = job->flags & TM_TASK_ORDER,
        .inputs = job->flags & TM_INPUTS,
        .failed_only = job->flags & TM_FAILED_ONLY,
        .epoch_counter = job->received_epoch,
    };
    FAILPOINT("client_follow_send");
    if (link_send(job->conn->link, 0, &m) < 0)
        return -1;
    job->follow_sent = true;
    job->credit_due = MIN(credit, 0);
    return 0;
}

int results_send(struct tm_job *job)
{
    if (!job->follow || job->heard.ended)
        return 0;
    if (!job->follow_sent)
        return send_follow(job);
    if (job->credit_due < RESULT_CREDIT_BYTES / 4)
        return 0;
    struct msg m = { .type = MSG_CREDIT };
    m.credit = (struct msg_credit){ .job = job->id, .bytes = (uint32_t)job->credit_due };
    FAILPOINT("client_credit_send");
    if (link_send(job->conn->link, 0, &m) < 0)
        return -1;
    job->credit_due = 0;
    return 0;
}

/* ---- the reader's side ---- */

/* A caller's cursor has the epoch beside the count: who kept it over a restart may follow
 * where the coordinator has lost what it counts, and is to be told. */
static uint64_t cursor_kept(uint64_t count, uint64_t epoch)
{
    return count | epoch << 32; /* a job has less than 2^32 tasks */
}

int results_follow(struct tm_job *job, uint64_t cursor, unsigned flags, struct err *err)
{
    if (job->follow)
        return err_set(err, TM_USAGE, "the job is followed already");
    if (job->id != 0 && job_list_id(job, err) < 0)
        return -1;
    job->follow = true;
    job->flags = flags;
    job->cursor = job->received = cursor & UINT32_MAX;
    job->received_epoch = cursor >> 32;
    job_ready(job);
    conn_kick(job->conn);
    return 0;
}

int tm_follow(struct tm_job *job, uint64_t cursor, unsigned flags, struct tm_error *terr)
{
    struct err err;
    pthread_mutex_lock(&job->conn->mu);
    int rc = job_check(job, &err);
    if (rc == 0)
        rc = results_follow(job, cursor, flags, &err);
    pthread_mutex_unlock(&job->conn->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

bool results_waiting(const struct tm_job *job)
{
    return (job->current && job->current->i < job->current->n) ||
           !STAILQ_EMPTY(&job->batches) || job->end_read;
}

/* The batch the reader was in is done: its cursor counts, its bytes are free again. */
static void release(struct tm_job *job)
{
    struct batch *b = job->current;
    if (!b)
        return;
    job->current = NULL;
    job->cursor = b->next_cursor;
    job->end_read = job->end_read || b->end;
    job->held_bytes -= b->credit_bytes;
    job->credit_due += (int64_t)b->credit_bytes;
    if (job->credit_due >= RESULT_CREDIT_BYTES / 4 && !job->heard.ended) {
        job_ready(job);
        conn_kick(job->conn);
    }
    free(b);
}

/* Makes the next batch current: 1; 0 at the end; TM_AGAIN; -1. */
static int advance(struct tm_job *job, struct waiter *w, struct err *err)
{
    release(job);
    for (;;) {
        if (!STAILQ_EMPTY(&job->batches)) {
            job->current = STAILQ_FIRST(&job->batches);
            STAILQ_REMOVE_HEAD(&job->batches, node);
            return 1;
        }
        /* Of what was refused the end says only that it was cancelled for that. */
        if (job->end_read && !job->failed.code)
            return 0;
        if (job_check(job, err) < 0)
            return -1;
        if (!job->follow && results_follow(job, 0, 0, err) < 0)
            return -1;
        if (conn_wait(job->conn, w) != 0)
            return TM_AGAIN;
    }
}

static struct tm_bytes bytes_of(struct span s)
{
    return (struct tm_bytes){ s.data, s.len };
}

static uint32_t digests_of(const struct digest *from, uint32_t n, struct tm_digest *to)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = (struct tm_digest){ (enum tm_algo)from[i].algo, bytes_of(from[i].bytes) };
    return n;
}

static int fill_value(struct tm_result *r, struct span bytes, struct err *err)
{
    struct task_value v;
    value_clear(&v);
    if (bytes.len > 0 && value_unpack(bytes, &v, err) < 0) /* none: cancelled unstarted */
        return err_prefix(err, "task %llu: its result", (unsigned long long)r->task);
    r->bytes = v.bytes;
    r->out_bytes = v.out_bytes;
    r->n_digests = digests_of(v.digests, v.n_digests, r->digests);
    r->n_out_digests = digests_of(v.out_digests, v.n_out_digests, r->out_digests);
    r->output = bytes_of(v.output);
    r->error = bytes_of(v.error);
    r->body = bytes_of(v.body);
    r->has_body = v.has_body;
    r->http_status = v.http_status;
    r->elapsed_us = v.elapsed_us;
    r->more = v.more;
    r->is_file = v.is_file;
    r->skipped = v.skipped;
    return 0;
}

static int fill_input(struct tm_result *r, struct span bytes, struct err *err)
{
    struct task_input in;
    if (input_unpack(bytes, &in, err) < 0)
        return err_prefix(err, "task %llu: its input", (unsigned long long)r->task);
    r->has_input = true;
    r->path = bytes_of(in.path);
    r->url = bytes_of(in.url);
    r->data = bytes_of(in.data);
    r->shown = bytes_of(input_shown(&in));
    r->out = bytes_of(in.out);
    r->size_hint = in.size;
    return 0;
}

/* The reader's next result out of its batch: 1 or -1. */
static int take(struct batch *b, uint64_t job_id, struct tm_result *r, struct err *err)
{
    uint32_t i = b->i++;
    memset(r, 0, offsetof(struct tm_result, digests));
    r->n_digests = r->n_out_digests = 0;
    r->job = job_id;
    r->task = b->tasks[i];
    r->status = status_of(b->statuses[i]);
    r->node = bytes_of(b->maker);
    r->attempts = b->attempts ? b->attempts[i] : 0;
    struct span value = span_of(b->values.data + b->value_at, b->lens[i]);
    b->value_at += b->lens[i];
    struct span input = SPAN_NONE;
    if (b->input_lens) {
        input = span_of(b->inputs.data + b->input_at, b->input_lens[i]);
        b->input_at += b->input_lens[i];
    }
    if (fill_value(r, value, err) < 0)
        return -1;
    return b->input_lens && fill_input(r, input, err) < 0 ? -1 : 1;
}

int tm_next(struct tm_job *job, struct tm_result *ret, int64_t timeout_ns,
            struct tm_error *terr)
{
    struct err err;
    int rc = 1;
    if (!job->current || job->current->i == job->current->n) {
        struct waiter w = conn_waiter(timeout_ns);
        pthread_mutex_lock(&job->conn->mu);
        do {
            rc = advance(job, &w, &err);
        } while (rc == 1 && job->current->n == 0);
        pthread_mutex_unlock(&job->conn->mu);
    }
    if (rc == 1)
        rc = take(job->current, job->id, ret, &err);
    return rc == -1 ? error_out(terr, &err) : rc;
}

uint64_t tm_cursor(const struct tm_job *job)
{
    pthread_mutex_lock(&job->conn->mu);
    uint64_t cursor = cursor_kept(job->cursor, job->received_epoch);
    pthread_mutex_unlock(&job->conn->mu);
    return cursor;
}

void tm_job_heard(const struct tm_job *job, struct tm_job_status *ret)
{
    pthread_mutex_lock(&job->conn->mu);
    *ret = job->heard;
    ret->counts.tasks = MAX(ret->counts.tasks, job->tasks_on_disk);
    pthread_mutex_unlock(&job->conn->mu);
}

void results_free(struct tm_job *job)
{
    struct batch *b;
    while ((b = STAILQ_FIRST(&job->batches))) {
        STAILQ_REMOVE_HEAD(&job->batches, node);
        free(b);
    }
    free(job->current);
    job->current = NULL;
}
