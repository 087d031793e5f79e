/* Promises to those who read: what followers see, and what there is when all have ended
 * (P2, P5, P6). */
#include "proto/pack.h"
#include "tests/sim/check_state.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/sim_node.h"

/* ---- what followers see ---- */

/* What is on its way when the coordinator dies still comes: 0 = none of the task's. */
static uint32_t which_record(const struct truth *t, uint8_t status, uint64_t value)
{
    if (t->visible && t->status == status && t->value == value)
        return t->record;
    if (t->lost.status == status && t->lost.value == value)
        return t->lost.record;
    return 0;
}

static void seen_one(struct world *w, struct plan *p, const struct msg *m, uint32_t i,
                     struct span value)
{
    const struct msg_results *r = &m->results;
    uint32_t task = r->batch.tasks[i];
    struct truth *t = truth_of(w, p, task);
    uint64_t *last = &w->check->last_task[p->index];

    if (!t)
        return;
    if (t->seen[p->reading])
        broken(w, "P2: a follower sees task %u of job %u twice", task, p->index);
    t->seen[p->reading] = which_record(t, r->batch.statuses[i], hash_of(value));
    if (!t->seen[p->reading])
        broken(w, "P2: a follower sees another record of task %u of job %u", task,
               p->index);
    if (p->failed_only && t->status == TASK_OK)
        broken(w, "R14: a follower of failures sees a success");
    if (p->task_order && task < *last)
        broken(w, "R14: task %u of job %u comes out of order", task, p->index);
    *last = task + 1;
}

void check_seen(struct world *w, struct plan *p, const struct msg *m)
{
    const struct msg_results *r = &m->results;
    size_t at = 0, in_at = 0;

    for (uint32_t i = 0; i < r->batch.n; i++)
        in_at += r->batch.lens[i];
    if (p->inputs && r->n_input_lens != r->batch.n) {
        broken(w, "P5: results of job %u come without their inputs", p->index);
        return;
    }
    if (r->cursor == 0)
        w->check->last_task[p->index] = 0;
    for (uint32_t i = 0; i < r->batch.n; i++) {
        seen_one(w, p, m, i, span_of(m->body.data + at, r->batch.lens[i]));
        at += r->batch.lens[i];
        if (!p->inputs)
            continue;
        if (!input_is(w, p, r->batch.tasks[i],
                      span_of(m->body.data + in_at, r->input_lens[i])))
            broken(w, "P5: task %u of job %u comes with another input", r->batch.tasks[i],
                   p->index);
        in_at += r->input_lens[i];
    }
}

void check_seen_end(struct world *w, struct plan *p)
{
    struct stored_job *j = stored_by_key(w, p->key);

    if (p->removed)
        return;
    for (uint32_t i = 0; j && i < j->row.tasks; i++) {
        struct truth *t = truth_of(w, p, i);
        if (!t->seen[p->reading] && !(p->failed_only && t->status == TASK_OK))
            broken(w, "P2: the results of job %u end and task %u was not among them",
                   p->index, i);
        if (t->seen[p->reading] && t->seen[p->reading] != t->record)
            broken(w,
                   "P2: what a follower saw of task %u of job %u is lost, and it was "
                   "not told",
                   i, p->index);
    }
    w->check->last_task[p->index] = 0;
    if (!j || !j->row.ended_wall_ns)
        broken(w, "P2: a follower is told the end of job %u, which has not ended",
               p->index);
}

/* ---- what a kill takes of what was written behind ---- */

void check_lost_chunk(struct world *w, const struct stored_job *j)
{
    struct plan *p = plan_of(w, j);

    if (j->row.state != JOB_OPEN || p->seal_acked)
        broken(w, "P1: inputs of job %u are lost, which is sealed", p->index);
    p->lost_in = w->coord->epoch.counter;
    p->hurt = true;
}

void check_lost_batch(struct world *w, const struct stored_job *j,
                      const struct batch_row *row)
{
    struct plan *p = plan_of(w, j);

    if (j->row.ended_wall_ns)
        broken(w, "P1: records of job %u are lost, which has ended", p->index);
    for (uint32_t i = 0; i < row->n; i++) {
        struct truth *t = truth_of(w, p, ((const uint32_t *)row->tasks->data)[i]);
        t->lost.record = t->record;
        t->lost.status = t->status;
        t->lost.value = t->value;
        t->recorded = t->visible = false;
        t->lease = 0;
    }
    p->hurt = true;
}

/* Fewer than were acknowledged: once after a kill that took some. */
void check_told_chunks(struct world *w, struct plan *p, uint64_t epoch, uint32_t chunks)
{
    bool may_be = p->lost_in && p->lost_in < epoch;

    if (chunks < p->acked && !may_be)
        broken(w, "P1: job %llu was accepted with %u chunks, now with %u",
               (unsigned long long)p->job, p->acked, chunks);
    if (may_be)
        p->lost_in = 0;
}

/* All it has seen is forgotten, and it reads anew. */
void check_told_lost(struct world *w, struct plan *p)
{
    bool lost = false;

    for (uint32_t i = 0; i < p->first[p->n_chunks]; i++) {
        struct truth *t = truth_of(w, p, i);
        uint32_t seen = t->seen[p->reading];
        lost |= seen && (!t->recorded || seen != t->record);
        t->seen[p->reading] = 0;
    }
    if (!lost)
        broken(w, "P5: a follower of job %u is told of a loss that is none", p->index);
    if (p->task_order || p->failed_only)
        broken(w, "R3: a follower of job %u was sent what was not on disk", p->index);
}

/* ---- at rest ---- */

bool check_jobs_ended(struct world *w)
{
    struct stored_job *jobs;
    uint32_t n = stored_jobs(w, &jobs);

    for (uint32_t i = 0; i < n; i++)
        if (!jobs[i].row.ended_wall_ns || records(&jobs[i]) != jobs[i].row.tasks)
            return false;
    return true;
}

static void end_job(struct world *w, const struct plan *p)
{
    struct stored_job *j = stored_by_key(w, p->key);

    if (p->removed) {
        if (j)
            broken(w, "R16: job %u was removed and is there again", p->index);
        return;
    }
    /* A client that is gone for good may not have been told. */
    if (p->acked && (!j || j->n_chunks < p->acked) &&
        !(j && p->lost_in && w->clients[p->client].gone)) {
        broken(w, "P1: acknowledged chunks of job %u are gone", p->index);
        return;
    }
    if (!j)
        return;
    for (uint32_t c = 0; c < j->n_chunks; c++) {
        const uint32_t *lens = (const uint32_t *)j->chunks[c].lens->data;
        size_t at = 0;
        for (uint32_t i = 0; i < j->chunks[c].n; at += lens[i++])
            if (!input_is(w, p, (uint32_t)j->chunks[c].first + i,
                          span_of(j->chunks[c].body->data + at, lens[i])))
                broken(w, "P1: task %u of job %u is stored with other bytes", i,
                       p->index);
    }
    if (p->heard > JOB_SEALED && p->heard != j->row.state)
        broken(w, "P1: job %u was told to be in state %d and ended in %d", p->index,
               p->heard, j->row.state);
    if (j->row.state == JOB_DONE && j->row.cancelled)
        broken(w, "P2: job %u is done with cancelled tasks", p->index);
}

static void end_file(struct world *w, const struct entry *e)
{
    unsigned index = 0, task = 0;
    struct plan *p;
    struct truth *t;

    if (e->removed || sscanf(e->out, "/d/%u-%u", &index, &task) != 2)
        return;
    p = plan_at(w, index);
    t = truth_of(w, p, task);
    if (e->temp) {
        if (w->nodes[e->maker].life == e->life)
            broken(w, "P6: a temporary is left (task %u of job %u, lease %llx)", task,
                   index, (unsigned long long)e->attempt.lease);
        return;
    }
    if (!e->whole)
        broken(w, "P6: the file of task %u of job %u is not whole", task, index);
    /* One put in place after its record had ended as "unpublished" is allowed: nobody can
     * call back a node that was stopped between Committed and its rename. */
    if (!t->recorded || t->lease != e->attempt.lease)
        broken(w, "P6: a file without a record (task %u of job %u)", task, index);
}

/* Every record of a file has it. */
static void end_records(struct world *w, const struct plan *p)
{
    struct stored_job *j = stored_by_key(w, p->key);

    for (uint32_t b = 0; j && p->file && b < j->n_batches; b++) {
        const struct batch_row *row = &j->batches[b].row;
        for (uint32_t i = 0; i < row->n; i++)
            if (row->statuses->data[i] == TASK_OK)
                check_file(w, p, ((const uint32_t *)row->tasks->data)[i],
                           j->batches[b].node);
    }
}

void check_end(struct world *w)
{
    struct plan *p;
    struct entry *e;

    for (uint32_t i = 0; (p = plan_at(w, i)); i++) {
        end_job(w, p);
        end_records(w, p);
    }
    for (int i = 0; i < NODES_MAX; i++)
        LIST_FOREACH (e, &w->disks[i].entries, node)
            end_file(w, e);
    if (w->coord->sched)
        check_books_empty(w, w->coord->sched);
}
