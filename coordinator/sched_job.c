/* Jobs: submitted, given chunks, sealed, paused, cancelled, ended. Chunks in memory are
 * sched_chunk.c's. */
#include "coordinator/sched_state.h"

#include "base/checksum.h"
#include "proto/select.h"

static uint64_t job_records(const struct job *j)
{
    return j->row.ok + j->row.failed + j->row.poison + j->row.cancelled;
}

static struct job *job_new(struct sched *s, const struct job_row *row, struct err *err)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->row = *row;
    j->spec_bytes = blob_new(row->spec);
    j->name_bytes = blob_new(row->name);
    j->owner_bytes = blob_new(row->owner);
    j->row.spec = blob_span(j->spec_bytes);
    j->row.name = blob_span(j->name_bytes);
    j->row.owner = blob_span(j->owner_bytes);
    if (spec_unpack(j->row.spec, &j->spec, err) < 0) {
        blob_unref(j->spec_bytes);
        blob_unref(j->name_bytes);
        blob_unref(j->owner_bytes);
        free(j);
        return NULL;
    }
    j->io = j->spec.source == SOURCE_URL;
    j->light = j->spec.source == SOURCE_BYTES && j->spec.transform == TRANSFORM_NONE &&
               j->spec.sink != SINK_FILE;
    j->placeable = true;
    j->client_gone_ns = s->now;
    streams_init(s, j);
    LIST_INIT(&j->followers);
    TAILQ_INIT(&j->recents);
    j->owner = owner_get(s, j->row.owner);
    j->owner->jobs++;
    j->owner->bytes += j->row.bytes;
    TAILQ_INSERT_TAIL(&s->all, j, node);
    if (!j->row.ended_wall_ns)
        TAILQ_INSERT_TAIL(&s->live, j, live_node);
    HASH_ADD(hh, s->jobs, row.id, sizeof(j->row.id), j);
    HASH_ADD(hh_key, s->jobs_by_key, row.key, WIRE_KEY_BYTES, j);
    s->next_job = MAX(s->next_job, j->row.id + 1);
    return j;
}

void sched_free_job(struct sched *s, struct job *j)
{
    struct follower *f;

    while ((f = LIST_FIRST(&j->followers)))
        follow_free(s, f);
    for (uint32_t i = 0; i < j->row.chunks; i++)
        if (j->chunks && j->chunks[i].open)
            chunk_free(s, j->chunks[i].open);
    job_client_is(s, j, 0);
    TAILQ_REMOVE(&s->all, j, node);
    if (!j->row.ended_wall_ns)
        TAILQ_REMOVE(&s->live, j, live_node);
    HASH_DEL(s->jobs, j);
    HASH_DELETE(hh_key, s->jobs_by_key, j);
    j->owner->jobs--;
    j->owner->bytes -= j->row.bytes;
    j->owner->tasks -= j->row.tasks - job_records(j);
    owner_put(s, j->owner);
    blob_unref(j->spec_bytes);
    blob_unref(j->name_bytes);
    blob_unref(j->owner_bytes);
    free(j->chunks);
    free(j->losts);
    streams_free(s, j);
    free(j);
}

void sched_load_job(struct sched *s, const struct job_row *row)
{
    struct job_row r = *row;
    struct err err = { 0 };

    r.chunks = 0; /* counted again as they are loaded */
    r.tasks = 0;
    struct job *j = job_new(s, &r, &err);
    CHECK(j != NULL); /* it was unpacked when it was submitted */
    j->sealed = row->state != JOB_OPEN;
    j->end_on_disk = row->ended_wall_ns != 0;
    j->committed_cursor = job_records(j);
    j->owner->tasks -= job_records(j); /* its tasks are counted as they are loaded */
    if (row->state > JOB_SEALED && !row->ended_wall_ns) { /* it was being cancelled */
        j->row.state = JOB_SEALED;
        j->cancelling = true;
        j->cancel_state = row->state;
    }
}

void sched_load_chunk(struct sched *s, const struct chunk_row *row, uint32_t recorded)
{
    struct job *j = sched_job(s, row->job);

    CHECK(j && row->seq == j->row.chunks);
    struct chunk_info *info = chunk_info_add(s, j, row);
    info->recorded = recorded;
    info->visible = recorded; /* less the pending ones, which come next */
    j->chunks_on_disk = ++j->row.chunks;
    j->row.tasks += row->n;
    j->owner->tasks += row->n;
}

void sched_loaded(struct sched *s, uint64_t next_row)
{
    struct job *j;

    s->next_row = next_row;
    s->wait_until_ns = s->now + RESTART_WAIT_NS;
    s->young_until_ns = s->now + YOUNG_NS;
    TAILQ_FOREACH (j, &s->all, node)
        while (j->first_incomplete < j->row.chunks &&
               j->chunks[j->first_incomplete].visible == j->chunks[j->first_incomplete].n)
            j->first_incomplete++;
}

void job_accepted(struct sched *s, peer_id peer, struct job *j)
{
    struct msg_accepted *a = &sched_send(s, peer, MSG_ACCEPTED)->send.msg.accepted;

    memcpy(a->key, j->row.key, sizeof(a->key));
    a->job = j->row.id;
    a->chunks = j->row.chunks;
    a->sealed = j->sealed;
    a->state = j->cancelling ? j->cancel_state : j->row.state;
    a->credit_bytes = job_credit(s, j);
}

/* True: there can be no job of this key now; the peer is told why. */
static bool submit_refused(struct sched *s, struct peer *p, const struct msg_submit *sub)
{
    uint64_t removed = job_removed(s, sub->key);

    if (removed) {
        AUTO_FREE char *text =
            xasprintf("removed: job %llu", (unsigned long long)removed);
        sched_error(s, p->id, 9, 0, MSG_SUBMIT, text, "");
        return true;
    }
    if (sched_low(s)) {
        room_refuse(s, p->id, MSG_SUBMIT);
        return true;
    }
    if (s->next_job > INT32_MAX) { /* an id of a chunk has 31 bits for it */
        sched_error(s, p->id, 1, 0, MSG_SUBMIT, "the numbers of jobs are used up",
                    "start a coordinator on a new --state");
        return true;
    }
    return quota_refuses_job(s, p, sub);
}

/* NULL: refused, and the peer is told why. */
static struct job *submit_new(struct sched *s, struct peer *p,
                              const struct msg_submit *sub)
{
    struct job_row row = {
        .id = s->next_job,
        .spec = sub->spec,
        .name = sub->name,
        .owner = span_str(p->owner->name),
        .priority = sub->priority,
        .retries = sub->retries,
        .task_timeout_ns = sub->task_timeout_ns,
        .deadline_ns = sub->deadline_ns,
        .detached = sub->detached,
        .created_wall_ns = s->wall,
        .state = JOB_OPEN,
    };
    struct err err = { 0 };
    struct job *j;

    memcpy(row.key, sub->key, sizeof(row.key));
    row.bytes = job_row_bytes(&row);
    j = job_new(s, &row, &err);
    if (!j) {
        sched_error(s, p->id, 2, 0, MSG_SUBMIT, err.text, err.hint);
        return NULL;
    }
    if (job_is_hopeless(s, j)) {
        job_refuse(s, p->id, j, MSG_SUBMIT);
        sched_free_job(s, j);
        return NULL;
    }
    struct fx *fx = fx_add(s->g, FX_JOB);
    fx->job = j->row;
    fx->job.spec = fx_keep(s->g, j->row.spec);
    fx->job.name = fx_keep(s->g, j->row.name);
    fx->job.owner = fx_keep(s->g, j->row.owner);
    return j;
}

void sched_submit(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_submit *sub = &m->submit;
    struct job *j;

    HASH_FIND(hh_key, s->jobs_by_key, sub->key, WIRE_KEY_BYTES, j);
    if (!j) {
        j = submit_refused(s, p, sub) ? NULL : submit_new(s, p, sub);
        if (!j)
            return;
    }
    if (!owner_sees(p, j)) {
        sched_denied(s, p->id, 0, MSG_SUBMIT, "this job is somebody else's", "");
        return;
    }
    if (!j->sealed)
        job_client_is(s, j, p->id);
    job_accepted(s, p->id, j);
}

/* The digest of a chunk: of its lengths as little-endian u32, its body, its node. */
static bool digest_fits(const struct msg_chunk *c, struct span body)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    /* Little-endian hosts only are supported: lens are the wire's bytes. */
    struct span parts[] = { span_of(c->lens, c->n * sizeof(uint32_t)), body, c->node };

    checksum(parts, ARRAY_LEN(parts), digest);
    return memcmp(digest, c->digest, sizeof(digest)) == 0;
}

static bool cancelled(const struct job *j)
{
    return j->cancelling || j->row.state == JOB_CANCELLED ||
           j->row.state == JOB_ABANDONED;
}

/* NULL, or why not; *ret_code then is the Error's. */
static const char *chunk_refusal(struct sched *s, struct job *j, const struct msg *m,
                                 uint32_t *ret_code)
{
    const struct msg_chunk *c = &m->chunk;

    *ret_code = 1;
    if (c->n == 0)
        return "chunk without inputs";
    if (c->n > WIRE_CHUNK_TASKS_MAX || m->body.len > WIRE_CHUNK_BYTES_MAX)
        return "chunk too large";
    for (uint32_t i = 0; i < c->n; i++)
        if (c->lens[i] > INPUT_MAX_BYTES)
            return "input too large";
    if (c->node.len && select_check_name(c->node, NULL) < 0)
        return "no node can be called so";
    if (c->seq > j->row.chunks)
        return "chunk out of order";
    if (!digest_fits(c, m->body))
        return "chunk does not match its digest";
    if (c->seq < j->row.chunks)
        return NULL;
    if (cancelled(j)) {
        *ret_code = 8;
        return "the job was cancelled";
    }
    if (j->sealed)
        return "the job is sealed";
    if (j->row.tasks + c->n > UINT32_MAX) /* task numbers have 32 bits on the wire */
        return "the job has too many tasks";
    if (HASH_COUNT(j->streams) >= STREAMS_MAX && stream_is_new(s, j, c->node))
        return "the job is for too many nodes";
    return NULL;
}

void sched_chunk(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_chunk *c = &m->chunk;
    struct job *j = sched_job_of(s, p, c->job);
    uint32_t code = 9;
    const char *why = j ? chunk_refusal(s, j, m, &code) : "no such job";

    if (why) {
        sched_error(s, p->id, code, c->job, MSG_CHUNK, why, "");
        return;
    }
    if (c->seq < j->row.chunks) {
        /* Said before. R3: the same sequence number with other bytes is an error. */
        if (memcmp(j->chunks[c->seq].digest, c->digest, WIRE_DIGEST_BYTES) != 0)
            sched_error(s, p->id, 1, c->job, MSG_CHUNK,
                        "this chunk was accepted with other bytes", "");
        else
            job_accepted(s, p->id, j);
        return;
    }
    if (quota_refuses_chunk(s, p, j, m) || !room_for_chunk(s, p))
        return;
    struct chunk_row *row = &fx_add(s->g, FX_CHUNK)->chunk;
    *row = (struct chunk_row){
        .job = c->job,
        .seq = c->seq,
        .first = j->row.tasks,
        .n = c->n,
        .node = fx_keep(s->g, c->node),
        .lens = blob_new(span_of(c->lens, c->n * sizeof(uint32_t))),
        .body = blob_new(m->body),
    };
    memcpy(row->digest, c->digest, sizeof(row->digest));
    s->g->bytes += row->lens->len + row->body->len;
    struct stream *st = chunk_info_add(s, j, row)->stream;
    if (stream_all_open(st)) /* of those before it */
        st->next_open = c->seq + 1;
    chunk_open(s, j, row, NULL);
    j->row.chunks++;
    j->row.tasks += c->n;
    j->owner->tasks += c->n;
    job_stores(j, chunk_row_bytes(row));
    job_accepted(s, p->id, j);
}

void sched_seal(struct sched *s, struct peer *p, const struct msg *m)
{
    struct job *j = sched_job_of(s, p, m->seal.job);

    if (!j) {
        sched_error(s, p->id, 9, m->seal.job, MSG_SEAL, "no such job", "");
        return;
    }
    if (!j->sealed && !j->cancelling) {
        if (m->seal.chunks != j->row.chunks || m->seal.tasks != j->row.tasks) {
            sched_error(s, p->id, 1, j->row.id, MSG_SEAL,
                        "sealed with another number of tasks than were accepted", "");
            return;
        }
        j->sealed = true;
        j->row.state = JOB_SEALED;
        struct fx *fx = fx_add(s->g, FX_STATE);
        fx->state.job = j->row.id;
        fx->state.state = JOB_SEALED;
    }
    job_client_is(s, j, 0);
    job_accepted(s, p->id, j);
    job_settle(s, j);
}

void job_client_gone(struct sched *s, struct job *j)
{
    job_client_is(s, j, 0);
    j->client_gone_ns = s->now;
}

/* ---- ends ---- */

void job_settle(struct sched *s, struct job *j)
{
    struct sched_node *n;

    if ((!j->sealed && !j->cancelling) || j->row.state == JOB_DONE ||
        j->row.state == JOB_CANCELLED || j->row.state == JOB_ABANDONED)
        return;
    if (job_records(j) < j->row.tasks)
        return;
    TAILQ_REMOVE(&s->live, j, live_node);
    lease_revoke_job(s, j); /* attempts that lost */
    TAILQ_FOREACH (n, &s->nodes, node)
        node_forget_job(s, n, j->row.id);
    j->row.state = j->cancelling ? j->cancel_state : JOB_DONE;
    j->row.ended_wall_ns = MAX(s->wall, 1);
    j->row.ended_run_ns = sched_run_ns(s);
    j->cancelling = false;
    j->sealed = true;
    struct fx *fx = fx_add(s->g, FX_STATE);
    fx->state.job = j->row.id;
    fx->state.state = j->row.state;
    fx->state.ended_wall_ns = j->row.ended_wall_ns;
    fx->state.ended_run_ns = j->row.ended_run_ns;
}

void job_cancel(struct sched *s, struct job *j, enum job_state as)
{
    if (j->cancelling || (j->row.state != JOB_OPEN && j->row.state != JOB_SEALED))
        return;
    j->cancelling = true;
    j->cancel_state = as;
    j->cancel_seq = 0;
    /* On disk before it is acknowledged (P1): a state without its time of end. */
    struct fx *fx = fx_add(s->g, FX_STATE);
    fx->state.job = j->row.id;
    fx->state.state = as;
    lease_revoke_job(s, j);
    job_cancel_more(s, j);
}

void job_cancel_more(struct sched *s, struct job *j)
{
    for (int i = 0; i < CANCEL_CHUNKS_PER_TURN && j->cancel_seq < j->row.chunks; i++) {
        struct chunk_info *info = &j->chunks[j->cancel_seq];
        if (info->open) {
            record_cancelled(s, j, info->open, j->cancel_seq);
        } else if (info->reading) {
            ; /* is cancelled when it has come, see sched_chunk_read */
        } else if (info->recorded == 0) {
            record_cancelled(s, j, NULL, j->cancel_seq);
        } else if (info->recorded < info->n) {
            job_read_chunk(s, j, j->cancel_seq);
        }
        j->cancel_seq++;
    }
    if (j->cancel_seq < j->row.chunks)
        s->again = true;
    job_settle(s, j);
}

void sched_cancel(struct sched *s, struct peer *p, const struct msg *m)
{
    struct job *j = sched_job_of(s, p, m->cancel.job);

    if (!j) {
        sched_error(s, p->id, 9, m->cancel.job, MSG_CANCEL, "no such job", "");
        return;
    }
    job_cancel(s, j, JOB_CANCELLED);
    job_accepted(s, p->id, j);
    sched_answer(s, p->id, m->cancel.id);
}

void sched_pause(struct sched *s, struct peer *p, const struct msg *m)
{
    struct job *j = sched_job_of(s, p, m->pause.job);

    if (!j || job_ended(j)) {
        sched_error(s, p->id, j ? 1 : 9, m->pause.job, MSG_PAUSE,
                    j ? "the job has ended" : "no such job", "");
        return;
    }
    if (j->row.paused == m->pause.resume) {
        j->row.paused = !m->pause.resume;
        struct fx *fx = fx_add(s->g, FX_PAUSE);
        fx->pause.job = j->row.id;
        fx->pause.paused = j->row.paused;
        for (uint32_t i = 0; i < j->row.chunks; i++)
            if (j->chunks[i].open)
                chunk_list(s, j->chunks[i].open);
        if (j->row.paused)
            job_put_chunks_away(s, j, NULL);
    }
    sched_answer(s, p->id, m->pause.id);
}
