#include "proto/wire.h"

#include <tidemill.pb-c.h>

/* One of each protobuf message, for encoding without allocation. */
union any {
    Tidemill__Hello hello;
    Tidemill__Welcome welcome;
    Tidemill__Beat beat;
    Tidemill__Submit submit;
    Tidemill__Chunk chunk;
    Tidemill__Seal seal;
    Tidemill__Accepted accepted;
    Tidemill__Lease lease;
    Tidemill__Done done;
    Tidemill__Committed committed;
    Tidemill__Published published;
    Tidemill__Follow follow;
    Tidemill__Results results;
    Tidemill__Cancel cancel;
    Tidemill__Drain drain;
    Tidemill__Query query;
    Tidemill__Answer answer;
    Tidemill__Error error;
    Tidemill__Revoke revoke;
    Tidemill__Credit credit;
    Tidemill__Remove remove;
    Tidemill__Pause pause;
};

/* What decoding one message needs. */
struct in {
    const Tidemill__Envelope *e;
    struct msg *m;
    struct arena *arena;
    size_t body_len;
    struct err *err;
};

static ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){ len, (uint8_t *)data };
}
static ProtobufCBinaryData bytes_of(struct span s)
{
    return bytes(s.data, s.len);
}
#define LIST(n_field, field, n, p) ((n_field) = (n), (field) = (void *)(p))

static struct span span_pb(ProtobufCBinaryData b)
{
    return span_of(b.data, b.len);
}

static int bad(struct in *in, const char *what)
{
    return err_set(in->err, 1, "%s message: bad %s", msg_type_name(in->m->type), what);
}

static int fixed(struct in *in, ProtobufCBinaryData b, uint8_t to[16], const char *what)
{
    if (b.len != 16)
        return bad(in, what);
    memcpy(to, b.data, 16);
    return 0;
}

static int text(struct in *in, ProtobufCBinaryData b, size_t max, struct span *ret,
                const char *what)
{
    if (b.len > max)
        return bad(in, what);
    *ret = span_pb(b);
    return 0;
}

static int epoch(struct in *in, uint64_t counter, ProtobufCBinaryData nonce,
                 struct epoch *ret)
{
    ret->counter = counter;
    return fixed(in, nonce, ret->nonce, "epoch");
}

static int state(struct in *in, int value, enum job_state *ret)
{
    if (value < JOB_OPEN || value > JOB_ABANDONED)
        return bad(in, "job state");
    *ret = (enum job_state)value;
    return 0;
}

/* Sums lengths; -1 when they pass the body. */
static int sum(const uint32_t *lens, size_t n, size_t body_len, size_t *total)
{
    for (size_t i = 0; i < n; i++) {
        if (lens[i] > body_len - *total)
            return -1;
        *total += lens[i];
    }
    return 0;
}

static int lens_fill(struct in *in, const uint32_t *lens, size_t n)
{
    size_t total = 0;

    if (sum(lens, n, in->body_len, &total) < 0 || total != in->body_len)
        return bad(in, "lengths");
    return 0;
}

/* Arrays of one batch must be of one size. */
static int batch(struct in *in, size_t n, const uint32_t *tasks,
                 ProtobufCBinaryData statuses, size_t n_lens)
{
    if (n > WIRE_CHUNK_TASKS_MAX || statuses.len != n || n_lens != n)
        return bad(in, "batch");
    for (size_t i = 0; i < n; i++)
        if (statuses.data[i] >= TASK_STATUS_COUNT)
            return bad(in, "status");
    (void)tasks;
    return 0;
}

/* Ranges are pairs, of a chunk's tasks at most. */
static int ranges(struct in *in, size_t n, const uint32_t *pairs, uint64_t *ret_tasks)
{
    uint64_t tasks = 0;

    if (n % 2 || n / 2 > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "ranges");
    for (size_t i = 1; i < n; i += 2)
        tasks += pairs[i];
    if (tasks > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "ranges");
    if (ret_tasks)
        *ret_tasks = tasks;
    return 0;
}

/* ---- one pair of functions a message ---- */

static void put_hello(const struct msg *m, union any *a)
{
    const struct msg_hello *h = &m->hello;
    Tidemill__HeldLease *held = xcalloc(h->n_held + 1, sizeof(*held));
    Tidemill__HeldLease **list = xcalloc(h->n_held + 1, sizeof(*list));

    for (uint32_t i = 0; i < h->n_held; i++) {
        tidemill__held_lease__init(&held[i]);
        held[i].lease = h->held[i].lease;
        held[i].job = h->held[i].job;
        held[i].chunk = h->held[i].chunk;
        held[i].digest = bytes(h->held[i].digest, WIRE_DIGEST_BYTES);
        LIST(held[i].n_ranges, held[i].ranges, h->held[i].n_ranges * 2,
             h->held[i].ranges);
        list[i] = &held[i];
    }
    list[h->n_held] = held; /* kept for freeing */
    tidemill__hello__init(&a->hello);
    a->hello.role = (Tidemill__Role)h->role;
    a->hello.version_min = h->version_min;
    a->hello.version_max = h->version_max;
    a->hello.epoch_counter = h->epoch.counter;
    a->hello.epoch_nonce = bytes(h->epoch.nonce, 16);
    a->hello.name = bytes_of(h->name);
    a->hello.cpu_slots = h->cpu_slots;
    a->hello.io_slots = h->io_slots;
    a->hello.nonce = bytes(h->nonce, 16);
    a->hello.pid = h->pid;
    a->hello.identities = bytes_of(h->identities);
    a->hello.draining = h->draining;
    LIST(a->hello.n_held, a->hello.held, h->n_held, list);
}

static int take_hello(struct in *in)
{
    const Tidemill__Hello *h = in->e->hello;
    struct msg_hello *r = &in->m->hello;
    struct held_lease *held;

    if ((int)h->role != ROLE_CLIENT && (int)h->role != ROLE_WORKER)
        return bad(in, "role");
    if (h->n_held > WIRE_LIST_MAX)
        return bad(in, "leases");
    held = arena_alloc(in->arena, (h->n_held + 1) * sizeof(*held));
    if (!held)
        return bad(in, "size");
    for (size_t i = 0; i < h->n_held; i++) {
        const Tidemill__HeldLease *from = h->held[i];
        held[i] = (struct held_lease){ .lease = from->lease,
                                       .job = from->job,
                                       .chunk = from->chunk,
                                       .ranges = (const struct range *)from->ranges,
                                       .n_ranges = (uint32_t)(from->n_ranges / 2) };
        if (ranges(in, from->n_ranges, from->ranges, NULL) < 0 ||
            fixed(in, from->digest, held[i].digest, "digest") < 0)
            return bad(in, "lease");
    }
    r->role = (enum peer_role)h->role;
    r->version_min = h->version_min;
    r->version_max = h->version_max;
    r->cpu_slots = h->cpu_slots;
    r->io_slots = h->io_slots;
    r->pid = h->pid;
    r->draining = h->draining;
    r->held = held;
    r->n_held = (uint32_t)h->n_held;
    if (epoch(in, h->epoch_counter, h->epoch_nonce, &r->epoch) < 0 ||
        fixed(in, h->nonce, r->nonce, "nonce") < 0 ||
        text(in, h->identities, WIRE_SPEC_BYTES_MAX, &r->identities, "identities") < 0)
        return -1;
    return text(in, h->name, WIRE_TEXT_MAX, &r->name, "name");
}

static void put_welcome(const struct msg *m, union any *a)
{
    const struct msg_welcome *w = &m->welcome;

    tidemill__welcome__init(&a->welcome);
    a->welcome.version = w->version;
    a->welcome.epoch_counter = w->epoch.counter;
    a->welcome.epoch_nonce = bytes(w->epoch.nonce, 16);
    a->welcome.session = w->session;
    a->welcome.frame_max = w->frame_max;
    a->welcome.chunk_tasks_max = w->chunk_tasks_max;
    a->welcome.chunk_bytes_max = w->chunk_bytes_max;
    a->welcome.input_max = w->input_max;
    a->welcome.value_max = w->value_max;
    a->welcome.beat_ms = w->beat_ms;
    a->welcome.silence_ms = w->silence_ms;
}

static int take_welcome(struct in *in)
{
    const Tidemill__Welcome *w = in->e->welcome;

    in->m->welcome = (struct msg_welcome){ .version = w->version,
                                           .session = w->session,
                                           .frame_max = w->frame_max,
                                           .chunk_tasks_max = w->chunk_tasks_max,
                                           .chunk_bytes_max = w->chunk_bytes_max,
                                           .input_max = w->input_max,
                                           .value_max = w->value_max,
                                           .beat_ms = w->beat_ms,
                                           .silence_ms = w->silence_ms };
    return epoch(in, w->epoch_counter, w->epoch_nonce, &in->m->welcome.epoch);
}

static void put_beat(const struct msg *m, union any *a)
{
    tidemill__beat__init(&a->beat);
    a->beat.session = m->beat.session;
    a->beat.cpu_busy = m->beat.cpu_busy;
    a->beat.io_busy = m->beat.io_busy;
    LIST(a->beat.n_progressing, a->beat.progressing, m->beat.n_progressing,
         m->beat.progressing);
}

static int take_beat(struct in *in)
{
    const Tidemill__Beat *b = in->e->beat;

    if (b->n_progressing > WIRE_LIST_MAX)
        return bad(in, "leases");
    in->m->beat = (struct msg_beat){ b->session, b->cpu_busy, b->io_busy, b->progressing,
                                     (uint32_t)b->n_progressing };
    return 0;
}

static void put_submit(const struct msg *m, union any *a)
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

static int take_submit(struct in *in)
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

static void put_chunk(const struct msg *m, union any *a)
{
    tidemill__chunk__init(&a->chunk);
    a->chunk.job = m->chunk.job;
    a->chunk.seq = m->chunk.seq;
    a->chunk.digest = bytes(m->chunk.digest, WIRE_DIGEST_BYTES);
    LIST(a->chunk.n_lens, a->chunk.lens, m->chunk.n, m->chunk.lens);
}

static int take_chunk(struct in *in)
{
    const Tidemill__Chunk *c = in->e->chunk;
    struct msg_chunk *r = &in->m->chunk;

    if (c->n_lens > WIRE_CHUNK_TASKS_MAX || in->body_len > WIRE_CHUNK_BYTES_MAX)
        return bad(in, "size");
    *r = (struct msg_chunk){ c->job, c->seq, (uint32_t)c->n_lens, c->lens, { 0 } };
    if (fixed(in, c->digest, r->digest, "digest") < 0)
        return -1;
    return lens_fill(in, r->lens, r->n);
}

static void put_seal(const struct msg *m, union any *a)
{
    tidemill__seal__init(&a->seal);
    a->seal.job = m->seal.job;
    a->seal.chunks = m->seal.chunks;
    a->seal.tasks = m->seal.tasks;
}

static int take_seal(struct in *in)
{
    const Tidemill__Seal *s = in->e->seal;

    in->m->seal = (struct msg_seal){ s->job, s->chunks, s->tasks };
    return 0;
}

static void put_accepted(const struct msg *m, union any *a)
{
    tidemill__accepted__init(&a->accepted);
    a->accepted.key = bytes(m->accepted.key, WIRE_KEY_BYTES);
    a->accepted.job = m->accepted.job;
    a->accepted.chunks = m->accepted.chunks;
    a->accepted.sealed = m->accepted.sealed;
    a->accepted.state = (Tidemill__JobState)m->accepted.state;
    a->accepted.credit_bytes = m->accepted.credit_bytes;
}

static int take_accepted(struct in *in)
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

static void put_lease(const struct msg *m, union any *a)
{
    const struct msg_lease *l = &m->lease;

    tidemill__lease__init(&a->lease);
    a->lease.lease = l->lease;
    a->lease.job = l->job;
    a->lease.chunk = l->chunk;
    a->lease.digest = bytes(l->digest, WIRE_DIGEST_BYTES);
    a->lease.spec = bytes_of(l->spec);
    a->lease.task_timeout_ns = l->task_timeout_ns;
    a->lease.publish = l->publish;
    a->lease.attempt_epoch = l->attempt_epoch;
    LIST(a->lease.n_ranges, a->lease.ranges, l->n_ranges * 2, l->ranges);
    LIST(a->lease.n_lens, a->lease.lens, l->n_lens, l->lens);
}

static int take_lease(struct in *in)
{
    const Tidemill__Lease *l = in->e->lease;
    struct msg_lease *r = &in->m->lease;
    uint64_t tasks = 0;

    *r = (struct msg_lease){ .lease = l->lease,
                             .job = l->job,
                             .chunk = l->chunk,
                             .ranges = (const struct range *)l->ranges,
                             .n_ranges = (uint32_t)(l->n_ranges / 2),
                             .lens = l->lens,
                             .n_lens = (uint32_t)l->n_lens,
                             .task_timeout_ns = MAX(0, l->task_timeout_ns),
                             .publish = l->publish,
                             .attempt_epoch = l->attempt_epoch };
    if (ranges(in, l->n_ranges, l->ranges, &tasks) < 0)
        return -1;
    if (tasks != l->n_lens)
        return bad(in, "ranges");
    if (fixed(in, l->digest, r->digest, "digest") < 0 ||
        text(in, l->spec, WIRE_SPEC_BYTES_MAX, &r->spec, "spec") < 0)
        return -1;
    return lens_fill(in, r->lens, r->n_lens);
}

static void put_done(const struct msg *m, union any *a)
{
    const struct msg_done *d = &m->done;

    tidemill__done__init(&a->done);
    a->done.lease = d->lease;
    a->done.job = d->job;
    a->done.epoch_counter = d->epoch.counter;
    a->done.epoch_nonce = bytes(d->epoch.nonce, 16);
    a->done.digest = bytes(d->digest, WIRE_DIGEST_BYTES);
    a->done.chunk = d->chunk;
    a->done.statuses = bytes(d->batch.statuses, d->batch.n);
    a->done.last = d->last;
    a->done.files = d->files;
    LIST(a->done.n_tasks, a->done.tasks, d->batch.n, d->batch.tasks);
    LIST(a->done.n_lens, a->done.lens, d->batch.n, d->batch.lens);
}

static int take_done(struct in *in)
{
    const Tidemill__Done *d = in->e->done;
    struct msg_done *r = &in->m->done;

    if (batch(in, d->n_tasks, d->tasks, d->statuses, d->n_lens) < 0)
        return -1;
    *r = (struct msg_done){
        .lease = d->lease,
        .job = d->job,
        .chunk = d->chunk,
        .batch = { (uint32_t)d->n_tasks, d->tasks, d->statuses.data, d->lens },
        .last = d->last,
        .files = d->files,
    };
    if (epoch(in, d->epoch_counter, d->epoch_nonce, &r->epoch) < 0 ||
        fixed(in, d->digest, r->digest, "digest") < 0)
        return -1;
    return lens_fill(in, r->batch.lens, r->batch.n);
}

static void put_committed(const struct msg *m, union any *a)
{
    tidemill__committed__init(&a->committed);
    a->committed.lease = m->committed.lease;
    LIST(a->committed.n_won, a->committed.won, m->committed.n_won, m->committed.won);
    LIST(a->committed.n_lost, a->committed.lost, m->committed.n_lost, m->committed.lost);
}

static int take_committed(struct in *in)
{
    const Tidemill__Committed *c = in->e->committed;

    if (c->n_won > WIRE_CHUNK_TASKS_MAX || c->n_lost > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "tasks");
    in->m->committed = (struct msg_committed){ c->lease, c->won, c->lost,
                                               (uint32_t)c->n_won, (uint32_t)c->n_lost };
    return 0;
}

static void put_published(const struct msg *m, union any *a)
{
    const struct msg_published *p = &m->published;

    tidemill__published__init(&a->published);
    a->published.lease = p->lease;
    a->published.job = p->job;
    a->published.epoch_counter = p->epoch.counter;
    a->published.epoch_nonce = bytes(p->epoch.nonce, 16);
    a->published.statuses = bytes(p->batch.statuses, p->batch.n);
    LIST(a->published.n_tasks, a->published.tasks, p->batch.n, p->batch.tasks);
    LIST(a->published.n_lens, a->published.lens, p->batch.n, p->batch.lens);
}

static int take_published(struct in *in)
{
    const Tidemill__Published *p = in->e->published;
    struct msg_published *r = &in->m->published;

    if (batch(in, p->n_tasks, p->tasks, p->statuses, p->n_lens) < 0)
        return -1;
    *r = (struct msg_published){
        .lease = p->lease,
        .job = p->job,
        .batch = { (uint32_t)p->n_tasks, p->tasks, p->statuses.data, p->lens },
    };
    if (epoch(in, p->epoch_counter, p->epoch_nonce, &r->epoch) < 0)
        return -1;
    return lens_fill(in, r->batch.lens, r->batch.n);
}

static void put_follow(const struct msg *m, union any *a)
{
    const struct msg_follow *f = &m->follow;

    tidemill__follow__init(&a->follow);
    a->follow.job = f->job;
    a->follow.cursor = f->cursor;
    a->follow.credit_bytes = f->credit_bytes;
    a->follow.task_order = f->task_order;
    a->follow.inputs = f->inputs;
    a->follow.failed_only = f->failed_only;
}

static int take_follow(struct in *in)
{
    const Tidemill__Follow *f = in->e->follow;

    in->m->follow = (struct msg_follow){ f->job,        f->cursor, f->credit_bytes,
                                         f->task_order, f->inputs, f->failed_only };
    return 0;
}

static void put_results(const struct msg *m, union any *a)
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

static int take_results(struct in *in)
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

static void put_cancel(const struct msg *m, union any *a)
{
    tidemill__cancel__init(&a->cancel);
    a->cancel.job = m->cancel.job;
    a->cancel.id = m->cancel.id;
}

static int take_cancel(struct in *in)
{
    in->m->cancel = (struct msg_cancel){ in->e->cancel->job, in->e->cancel->id };
    return 0;
}

static void put_pause(const struct msg *m, union any *a)
{
    tidemill__pause__init(&a->pause);
    a->pause.job = m->pause.job;
    a->pause.resume = m->pause.resume;
    a->pause.id = m->pause.id;
}

static int take_pause(struct in *in)
{
    const Tidemill__Pause *p = in->e->pause;

    in->m->pause = (struct msg_pause){ p->job, p->resume, p->id };
    return 0;
}

static void put_remove(const struct msg *m, union any *a)
{
    tidemill__remove__init(&a->remove);
    a->remove.job = m->remove.job;
    a->remove.id = m->remove.id;
}

static int take_remove(struct in *in)
{
    in->m->remove = (struct msg_remove){ in->e->remove->job, in->e->remove->id };
    return 0;
}

static void put_drain(const struct msg *m, union any *a)
{
    tidemill__drain__init(&a->drain);
    a->drain.node = bytes_of(m->drain.node);
    a->drain.undo = m->drain.undo;
    a->drain.id = m->drain.id;
}

static int take_drain(struct in *in)
{
    in->m->drain.undo = in->e->drain->undo;
    in->m->drain.id = in->e->drain->id;
    return text(in, in->e->drain->node, WIRE_TEXT_MAX, &in->m->drain.node, "node");
}

static void put_query(const struct msg *m, union any *a)
{
    tidemill__query__init(&a->query);
    a->query.id = m->query.id;
    a->query.what = bytes_of(m->query.what);
    a->query.job = m->query.job;
}

static int take_query(struct in *in)
{
    in->m->query = (struct msg_query){ .id = in->e->query->id, .job = in->e->query->job };
    return text(in, in->e->query->what, WIRE_TEXT_MAX, &in->m->query.what, "query");
}

static void put_answer(const struct msg *m, union any *a)
{
    tidemill__answer__init(&a->answer);
    a->answer.id = m->answer.id;
    a->answer.n = m->answer.n;
    a->answer.last = m->answer.last;
}

static int take_answer(struct in *in)
{
    const Tidemill__Answer *a = in->e->answer;

    in->m->answer = (struct msg_answer){ a->id, a->n, a->last };
    return 0;
}

static void put_error(const struct msg *m, union any *a)
{
    tidemill__error__init(&a->error);
    a->error.code = m->error.code;
    a->error.text = bytes_of(m->error.text);
    a->error.hint = bytes_of(m->error.hint);
    a->error.job = m->error.job;
    a->error.about = (Tidemill__Type)m->error.about;
}

static int take_error(struct in *in)
{
    const Tidemill__Error *e = in->e->error;
    struct msg_error *r = &in->m->error;

    *r = (struct msg_error){ .code = e->code, .job = e->job };
    if ((unsigned)e->about < (unsigned)MSG_TYPE_COUNT)
        r->about = (enum msg_type)e->about;
    if (text(in, e->text, WIRE_TEXT_MAX, &r->text, "text") < 0)
        return -1;
    return text(in, e->hint, WIRE_TEXT_MAX, &r->hint, "hint");
}

static void put_revoke(const struct msg *m, union any *a)
{
    tidemill__revoke__init(&a->revoke);
    a->revoke.lease = m->revoke.lease;
    a->revoke.job = m->revoke.job;
}

static int take_revoke(struct in *in)
{
    in->m->revoke = (struct msg_revoke){ in->e->revoke->lease, in->e->revoke->job };
    return 0;
}

static void put_credit(const struct msg *m, union any *a)
{
    tidemill__credit__init(&a->credit);
    a->credit.job = m->credit.job;
    a->credit.bytes = m->credit.bytes;
}

static int take_credit(struct in *in)
{
    in->m->credit = (struct msg_credit){ in->e->credit->job, in->e->credit->bytes };
    return 0;
}

/* ---- the table ---- */

static const struct {
    const char *name;
    void (*put)(const struct msg *m, union any *a);
    int (*take)(struct in *in);
} types[MSG_TYPE_COUNT] = {
    [MSG_HELLO] = { "Hello", put_hello, take_hello },
    [MSG_WELCOME] = { "Welcome", put_welcome, take_welcome },
    [MSG_BEAT] = { "Beat", put_beat, take_beat },
    [MSG_SUBMIT] = { "Submit", put_submit, take_submit },
    [MSG_CHUNK] = { "Chunk", put_chunk, take_chunk },
    [MSG_SEAL] = { "Seal", put_seal, take_seal },
    [MSG_ACCEPTED] = { "Accepted", put_accepted, take_accepted },
    [MSG_LEASE] = { "Lease", put_lease, take_lease },
    [MSG_DONE] = { "Done", put_done, take_done },
    [MSG_COMMITTED] = { "Committed", put_committed, take_committed },
    [MSG_PUBLISHED] = { "Published", put_published, take_published },
    [MSG_FOLLOW] = { "Follow", put_follow, take_follow },
    [MSG_RESULTS] = { "Results", put_results, take_results },
    [MSG_CANCEL] = { "Cancel", put_cancel, take_cancel },
    [MSG_DRAIN] = { "Drain", put_drain, take_drain },
    [MSG_QUERY] = { "Query", put_query, take_query },
    [MSG_ANSWER] = { "Answer", put_answer, take_answer },
    [MSG_ERROR] = { "Error", put_error, take_error },
    [MSG_REVOKE] = { "Revoke", put_revoke, take_revoke },
    [MSG_CREDIT] = { "Credit", put_credit, take_credit },
    [MSG_REMOVE] = { "Remove", put_remove, take_remove },
    [MSG_PAUSE] = { "Pause", put_pause, take_pause },
};
/* A payload's field number is 16 + its type: the oneof's case and the type must agree. */
enum { PAYLOAD_FIELD_BASE = 16 };

const char *msg_type_name(enum msg_type t)
{
    return (unsigned)t < MSG_TYPE_COUNT && types[t].name ? types[t].name : "?";
}

void wire_encode(const struct msg *m, struct buf *out)
{
    Tidemill__Envelope e = TIDEMILL__ENVELOPE__INIT;
    union any any;
    size_t size;

    CHECK((unsigned)m->type < MSG_TYPE_COUNT && types[m->type].put);
    types[m->type].put(m, &any);
    e.version = WIRE_VERSION;
    e.type = (Tidemill__Type)m->type;
    e.payload_case = (Tidemill__Envelope__PayloadCase)(PAYLOAD_FIELD_BASE + m->type);
    e.hello = &any.hello; /* whichever it is: all are at the union's start */
    size = tidemill__envelope__get_packed_size(&e);
    out->len += tidemill__envelope__pack(&e, buf_reserve(out, size));
    if (m->type == MSG_HELLO) {
        free(any.hello.held[m->hello.n_held]);
        free(any.hello.held);
    }
}

static void *budget_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void budget_free(void *arena, void *p)
{
    (void)arena, (void)p; /* all goes with the arena */
}

int wire_decode(struct span envelope, struct span body, struct arena *arena,
                struct msg *ret, struct err *err)
{
    ProtobufCAllocator allocator = { budget_alloc, budget_free, arena };
    struct in in = { .m = ret, .arena = arena, .body_len = body.len, .err = err };
    Tidemill__Envelope *e;

    e = tidemill__envelope__unpack(&allocator, envelope.len, envelope.data);
    if (!e)
        return err_set(err, 1, "not an envelope, or a too large one");
    if (e->version != WIRE_VERSION)
        return err_set(err, 1, "unknown protocol version %u", e->version);
    if ((int)e->type <= 0 || (int)e->type >= MSG_TYPE_COUNT)
        return err_set(err, 1, "unknown message type %d", (int)e->type);
    memset(ret, 0, sizeof(*ret));
    ret->type = (enum msg_type)e->type;
    ret->body = body;
    in.e = e;
    if ((int)e->payload_case != PAYLOAD_FIELD_BASE + (int)e->type)
        return bad(&in, "payload");
    return types[ret->type].take(&in);
}
