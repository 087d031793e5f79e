/* Questions to the coordinator, and orders: Cancel, Pause, Drain, Remove and Key. Both
 * are said again after a reconnect until they are answered: questions change nothing,
 * orders said twice do what they do once. */
#include "client/lib/internal.h"

/* ---- the thread's side ---- */

static struct msg_key key_message(const struct query *q)
{
    struct msg_key m = { .id = q->id,
                         .verb = q->verb,
                         .name = span_str(q->key->name),
                         .owner = span_str(q->key->owner),
                         .role = (enum peer_role)q->key->role,
                         .not_after_wall_ns = q->key->not_after_ns,
                         .uses = q->key->uses };

    if (q->key->public_key)
        memcpy(m.public_key, q->key->public_key, sizeof(m.public_key));
    return m;
}

static struct msg message_of(const struct query *q)
{
    struct msg m = { .type = q->type };

    if (q->type == MSG_QUERY)
        m.query = (struct msg_query){ q->id, span_str(q->what), q->job };
    else if (q->type == MSG_CANCEL)
        m.cancel = (struct msg_cancel){ q->job, q->id };
    else if (q->type == MSG_PAUSE)
        m.pause = (struct msg_pause){ q->job, q->undo, q->id };
    else if (q->type == MSG_DRAIN)
        m.drain = (struct msg_drain){ span_str(q->what), q->undo, q->id };
    else if (q->type == MSG_REMOVE)
        m.remove = (struct msg_remove){ q->job, q->id };
    else if (q->type == MSG_KEY)
        m.key = key_message(q);
    else
        CHECK(false);
    return m;
}

int query_send_all(struct conn *c)
{
    struct query *q, *next;
    for (q = TAILQ_FIRST(&c->queries); q; q = next) {
        next = TAILQ_NEXT(q, node);
        if (q->sent)
            continue;
        struct msg m = message_of(q);
        if (link_send(c->link, 0, &m) < 0)
            return -1;
        q->sent = true;
        if (q->id == 0)
            query_free(c, q);
    }
    return 0;
}

void query_session_lost(struct conn *c)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node) {
        if (q->done)
            continue;
        q->again = q->again || q->sent;
        q->sent = false;
        q->n = 0;
        buf_clear(&q->rows);
    }
}

void query_on_answer(struct conn *c, const struct msg *m)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node)
        if (q->id == m->answer.id && q->sent && !q->done)
            break;
    if (!q)
        return;
    buf_add_span(&q->rows, m->body);
    q->n += m->answer.n;
    q->done = m->answer.last;
    if (q->done)
        conn_notify(c);
}

bool query_owns(enum msg_type about)
{
    return about == MSG_QUERY || about == MSG_CANCEL || about == MSG_PAUSE ||
           about == MSG_DRAIN || about == MSG_REMOVE || about == MSG_KEY;
}

/* An Error names no id: it is about the oldest of its type, and of its job if it says
 * which, as answers come in the order of what they answer. */
void query_on_error(struct conn *c, const struct msg *m, const struct err *why)
{
    struct query *q;
    TAILQ_FOREACH (q, &c->queries, node)
        if (q->sent && !q->done && q->type == m->error.about &&
            (m->error.job == 0 || q->job == m->error.job))
            break;
    if (!q)
        return;
    q->failed = *why;
    if (q->failed.code == 0)
        q->failed.code = TM_ERROR;
    q->done = true;
    conn_notify(c);
}

/* ---- the caller's side ---- */

static void add(struct conn *c, struct query *q)
{
    TAILQ_INSERT_TAIL(&c->queries, q, node);
    conn_kick(c);
}

/* Says q and waits for its answer: 0, TM_AGAIN, -1. Under the mutex. */
static int run(struct conn *c, struct query *q, struct err *err)
{
    struct waiter w = conn_waiter(c->patience_ns);
    int rc = 0;
    do {
        q->id = ++c->next_query;
    } while (q->id == 0); /* 0: no answer is wanted */
    add(c, q);
    while (!q->done && rc == 0) {
        rc = conn_alive(c, err);
        if (rc == 0)
            rc = conn_wait(c, &w);
    }
    TAILQ_REMOVE(&c->queries, q, node);
    if (!q->done || !q->failed.code)
        return q->done ? 0 : rc;
    *err = q->failed;
    return -1;
}

static int run_for_rows(struct conn *c, struct query q, struct tm_rows **ret,
                        struct err *err)
{
    pthread_mutex_lock(&c->mu);
    int rc = run(c, &q, err);
    if (rc == 0)
        rc = rows_of(c, &q, ret, err);
    pthread_mutex_unlock(&c->mu);
    buf_fini(&q.rows);
    return rc;
}

int query_run(struct conn *c, const char *what, uint64_t job, struct tm_rows **ret,
              struct err *err)
{
    struct query q = { .type = MSG_QUERY, .what = what, .job = job };
    return run_for_rows(c, q, ret, err);
}

int tm_query(struct tm *tm, const char *what, uint64_t job, struct tm_rows **ret,
             struct tm_error *terr)
{
    struct err err;
    int rc = query_run(conn_of(tm), what, job, ret, &err);
    return rc == -1 ? error_out(terr, &err) : rc;
}

/* ---- orders ---- */

void tm_patience(struct tm *tm, int64_t timeout_ns)
{
    struct conn *c = conn_of(tm);
    pthread_mutex_lock(&c->mu);
    c->patience_ns = timeout_ns;
    pthread_mutex_unlock(&c->mu);
}

void query_cancel_unheard(struct conn *c, uint64_t job)
{
    struct query *q = xcalloc(1, sizeof(*q));
    q->type = MSG_CANCEL;
    q->job = job;
    add(c, q);
}

void query_free(struct conn *c, struct query *q)
{
    TAILQ_REMOVE(&c->queries, q, node);
    free(q);
}

static int order(struct tm *tm, struct query q, struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct err err;
    pthread_mutex_lock(&c->mu);
    int rc = run(c, &q, &err);
    pthread_mutex_unlock(&c->mu);
    buf_fini(&q.rows);
    /* Said again, because the answer to the first was lost: then it is gone already. */
    if (rc == -1 && q.type == MSG_REMOVE && q.again && err.code == TM_NOT_FOUND)
        return 0;
    return rc == -1 ? error_out(terr, &err) : rc;
}

int tm_cancel(struct tm *tm, uint64_t job_id, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_CANCEL, .job = job_id }, err);
}

int tm_pause(struct tm *tm, uint64_t job_id, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_PAUSE, .job = job_id }, err);
}

int tm_resume(struct tm *tm, uint64_t job_id, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_PAUSE, .job = job_id, .undo = true },
                 err);
}

int tm_remove(struct tm *tm, uint64_t job_id, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_REMOVE, .job = job_id }, err);
}

int tm_drain(struct tm *tm, const char *node, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_DRAIN, .what = node }, err);
}

int tm_undrain(struct tm *tm, const char *node, struct tm_error *err)
{
    return order(tm, (struct query){ .type = MSG_DRAIN, .what = node, .undo = true },
                 err);
}

/* ---- keys ---- */

static int order_key(struct tm *tm, enum key_verb verb, const struct tm_key *key,
                     struct tm_rows **ret, struct tm_error *terr)
{
    struct query q = { .type = MSG_KEY, .what = "keys", .verb = verb, .key = key };
    struct err err;
    int rc = run_for_rows(conn_of(tm), q, ret, &err);
    return rc == -1 ? error_out(terr, &err) : rc;
}

int tm_key_trust(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                 struct tm_error *err)
{
    return order_key(tm, KEY_TRUST, key, ret, err);
}

int tm_key_revoke(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                  struct tm_error *err)
{
    return order_key(tm, KEY_REVOKE, key, ret, err);
}

int tm_key_invite(struct tm *tm, const struct tm_key *key, struct tm_rows **ret,
                  struct tm_error *err)
{
    return order_key(tm, KEY_INVITE, key, ret, err);
}
