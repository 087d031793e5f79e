#include "coordinator/sched_state.h"
#include "coordinator/dispatch.h"

struct sched *sched_new(const struct sched_config *config)
{
    struct sched *s = xcalloc(1, sizeof(*s));

    s->config = *config;
    if (!s->config.silence_ns)
        s->config.silence_ns = 10 * NS_PER_S;
    if (!s->config.abandon_ns)
        s->config.abandon_ns = 3600 * NS_PER_S;
    if (!s->config.lease_ns)
        s->config.lease_ns = 60 * NS_PER_S;
    if (!s->config.unpublished_ns)
        s->config.unpublished_ns = 600 * NS_PER_S;
    if (!s->config.open_bytes)
        s->config.open_bytes = 64 * MIB;
    if (!s->config.recent_bytes)
        s->config.recent_bytes = 16 * MIB;
    TAILQ_INIT(&s->nodes);
    TAILQ_INIT(&s->all);
    TAILQ_INIT(&s->live);
    TAILQ_INIT(&s->ready);
    TAILQ_INIT(&s->pending);
    TAILQ_INIT(&s->adoptees);
    TAILQ_INIT(&s->recents);
    TAILQ_INIT(&s->key_list);
    s->next_job = 1;
    s->next_follow = 1;
    s->next_lease = (config->epoch.counter << 32) + 1;
    s->next_row = 1;
    s->random = 0x9e3779b97f4a7c15u ^ config->seed;
    return s;
}

static void peer_free(struct sched *s, struct peer *p)
{
    HASH_DEL(s->peers, p);
    query_forget(p);
    owner_put(s, p->owner);
    free(p->name);
    free(p);
}

void sched_free(struct sched *s)
{
    struct peer *p, *ptmp;
    struct sched_node *n;
    struct job *j;

    if (!s)
        return;
    HASH_ITER (hh, s->peers, p, ptmp)
        peer_free(s, p);
    while ((n = TAILQ_FIRST(&s->nodes))) {
        struct lease *l;
        adopt_drop(s, n);
        while ((l = LIST_FIRST(&n->leases)))
            lease_end(s, l);
        node_free(s, n);
    }
    files_free(s);
    while ((j = TAILQ_FIRST(&s->all)))
        sched_free_job(s, j);
    keys_free(s);
    free(s->heap);
    free(s->tombs);
    free(s);
}

uint32_t sched_random(struct sched *s)
{
    /* splitmix64 (Steele, Lea, Flood 2014): enough for jitter, the same for one seed. */
    uint64_t z = (s->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

struct job *sched_job(struct sched *s, uint64_t id)
{
    struct job *j;
    HASH_FIND(hh, s->jobs, &id, sizeof(id), j);
    return j;
}

struct peer *sched_peer(struct sched *s, peer_id id)
{
    struct peer *p;
    HASH_FIND(hh, s->peers, &id, sizeof(id), p);
    return p;
}

/* ---- effects ---- */

struct fx *sched_send(struct sched *s, peer_id peer, enum msg_type type)
{
    struct fx *fx = fx_add(s->g, FX_SEND);
    fx->send.peer = peer;
    fx->send.msg.type = type;
    return fx;
}

struct fx *sched_send_now(struct sched *s, peer_id peer, enum msg_type type)
{
    struct fx *fx = fx_add(s->g, FX_SEND_NOW);
    fx->send.peer = peer;
    fx->send.msg.type = type;
    return fx;
}

struct fx *sched_error(struct sched *s, peer_id peer, uint32_t code, uint64_t job,
                       enum msg_type about, const char *text, const char *hint)
{
    struct fx *fx = sched_send(s, peer, MSG_ERROR);
    struct msg_error *e = &fx->send.msg.error;

    e->code = code;
    e->job = job;
    e->about = about;
    e->text = fx_keep(s->g, span_str(text));
    e->hint = fx_keep(s->g, span_str(hint));
    return fx;
}

struct fx *sched_denied(struct sched *s, peer_id peer, uint64_t job, enum msg_type about,
                        const char *text, const char *hint)
{
    s->denied++;
    return sched_error(s, peer, 5, job, about, text, hint);
}

void sched_answer(struct sched *s, peer_id peer, uint32_t id)
{
    if (id)
        sched_send(s, peer, MSG_ANSWER)->send.msg.answer =
            (struct msg_answer){ .id = id, .last = true };
}

/* ---- turns ---- */

void sched_turn_begin(struct sched *s, int64_t now_ns, int64_t wall_ns,
                      struct fx_group *g)
{
    /* R9: a coordinator that was stopped for a while must not take its nodes for dead. */
    int64_t step = s->real_now ? now_ns - s->real_now : 0;
    s->now += MAX(0, MIN(step, NS_PER_S));
    s->real_now = now_ns;
    s->wall = wall_ns;
    s->g = g;
    g->turn = ++s->turn;
    s->again = false;
    bulk_turn_begin(s);
}

/* Another connection of the same process, which may be read in any order. */
static struct peer *twin(struct sched *s, const struct peer *p)
{
    static const uint8_t none[sizeof(p->nonce)];

    for (struct peer *o = s->peers; o; o = o->hh.next)
        if (o != p && o->role == p->role && o->key == p->key &&
            memcmp(o->nonce, p->nonce, sizeof(p->nonce)) == 0 &&
            memcmp(p->nonce, none, sizeof(none)) != 0)
            return o;
    return NULL;
}

void sched_peer_leave(struct sched *s, struct peer *p)
{
    struct sched_node *n = p->node;
    struct peer *other = twin(s, p);
    struct job *j, *tmp;

    follow_drop_peer(s, p->id);
    TAILQ_FOREACH_SAFE (j, &s->live, live_node, tmp) {
        if (j->client != p->id)
            continue;
        if (!other) {
            job_client_gone(s, j);
            continue;
        }
        job_client_is(s, j, other->id);
        job_accepted(s, other->id, j); /* the credit that p was told of is lost with it */
    }
    if (n && n->peer == p->id)
        node_lost(s, n);
    peer_free(s, p);
}

static void expire_peers(struct sched *s)
{
    struct peer *p, *tmp;

    HASH_ITER (hh, s->peers, p, tmp)
        if (p->key && key_wrong(s, p->key))
            key_refuse(s, p);
        else if (s->now - p->heard_ns > s->config.silence_ns)
            sched_peer_leave(s, p);
}

void sched_peer_gone(struct sched *s, peer_id id)
{
    struct peer *p = sched_peer(s, id);

    /* A node may come back over another connection with all its leases: silence decides.
     * A client's place is given up at once, it will say Hello again. */
    if (p && p->role == ROLE_CLIENT)
        sched_peer_leave(s, p);
}

void sched_peer_unsent(struct sched *s, peer_id id)
{
    struct peer *p = sched_peer(s, id);

    if (p)
        sched_peer_leave(s, p); /* it is told so when it says something */
}

static void job_open_more(struct sched *s, struct job *j)
{
    for (struct stream *st = &j->any; st; st = stream_next(j, st))
        if (TAILQ_EMPTY(&st->ready) && !stream_all_open(st))
            stream_open_chunks(s, st);
}

static void expire_jobs(struct sched *s)
{
    struct job *j, *tmp;

    TAILQ_FOREACH_SAFE (j, &s->live, live_node, tmp) {
        if (!j->sealed && !j->client && !j->cancelling &&
            s->now - j->client_gone_ns > s->config.abandon_ns)
            job_cancel(s, j, JOB_ABANDONED);
        if (j->row.deadline_ns && !j->cancelling &&
            s->wall - j->row.created_wall_ns > j->row.deadline_ns)
            job_cancel(s, j, JOB_CANCELLED);
        job_tell_stuck(s, j);
        if (j->cancelling)
            job_cancel_more(s, j);
        else
            job_open_more(s, j);
    }
}

void sched_turn_end(struct sched *s)
{
    expire_peers(s);
    node_expire(s);
    lease_expire(s);
    expire_jobs(s);
    files_expire(s);
    jobs_keep(s);
    defer_due(s);
    lease_pump(s);
    credit_again(s);
    s->g = NULL;
}

int64_t sched_next_ns(const struct sched *s)
{
    int64_t due = defer_next_ns(s);

    if (s->again)
        return s->real_now;
    if (s->wait_until_ns > s->now)
        due = MIN(due, s->wait_until_ns);
    if (due < s->now + TICK_NS)
        return s->real_now + MAX(0, due - s->now);
    return s->real_now + TICK_NS;
}

void sched_message(struct sched *s, peer_id peer, struct span user, const struct msg *m)
{
    dispatch_message(s, peer, user, m);
}

void sched_each_peer(const struct sched *s, void (*fn)(void *arg, peer_id peer),
                     void *arg)
{
    for (struct peer *p = s->peers; p; p = p->hh.next)
        fn(arg, p->id);
}

bool sched_drain(struct sched *s)
{
    s->draining = true;
    return HASH_COUNT(s->leases) == 0;
}

void sched_committed(struct sched *s, struct fx_group *g)
{
    struct fx *fx;

    if (!g->only_pages) /* those may overtake */
        s->turn_on_disk = MAX(s->turn_on_disk, g->turn);
    STAILQ_FOREACH (fx, &g->list, node) {
        switch (fx->type) {
        case FX_CHUNK:
            sched_chunk_committed(s, &fx->chunk);
            break;
        case FX_BATCH:
            sched_batch_committed(s, &fx->batch);
            break;
        case FX_SHOW:
            sched_show_committed(s, fx->show.job, fx->show.cursor, fx->show.n);
            break;
        case FX_STATE: {
            struct job *j = sched_job(s, fx->state.job);
            if (j) {
                j->end_on_disk = fx->state.ended_wall_ns != 0;
                follow_pump(s, j);
            }
            break;
        }
        case FX_READ_CHUNK:
            sched_chunk_read(s, &fx->read_chunk);
            break;
        case FX_READ_RESULTS:
            sched_results_read(s, &fx->read_results);
            break;
        case FX_JOB:
        case FX_REMOVE:
        case FX_RUN:
        case FX_PAUSE:
        case FX_NODE:
        case FX_KEY:
        case FX_SEND_NOW:
            break;
        case FX_SEND:
            bulk_on_disk(s, fx);
            break;
        }
    }
}
