/* Promises about time and flow: who counts as dead (R9), what is given under pressure
 * (R10, R13), when a task may be tried again (R11), credit (R14). */
#include "proto/pack.h"
#include "tests/sim/check.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/net.h"

enum { QUEUED_MAX = 1 * MIB }; /* bulk that waits for one peer; one message may be more */

struct credit {
    peer_id peer;
    uint64_t job;
    int64_t bytes;
};

struct report {
    uint64_t lease;
    uint32_t task;
};

/* A task that the last Done of its lease has given back. */
struct given_back {
    peer_id peer;
    uint64_t lease;
    uint32_t task;
};

struct flow {
    int64_t clock_ns, last_ns; /* advances at most 1 s a turn, as R9 says */
    int64_t *heard_ns;         /* by peer, on that clock; 0 = not in this epoch */
    bool *known;               /* by peer: at the end of the turn */
    size_t *queued;            /* by peer, likewise */
    size_t peers_cap;
    struct credit *credits;
    size_t n_credits;
    int64_t *not_before_ns[JOBS_MAX]; /* by task */
    uint32_t *tries[JOBS_MAX];        /* likewise: that ended in a retryable error */
    struct report *reports;           /* of held tasks, since the world began */
    size_t n_reports;
    struct given_back *given_back; /* since the session began */
    size_t n_given_back;
};

void flow_new(struct world *w)
{
    struct plan *p;

    w->flow = xcalloc(1, sizeof(*w->flow));
    for (uint32_t i = 0; (p = plan_at(w, i)); i++) {
        w->flow->not_before_ns[i] = xcalloc(p->first[p->n_chunks] + 1, sizeof(int64_t));
        w->flow->tries[i] = xcalloc(p->first[p->n_chunks] + 1, sizeof(uint32_t));
    }
}

static void forget(struct flow *f)
{
    free(f->heard_ns);
    free(f->known);
    free(f->queued);
    free(f->credits);
    f->heard_ns = NULL;
    f->known = NULL;
    f->queued = NULL;
    f->credits = NULL;
    f->peers_cap = f->n_credits = 0;
}

void flow_free(struct world *w)
{
    forget(w->flow);
    free(w->flow->reports);
    free(w->flow->given_back);
    for (int i = 0; i < JOBS_MAX; i++) {
        free(w->flow->not_before_ns[i]);
        free(w->flow->tries[i]);
    }
    free(w->flow);
}

/* A coordinator keeps none of this over its death. */
void flow_restart(struct world *w)
{
    struct plan *p;

    forget(w->flow);
    w->flow->last_ns = 0;
    for (uint32_t i = 0; (p = plan_at(w, i)); i++) {
        memset(w->flow->not_before_ns[i], 0, p->first[p->n_chunks] * sizeof(int64_t));
        memset(w->flow->tries[i], 0, p->first[p->n_chunks] * sizeof(uint32_t));
        p->resumes = 0;
    }
}

void flow_resumed(struct world *w, uint64_t job)
{
    struct plan *p = plan_by_job(w, job);

    if (p && p->resumes)
        p->resumes--;
}

static void peers_grow(struct flow *f, peer_id peer)
{
    size_t cap = f->peers_cap;

    if (peer < cap)
        return;
    f->peers_cap = MAX(2 * cap, peer + 16);
    f->heard_ns = xrealloc(f->heard_ns, f->peers_cap * sizeof(*f->heard_ns));
    f->known = xrealloc(f->known, f->peers_cap * sizeof(*f->known));
    memset(f->heard_ns + cap, 0, (f->peers_cap - cap) * sizeof(*f->heard_ns));
    f->queued = xrealloc(f->queued, f->peers_cap * sizeof(*f->queued));
    memset(f->queued + cap, 0, (f->peers_cap - cap) * sizeof(*f->queued));
    memset(f->known + cap, 0, (f->peers_cap - cap) * sizeof(*f->known));
}

/* ---- R9: life ---- */

void flow_turn(struct world *w)
{
    struct flow *f = w->flow;
    int64_t step = f->last_ns ? w->now_ns - f->last_ns : 0;

    f->clock_ns += MIN(step, NS_PER_S) + (f->clock_ns == 0);
    f->last_ns = w->now_ns;
}

static void mark(void *arg, peer_id peer)
{
    struct world *w = arg;

    peers_grow(w->flow, peer);
    w->flow->known[peer] = true;
    w->flow->queued[peer] = net_queued_bytes(w, peer);
}

void flow_before_end(struct world *w)
{
    struct flow *f = w->flow;

    if (f->peers_cap)
        memset(f->known, 0, f->peers_cap * sizeof(*f->known));
    sched_each_peer(w->coord->sched, mark, w);
}

static void unmark(void *arg, peer_id peer)
{
    ((struct flow *)arg)->known[peer] = false;
}

void flow_after_end(struct world *w)
{
    struct flow *f = w->flow;

    sched_each_peer(w->coord->sched, unmark, f);
    for (size_t i = 0; i < f->peers_cap; i++)
        if (f->known[i] && f->clock_ns - f->heard_ns[i] <= w->k.silence_ns &&
            !net_was_to_end(w, i))
            broken(w,
                   "R9: peer %zu is taken for dead after %lld ms of the coordinator's "
                   "time",
                   i, (long long)((f->clock_ns - f->heard_ns[i]) / NS_PER_MS));
}

/* ---- what peers say ---- */

static struct credit *credit_of(struct flow *f, peer_id peer, uint64_t job)
{
    for (size_t i = 0; i < f->n_credits; i++)
        if (f->credits[i].peer == peer && f->credits[i].job == job)
            return &f->credits[i];
    f->credits = xrealloc(f->credits, (f->n_credits + 1) * sizeof(*f->credits));
    f->credits[f->n_credits] = (struct credit){ peer, job, 0 };
    return &f->credits[f->n_credits++];
}

/* One task of a Done that its lease owes. */
static void reported(struct world *w, const struct msg_done *d, uint32_t i,
                     struct span value)
{
    struct flow *f = w->flow;
    struct plan *p = plan_by_job(w, d->job);
    uint32_t task = d->batch.tasks[i];
    struct task_value v;

    f->reports = xrealloc(f->reports, (f->n_reports + 1) * sizeof(*f->reports));
    f->reports[f->n_reports++] = (struct report){ d->lease, task };
    bool retry = d->batch.statuses[i] == TASK_RETRYABLE;
    if ((!retry && d->batch.statuses[i] != TASK_NOT_YET) || !p ||
        task >= p->first[p->n_chunks])
        return;
    f->tries[p->index][task] += retry;
    if (!books_alone(w->coord->sched, d->lease, task) ||
        value_unpack(value, &v, NULL) < 0)
        return;
    int64_t wait_ns = MAX(v.retry_after_s * NS_PER_S, 500 * NS_PER_MS);
    NOTE(w, "retry", p->index, task, wait_ns / NS_PER_MS);
    f->not_before_ns[p->index][task] = f->last_ns + wait_ns; /* of the turn's time */
}

uint32_t flow_tries(const struct world *w, const struct plan *p, uint32_t task)
{
    return w->flow->tries[p->index][task];
}

bool flow_reported(const struct world *w, uint64_t lease, uint32_t task)
{
    const struct flow *f = w->flow;

    for (size_t i = f->n_reports; i-- > 0;)
        if (f->reports[i].lease == lease && f->reports[i].task == task)
            return true;
    return false;
}

static void done_said(struct world *w, peer_id peer, const struct msg *m)
{
    const struct task_batch *b = &m->done.batch;
    size_t at = 0;

    for (uint32_t i = 0; i < b->n; at += b->lens[i++])
        if (books_holds(w->coord->sched, peer, m->done.lease, b->tasks[i]))
            reported(w, &m->done, i, span_of(m->body.data + at, b->lens[i]));
}

static bool names(const struct task_batch *b, uint32_t task)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (b->tasks[i] == task)
            return true;
    return false;
}

/* R4: what is said of a lease behind its last Done is stale, and will be done again. */
static void last_said(struct world *w, peer_id peer, const struct msg_done *d)
{
    struct plan *p = plan_by_job(w, d->job);
    struct flow *f = w->flow;

    for (size_t i = 0; i < f->n_given_back; i++)
        if (f->given_back[i].peer == peer && f->given_back[i].lease == d->lease &&
            names(&d->batch, f->given_back[i].task))
            broken(w, "R4: task %u is said behind the last Done of its lease %llx",
                   f->given_back[i].task, (unsigned long long)d->lease);
    for (uint32_t t = 0; d->last && p && t < p->first[p->n_chunks]; t++) {
        if (names(&d->batch, t) || !books_holds(w->coord->sched, peer, d->lease, t))
            continue;
        f->given_back =
            xrealloc(f->given_back, (f->n_given_back + 1) * sizeof(*f->given_back));
        f->given_back[f->n_given_back++] = (struct given_back){ peer, d->lease, t };
    }
}

/* A session begins, in which all is said again that was not answered. */
static void given_back_forget(struct flow *f, peer_id peer)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->n_given_back; i++)
        if (f->given_back[i].peer != peer)
            f->given_back[kept++] = f->given_back[i];
    f->n_given_back = kept;
}

void flow_said(struct world *w, peer_id peer, const struct msg *m)
{
    struct flow *f = w->flow;

    peers_grow(f, peer);
    f->heard_ns[peer] = f->clock_ns;
    if (m->type == MSG_HELLO)
        given_back_forget(f, peer);
    else if (m->type == MSG_DONE)
        last_said(w, peer, &m->done);
    if (m->type == MSG_FOLLOW)
        credit_of(f, peer, m->follow.job)->bytes = m->follow.credit_bytes;
    else if (m->type == MSG_CREDIT)
        credit_of(f, peer, m->credit.job)->bytes += m->credit.bytes;
    else if (m->type == MSG_DONE && m->done.epoch.counter == m->done.lease >> 32)
        done_said(w, peer, m);
}

/* ---- what the coordinator says ---- */

static void lease_sent(struct world *w, peer_id peer, const struct msg_lease *l)
{
    struct plan *p = plan_by_job(w, l->job);
    struct stored_job *j = stored_job(w, l->job);

    if (l->publish)
        return;
    if (p && j && j->row.paused && !p->resumes)
        broken(w, "R16: a task of job %u is leased while it is paused", p->index);
    if (w->coord->pressure || w->coord->was_full)
        broken(w, "R10 R13: a lease is given while the store cannot keep up or is full");
    if (peer < w->flow->peers_cap && w->flow->queued[peer] > QUEUED_MAX)
        broken(w, "R10: a lease is given to a node that has %zu bytes waiting",
               w->flow->queued[peer]);
    for (uint32_t r = 0; p && r < l->n_ranges; r++)
        for (uint32_t i = 0; i < l->ranges[r].count; i++)
            if (w->flow->not_before_ns[p->index][l->ranges[r].first + i] > w->now_ns)
                broken(w, "R11: task %u of job %u is tried again before its time",
                       l->ranges[r].first + i, p->index);
}

void flow_sent(struct world *w, peer_id peer, const struct msg *m)
{
    struct credit *c;

    if (m->type == MSG_LEASE) {
        lease_sent(w, peer, &m->lease);
    } else if (m->type == MSG_RESULTS && m->results.batch.n) {
        c = credit_of(w->flow, peer, m->results.job);
        if (c->bytes <= 0)
            broken(w, "R14: results of job %llu are sent without credit",
                   (unsigned long long)m->results.job);
        c->bytes -= (int64_t)m->body.len + 16 * (int64_t)m->results.batch.n;
    }
}

/* R15: only who is away abandons a job. */
static void abandoned(struct world *w, uint64_t job)
{
    struct plan *p = plan_by_job(w, job);
    const struct sim_client *c = p ? &w->clients[p->client] : NULL;

    if (c && c->up && p->accepted && w->now_ns - p->up_ns > NS_PER_S &&
        w->now_ns - c->heard_ns < 3 * NS_PER_S)
        broken(w, "R15: job %u is abandoned though its client is there", p->index);
}

/* What the turn is about to push: R13, no job while the disk is full. Chunks that there
 * was credit for are taken, and wait. */
void flow_pushed(struct world *w, const struct fx_group *g)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (w->coord->was_full && fx->type == FX_JOB)
            broken(w, "R13: a job is taken while the disk is full");
        if (fx->type == FX_STATE && fx->state.state == JOB_ABANDONED &&
            !fx->state.ended_wall_ns)
            abandoned(w, fx->state.job);
        if (fx->type == FX_PAUSE && !fx->pause.paused && plan_by_job(w, fx->pause.job))
            plan_by_job(w, fx->pause.job)->resumes++;
    }
}
