/* Messages of leases between coordinator and worker. */
#include "proto/wire_pb.h"

void wire_put_lease(const struct msg *m, union any *a)
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

int wire_take_lease(struct in *in)
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

void wire_put_done(const struct msg *m, union any *a)
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

int wire_take_done(struct in *in)
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

void wire_put_committed(const struct msg *m, union any *a)
{
    tidemill__committed__init(&a->committed);
    a->committed.lease = m->committed.lease;
    LIST(a->committed.n_won, a->committed.won, m->committed.n_won, m->committed.won);
    LIST(a->committed.n_lost, a->committed.lost, m->committed.n_lost, m->committed.lost);
}

int wire_take_committed(struct in *in)
{
    const Tidemill__Committed *c = in->e->committed;

    if (c->n_won > WIRE_CHUNK_TASKS_MAX || c->n_lost > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "tasks");
    in->m->committed = (struct msg_committed){ c->lease, c->won, c->lost,
                                               (uint32_t)c->n_won, (uint32_t)c->n_lost };
    return 0;
}

void wire_put_published(const struct msg *m, union any *a)
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

int wire_take_published(struct in *in)
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
    for (uint32_t i = 0; i < r->batch.n; i++)
        if (r->batch.statuses[i] > TASK_FAILED)
            return bad(in, "status"); /* a file is in place, or it is not */
    if (epoch(in, p->epoch_counter, p->epoch_nonce, &r->epoch) < 0)
        return -1;
    return lens_fill(in, r->batch.lens, r->batch.n);
}

void wire_put_revoke(const struct msg *m, union any *a)
{
    tidemill__revoke__init(&a->revoke);
    a->revoke.lease = m->revoke.lease;
    a->revoke.job = m->revoke.job;
}

int wire_take_revoke(struct in *in)
{
    in->m->revoke = (struct msg_revoke){ in->e->revoke->lease, in->e->revoke->job };
    return 0;
}
