#include "tests/sim/check_state.h"

#include "proto/pack.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/net.h"
#include "tests/sim/sim_keys.h"
#include "tests/sim/sim_node.h"

void check_new(struct world *w)
{
    struct plan *p;

    w->check = xcalloc(1, sizeof(*w->check));
    for (uint32_t i = 0; (p = plan_at(w, i)); i++)
        w->check->truths[i] = xcalloc(p->first[p->n_chunks] + 1, sizeof(struct truth));
    flow_new(w);
}

void check_free(struct world *w)
{
    for (int i = 0; i < JOBS_MAX; i++)
        free(w->check->truths[i]);
    flow_free(w);
    free(w->check->given);
    free(w->check->tasks);
    free(w->check);
}

uint64_t hash_of(struct span s)
{
    uint64_t h = s.len;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ s.data[i]) * 0x100000001b3u;
    return h;
}

struct plan *plan_of(struct world *w, const struct stored_job *j)
{
    return j ? plan_by_key(w, j->row.key) : NULL;
}

struct truth *truth_of(struct world *w, const struct plan *p, uint64_t task)
{
    if (task >= p->first[p->n_chunks]) {
        broken(w, "P2: job %u has no task %llu", p->index, (unsigned long long)task);
        return NULL;
    }
    return &w->check->truths[p->index][task];
}

bool input_is(struct world *w, const struct plan *p, uint32_t task, struct span in)
{
    AUTO_BUF meant = BUF_INIT;

    plan_input(w, p, task, &meant);
    return span_eq(buf_span(&meant), in);
}

/* ---- what the coordinator says ---- */

static void sent_accepted(struct world *w, const struct msg_accepted *a)
{
    struct stored_job *j = stored_by_key(w, a->key);
    struct plan *p = plan_by_key(w, a->key);

    if (p->removed)
        return; /* in the same transaction, a moment later */
    if (!j || j->row.id != a->job || j->n_chunks < a->chunks)
        broken(w, "P1 R1: job %llu is acknowledged with %u chunks, on disk are %u",
               (unsigned long long)a->job, a->chunks, j ? j->n_chunks : 0);
    else if (a->sealed && j->row.state == JOB_OPEN)
        broken(w, "P1 R1: the seal of job %llu is acknowledged and not on disk",
               (unsigned long long)a->job);
}

static struct given *given_find(struct world *w, uint64_t lease)
{
    struct checker *c = w->check;
    uint32_t lo = 0, hi = c->n_given;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (c->given[mid].id < lease)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_given && c->given[lo].id == lease ? &c->given[lo] : NULL;
}

static bool given_has(struct world *w, const struct given *g, uint32_t task)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (w->check->tasks[g->first + i] == task)
            return true;
    return false;
}

static void given_add(struct world *w, const struct plan *p, uint64_t lease, peer_id peer)
{
    struct checker *c = w->check;

    if (c->n_given && c->given[c->n_given - 1].id >= lease)
        broken(w, "R4: lease %llx is given after a later one", (unsigned long long)lease);
    c->given = xrealloc(c->given, (c->n_given + 1) * sizeof(*c->given));
    c->given[c->n_given++] = (struct given){
        .id = lease, .plan = p->index, .first = c->n_tasks, .peer = peer
    };
}

static void given_task(struct world *w, uint32_t task)
{
    struct checker *c = w->check;

    c->tasks = xrealloc(c->tasks, (c->n_tasks + 1) * sizeof(*c->tasks));
    c->tasks[c->n_tasks++] = task;
    c->given[c->n_given - 1].n++;
}

static void lease_task(struct world *w, struct plan *p, const struct msg *m,
                       uint32_t task, struct span input)
{
    struct stored_job *j = stored_job(w, m->lease.job);
    struct truth *t = truth_of(w, p, task);

    if (!t)
        return;
    if (task >= j->row.tasks)
        broken(w, "R3: task %u of job %u is leased before it is on disk", task, p->index);
    else if (t->recorded && !m->lease.publish)
        broken(w, "P2 R4: task %u of job %u is leased though it has a record", task,
               p->index);
    else if (!input_is(w, p, task, input))
        broken(w, "R3: task %u of job %u is leased with other bytes", task, p->index);
    if (!m->lease.publish)
        given_task(w, task);
}

peer_id check_given_to(struct world *w, uint64_t lease)
{
    const struct given *g = given_find(w, lease);
    return g ? g->peer : 0;
}

static void sent_lease(struct world *w, peer_id peer, const struct msg *m)
{
    const struct msg_lease *l = &m->lease;
    struct stored_job *j = stored_job(w, l->job);
    struct plan *p = plan_of(w, j);
    size_t at = 0;
    uint32_t k = 0;

    if (!p || l->chunk >= j->n_chunks) {
        broken(w, "R3: a chunk of job %llu is leased that is not on disk",
               (unsigned long long)l->job);
        return;
    }
    const struct host *h = net_host_of(w, peer);
    if (!h || h->kind != HOST_NODE || !plan_allows(p, l->chunk, h->index))
        broken(w, "chunk %u of job %u is leased to %s %u, which is not meant", l->chunk,
               p->index, h && h->kind == HOST_NODE ? "node" : "no node",
               h ? h->index : 0);
    if (!l->publish)
        given_add(w, p, l->lease, peer);
    for (uint32_t r = 0; r < l->n_ranges; r++)
        for (uint32_t i = 0; i < l->ranges[r].count; i++) {
            lease_task(w, p, m, l->ranges[r].first + i,
                       span_of(m->body.data + at, l->lens[k]));
            at += l->lens[k++];
        }
    if (j->row.ended_wall_ns)
        broken(w, "P2: tasks of job %u are leased, but it has ended", p->index);
}

static void sent_committed(struct world *w, const struct msg_committed *m)
{
    const struct given *g = given_find(w, m->lease);

    for (uint32_t i = 0; i < m->n_won; i++) {
        struct plan *p = g ? plan_at(w, g->plan) : NULL;
        struct truth *t = p ? truth_of(w, p, m->won[i]) : NULL;
        if (!t || !t->recorded || t->lease != m->lease)
            broken(w,
                   "P3 R2: lease %llx is told it won task %u, the store does not say so",
                   (unsigned long long)m->lease, m->won[i]);
    }
}

static void sent_results(struct world *w, const struct msg *m)
{
    const struct msg_results *r = &m->results;
    struct plan *p = plan_of(w, stored_job(w, r->job));
    struct stored_job *j = stored_job(w, r->job);
    size_t at = 0;

    if (!j && plan_by_job(w, r->job) && plan_by_job(w, r->job)->removed)
        return;
    if (!j || (r->state > JOB_SEALED && r->state != j->row.state) ||
        (r->end && !j->row.ended_wall_ns))
        broken(w, "R1: results say that job %llu is in state %d, the store does not",
               (unsigned long long)r->job, r->state);
    for (uint32_t i = 0; i < r->batch.n && p; at += r->batch.lens[i++]) {
        struct truth *t = truth_of(w, p, r->batch.tasks[i]);
        if (!t)
            return;
        if (!t->visible)
            broken(w, "R3: a result of task %u of job %u is sent before it is on disk",
                   r->batch.tasks[i], p->index);
        else if (t->status != r->batch.statuses[i] ||
                 t->value != hash_of(span_of(m->body.data + at, r->batch.lens[i])))
            broken(w, "P2: another result of task %u of job %u is sent than is on disk",
                   r->batch.tasks[i], p->index);
    }
}

void check_sent(struct world *w, peer_id peer, const struct msg *m)
{
    flow_sent(w, peer, m);
    if ((m->type == MSG_LEASE || m->type == MSG_WELCOME || m->type == MSG_BEAT) &&
        net_is_revoked(w, peer))
        broken(w, "keys: %s for a node whose key was revoked", msg_type_name(m->type));
    if (m->type == MSG_ACCEPTED)
        sent_accepted(w, &m->accepted);
    else if (m->type == MSG_ANSWER)
        key_answered(w, peer);
    else if (m->type == MSG_LEASE)
        sent_lease(w, peer, m);
    else if (m->type == MSG_COMMITTED)
        sent_committed(w, &m->committed);
    else if (m->type == MSG_RESULTS)
        sent_results(w, m);
    else if (m->type == MSG_WELCOME &&
             m->welcome.epoch.counter != w->coord->epoch.counter)
        broken(w, "R5: Welcome says epoch %llu, the store %llu",
               (unsigned long long)m->welcome.epoch.counter,
               (unsigned long long)w->coord->epoch.counter);
}

/* ---- what the store saves ---- */

uint64_t records(const struct stored_job *j)
{
    return j->row.ok + j->row.failed + j->row.poison + j->row.cancelled;
}

/* The attempt the record is of: its lease held when it was reported, and the
 * value is what this attempt made of the input. */
static void check_attempt(struct world *w, const struct plan *p,
                          const struct batch_row *row, uint32_t task, struct span value)
{
    const struct given *g = given_find(w, row->lease);
    AUTO_BUF in = BUF_INIT;
    struct task_value v;

    if (!g || g->plan != p->index || !given_has(w, g, task) ||
        row->epoch != row->lease >> 32) {
        broken(w,
               "P3: the record of task %u of job %u is of lease %llx, which it was not "
               "given to",
               task, p->index, (unsigned long long)row->lease);
        return;
    }
    if (!flow_reported(w, row->lease, task))
        broken(w, "P3: a stale attempt (lease %llx) recorded task %u of job %u",
               (unsigned long long)row->lease, task, p->index);
    plan_input(w, p, task, &in);
    if (value_unpack(value, &v, NULL) < 0 || v.bytes != sim_content(buf_span(&in)) ||
        v.out_bytes != row->lease || v.elapsed_us != row->epoch)
        broken(w, "P3: the record of task %u of job %u is not what its attempt made",
               task, p->index);
}

static bool made_where_meant(const struct plan *p, const struct batch_row *row)
{
    return row->node.len == 2 &&
           plan_allows(p, row->chunk, (uint32_t)(row->node.data[1] - '0'));
}

static void record(struct world *w, struct stored_job *j, const struct plan *p,
                   const struct batch_row *row, uint32_t i, struct span value)
{
    uint32_t task = ((const uint32_t *)row->tasks->data)[i];
    uint8_t status = row->statuses->data[i];
    struct truth *t = truth_of(w, p, task);

    if (!t)
        return;
    if (t->recorded)
        broken(w, "P2: task %u of job %u gets a second record", task, p->index);
    if (task >= j->row.tasks || status == TASK_LOST || status == TASK_NOT_YET ||
        status >= TASK_STATUS_COUNT)
        broken(w, "P2: no record can be: task %u of job %u, status %u", task, p->index,
               status);
    if (status == TASK_RETRYABLE && flow_tries(w, p, task) <= p->retries)
        broken(w, "R11: task %u of job %u is given up after %u tries", task, p->index,
               flow_tries(w, p, task));
    if (row->pending != (p->file && status == TASK_OK))
        broken(w, "P6: task %u of job %u is shown before its file is in place", task,
               p->index);
    if (status == TASK_OK && !made_where_meant(p, row))
        broken(w, "task %u of job %u has a record of %.*s, which is not meant", task,
               p->index, (int)row->node.len, (const char *)row->node.data);
    if (status == TASK_OK)
        check_attempt(w, p, row, task, value);
    t->recorded = true;
    t->visible = !row->pending;
    t->status = status;
    t->value = hash_of(value);
    t->epoch = row->epoch;
    t->lease = row->lease;
    t->record++;
}

void check_batch(struct world *w, struct stored_job *j, const struct batch_row *row)
{
    struct plan *p = plan_of(w, j);
    const uint32_t *lens = (const uint32_t *)row->lens->data;
    size_t at = 0;

    if (j->row.ended_wall_ns)
        broken(w, "P2: job %llu has ended and gets a record",
               (unsigned long long)row->job);
    if (!row->pending && row->cursor != records(j))
        broken(w, "P2: a record of job %llu has cursor %llu, the next is %llu",
               (unsigned long long)row->job, (unsigned long long)row->cursor,
               (unsigned long long)records(j));
    for (uint32_t i = 0; i < row->n && p; at += lens[i++])
        record(w, j, p, row, i, span_of(row->values->data + at, lens[i]));
}

/* R8: the record is shown, so its file is whole, durable and its own. */
void check_file(struct world *w, const struct plan *p, uint32_t task, const char *node)
{
    struct truth *t = truth_of(w, p, task);
    char out[OUT_MAX];
    const struct entry *e;

    plan_out(p, task, out);
    e = disk_target(disk_of(w, (uint32_t)(node[1] - '0')), out);
    if (!e)
        broken(w, "P6: task %u of job %u has a record and no file", task, p->index);
    else if (e->attempt.lease != t->lease || e->attempt.epoch != t->epoch)
        broken(w,
               "P6: the file of task %u of job %u is of another attempt than its record",
               task, p->index);
    else if (!e->whole || !e->synced || e->renamed)
        broken(w, "P6: the file of task %u of job %u is not %s", task, p->index,
               e->whole ? "durable" : "whole");
}

void check_show(struct world *w, struct stored_job *j, const struct fx *fx)
{
    const uint32_t *tasks = (const uint32_t *)fx->show.tasks->data;
    const uint32_t *lens = fx->show.lens ? (const uint32_t *)fx->show.lens->data : NULL;
    struct plan *p = plan_of(w, j);
    const char *node = "";
    size_t at = 0;

    for (uint32_t i = 0; i < j->n_batches; i++)
        if (j->batches[i].row.row == fx->show.row)
            node = j->batches[i].node;
    if (fx->show.cursor != records(j))
        broken(w, "P2: a record is shown at cursor %llu, the next is %llu",
               (unsigned long long)fx->show.cursor, (unsigned long long)records(j));
    for (uint32_t i = 0; i < fx->show.n && p && node[0]; i++) {
        struct truth *t = truth_of(w, p, tasks[i]);
        t->visible = true;
        t->status = fx->show.statuses->data[i];
        if (lens) {
            t->value = hash_of(span_of(fx->show.values->data + at, lens[i]));
            at += lens[i];
        }
        if (t->status == TASK_OK)
            check_file(w, p, tasks[i], node);
    }
}

void check_state(struct world *w, struct stored_job *j, enum job_state to)
{
    struct plan *p = plan_of(w, j);

    if (j->row.state > JOB_SEALED && to != j->row.state)
        broken(w, "P2: job %u was %d and becomes %d", p->index, j->row.state, to);
    if (to > JOB_SEALED && records(j) > j->row.tasks)
        broken(w, "P2: job %u ends with %llu records of %llu tasks", p->index,
               (unsigned long long)records(j), (unsigned long long)j->row.tasks);
    if (to == JOB_DONE && records(j) != j->row.tasks)
        broken(w, "P2: job %u is done with %llu records of %llu tasks", p->index,
               (unsigned long long)records(j), (unsigned long long)j->row.tasks);
    if (!j->row.ended_wall_ns)
        p->ended_ns = w->now_ns;
}

/* R16: an ended job, by its client's word or when it was kept long enough: since its end
 * was decided, which is on disk only so much later. */
#define COMMIT_MOST_NS (25 * NS_PER_S)
void check_removed(struct world *w, struct stored_job *j)
{
    struct plan *p = plan_of(w, j);

    if (!j->row.ended_wall_ns)
        broken(w, "R16: job %u is removed before its end", p->index);
    else if (!p->remove_sent &&
             (!w->k.keep_ns || w->now_ns - p->ended_ns + COMMIT_MOST_NS < w->k.keep_ns))
        broken(w, "R16: job %u is removed, kept for %lld ms only", p->index,
               (long long)((w->now_ns - p->ended_ns) / NS_PER_MS));
    p->removed = true;
}

/* ---- files ---- */

void check_published(struct world *w, uint32_t node, const struct entry *e)
{
    unsigned index, task;
    struct plan *p;
    struct truth *t;

    (void)node;
    if (sscanf(e->out, "/d/%u-%u", &index, &task) != 2 || !(p = plan_at(w, index)))
        return;
    t = truth_of(w, p, task);
    if (!t || !t->recorded || t->lease != e->attempt.lease ||
        t->epoch != e->attempt.epoch)
        broken(w,
               "P6 R8: a file is put in place by an attempt without a record "
               "(task %u of job %u, lease %llx)",
               task, index, (unsigned long long)e->attempt.lease);
    else if (t->renamed_by && t->renamed_by != e->attempt.lease)
        broken(w, "P6: the file of task %u of job %u is published twice", task, index);
    else
        t->renamed_by = e->attempt.lease;
}
