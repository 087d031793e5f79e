#include "tests/sim/ground.h"

#include <errno.h>

#include "base/log.h"
#include "proto/pack.h"
#include "proto/wire.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim_node.h"
#include "worker/threadpool.h"

struct host *loop_host(struct loop *loop);

/* ---- base/loop.h ---- */

struct loop_timer {
    struct loop *loop;
    struct event ev;
};

struct host *loop_host(struct loop *loop)
{
    return loop->host;
}

int64_t loop_now_ns(const struct loop *loop)
{
    return loop->host->w->now_ns;
}

void loop_stop(struct loop *loop)
{
    if (loop->stopped)
        return;
    loop->stopped = true;
    node_exits(loop->host);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *t = xcalloc(1, sizeof(*t));

    t->loop = loop;
    t->ev = (struct event){ .fn = fn, .arg = arg, .host = loop->host };
    return t;
}

void loop_timer_arm(struct loop_timer *t, int64_t delay_ns)
{
    event_post(t->loop->host->w, &t->ev, delay_ns);
}

void loop_timer_stop(struct loop_timer *t)
{
    event_cancel(t->loop->host->w, &t->ev);
}

bool loop_timer_armed(const struct loop_timer *t)
{
    return t->ev.place != 0;
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    event_cancel(t->loop->host->w, &t->ev);
    free(t);
}

/* ---- base/log.h, base/crypto.h ---- */

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if (the_world && level <= LOG_INFO)
        world_note(the_world, event, "level", level, "", 0, "", 0);
    (void)fmt;
}

void sim_random(void *out, size_t len)
{
    uint8_t *p = out;

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)world_random(the_world);
}

/* ---- worker/threadpool.h ---- */

struct call {
    TAILQ_ENTRY(call) node;
    struct threadpool *pool;
    threadpool_fn *fn, *done;
    void *arg;
    struct event ev;
};

struct threadpool {
    struct loop *loop;
    TAILQ_HEAD(, call) calls;
};

int threadpool_new(struct loop *loop, size_t nthreads, size_t capacity,
                   struct threadpool **ret_pool, struct err *err)
{
    struct threadpool *p = xcalloc(1, sizeof(*p));

    (void)nthreads, (void)capacity, (void)err;
    p->loop = loop;
    TAILQ_INIT(&p->calls);
    *ret_pool = p;
    return 0;
}

static void call_end(struct call *c)
{
    TAILQ_REMOVE(&c->pool->calls, c, node);
    event_cancel(c->pool->loop->host->w, &c->ev);
    free(c);
}

static void call_told(void *arg)
{
    struct call *c = arg;
    threadpool_fn *done = c->done;
    void *done_arg = c->arg;

    call_end(c);
    if (done)
        done(done_arg);
}

static void call_done(struct call *c)
{
    struct world *w = c->pool->loop->host->w;

    c->ev.fn = call_told;
    event_post(w, &c->ev, between(w, 0, NS_PER_MS));
}

static void call_runs(void *arg)
{
    struct call *c = arg;

    c->fn(c->arg);
    c->fn = NULL;
    call_done(c);
}

int threadpool_submit(struct threadpool *p, threadpool_fn *fn, void *arg,
                      threadpool_fn *done_fn)
{
    struct world *w = p->loop->host->w;
    struct call *c = xcalloc(1, sizeof(*c));

    *c = (struct call){ .pool = p, .fn = fn, .done = done_fn, .arg = arg };
    c->ev = (struct event){ .fn = call_runs, .arg = c, .host = p->loop->host };
    TAILQ_INSERT_TAIL(&p->calls, c, node);
    event_post(w, &c->ev, mostly_short(w, 10 * NS_PER_US, 200 * NS_PER_MS));
    return 0;
}

void threadpool_free(struct threadpool *p)
{
    struct call *c;

    if (!p)
        return;
    while ((c = TAILQ_FIRST(&p->calls))) {
        if (p->loop->host->alive) { /* what was begun is finished, then told */
            if (c->fn)
                c->fn(c->arg);
            call_told(c);
        } else {
            call_end(c);
        }
    }
    free(p);
}

/* ---- what a task does ---- */

int64_t work_ns(struct world *w, uint32_t node)
{
    int64_t ns = mostly_short(w, 100 * NS_PER_US, w->k.task_ns);
    return w->nodes[node].host.slow_until_ns > w->now_ns ? ns * 10 : ns;
}

static void end_as(struct work *k, enum task_status status, const char *error)
{
    struct task_value v = { .error = span_str(error) };
    struct task_input in;

    if (status == TASK_OK && input_unpack(k->input, &in, NULL) == 0) {
        v.bytes = sim_content(k->input);
        v.out_bytes = k->lease;
        v.elapsed_us = k->epoch;
    }
    if (status == TASK_RETRYABLE && chance(k->w, 200))
        v.retry_after_s = (uint32_t)between(k->w, 1, 5);
    k->status = status;
    value_pack(&k->value, &v);
}

uint64_t sim_content(struct span input)
{
    uint64_t h = input.len;

    for (size_t i = 0; i < input.len; i++)
        h = mix64(h ^ input.data[i]);
    return h >> 1; /* fits an int64 */
}

static void out_name(const struct task_input *in, char *to)
{
    snprintf(to, OUT_MAX, "%.*s", (int)in->out.len, (const char *)in->out.data);
}

static struct files_attempt attempt(const struct work *k)
{
    return (struct files_attempt){ k->epoch, k->lease, k->task };
}

void work_begin(struct work *k)
{
    struct files_attempt at = attempt(k);
    struct task_input in;
    char out[OUT_MAX];

    CHECK(input_unpack(k->input, &in, NULL) == 0);
    if (!k->file || !node_disk_step(k->w, k->node))
        return;
    out_name(&in, out);
    disk_create(disk_of(k->w, k->node), out, &at, k->node, k->w->nodes[k->node].life);
}

/* An attempt that fails of itself takes its temporary away; who is killed does not. */
static void fails(struct work *k, const struct task_input *in, enum task_status status)
{
    struct files_attempt at = attempt(k);

    if (k->file && status != TASK_POISON)
        disk_discard(k->w, k->node, in->out, &at);
    end_as(k, status, "it went wrong");
}

void work_end(struct work *k)
{
    static const struct {
        uint32_t per_mille;
        enum task_status status;
    } ends[FATE_COUNT] = {
        [FATE_FAILS] = { 1000, TASK_FAILED },    [FATE_FLAKY] = { 500, TASK_RETRYABLE },
        [FATE_RETRY] = { 1000, TASK_RETRYABLE }, [FATE_POISON] = { 1000, TASK_POISON },
        [FATE_CRASHY] = { 300, TASK_POISON },
    };
    struct files_attempt at = attempt(k);
    struct task_input in;
    char out[OUT_MAX];

    CHECK(input_unpack(k->input, &in, NULL) == 0);
    uint64_t fate = in.size % FATE_COUNT;
    if (chance(k->w, k->w->healed ? 0 : k->w->k.lost_per_mille)) {
        end_as(k, TASK_LOST, "its process was killed");
        return;
    }
    if (chance(k->w, ends[fate].per_mille)) {
        fails(k, &in, ends[fate].status);
        return;
    }
    if (k->file) {
        out_name(&in, out);
        if (!node_disk_step(k->w, k->node) ||
            !disk_write(disk_of(k->w, k->node), out, &at, sim_content(k->input))) {
            end_as(k, TASK_FAILED, "its output is gone");
            return;
        }
    }
    end_as(k, TASK_OK, NULL);
}
