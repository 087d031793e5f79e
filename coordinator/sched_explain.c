/* Why a job waits, or what it does: a table of reasons, each looked at, a line for each
 * that holds. */
#include "coordinator/sched_state.h"
#include "proto/map.h"

enum { NODES_SHOWN = 20 };
typedef unsigned long long ull;

struct why {
    struct sched *s;
    struct job *j;
    struct buf *rows;
    uint32_t n;
    uint64_t waiting; /* tasks that nobody is on, and that wait for no time, */
    uint64_t out;     /* and those that somebody is on */
    /* Nodes: connected; of these those that may run it, and of these those that are not
     * draining, and of these those that take more now. */
    uint32_t connected, fitting, up, free;
};

static void say(struct why *w, const char *reason, uint64_t count, char *owned_text)
{
    map_pack_begin(w->rows, 3);
    map_pack_str(w->rows, "reason", span_str(reason));
    map_pack_str(w->rows, "text", span_str(owned_text));
    map_pack_uint(w->rows, "count", count);
    free(owned_text);
    w->n++;
}

static const char *tasks(uint64_t n)
{
    return n == 1 ? "task" : "tasks";
}

static long long seconds(int64_t ns)
{
    return (long long)(MAX(ns, 0) + NS_PER_S - 1) / NS_PER_S;
}

/* ---- what is known ---- */

/* Tasks that are out count once, on however many nodes they are. */
static void count_tasks(struct why *w)
{
    struct job *j = w->j;

    for (struct stream *st = &j->any; st; st = stream_next(j, st))
        st->left = 0;
    for (uint32_t i = 0; i < j->row.chunks; i++) {
        const struct chunk_info *info = &j->chunks[i];
        const struct chunk *c = info->open;
        uint64_t left = c ? c->waiting : info->n - info->recorded;
        info->stream->left += left;
        w->waiting += left;
        for (uint32_t t = 0; c && c->leases && t < c->n; t++)
            w->out += c->state[t] == TASK_LEASED;
    }
}

static void count_nodes(struct why *w)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &w->s->nodes, node) {
        bool fits = n->peer && node_fits(n, w->j), up = fits && !n->draining;
        w->connected += n->peer != 0;
        w->fitting += fits;
        w->up += up;
        w->free += up && lease_node_takes(w->s, n, w->j->io);
    }
}

/* ---- the reasons ---- */

static void ended(struct why *w)
{
    static const char *const as[] = {
        [JOB_DONE] = "done", [JOB_CANCELLED] = "cancelled", [JOB_ABANDONED] = "abandoned"
    };

    say(w, "ended", 0, xasprintf("it has ended: %s", as[w->j->row.state]));
}

static void cancelling(struct why *w)
{
    if (w->j->cancelling)
        say(w, "cancelling", 0, xstrdup("it is being cancelled"));
}

static void paused(struct why *w)
{
    if (w->j->row.paused)
        say(w, "paused", 0,
            xasprintf("it is paused; tidemill job resume j%llu", (ull)w->j->row.id));
}

static void open_still(struct why *w)
{
    const struct job *j = w->j;
    int64_t left = j->client_gone_ns + w->s->config.abandon_ns - w->s->now;

    if (j->sealed || j->cancelling)
        return;
    if (j->client)
        say(w, "open", 0, xstrdup("its inputs are still being submitted"));
    else
        say(w, "no_client", 0,
            xasprintf("its submitter went away before all inputs were there; it ends as "
                      "abandoned in %lld s",
                      seconds(left)));
}

static void no_room(struct why *w)
{
    const struct sched *s = w->s;

    if (w->waiting && (s->full || s->lowest))
        say(w, "disk_full", s->free_bytes,
            xasprintf("the coordinator's disk is %s (%llu MiB free): no task is started",
                      s->full ? "full" : "nearly full", (ull)(s->free_bytes / MIB)));
    else if (w->waiting && s->pressure)
        say(w, "disk_slow", 0,
            xstrdup("the coordinator's disk cannot keep up: no task is started"));
    if (!w->j->sealed && !s->full && s->low)
        say(w, "disk_low", s->free_bytes,
            xasprintf(
                "the coordinator's disk is nearly full (%llu MiB free): no input is "
                "taken",
                (ull)(s->free_bytes / MIB)));
}

static void quota(struct why *w)
{
    if (w->j->over && !w->j->sealed && w->j->client)
        say(w, "quota", 0,
            xstrdup("its owner has as many tasks as he may have: no input is taken until "
                    "some of them are done"));
}

static void coordinator_waits(struct why *w)
{
    if (!w->waiting)
        return;
    if (w->s->draining)
        say(w, "stopping", 0, xstrdup("the coordinator is about to end"));
    else if (node_awaited(w->s))
        say(w, "starting", 0,
            xstrdup("the coordinator was just started, and waits for its nodes"));
}

/* Of tasks that any node may have; a node's own: named_nodes. */
static void no_node(struct why *w)
{
    struct err lacks = { 0 };

    if (!w->j->any.left)
        return;
    if (!w->connected)
        say(w, "no_node", 0, xstrdup("no node is connected"));
    else if (!w->fitting && job_lacks(w->s, w->j, &lacks))
        say(w, "no_such_node", 0, xasprintf("%s; %s", lacks.text, lacks.hint));
}

/* Why the tasks that are for that node alone wait there: a reason and its words. NULL: it
 * is about to take them. */
struct named {
    const char *reason, *text;
};

static const struct named *named_waits(struct why *w, const struct stream *st)
{
    static const struct named away = { "node_away", "is not connected" };
    static const struct named unfit = { "node_unfit", "may not run it" };
    static const struct named drained = { "draining",
                                          "is drained (tidemill node undrain)" };
    static const struct named busy = { "busy", "has as much as it takes" };
    const struct sched_node *n = st->place->node;

    if (!stream_is_here(st))
        return &away;
    if (!node_fits(n, w->j))
        return &unfit;
    if (n->draining)
        return &drained;
    return lease_node_takes(w->s, n, w->j->io) ? NULL : &busy;
}

static void named_nodes(struct why *w)
{
    uint32_t shown = 0;

    for (struct stream *st = w->j->streams; st; st = st->hh.next) {
        const struct named *why = st->left ? named_waits(w, st) : NULL;
        if (!why || ++shown > NODES_SHOWN)
            continue;
        say(w, why->reason, st->left,
            xasprintf("%llu %s for node %s, which %s", (ull)st->left,
                      st->left == 1 ? "task is" : "tasks are", st->place->name,
                      why->text));
    }
    if (shown > NODES_SHOWN)
        say(w, "nodes", shown - NODES_SHOWN,
            xasprintf("and for %u more nodes", shown - NODES_SHOWN));
}

static void nodes_busy(struct why *w)
{
    if (!w->j->any.left || !w->fitting || w->free)
        return;
    if (!w->up)
        say(w, "draining", w->fitting,
            xasprintf("every node that may run it is drained (%u of them); tidemill node "
                      "undrain NODE",
                      w->fitting));
    else
        say(w, "busy", w->up,
            xasprintf("every node that may run it has as much as it takes (%u of them), "
                      "%s",
                      w->up,
                      w->out ? "of this job and perhaps others" : "of other jobs"));
}

/* A node has room for them, and the coordinator's memory has none. */
static void no_memory(struct why *w)
{
    uint64_t left = 0;

    for (struct stream *st = &w->j->any; st; st = stream_next(w->j, st))
        if (st->left && stream_lacks_room(w->s, st) &&
            (st->place ? !named_waits(w, st) : w->free > 0))
            left += st->left;
    if (left)
        say(w, "memory", left,
            xasprintf("%llu %s for room in the coordinator's memory, which has inputs of "
                      "other jobs",
                      (ull)left, left == 1 ? "task waits" : "tasks wait"));
}

static void deferred(struct why *w)
{
    uint64_t n[2] = { 0, 0 };
    int64_t next[2] = { INT64_MAX, INT64_MAX };

    for (size_t i = 0; i < w->s->heap_n; i++) {
        const struct deferred *d = &w->s->heap[i];
        if (d->job != w->j->row.id)
            continue;
        n[d->not_yet]++;
        next[d->not_yet] = MIN(next[d->not_yet], d->due_ns);
    }
    if (n[0])
        say(w, "retry", n[0],
            xasprintf("%llu %s failed and will be tried again, the first in %lld s",
                      (ull)n[0], tasks(n[0]), seconds(next[0] - w->s->now)));
    if (n[1])
        say(w, "server", n[1],
            xasprintf("%llu %s for %s, the first in %lld s", (ull)n[1],
                      n[1] == 1 ? "task waits" : "tasks wait",
                      n[1] == 1 ? "its server" : "their servers",
                      seconds(next[1] - w->s->now)));
}

static void publishing(struct why *w)
{
    if (w->j->pending)
        say(w, "publishing", w->j->pending,
            xasprintf("%llu %s done, and %s not in place yet", (ull)w->j->pending,
                      w->j->pending == 1 ? "task is" : "tasks are",
                      w->j->pending == 1 ? "its file is" : "their files are"));
}

static void running(struct why *w)
{
    uint32_t nodes = 0;
    struct sched_node *n;
    struct lease *l;

    TAILQ_FOREACH (n, &w->s->nodes, node)
        LIST_FOREACH (l, &n->leases, node_node)
            if (l->chunk->job == w->j) {
                nodes++;
                break;
            }
    if (w->out)
        say(w, "running", w->out,
            xasprintf("%llu %s on %u %s", (ull)w->out,
                      w->out == 1 ? "task runs" : "tasks run", nodes,
                      nodes == 1 ? "node" : "nodes"));
}

static void nothing_else(struct why *w)
{
    if (w->n)
        return;
    if (w->waiting)
        say(w, "ready", w->waiting,
            xasprintf("%llu %s about to start", (ull)w->waiting,
                      w->waiting == 1 ? "task is" : "tasks are"));
    else
        say(w, "recording", 0, xstrdup("its last records are on their way to the disk"));
}

static void (*const reasons[])(struct why *w) = {
    cancelling, paused,     open_still,  quota,        coordinator_waits,
    no_room,    no_node,    named_nodes, nodes_busy,   no_memory,
    deferred,   publishing, running,     nothing_else,
};

uint32_t explain_job(struct sched *s, struct job *j, struct buf *rows)
{
    struct why w = { .s = s, .j = j, .rows = rows };

    if (job_ended(j)) {
        ended(&w);
        return w.n;
    }
    count_tasks(&w);
    count_nodes(&w);
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        reasons[i](&w);
    return w.n;
}
