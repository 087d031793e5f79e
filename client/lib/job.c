/* A job as this process sees it: what it is, the lists it stands on, and what the
 * coordinator says about it. */
#include "base/crypto.h"
#include "base/failpoint.h"
#include "client/lib/internal.h"

enum { RETRIES_DEFAULT = 3 };

_Static_assert((int)TM_ALGO_COUNT == (int)ALGO_COUNT &&
                   (int)TM_BLAKE2B == (int)ALGO_BLAKE2B,
               "one numbering of algorithms");
_Static_assert((int)TM_SOURCE_DIR == (int)SOURCE_DIR &&
                   (int)TM_SINK_FILE == (int)SINK_FILE &&
                   (int)TM_TRANSFORM_DECRYPT == (int)TRANSFORM_DECRYPT &&
                   (int)TM_ABANDONED == (int)JOB_ABANDONED,
               "one numbering of pipelines and states");

const char *tm_algo_name(enum tm_algo algo)
{
    return algo_name((enum algo)algo);
}

static int pack(const struct tm_job_spec *spec, struct buf *out, struct err *err)
{
    if (spec->n_recipients > SPEC_RECIPIENTS_MAX)
        return err_set(err, TM_USAGE, "%zu recipients, at most %d", spec->n_recipients,
                       SPEC_RECIPIENTS_MAX);
    struct job_spec packed = {
        .command = span_str(spec->command ? spec->command : "map"),
        .source = (enum source_kind)spec->source,
        .algos = spec->algos,
        .transform = (enum transform_kind)spec->transform,
        .out_algos = spec->out_algos,
        .n_recipients = (uint32_t)spec->n_recipients,
        .sink = (enum sink_kind)spec->sink,
        .armor = spec->armor,
        .force = spec->force,
        .no_sync = spec->no_sync,
        .connect_timeout_ns = (uint64_t)MAX(spec->connect_timeout_ns, 0),
        .stall_ns = (uint64_t)MAX(spec->stall_timeout_ns, 0),
        .timeout_ns = (uint64_t)MAX(spec->transfer_timeout_ns, 0),
        .max_bytes = spec->max_bytes,
        .per_host = spec->per_host,
        .rate = spec->rate,
        .ca_file = span_str(spec->ca_file),
        .on = span_str(spec->on),
        .present = span_of(spec->present, spec->present_len),
    };
    for (size_t i = 0; i < spec->n_recipients; i++)
        packed.recipients[i] = span_str(spec->recipients[i]);
    spec_pack(out, &packed);
    if (out->len > WIRE_SPEC_BYTES_MAX)
        return err_set(err, TM_USAGE, "the job's description has %zu bytes, at most %d",
                       out->len, WIRE_SPEC_BYTES_MAX);
    if (spec->name && strlen(spec->name) > WIRE_TEXT_MAX)
        return err_set(err, TM_USAGE, "the job's name has %zu bytes, at most %d",
                       strlen(spec->name), WIRE_TEXT_MAX);
    return 0;
}

int job_new(struct conn *c, const struct tm_job_spec *spec, struct tm_job **ret,
            struct err *err)
{
    struct tm_job *job = xcalloc(1, sizeof(*job));
    job->conn = c;
    STAILQ_INIT(&job->chunks);
    STAILQ_INIT(&job->fillings);
    STAILQ_INIT(&job->batches);
    TAILQ_INSERT_TAIL(&c->all, job, all_node);
    *ret = job;
    if (!spec) {
        job->attached = true;
        return 0;
    }
    job->keyed = spec->key != NULL;
    if (job->keyed)
        memcpy(job->key, spec->key, sizeof(job->key));
    else
        crypto_random(job->key, sizeof(job->key));
    struct tm_job *twin;
    HASH_FIND(hh_key, c->keys, job->key, sizeof(job->key), twin);
    if (pack(spec, &job->spec, err) < 0) {
        job_forget(job);
        return -1;
    }
    if (twin) {
        job_forget(job);
        return err_set(err, TM_USAGE, "this connection has a job with this key already");
    }
    job->name = xstrdup(spec->name ? spec->name : "");
    job->source = spec->source;
    job->priority = spec->priority;
    job->retries = spec->retries < 0 ? 0 : (uint32_t)spec->retries;
    if (spec->retries == 0)
        job->retries = RETRIES_DEFAULT;
    job->task_timeout_ns = spec->task_timeout_ns;
    job->deadline_ns = spec->deadline_ns;
    job->detached = spec->detached;
    HASH_ADD(hh_key, c->keys, key, sizeof(job->key), job);
    job->by_key = true;
    return 0;
}

static void off_lists(struct tm_job *job)
{
    struct conn *c = job->conn;
    if (job->on_ready)
        TAILQ_REMOVE(&c->ready, job, ready_node);
    if (job->on_asked)
        TAILQ_REMOVE(&c->asked, job, asked_node);
    if (job->on_filling)
        TAILQ_REMOVE(&c->filling, job, filling_node);
    job->on_ready = job->on_asked = job->on_filling = false;
}

void job_forget(struct tm_job *job)
{
    struct conn *c = job->conn;
    off_lists(job);
    TAILQ_REMOVE(&c->all, job, all_node);
    if (job->by_key)
        HASH_DELETE(hh_key, c->keys, job);
    if (job->by_id)
        HASH_DELETE(hh_id, c->ids, job);
    chunk_free_all(job);
    results_free(job);
    buf_fini(&job->spec);
    free(job->name);
    for (char **s = job->described; s && *s; s++)
        free(*s);
    free(job->described);
    free(job);
}

void job_drop(struct tm_job *job)
{
    bool lives = !job->failed.code && job->conn->state != CONN_DEAD;
    results_free(job);
    job->follow = false;
    if (lives && job->sealing && !job->sealed)
        job->orphan = true;
    else
        job_forget(job);
}

void job_ready(struct tm_job *job)
{
    if (job->on_ready || job->failed.code)
        return;
    TAILQ_INSERT_TAIL(&job->conn->ready, job, ready_node);
    job->on_ready = true;
}

void job_fail(struct tm_job *job, const struct err *why)
{
    if (job->failed.code)
        return;
    off_lists(job);
    job->failed = *why;
    if (job->failed.code == 0)
        job->failed.code = TM_ERROR;
    struct conn *c = job->conn;
    if (job->orphan || job->unwanted)
        job_forget(job);
    conn_notify(c);
}

int job_check(struct tm_job *job, struct err *err)
{
    if (job->failed.code) {
        *err = job->failed;
        return -1;
    }
    return conn_alive(job->conn, err);
}

int job_list_id(struct tm_job *job, struct err *err)
{
    if (job->by_id)
        return 0;
    struct tm_job *other;
    HASH_FIND(hh_id, job->conn->ids, &job->id, sizeof(job->id), other);
    if (other)
        return err_set(err, TM_USAGE, "job %llu is open a second time in this connection",
                       (unsigned long long)job->id);
    HASH_ADD(hh_id, job->conn->ids, id, sizeof(job->id), job);
    job->by_id = true;
    return 0;
}

/* ---- what goes out ---- */

static int send_submit(struct tm_job *job)
{
    struct conn *c = job->conn;
    struct msg m = { .type = MSG_SUBMIT };
    m.submit = (struct msg_submit){
        .spec = buf_span(&job->spec),
        .name = span_str(job->name),
        .priority = job->priority,
        .retries = job->retries,
        .task_timeout_ns = job->task_timeout_ns,
        .deadline_ns = job->deadline_ns,
        .detached = job->detached,
    };
    memcpy(m.submit.key, job->key, sizeof(job->key));
    FAILPOINT("client_submit_send");
    if (link_send(c->link, 0, &m) < 0)
        return -1;
    TAILQ_INSERT_TAIL(&c->asked, job, asked_node);
    job->on_asked = true;
    return 0;
}

static int send_seal(struct tm_job *job)
{
    bool all_sent = job->sent_bytes == job->chunk_bytes;
    if (!job->sealing || job->seal_sent || job->sealed || !all_sent)
        return 0;
    struct msg m = { .type = MSG_SEAL };
    m.seal = (struct msg_seal){ .job = job->id,
                                .chunks = job->next_seq,
                                .tasks = job->earlier + job->added };
    FAILPOINT("client_seal_send_before");
    if (link_send(job->conn->link, 0, &m) < 0)
        return -1;
    FAILPOINT("client_seal_send_after");
    job->seal_sent = true;
    return 0;
}

int job_send(struct tm_job *job)
{
    if (job->on_asked)
        return 0;
    bool submitting = !job->attached && !job->sealed && job->heard.state <= TM_SEALED;
    if (submitting && !job->accepted)
        return send_submit(job);
    if (submitting && (chunk_send_all(job) < 0 || send_seal(job) < 0))
        return -1;
    return results_send(job);
}

void job_session_lost(struct tm_job *job)
{
    off_lists(job);
    if (job->open_n > 0) {
        TAILQ_INSERT_TAIL(&job->conn->filling, job, filling_node);
        job->on_filling = true;
    }
    job->accepted = job->seal_sent = job->follow_sent = false;
    job->sent_bytes = 0;
    struct chunk *ck;
    STAILQ_FOREACH (ck, &job->chunks, node_entry)
        ck->sent = false;
    job_ready(job);
}

/* ---- what comes in ---- */

/* Half of it is there, and nobody can add the rest: nobody else has its key. */
static void cancel_half(struct tm_job *job, uint64_t id)
{
    if (!job->keyed && !job->attached && !job->sealed && !job->failed.code)
        query_cancel_unheard(job->conn, id);
}

/* The Submit's answer: the id at first, then that the coordinator is still the same. */
static int take_id(struct tm_job *job, const struct msg_accepted *a)
{
    struct err why;
    if (job->id == 0) {
        job->id = a->job;
        job->chunks_on_disk = a->chunks;
        job->next_seq = MAX(job->next_seq, a->chunks);
        job_list_id(job, &why); /* a twin follows it: only tm_follow minds */
    } else if (a->job != job->id || a->chunks < job->chunks_on_disk) {
        err_set(&why, TM_ERROR, "the coordinator has lost job %llu",
                (unsigned long long)job->id);
        err_hint(&why, "it was started with another or an older state directory, or ran "
                       "with --durability none and was killed");
        cancel_half(job, a->job);
        job_fail(job, &why);
        return -1;
    }
    job->accepted = true;
    return 0;
}

static void give_up(struct tm_job *job, bool is_new)
{
    if (is_new)
        query_cancel_unheard(job->conn, job->id);
    job_forget(job);
}

void job_on_accepted(struct conn *c, const struct msg *m)
{
    const struct msg_accepted *a = &m->accepted;
    struct tm_job *job;
    HASH_FIND(hh_key, c->keys, a->key, sizeof(a->key), job);
    if (!job || (!job->on_asked && !job->accepted))
        return;
    if (job->on_asked) {
        TAILQ_REMOVE(&c->asked, job, asked_node);
        job->on_asked = false;
        if (take_id(job, a) < 0)
            return;
        if (job->unwanted) {
            give_up(job, a->chunks == 0 && !a->sealed);
            return;
        }
    }
    chunk_acknowledge(job, a->chunks);
    if (a->state == JOB_CANCELLED || a->state == JOB_ABANDONED)
        chunk_free_all(job); /* nobody takes them any more */
    job->credit_bytes = a->credit_bytes;
    job->sealed = job->sealed || a->sealed;
    job->heard.state = MAX(job->heard.state, (enum tm_state)a->state);
    if (job->orphan && (job->sealed || a->state > JOB_SEALED)) {
        job_forget(job);
        return;
    }
    job->starved = job->starved && !chunk_room(job);
    job_ready(job);
    conn_notify(c);
}

void job_on_error(struct conn *c, const struct msg *m, const struct err *why)
{
    struct tm_job *job = NULL;
    if (m->error.about == MSG_SUBMIT)
        job = TAILQ_FIRST(&c->asked); /* answers keep the order of what they answer */
    else if (m->error.about != MSG_CREDIT)
        HASH_FIND(hh_id, c->ids, &m->error.job, sizeof(m->error.job), job);
    if (!job)
        return;
    if (m->error.about == MSG_CHUNK && m->error.code == TM_CANCELLED) {
        job->heard.state = TM_JOB_CANCELLED; /* its results still come to their end */
        chunk_free_all(job);
        if (job->orphan)
            job_forget(job);
        conn_notify(c);
    } else {
        if ((m->error.about == MSG_CHUNK && m->error.code == TM_DENIED) ||
            (m->error.about == MSG_FOLLOW && m->error.code == TM_ERROR))
            cancel_half(job, job->id);
        job_fail(job, why);
    }
}
