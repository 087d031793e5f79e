/* Answers to queries: rows of flat maps (proto/map.h). */
#include "coordinator/dispatch.h"
#include "coordinator/sched_state.h"
#include "proto/map.h"

enum {
    ANSWER_BYTES = 48 * KIB, /* then the next message begins */
    ASKED_MAX = 1024,        /* queries of one peer that wait for their answer */
};

static const char *const state_names[] = {
    [JOB_OPEN] = "open",           [JOB_SEALED] = "sealed",       [JOB_DONE] = "done",
    [JOB_CANCELLED] = "cancelled", [JOB_ABANDONED] = "abandoned",
};

struct answer {
    struct sched *s;
    const struct peer *p;
    peer_id peer;
    struct asker *to;
    uint32_t n;
    bool refused; /* by an Error instead */
    struct buf rows;
};

static void answer_send(struct answer *a, bool last)
{
    struct fx *fx = a->to->now ? sched_send_now(a->s, a->peer, MSG_ANSWER)
                               : sched_send(a->s, a->peer, MSG_ANSWER);

    fx->send.msg.answer = (struct msg_answer){ a->to->id, a->n, last };
    fx->send.body = blob_new(buf_span(&a->rows));
    fx->send.msg.body = blob_span(fx->send.body);
    bulk_said(a->s, fx);
}

static bool is_full(const struct answer *a)
{
    return a->rows.len > ANSWER_BYTES;
}

/* Labels, selectors, recipients as one text; none has a comma. */
static void lines_map(struct buf *out, const char *key, struct span lines)
{
    AUTO_BUF text = BUF_INIT;

    buf_add_span(&text, lines);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\n')
            text.data[i] = ',';
    map_pack_str(out, key, buf_span(&text));
}

static void job_map(struct answer *a, const struct job *j, bool spec)
{
    struct buf *out = &a->rows;

    map_pack_begin(out, spec ? 23 : 17);
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
        lines_map(out, "on", j->spec.on);
        map_pack_str(out, "key", span_of(j->row.key, sizeof(j->row.key)));
        map_pack_uint(out, "retries", j->row.retries);
        map_pack_uint(out, "task_timeout_ns", (uint64_t)MAX(j->row.task_timeout_ns, 0));
        map_pack_uint(out, "deadline_ns", (uint64_t)MAX(j->row.deadline_ns, 0));
    }
    a->n++;
}

/* Those that are there all the while are each told of once: they are in order of id. */
static struct job *job_after(struct sched *s, uint64_t id)
{
    struct job *j = sched_job(s, id);

    if (j)
        return TAILQ_NEXT(j, node);
    TAILQ_FOREACH (j, &s->all, node)
        if (j->row.id > id)
            break;
    return j;
}

static bool rows_jobs(struct answer *a)
{
    struct job *j;

    for (j = job_after(a->s, a->to->after); j && !is_full(a); j = TAILQ_NEXT(j, node)) {
        if (!owner_sees(a->p, j))
            continue;
        job_map(a, j, false);
        a->to->after = j->row.id;
    }
    return !j;
}

static bool rows_job(struct answer *a)
{
    uint64_t job = a->to->job;
    struct job *j = sched_job_of(a->s, a->p, job);

    if (j) {
        job_map(a, j, true);
    } else if (a->p->rights == ROLE_ADMIN && job_id_removed(a->s, job)) {
        AUTO_FREE char *text = xasprintf("removed: job %llu", (unsigned long long)job);
        sched_error(a->s, a->peer, 9, job, MSG_QUERY, text, "");
        a->refused = true;
    }
    return true;
}

/* Of one that is not back after a restart only the name is known. */
static struct span node_state(const struct sched_node *n)
{
    if (!n->welcomed)
        return SPAN_LIT("away");
    return n->draining ? SPAN_LIT("draining") : SPAN_LIT("up");
}

static void node_map(struct answer *a, const struct sched_node *n)
{
    uint64_t tasks = 0;
    struct lease *l;

    LIST_FOREACH (l, &n->leases, node_node)
        tasks += l->left;
    map_pack_begin(&a->rows, 12);
    map_pack_str(&a->rows, "name", span_str(n->name));
    map_pack_str(&a->rows, "state", node_state(n));
    map_pack_uint(&a->rows, "processes", n->cpu_slots);
    map_pack_uint(&a->rows, "processes_busy", n->cpu_busy);
    map_pack_uint(&a->rows, "coroutines", n->io_slots);
    map_pack_uint(&a->rows, "coroutines_busy", n->io_busy);
    map_pack_uint(&a->rows, "tasks", tasks);
    map_pack_uint(&a->rows, "publishing", files_waiting(a->s, n->name));
    map_pack_uint(&a->rows, "done", n->done);
    map_pack_bool(&a->rows, "files", n->files);
    lines_map(&a->rows, "labels", blob_span(n->labels));
    lines_map(&a->rows, "identities", blob_span(n->identities));
    a->n++;
}

static bool rows_nodes(struct answer *a)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &a->s->nodes, node) {
        if (n->number <= a->to->after)
            continue;
        if (is_full(a))
            return false;
        node_map(a, n);
        a->to->after = n->number;
    }
    return true;
}

static bool rows_explain(struct answer *a)
{
    struct job *j = sched_job_of(a->s, a->p, a->to->job);

    if (j)
        a->n += explain_job(a->s, j, &a->rows);
    return true;
}

static bool rows_status(struct answer *a)
{
    map_pack_begin(&a->rows, 6);
    map_pack_str(&a->rows, "version", span_str(TM_VERSION));
    map_pack_uint(&a->rows, "epoch", a->s->config.epoch.counter);
    map_pack_uint(&a->rows, "jobs", HASH_CNT(hh, a->s->jobs));
    map_pack_uint(&a->rows, "leases", HASH_COUNT(a->s->leases));
    map_pack_bool(&a->rows, "full", sched_low(a->s));
    map_pack_uint(&a->rows, "denied", a->s->denied);
    a->n++;
    return true;
}

static bool rows_keys(struct answer *a)
{
    struct key *k;

    TAILQ_FOREACH (k, &a->s->key_list, key_node) {
        if (k->number <= a->to->after)
            continue;
        if (is_full(a))
            return false;
        key_pack(a->s, &a->rows, k);
        a->to->after = k->number;
        a->n++;
    }
    return true;
}

/* The rows of one message; true: no more come after them. */
static const struct {
    const char *what;
    bool (*rows)(struct answer *a);
    bool admin; /* for admins alone */
    bool dear;  /* looks at more than it says: at all chunks of a job */
} queries[] = {
    { .what = "jobs", .rows = rows_jobs },
    { .what = "job", .rows = rows_job },
    { .what = "nodes", .rows = rows_nodes },
    { .what = "status", .rows = rows_status },
    { .what = "explain", .rows = rows_explain, .dear = true },
    { .what = "keys", .rows = rows_keys, .admin = true },
};

/* Answers keep their place behind what is being saved (R1). On a full disk that may be
 * long: who wants to know why is told at once, and who wants to read, if what is said of
 * that job is on disk. */
static bool answer_now(struct sched *s, uint64_t id)
{
    const struct job *j = id ? sched_job(s, id) : NULL;

    if (!s->full)
        return false;
    return id ? j && j->chunks_on_disk == j->row.chunks : true;
}

static void asker_free(struct peer *p, struct asker *q)
{
    TAILQ_REMOVE(&p->askers, q, asker_node);
    p->n_askers--;
    free(q);
}

/* One message. */
static void answer(struct sched *s, struct peer *p, struct asker *q)
{
    struct answer a = { .s = s, .p = p, .peer = p->id, .to = q };
    bool last = true;

    a.refused = q->what == ARRAY_LEN(queries) ||
                (queries[q->what].admin && p->rights != ROLE_ADMIN);
    if (!a.refused)
        last = queries[q->what].rows(&a);
    else if (q->what < ARRAY_LEN(queries))
        dispatch_deny(s, p, MSG_QUERY);
    else
        sched_error(s, p->id, 2, 0, MSG_QUERY, "unknown query",
                    "jobs, job, nodes, explain, status, keys");
    if (a.n || !a.refused)
        answer_send(&a, last);
    buf_fini(&a.rows);
    if (last)
        asker_free(p, q);
}

/* Others have their turn between two answers that take long. */
static bool must_wait(struct sched *s, struct peer *p, const struct asker *q)
{
    if (q->what == ARRAY_LEN(queries) || !queries[q->what].dear)
        return false;
    if (p->dear_turn == s->turn) {
        p->starved = s->again = true; /* it is pumped in the next one */
        return true;
    }
    p->dear_turn = s->turn;
    return false;
}

/* An Error names no Query, so they are answered one after another. Once one is answered
 * behind the disk it stays there, lest its end comes before its beginning. */
void query_pump(struct sched *s, struct peer *p)
{
    struct asker *q;

    while ((q = TAILQ_FIRST(&p->askers)) && !bulk_must_wait(s, p) &&
           !must_wait(s, p, q)) {
        q->now = q->after ? q->now && s->full : answer_now(s, q->job);
        answer(s, p, q);
    }
}

void query_forget(struct peer *p)
{
    struct asker *q;

    while ((q = TAILQ_FIRST(&p->askers)))
        asker_free(p, q);
}

void sched_query(struct sched *s, struct peer *p, const struct msg *m)
{
    struct asker *q;
    size_t i = 0;

    if (p->n_askers == ASKED_MAX) {
        sched_error(s, p->id, 1, 0, MSG_QUERY, "too many queries at a time", "");
        return;
    }
    while (i < ARRAY_LEN(queries) && !span_eq(span_str(queries[i].what), m->query.what))
        i++;
    q = xcalloc(1, sizeof(*q));
    *q = (struct asker){ .id = m->query.id, .job = m->query.job, .what = i };
    TAILQ_INSERT_TAIL(&p->askers, q, asker_node);
    p->n_askers++;
    query_pump(s, p);
}
