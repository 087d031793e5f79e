/* Which nodes may run which jobs, and when nobody ever can.
 *
 * One rule for all that a job may ask of a node (to be the one that is meant, roots, an
 * identity, coroutines): while no node is known, or one is away that was known, a job
 * waits. Where nodes are connected and none of them can run it, a new job is refused at
 * once; but a node seldom starts alone, so not within 2 s of the last that came. A job
 * whose last node went away waits for it as long as a node may be silent, then its
 * followers are told. Nodes that keep coming put it off no longer than YOUNG_MOST_NS. */
#include "coordinator/sched_state.h"
#include "proto/select.h"

static bool is_meant(const struct sched_node *n, const struct job *j)
{
    return select_fits(j->spec.on, span_str(n->name), blob_span(n->labels));
}

static bool needs_files(const struct job *j)
{
    return j->spec.source == SOURCE_PATH || j->spec.source == SOURCE_DIR ||
           j->spec.sink == SINK_FILE;
}

static bool has_files(const struct sched_node *n, const struct job *j)
{
    return n->files || !needs_files(j);
}

/* Decrypting needs one of its identities (R18). */
static bool has_identity(const struct sched_node *n, const struct job *j)
{
    struct span has = blob_span(n->identities);

    if (j->spec.transform != TRANSFORM_DECRYPT)
        return true;
    for (uint32_t i = 0; i < j->spec.n_recipients; i++)
        if (memmem(has.data, has.len, j->spec.recipients[i].data,
                   j->spec.recipients[i].len))
            return true;
    return false;
}

static bool has_slots(const struct sched_node *n, const struct job *j)
{
    return !j->io || n->io_slots;
}

bool node_fits(const struct sched_node *n, const struct job *j)
{
    return is_meant(n, j) && has_files(n, j) && has_identity(n, j) && has_slots(n, j);
}

/* ---- what is lacking ---- */

static void say_not_meant(const struct job *j, struct err *ret)
{
    AUTO_BUF on = BUF_INIT;
    struct span one;
    size_t pos = 0;

    while (select_next(j->spec.on, &pos, &one))
        if (!span_eq(one, SPAN_LIT("each")))
            buf_printf(&on, "%s%.*s", on.len ? " and " : "", (int)one.len,
                       (const char *)one.data);
    err_set(ret, 10, "no node is %.300s", buf_str(&on));
    err_hint(ret, "tidemill node ls shows names and labels");
}

static void say_no_files(const struct job *j, struct err *ret)
{
    (void)j;
    err_set(ret, 10, "no node may use files");
    err_hint(ret, "start a worker with --root DIR");
}

static void say_no_identity(const struct job *j, struct err *ret)
{
    (void)j;
    err_set(ret, 10, "no node has an identity for these files");
    err_hint(ret, "start a worker with --identity FILE");
}

static void say_no_slots(const struct job *j, struct err *ret)
{
    (void)j;
    err_set(ret, 10, "no node fetches");
    err_hint(ret, "start a worker with --coroutines N");
}

bool job_lacks(struct sched *s, const struct job *j, struct err *ret)
{
    /* Each of those that have what comes before it. */
    static const struct {
        bool (*has)(const struct sched_node *n, const struct job *j);
        void (*say)(const struct job *j, struct err *ret);
    } needs[] = {
        { is_meant, say_not_meant },
        { has_files, say_no_files },
        { has_identity, say_no_identity },
        { has_slots, say_no_slots },
    };
    struct sched_node *n;
    size_t most = 0;

    TAILQ_FOREACH (n, &s->nodes, node) {
        size_t i = 0;
        while (n->peer && i < ARRAY_LEN(needs) && needs[i].has(n, j))
            i++;
        most = MAX(most, i);
    }
    if (most == ARRAY_LEN(needs))
        return false;
    needs[most].say(j, ret);
    return true;
}

void job_refuse(struct sched *s, peer_id peer, const struct job *j, enum msg_type about)
{
    struct err why = { 0 };

    if (!job_lacks(s, j, &why))
        return; /* one came this moment */
    AUTO_FREE char *text = xasprintf("cannot be placed: %s", why.text);
    sched_error(s, peer, 10, about == MSG_SUBMIT ? 0 : j->row.id, about, text, why.hint);
}

/* ---- when ---- */

bool job_placeable(struct sched *s, const struct job *j)
{
    struct sched_node *n;

    TAILQ_FOREACH (n, &s->nodes, node)
        if (!n->peer || node_fits(n, j)) /* one that is away may fit when it comes */
            return true;
    return TAILQ_EMPTY(&s->nodes);
}

static bool is_fitted(const struct sched *s, const struct job *j)
{
    const struct sched_node *n;

    TAILQ_FOREACH (n, &s->nodes, node)
        if (n->peer && node_fits(n, j))
            return true;
    return false;
}

void place_node_came(struct sched *s)
{
    s->young_until_ns = s->now + YOUNG_NS;
}

bool job_is_hopeless(struct sched *s, struct job *j)
{
    j->placeable = job_placeable(s, j);
    j->stuck_ns = s->young_until_ns;
    j->timed = !j->placeable;
    return !j->placeable && s->now >= s->young_until_ns;
}

void place_jobs(struct sched *s)
{
    struct job *j;

    TAILQ_FOREACH (j, &s->live, live_node) {
        bool can = job_placeable(s, j);
        if (can && is_fitted(s, j))
            j->timed = j->refused = false;
        if (!can && !j->timed)
            j->stuck_ns = s->now + s->config.silence_ns;
        j->timed |= !can;
        j->placeable = can;
        streams_place(s, j);
    }
}

bool job_is_stuck(const struct sched *s, const struct job *j)
{
    int64_t young_ns = MIN(s->young_until_ns, j->stuck_ns + YOUNG_MOST_NS);

    return !j->placeable && s->now >= MAX(j->stuck_ns, young_ns);
}

/* Tells those who wait for it. The job stays: a node that can may still come. */
void job_tell_stuck(struct sched *s, struct job *j)
{
    struct follower *f;

    if (j->refused || !job_is_stuck(s, j))
        return;
    j->refused = true;
    LIST_FOREACH (f, &j->followers, job_node)
        job_refuse(s, f->peer, j, MSG_FOLLOW);
}
