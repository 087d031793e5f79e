/* Messages of a job between client and coordinator: what is submitted, what comes back.
 */
#include "proto/wire_pb.h"

void wire_put_submit(const struct msg *m, union any *a)
{
    const struct msg_submit *s = &m->submit;

    tidemill__submit__init(&a->submit);
    a->submit.key = bytes(s->key, WIRE_KEY_BYTES);
    a->submit.spec = bytes_of(s->spec);
    a->submit.name = bytes_of(s->name);
    a->submit.priority = s->priority;
    a->submit.retries = s->retries;
    a->submit.task_timeout_ns = s->task_timeout_ns;
    a->submit.deadline_ns = s->deadline_ns;
    a->submit.detached = s->detached;
}

int wire_take_submit(struct in *in)
{
    const Tidemill__Submit *s = in->e->submit;
    struct msg_submit *r = &in->m->submit;

    *r = (struct msg_submit){ .priority = s->priority,
                              .retries = s->retries,
                              .task_timeout_ns = MAX(0, s->task_timeout_ns),
                              .deadline_ns = MAX(0, s->deadline_ns),
                              .detached = s->detached };
    if (fixed(in, s->key, r->key, "key") < 0 ||
        text(in, s->spec, WIRE_SPEC_BYTES_MAX, &r->spec, "spec") < 0)
        return -1;
    return text(in, s->name, WIRE_TEXT_MAX, &r->name, "name");
}

void wire_put_chunk(const struct msg *m, union any *a)
{
    tidemill__chunk__init(&a->chunk);
    a->chunk.job = m->chunk.job;
    a->chunk.seq = m->chunk.seq;
    a->chunk.digest = bytes(m->chunk.digest, WIRE_DIGEST_BYTES);
    a->chunk.node = bytes_of(m->chunk.node);
    LIST(a->chunk.n_lens, a->chunk.lens, m->chunk.n, m->chunk.lens);
}

int wire_take_chunk(struct in *in)
{
    const Tidemill__Chunk *c = in->e->chunk;
    struct msg_chunk *r = &in->m->chunk;

    if (c->n_lens > WIRE_CHUNK_TASKS_MAX || in->body_len > WIRE_CHUNK_BYTES_MAX)
        return bad(in, "size");
    *r = (struct msg_chunk){
        .job = c->job, .seq = c->seq, .n = (uint32_t)c->n_lens, .lens = c->lens
    };
    if (fixed(in, c->digest, r->digest, "digest") < 0 ||
        text(in, c->node, WIRE_TEXT_MAX, &r->node, "node") < 0)
        return -1;
    return lens_fill(in, r->lens, r->n);
}

void wire_put_seal(const struct msg *m, union any *a)
{
    tidemill__seal__init(&a->seal);
    a->seal.job = m->seal.job;
    a->seal.chunks = m->seal.chunks;
    a->seal.tasks = m->seal.tasks;
}

int wire_take_seal(struct in *in)
{
    const Tidemill__Seal *s = in->e->seal;

    in->m->seal = (struct msg_seal){ s->job, s->chunks, s->tasks };
    return 0;
}

void wire_put_accepted(const struct msg *m, union any *a)
{
    tidemill__accepted__init(&a->accepted);
    a->accepted.key = bytes(m->accepted.key, WIRE_KEY_BYTES);
    a->accepted.job = m->accepted.job;
    a->accepted.chunks = m->accepted.chunks;
    a->accepted.sealed = m->accepted.sealed;
    a->accepted.state = (Tidemill__JobState)m->accepted.state;
    a->accepted.credit_bytes = m->accepted.credit_bytes;
}

int wire_take_accepted(struct in *in)
{
    const Tidemill__Accepted *a = in->e->accepted;
    struct msg_accepted *r = &in->m->accepted;

    *r = (struct msg_accepted){ .job = a->job,
                                .chunks = a->chunks,
                                .sealed = a->sealed,
                                .credit_bytes = a->credit_bytes };
    if (fixed(in, a->key, r->key, "key") < 0)
        return -1;
    return state(in, a->state, &r->state);
}

void wire_put_follow(const struct msg *m, union any *a)
{
    const struct msg_follow *f = &m->follow;

    tidemill__follow__init(&a->follow);
    a->follow.job = f->job;
    a->follow.cursor = f->cursor;
    a->follow.credit_bytes = f->credit_bytes;
    a->follow.task_order = f->task_order;
    a->follow.inputs = f->inputs;
    a->follow.failed_only = f->failed_only;
    a->follow.epoch_counter = f->epoch_counter;
}

int wire_take_follow(struct in *in)
{
    const Tidemill__Follow *f = in->e->follow;

    in->m->follow =
        (struct msg_follow){ f->job,    f->cursor,      f->credit_bytes, f->task_order,
                             f->inputs, f->failed_only, f->epoch_counter };
    return 0;
}

void wire_put_results(const struct msg *m, union any *a)
{
    const struct msg_results *r = &m->results;
    Tidemill__Results *p = &a->results;

    tidemill__results__init(p);
    p->job = r->job;
    p->cursor = r->cursor;
    p->next_cursor = r->next_cursor;
    p->statuses = bytes(r->batch.statuses, r->batch.n);
    p->node = bytes_of(r->node);
    p->end = r->end;
    p->state = (Tidemill__JobState)r->state;
    p->count_tasks = r->counts.tasks;
    p->count_ok = r->counts.ok;
    p->count_failed = r->counts.failed;
    p->count_quarantined = r->counts.quarantined;
    p->count_cancelled = r->counts.cancelled;
    p->count_running = r->counts.running;
    LIST(p->n_tasks, p->tasks, r->batch.n, r->batch.tasks);
    LIST(p->n_lens, p->lens, r->batch.n, r->batch.lens);
    LIST(p->n_input_lens, p->input_lens, r->n_input_lens, r->input_lens);
    LIST(p->n_attempts, p->attempts, r->n_attempts, r->attempts);
}

int wire_take_results(struct in *in)
{
    const Tidemill__Results *p = in->e->results;
    struct msg_results *r = &in->m->results;
    size_t total = 0;

    if (batch(in, p->n_tasks, p->tasks, p->statuses, p->n_lens) < 0)
        return -1;
    if ((p->n_input_lens && p->n_input_lens != p->n_tasks) ||
        (p->n_attempts && p->n_attempts != p->n_tasks))
        return bad(in, "batch");
    *r = (struct msg_results){
        .job = p->job,
        .cursor = p->cursor,
        .next_cursor = p->next_cursor,
        .batch = { (uint32_t)p->n_tasks, p->tasks, p->statuses.data, p->lens },
        .input_lens = p->input_lens,
        .n_input_lens = (uint32_t)p->n_input_lens,
        .attempts = p->attempts,
        .n_attempts = (uint32_t)p->n_attempts,
        .end = p->end,
        .counts = { p->count_tasks, p->count_ok, p->count_failed, p->count_quarantined,
                    p->count_cancelled, p->count_running },
    };
    if (sum(p->lens, p->n_lens, in->body_len, &total) < 0 ||
        sum(p->input_lens, p->n_input_lens, in->body_len, &total) < 0 ||
        total != in->body_len)
        return bad(in, "lengths");
    if (state(in, p->state, &r->state) < 0)
        return -1;
    return text(in, p->node, WIRE_TEXT_MAX, &r->node, "node");
}

void wire_put_credit(const struct msg *m, union any *a)
{
    tidemill__credit__init(&a->credit);
    a->credit.job = m->credit.job;
    a->credit.bytes = m->credit.bytes;
}

int wire_take_credit(struct in *in)
{
    in->m->credit = (struct msg_credit){ in->e->credit->job, in->e->credit->bytes };
    return 0;
}
