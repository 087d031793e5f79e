/* What the coordinator says about one job: its status, its end, its description. */
#include "client/lib/internal.h"

/* The pause between two questions of tm_job_wait grows from the first to the second. */
#define POLL_MIN_NS (50 * NS_PER_MS)
#define POLL_MAX_NS (500 * NS_PER_MS)

static enum tm_state state_of(const struct tm_rows *rows)
{
    static const char *const names[] = { "open", "sealed", "done", "cancelled",
                                         "abandoned" };
    struct tm_value v;
    if (!tm_rows_get(rows, "state", &v))
        return TM_OPEN;
    if (v.kind == TM_UINT)
        return v.uint <= TM_ABANDONED ? (enum tm_state)v.uint : TM_OPEN;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_eq(span_of(v.text.data, v.text.len), span_str(names[i])))
            return (enum tm_state)i;
    return TM_OPEN;
}

/* The job's row: 0, TM_AGAIN, -1 (no such job: code 9). Caller frees *ret. */
static int ask(struct tm_job *job, struct tm_rows **ret, struct err *err)
{
    struct tm_rows *rows = NULL;
    int rc = query_run(job->conn, "job", job->id, &rows, err);
    if (rc != 0)
        return rc;
    if (!tm_rows_next(rows)) {
        tm_rows_free(rows);
        return err_set(err, TM_NOT_FOUND, "no such job: %llu",
                       (unsigned long long)job->id);
    }
    *ret = rows;
    return 0;
}

static int ask_status(struct tm_job *job, struct tm_job_status *ret, struct err *err)
{
    struct tm_rows *rows;
    int rc = ask(job, &rows, err);
    if (rc != 0)
        return rc;
    *ret = (struct tm_job_status){
        .state = state_of(rows),
        .counts = { .tasks = tm_rows_uint(rows, "tasks"),
                    .ok = tm_rows_uint(rows, "ok"),
                    .failed = tm_rows_uint(rows, "failed"),
                    .quarantined = tm_rows_uint(rows, "quarantined"),
                    .cancelled = tm_rows_uint(rows, "cancelled"),
                    .running = tm_rows_uint(rows, "running") },
    };
    tm_rows_free(rows);
    const struct tm_counts *n = &ret->counts;
    pthread_mutex_lock(&job->conn->mu);
    if (!job->follow) /* else its results say more */
        job->heard.counts = ret->counts;
    pthread_mutex_unlock(&job->conn->mu);
    ret->ended = ret->state >= TM_DONE &&
                 n->ok + n->failed + n->quarantined + n->cancelled >= n->tasks;
    return 0;
}

int tm_job_status(struct tm_job *job, struct tm_job_status *ret, struct tm_error *terr)
{
    struct err err;
    int rc = ask_status(job, ret, &err);
    return rc == -1 ? error_out(terr, &err) : rc;
}

/* Sleeps until the next question is due; TM_AGAIN: the caller's time is over. */
static int pause_for(struct tm_job *job, int64_t pause_ns, struct waiter *whole,
                     struct err *err)
{
    struct conn *c = job->conn;
    struct waiter w = conn_waiter(pause_ns);
    bool last = whole->deadline_ns <= w.deadline_ns;
    pthread_mutex_lock(&c->mu);
    int rc = 0;
    while (rc == 0) {
        rc = conn_alive(c, err);
        if (rc == 0)
            rc = conn_wait(c, last ? whole : &w);
    }
    pthread_mutex_unlock(&c->mu);
    if (rc == -1)
        return -1;
    bool interrupted = clock_mono_ns() < (last ? whole->deadline_ns : w.deadline_ns);
    return last || interrupted ? TM_AGAIN : 0;
}

int tm_job_wait(struct tm_job *job, int64_t timeout_ns, struct tm_job_status *ret,
                struct tm_error *terr)
{
    struct err err;
    struct waiter whole = conn_waiter(timeout_ns);
    int64_t pause_ns = POLL_MIN_NS;
    struct tm_job_status now;
    int rc = ask_status(job, &now, &err);
    while (rc == 0 && !now.ended) {
        rc = pause_for(job, pause_ns, &whole, &err);
        pause_ns = MIN(pause_ns * 3 / 2, POLL_MAX_NS);
        if (rc == 0)
            rc = ask_status(job, &now, &err);
    }
    if (rc == 0 && ret)
        *ret = now;
    return rc == -1 ? error_out(terr, &err) : rc;
}

/* Copies of a spec's strings, owned by the job. */
static char *keep(struct tm_job *job, size_t *n, struct span s)
{
    job->described = xrealloc(job->described, (*n + 2) * sizeof(char *));
    job->described[*n + 1] = NULL;
    return job->described[(*n)++] = span_dup(s);
}

static void describe(struct tm_job *job, const struct job_spec *spec,
                     const struct tm_rows *row, struct tm_job_spec *ret)
{
    size_t n = 0;
    char *command = keep(job, &n, spec->command);
    struct tm_bytes name = tm_rows_text(row, "name");
    struct tm_bytes key = tm_rows_text(row, "key");
    struct tm_value priority = { 0 };
    tm_rows_get(row, "priority", &priority);
    uint64_t retries = tm_rows_uint(row, "retries");
    *ret = (struct tm_job_spec){
        .command = command,
        .source = (enum tm_source)spec->source,
        .algos = spec->algos,
        .transform = (enum tm_transform)spec->transform,
        .out_algos = spec->out_algos,
        .n_recipients = spec->n_recipients,
        .sink = (enum tm_sink)spec->sink,
        .armor = spec->armor,
        .force = spec->force,
        .no_sync = spec->no_sync,
        .connect_timeout_ns = (int64_t)spec->connect_timeout_ns,
        .stall_timeout_ns = (int64_t)spec->stall_ns,
        .transfer_timeout_ns = (int64_t)spec->timeout_ns,
        .max_bytes = spec->max_bytes,
        .per_host = spec->per_host,
        .rate = spec->rate,
        .ca_file = spec->ca_file.len ? keep(job, &n, spec->ca_file) : NULL,
        .on = spec->on.len ? keep(job, &n, spec->on) : NULL,
        .present = keep(job, &n, spec->present),
        .present_len = spec->present.len,
        .name = name.len ? keep(job, &n, span_of(name.data, name.len)) : NULL,
        .priority =
            priority.kind == TM_INT ? (int32_t)priority.integer : (int32_t)priority.uint,
        .retries = retries ? (int32_t)MIN(retries, INT32_MAX) : -1,
        .task_timeout_ns = (int64_t)tm_rows_uint(row, "task_timeout_ns"),
        .deadline_ns = (int64_t)tm_rows_uint(row, "deadline_ns"),
        .detached = true,
    };
    if (key.len == sizeof(job->described_key)) {
        memcpy(job->described_key, key.data, key.len);
        ret->key = job->described_key;
    }
    size_t first = n;
    for (uint32_t i = 0; i < spec->n_recipients; i++)
        keep(job, &n, spec->recipients[i]);
    ret->recipients = (const char *const *)job->described + first;
}

int tm_job_describe(struct tm_job *job, struct tm_job_spec *ret, struct tm_error *terr)
{
    struct err err;
    struct tm_rows *row;
    struct job_spec spec;
    int rc = ask(job, &row, &err);
    if (rc != 0)
        return rc == -1 ? error_out(terr, &err) : rc;
    struct tm_bytes packed = tm_rows_text(row, "spec");
    rc = spec_unpack(span_of(packed.data, packed.len), &spec, &err);
    if (rc == 0) {
        pthread_mutex_lock(&job->conn->mu);
        if (!job->described) /* it never changes */
            describe(job, &spec, row, &job->description);
        *ret = job->description;
        pthread_mutex_unlock(&job->conn->mu);
    }
    tm_rows_free(row);
    return rc == 0 ? 0 : error_out(terr, &err);
}
