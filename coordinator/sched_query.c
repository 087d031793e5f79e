/* Answers to queries: rows of flat maps (proto/map.h). */
#include "coordinator/sched_state.h"
#include "proto/map.h"

enum { ANSWER_BYTES = 48 * KIB }; /* then the next message begins */

static const char *const state_names[] = {
    [JOB_OPEN] = "open",           [JOB_SEALED] = "sealed",       [JOB_DONE] = "done",
    [JOB_CANCELLED] = "cancelled", [JOB_ABANDONED] = "abandoned",
};

struct answer {
    struct sched *s;
    peer_id peer;
    uint32_t id, n;
    bool refused; /* by an Error instead */
    bool now;     /* not behind what waits for the disk */
    struct buf rows;
};

static void answer_send(struct answer *a, bool last)
{
    struct fx *fx = a->now ? sched_send_now(a->s, a->peer, MSG_ANSWER)
                           : sched_send(a->s, a->peer, MSG_ANSWER);

    fx->send.msg.answer = (struct msg_answer){ a->id, a->n, last };
    fx->send.body = blob_new(buf_span(&a->rows));
    fx->send.msg.body = blob_span(fx->send.body);
    buf_clear(&a->rows);
    a->n = 0;
}

static void answer_row(struct answer *a)
{
    a->n++;
    if (a->rows.len > ANSWER_BYTES)
        answer_send(a, false);
}

static void job_map(struct answer *a, const struct job *j, bool spec)
{
    struct buf *out = &a->rows;

    map_pack_begin(out, spec ? 22 : 17);
    map_pack_uint(out, "id", j->row.id);
    map_pack_str(out, "command", j->spec.command);
    map_pack_str(out, "name", j->row.name);
    map_pack_str(out, "owner", j->row.owner);
    map_pack_str(out, "state", span_str(state_names[j->row.state]));
    map_pack_uint(out, "state_code", j->row.state);
    map_pack_bool(out, "paused", j->row.paused && !job_ended(j));
    map_pack_uint(out, "tasks", j->row.tasks);
    map_pack_uint(out, "ok", j->row.ok);
    map_pack_uint(out, "failed", j->row.failed);
    map_pack_uint(out, "quarantined", j->row.poison);
    map_pack_uint(out, "cancelled", j->row.cancelled);
    map_pack_uint(out, "running", j->leased);
    map_pack_uint(out, "waiting_retry", j->deferred);
    map_pack_int(out, "priority", j->row.priority);
    map_pack_uint(out, "created_ns", (uint64_t)j->row.created_wall_ns);
    map_pack_uint(out, "ended_ns", (uint64_t)j->row.ended_wall_ns);
    if (spec) {
        map_pack_str(out, "spec", j->row.spec);
        map_pack_str(out, "key", span_of(j->row.key, sizeof(j->row.key)));
        map_pack_uint(out, "retries", j->row.retries);
        map_pack_uint(out, "task_timeout_ns", (uint64_t)MAX(j->row.task_timeout_ns, 0));
        map_pack_uint(out, "deadline_ns", (uint64_t)MAX(j->row.deadline_ns, 0));
    }
    answer_row(a);
}

static void rows_jobs(struct answer *a, uint64_t job)
{
    struct job *j;

    (void)job;
    TAILQ_FOREACH (j, &a->s->all, node)
        job_map(a, j, false);
}

static void rows_job(struct answer *a, uint64_t job)
{
    struct job *j = sched_job(a->s, job);

    if (j) {
        job_map(a, j, true);
    } else if (job_id_removed(a->s, job)) {
        AUTO_FREE char *text = xasprintf("removed: job %llu", (unsigned long long)job);
        sched_error(a->s, a->peer, 9, job, MSG_QUERY, text, "");
        a->refused = true;
    }
}

/* Of one that is not back after a restart only the name is known. */
static struct span node_state(const struct sched_node *n)
{
    if (!n->welcomed)
        return SPAN_LIT("away");
    return n->draining ? SPAN_LIT("draining") : SPAN_LIT("up");
}

static void rows_nodes(struct answer *a, uint64_t job)
{
    struct sched_node *n;
    struct lease *l;

    (void)job;
    TAILQ_FOREACH (n, &a->s->nodes, node) {
        uint64_t tasks = 0;
        LIST_FOREACH (l, &n->leases, node_node)
            tasks += l->left;
        map_pack_begin(&a->rows, 9);
        map_pack_str(&a->rows, "name", span_str(n->name));
        map_pack_str(&a->rows, "state", node_state(n));
        map_pack_uint(&a->rows, "processes", n->cpu_slots);
        map_pack_uint(&a->rows, "processes_busy", n->cpu_busy);
        map_pack_uint(&a->rows, "coroutines", n->io_slots);
        map_pack_uint(&a->rows, "coroutines_busy", n->io_busy);
        map_pack_uint(&a->rows, "tasks", tasks);
        map_pack_uint(&a->rows, "publishing", files_waiting(a->s, n->name));
        map_pack_uint(&a->rows, "done", n->done);
        answer_row(a);
    }
}

static void rows_status(struct answer *a, uint64_t job)
{
    (void)job;
    map_pack_begin(&a->rows, 5);
    map_pack_str(&a->rows, "version", span_str(TM_VERSION));
    map_pack_uint(&a->rows, "epoch", a->s->config.epoch.counter);
    map_pack_uint(&a->rows, "jobs", HASH_CNT(hh, a->s->jobs));
    map_pack_uint(&a->rows, "leases", HASH_COUNT(a->s->leases));
    map_pack_bool(&a->rows, "full", sched_low(a->s));
    answer_row(a);
}

static const struct {
    const char *what;
    void (*rows)(struct answer *a, uint64_t job);
} queries[] = {
    { "jobs", rows_jobs },
    { "job", rows_job },
    { "nodes", rows_nodes },
    { "status", rows_status },
};

/* Answers keep their place behind what is being saved (R1). On a full disk that may be
 * long: who wants to know why is told at once, and who wants to read, if what is said of
 * that job is on disk. */
static bool answer_now(struct sched *s, const struct msg *m)
{
    const struct job *j = m->query.job ? sched_job(s, m->query.job) : NULL;

    if (!s->full)
        return false;
    return m->query.job ? j && j->chunks_on_disk == j->row.chunks : true;
}

void sched_query(struct sched *s, struct peer *p, const struct msg *m)
{
    struct answer a = {
        .s = s, .peer = p->id, .id = m->query.id, .now = answer_now(s, m)
    };

    for (size_t i = 0; i < ARRAY_LEN(queries); i++) {
        if (!span_eq(span_str(queries[i].what), m->query.what))
            continue;
        queries[i].rows(&a, m->query.job);
        if (!a.refused)
            answer_send(&a, true);
        buf_fini(&a.rows);
        return;
    }
    sched_error(s, p->id, 2, 0, MSG_QUERY, "unknown query", "jobs, job, nodes, status");
}
