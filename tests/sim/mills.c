/* worker/procpool.h and the fetching half of worker/node_state.h on virtual time: mills
 * take runs task by task, die and come back; coroutines take one task each. */
#include "tests/sim/worker_names.h"

#include <errno.h>

#include "proto/pack.h"
#include "tests/sim/ground.h"
#include "tests/sim/sim_node.h"
#include "worker/node_state.h"
#include "worker/split.h"

/* ---- the process pool ---- */

struct run {
    TAILQ_ENTRY(run) node;
    uint64_t id, epoch, lease;
    uint32_t n, next;
    uint32_t *tasks, *offsets;
    uint8_t *inputs;
    bool file, cancelled;
};

#define HUNG_NS (200 * NS_PER_S)

struct sim_mill {
    struct procpool *pool;
    TAILQ_HEAD(, run) runs;
    uint32_t n_runs;
    bool busy, hung; /* hung: the task does not go on */
    struct work on;  /* while busy */
    struct event ev;
};

struct spec {
    LIST_ENTRY(spec) node;
    uint64_t id;
    bool file;
};

struct procpool {
    struct loop *loop;
    const struct procpool_events *ev;
    void *arg;
    uint32_t n;
    bool room_wanted;
    struct sim_mill *mills;
    LIST_HEAD(, spec) specs;
};

static uint32_t node_index(const struct procpool *p)
{
    return p->loop->host->index;
}

static void mill_step(void *arg);

int procpool_new(struct loop *loop, const struct procpool_config *config,
                 const struct procpool_events *ev, void *arg, struct procpool **ret_pool,
                 struct err *err)
{
    struct procpool *p = xcalloc(1, sizeof(*p));

    (void)err;
    p->loop = loop;
    p->ev = ev;
    p->arg = arg;
    p->n = config->procs;
    p->mills = xcalloc(p->n, sizeof(*p->mills));
    for (uint32_t i = 0; i < p->n; i++) {
        p->mills[i].pool = p;
        TAILQ_INIT(&p->mills[i].runs);
        p->mills[i].ev =
            (struct event){ .fn = mill_step, .arg = &p->mills[i], .host = loop->host };
    }
    *ret_pool = p;
    return 0;
}

static void run_free(struct sim_mill *m, struct run *r)
{
    TAILQ_REMOVE(&m->runs, r, node);
    m->n_runs--;
    free(r->tasks);
    free(r->inputs);
    free(r);
}

void procpool_free(struct procpool *p)
{
    struct run *r;
    struct spec *s;

    if (!p)
        return;
    for (uint32_t i = 0; i < p->n; i++) {
        event_cancel(p->loop->host->w, &p->mills[i].ev);
        buf_fini(&p->mills[i].on.value);
        while ((r = TAILQ_FIRST(&p->mills[i].runs)))
            run_free(&p->mills[i], r);
    }
    while ((s = LIST_FIRST(&p->specs))) {
        LIST_REMOVE(s, node);
        free(s);
    }
    free(p->mills);
    free(p);
}

void procpool_spec(struct procpool *p, uint64_t spec_id, struct span packed)
{
    struct spec *s = xcalloc(1, sizeof(*s));
    struct job_spec spec;

    CHECK(spec_unpack(packed, &spec, NULL) == 0);
    s->id = spec_id;
    s->file = spec.sink == SINK_FILE;
    LIST_INSERT_HEAD(&p->specs, s, node);
}

void procpool_forget_spec(struct procpool *p, uint64_t spec_id)
{
    struct spec *s;

    LIST_FOREACH (s, &p->specs, node)
        if (s->id == spec_id)
            break;
    if (!s)
        return;
    LIST_REMOVE(s, node);
    free(s);
}

/* The mill turns to its next task, or to nothing. */
static void mill_next(struct sim_mill *m)
{
    struct procpool *p = m->pool;
    struct world *w = p->loop->host->w;
    struct run *r = TAILQ_FIRST(&m->runs);

    m->busy = r && !r->cancelled;
    if (m->busy) {
        m->on = (struct work){ .w = w,
                               .node = node_index(p),
                               .epoch = r->epoch,
                               .lease = r->lease,
                               .task = r->tasks[r->next],
                               .input =
                                   span_of(r->inputs + r->offsets[r->next],
                                           r->offsets[r->next + 1] - r->offsets[r->next]),
                               .file = r->file };
        work_begin(&m->on);
    }
    m->hung = m->busy && !w->healed && chance(w, w->k.hung_per_mille);
    if (r)
        event_post(w, &m->ev,
                   r->cancelled ? NS_PER_MS
                                : (m->hung ? HUNG_NS : work_ns(w, node_index(p))));
}

static void told_room(struct procpool *p)
{
    if (p->room_wanted) {
        p->room_wanted = false;
        p->ev->room(p->arg);
    }
}

static void run_end(struct sim_mill *m, struct run *r)
{
    run_free(m, r);
    told_room(m->pool);
}

/* The tasks it has not done end as cancelled. */
static void run_cancelled(struct sim_mill *m, struct run *r)
{
    struct task_value v = { .error = SPAN_LIT("cancelled") };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    while (r->next < r->n) {
        uint32_t i = r->next++;
        m->pool->ev->result(m->pool->arg, r->id, i, TASK_CANCELLED, buf_span(&packed));
    }
    run_end(m, r);
}

static void mill_step(void *arg)
{
    struct sim_mill *m = arg;
    struct procpool *p = m->pool;
    struct run *r = TAILQ_FIRST(&m->runs);

    if (m->busy) {
        uint32_t i = r->next++;
        work_end(&m->on);
        if (r->cancelled && m->on.status != TASK_OK)
            m->on.status = TASK_CANCELLED;
        p->ev->result(p->arg, r->id, i, m->on.status, buf_span(&m->on.value));
        buf_fini(&m->on.value);
        m->busy = false;
        if (r->next == r->n)
            run_end(m, r);
        else if (r->cancelled)
            run_cancelled(m, r);
    } else if (r && r->cancelled) {
        run_cancelled(m, r);
    }
    if (!m->ev.place)
        mill_next(m);
}

int procpool_submit(struct procpool *p, const struct procpool_run *from)
{
    struct sim_mill *m = &p->mills[0];
    struct run *r;
    struct spec *s;

    for (uint32_t i = 1; i < p->n; i++)
        if (p->mills[i].n_runs < m->n_runs)
            m = &p->mills[i];
    if (m->n_runs == PROCPOOL_AHEAD) {
        p->room_wanted = true;
        errno = EAGAIN;
        return -1;
    }
    r = xcalloc(1, sizeof(*r));
    *r = (struct run){
        .id = from->id, .epoch = from->epoch, .lease = from->lease, .n = from->n
    };
    LIST_FOREACH (s, &p->specs, node)
        if (s->id == from->spec_id)
            r->file = s->file;
    r->tasks = xcalloc(2 * r->n + 1, sizeof(uint32_t));
    r->offsets = r->tasks + r->n;
    memcpy(r->tasks, from->tasks, r->n * sizeof(uint32_t));
    for (uint32_t i = 0; i < r->n; i++)
        r->offsets[i + 1] = r->offsets[i] + from->lens[i];
    r->inputs = xmalloc(from->inputs.len + 1);
    memcpy(r->inputs, from->inputs.data, from->inputs.len);
    TAILQ_INSERT_TAIL(&m->runs, r, node);
    m->n_runs++;
    if (!m->busy && !m->ev.place)
        mill_next(m);
    return 0;
}

void procpool_cancel(struct procpool *p, uint64_t id)
{
    struct world *w = p->loop->host->w;
    struct run *r;

    for (uint32_t i = 0; i < p->n; i++)
        TAILQ_FOREACH (r, &p->mills[i].runs, node) {
            if (r->id != id || r->cancelled)
                continue;
            r->cancelled = true;
            /* One whose mill has died and is not back is ended at once. */
            if (r != TAILQ_FIRST(&p->mills[i].runs) && chance(w, 200))
                run_cancelled(&p->mills[i], r);
            else if (r == TAILQ_FIRST(&p->mills[i].runs) && p->mills[i].busy)
                event_post(w, &p->mills[i].ev, between(w, 0, NS_PER_S));
            return;
        }
}

void procpool_each_moving(struct procpool *p, void (*fn)(void *arg, uint64_t run),
                          void *arg)
{
    struct run *r;

    for (uint32_t i = 0; i < p->n; i++)
        TAILQ_FOREACH (r, &p->mills[i].runs, node)
            if (!p->mills[i].hung)
                fn(arg, r->id);
}

uint32_t procpool_busy(const struct procpool *p)
{
    uint32_t busy = 0;

    for (uint32_t i = 0; i < p->n; i++)
        busy += p->mills[i].n_runs > 0;
    return busy;
}

/* ---- fetching: worker/node_state.h ---- */

struct io_task {
    LIST_ENTRY(io_task) lease_node;
    struct node_lease *lease;
    uint32_t index;
    bool cancelled, not_yet; /* not_yet: its server is not to be asked now */
    struct work work;
    struct event ev;
};

int io_new(struct node *n, struct err *err)
{
    (void)n, (void)err;
    return 0;
}

static void io_task_free(struct io_task *t)
{
    event_cancel(t->work.w, &t->ev);
    LIST_REMOVE(t, lease_node);
    buf_fini(&t->work.value);
    free(t);
}

void io_free(struct node *n)
{
    struct node_lease *l;
    struct io_task *t;

    for (l = n->leases; l; l = l->hh.next)
        while ((t = LIST_FIRST(&l->io_tasks)))
            io_task_free(t);
}

static void io_ends(void *arg)
{
    struct io_task *t = arg;
    struct node_lease *l = t->lease;
    struct node *n = l->node;
    AUTO_BUF value = BUF_INIT;

    if (t->not_yet) {
        struct task_value v = { .retry_after_s = (uint32_t)between(t->work.w, 1, 5) };
        t->work.status = TASK_NOT_YET;
        value_pack(&t->work.value, &v);
    } else {
        work_end(&t->work);
    }
    if (t->cancelled && t->work.status != TASK_OK)
        t->work.status = TASK_CANCELLED;
    enum task_status status = t->work.status;
    uint32_t index = t->index;
    value = t->work.value;
    t->work.value = (struct buf)BUF_INIT;
    io_task_free(t);
    n->io_busy--;
    node_result(l, index, status, buf_span(&value));
    node_start_waiting(n);
}

bool io_start(struct node_lease *l)
{
    struct node *n = l->node;
    struct host *h = n->loop->host;

    while (l->io_next < l->n) {
        if (n->io_busy >= n->config.coroutines)
            return false;
        struct io_task *t = xcalloc(1, sizeof(*t));
        t->lease = l;
        t->index = l->io_next;
        t->work = (struct work){ .w = h->w,
                                 .node = h->index,
                                 .epoch = l->epoch.counter,
                                 .lease = l->id,
                                 .task = l->tasks[t->index],
                                 .input = lease_input(l, t->index),
                                 .file = l->job->spec.sink == SINK_FILE };
        t->ev = (struct event){ .fn = io_ends, .arg = t, .host = h };
        LIST_INSERT_HEAD(&l->io_tasks, t, lease_node);
        t->not_yet = !h->w->healed && chance(h->w, h->w->k.not_yet_per_mille);
        if (!t->not_yet)
            work_begin(&t->work);
        event_post(h->w, &t->ev, 3 * work_ns(h->w, h->index));
        n->io_busy++;
        l->io_next++;
    }
    return true;
}

void grist_result(struct node *n, uint64_t run, uint32_t index, enum task_status status,
                  struct span value)
{
    (void)n, (void)run, (void)index, (void)status, (void)value;
}

void grist_room(struct node *n)
{
    node_start_waiting(n);
    split_room(n);
}

void io_tend(struct node *n)
{
    (void)n;
}

void io_revoke(struct node_lease *l)
{
    struct io_task *t;

    LIST_FOREACH (t, &l->io_tasks, lease_node) {
        t->cancelled = true;
        event_post(t->work.w, &t->ev, NS_PER_MS);
    }
}
