/* A coordinator for tests of the client library: one thread, one ROUTER, everything in
 * memory. It keeps its jobs when it goes away and comes back, checks digests and
 * sequence numbers, and pays for results with the follower's credit as the real one does.
 */
#ifndef TESTS_LIB_FAKE_H
#define TESTS_LIB_FAKE_H

#include <pthread.h>
#include "base/checksum.h"
#include "base/crypto.h"
#include "proto/link.h"
#include "proto/map.h"
#include "proto/pack.h"

enum { FAKE_JOBS_MAX = 64, FAKE_CHUNKS_MAX = 512, FAKE_BATCH = 512 };

struct fake_chunk {
    uint32_t n, *lens;
    uint64_t first;
    size_t body_len;
    uint8_t *body, digest[WIRE_DIGEST_BYTES];
    char node[16]; /* the only one it is for; "" = any */
};
struct fake_job {
    uint64_t id, tasks, cursor;
    uint64_t told_epoch; /* that its last Follow named */
    uint8_t key[WIRE_KEY_BYTES];
    struct fake_chunk chunks[FAKE_CHUNKS_MAX];
    uint32_t n_chunks;
    bool sealed, cancelled, ended, paused, removed;
    struct buf spec;
    peer_id owner, follower; /* 0 = nobody (ROUTER ids start at 1) */
    int64_t credit;
    bool task_order, inputs;
};
struct fake {
    char endpoint[128];
    pthread_t thread;
    pthread_mutex_t mu;
    struct link_ctx *ctx;
    struct loop *loop;
    struct link *link;
    struct loop_wake *wake;
    bool stop;
    peer_id known[256]; /* sessions */
    size_t n_known;
    /* what a test sets, with the mutex */
    bool mute;             /* answers nothing */
    bool mute_orders;      /* does them, but the answer is lost */
    uint32_t credit_bytes; /* of Accepted */
    uint32_t take_chunks;  /* later ones are lost */
    bool deny_chunks;      /* over a quota */
    bool lost_results;     /* whatever was told in an epoch before this one */
    uint64_t give_results; /* of each job; no more are sent */
    uint32_t value_bytes;  /* the body of each value */
    uint64_t epoch;
    uint8_t epoch_nonce;
    /* what it saw */
    unsigned submits, again, welcomes, wrong, cancels, orders;
    bool drained; /* the only node, "mill-1" */
    struct fake_job jobs[FAKE_JOBS_MAX];
    size_t n_jobs;
};

static struct fake_job *fake_job_of(struct fake *f, uint64_t id)
{
    return id >= 1 && id <= f->n_jobs ? &f->jobs[id - 1] : NULL;
}

static void fake_error(struct fake *f, peer_id peer, uint32_t code, uint64_t job,
                       enum msg_type about, const char *text)
{
    struct msg m = { .type = MSG_ERROR };
    m.error = (struct msg_error){
        .code = code, .text = span_str(text), .job = job, .about = about
    };
    link_send(f->link, peer, &m);
}

static void fake_accept(struct fake *f, peer_id peer, const struct fake_job *j)
{
    struct msg m = { .type = MSG_ACCEPTED };
    m.accepted = (struct msg_accepted){
        .job = j->id,
        .chunks = j->n_chunks,
        .sealed = j->sealed,
        .state = j->cancelled ? JOB_CANCELLED : (j->sealed ? JOB_SEALED : JOB_OPEN),
        .credit_bytes = f->credit_bytes,
    };
    memcpy(m.accepted.key, j->key, sizeof(j->key));
    link_send(f->link, peer, &m);
}

/* One batch out of the chunk that holds the cursor; backwards unless in task order. */
static void fake_send_batch(struct fake *f, struct fake_job *j, uint64_t limit)
{
    struct fake_chunk *c = j->chunks;
    while (c->first + c->n <= j->cursor)
        c++;
    uint32_t at = (uint32_t)(j->cursor - c->first);
    uint32_t n = (uint32_t)MIN(MIN(c->n - at, (uint32_t)FAKE_BATCH), limit - j->cursor);
    uint32_t tasks[FAKE_BATCH], lens[FAKE_BATCH], input_lens[FAKE_BATCH];
    uint32_t attempts[FAKE_BATCH];
    uint8_t statuses[FAKE_BATCH];
    AUTO_BUF body = BUF_INIT;
    AUTO_BUF filler = BUF_INIT;
    memset(buf_reserve(&filler, f->value_bytes + 1), 'v', f->value_bytes);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t of = j->task_order ? at + i : at + n - 1 - i;
        size_t before = body.len;
        tasks[i] = (uint32_t)(c->first + of);
        statuses[i] = tasks[i] % 1000 == 999 ? TASK_FAILED : TASK_OK;
        attempts[i] = 1;
        struct task_value v = { .bytes = tasks[i],
                                .has_body = true,
                                .body = span_of(filler.data, f->value_bytes) };
        if (statuses[i] == TASK_FAILED)
            v.error = span_str("it failed");
        value_pack(&body, &v);
        lens[i] = (uint32_t)(body.len - before);
    }
    for (uint32_t i = 0; j->inputs && i < n; i++) {
        size_t offset = 0, of = tasks[i] - c->first;
        for (size_t k = 0; k < of; k++)
            offset += c->lens[k];
        input_lens[i] = c->lens[of];
        buf_add(&body, c->body + offset, c->lens[of]);
    }
    struct msg m = { .type = MSG_RESULTS, .body = buf_span(&body) };
    m.results = (struct msg_results){
        .job = j->id,
        .cursor = j->cursor,
        .next_cursor = j->cursor + n,
        .batch = { n, tasks, statuses, lens },
        .input_lens = input_lens,
        .n_input_lens = j->inputs ? n : 0,
        .node = span_str("mill-1"),
        .attempts = attempts,
        .n_attempts = n,
        .end = j->sealed && j->cursor + n == j->tasks,
        .state = j->sealed && j->cursor + n == j->tasks ? JOB_DONE : JOB_OPEN,
        .counts = { .tasks = j->tasks, .ok = j->cursor + n },
    };
    link_send(f->link, j->follower, &m);
    j->cursor += n;
    j->credit -= (int64_t)body.len + 16 * n;
    j->ended = m.results.end;
}

static void fake_feed(struct fake *f, struct fake_job *j)
{
    uint64_t limit = MIN(j->tasks, f->give_results);
    while (j->follower && !j->ended && j->credit > 0 && j->cursor < limit)
        fake_send_batch(f, j, limit);
    bool over = (j->sealed && j->cursor == j->tasks && f->give_results >= j->tasks) ||
                j->cancelled;
    if (j->follower && !j->ended && j->credit > 0 && over) {
        struct msg m = { .type = MSG_RESULTS };
        m.results =
            (struct msg_results){ .job = j->id,
                                  .cursor = j->cursor,
                                  .next_cursor = j->cursor,
                                  .end = true,
                                  .state = j->cancelled ? JOB_CANCELLED : JOB_DONE };
        link_send(f->link, j->follower, &m);
        j->ended = true;
    }
}

static void fake_submit(struct fake *f, peer_id peer, const struct msg *m)
{
    struct fake_job *j = NULL;
    f->submits++;
    for (size_t i = 0; i < f->n_jobs; i++)
        if (memcmp(f->jobs[i].key, m->submit.key, WIRE_KEY_BYTES) == 0)
            j = &f->jobs[i];
    if (span_eq(m->submit.name, SPAN_LIT("unplaceable"))) {
        fake_error(f, peer, 10, 0, MSG_SUBMIT, "cannot be placed");
        return;
    }
    if (!j) {
        CHECK(f->n_jobs < FAKE_JOBS_MAX);
        j = &f->jobs[f->n_jobs++];
        j->id = f->n_jobs;
        memcpy(j->key, m->submit.key, WIRE_KEY_BYTES);
        buf_add_span(&j->spec, m->submit.spec);
    }
    j->owner = peer;
    fake_accept(f, peer, j);
}

static void fake_chunk_in(struct fake *f, peer_id peer, const struct msg *m)
{
    const struct msg_chunk *c = &m->chunk;
    struct fake_job *j = fake_job_of(f, c->job);
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct span parts[] = { span_of(c->lens, c->n * sizeof(uint32_t)), m->body, c->node };
    checksum(parts, ARRAY_LEN(parts), digest);
    if (!j || memcmp(digest, c->digest, sizeof(digest)) != 0 || c->seq > j->n_chunks ||
        c->n > WIRE_CHUNK_TASKS_MAX ||
        m->body.len + c->n * sizeof(uint32_t) > WIRE_CHUNK_BYTES_MAX) {
        f->wrong += c->seq < f->take_chunks; /* after a lost one the next are early */
        return;
    }
    if (f->deny_chunks) {
        fake_error(f, peer, 5, j->id, MSG_CHUNK, "quota of x");
        return;
    }
    if (c->seq < j->n_chunks) {
        f->again++;
        f->wrong += memcmp(j->chunks[c->seq].digest, digest, sizeof(digest)) != 0;
    } else if (c->seq >= f->take_chunks) {
        return;
    } else {
        struct fake_chunk *k = &j->chunks[j->n_chunks++];
        CHECK(j->n_chunks < FAKE_CHUNKS_MAX);
        k->n = c->n;
        snprintf(k->node, sizeof(k->node), "%.*s", (int)c->node.len,
                 (const char *)c->node.data);
        k->first = j->tasks;
        k->lens = xmalloc(c->n * sizeof(uint32_t));
        memcpy(k->lens, c->lens, c->n * sizeof(uint32_t));
        k->body = xmalloc(m->body.len);
        memcpy(k->body, m->body.data, m->body.len);
        memcpy(k->digest, digest, sizeof(digest));
        j->tasks += c->n;
    }
    fake_accept(f, peer, j);
    fake_feed(f, j);
}

static void fake_seal(struct fake *f, peer_id peer, const struct msg *m)
{
    struct fake_job *j = fake_job_of(f, m->seal.job);
    if (!j || m->seal.chunks != j->n_chunks || m->seal.tasks != j->tasks) {
        f->wrong += f->take_chunks == UINT32_MAX;
        return;
    }
    j->sealed = true;
    fake_accept(f, peer, j);
    fake_feed(f, j);
}

static void fake_follow(struct fake *f, peer_id peer, const struct msg *m)
{
    const struct msg_follow *w = &m->follow;
    struct fake_job *j = fake_job_of(f, w->job);
    if (!j) {
        fake_error(f, peer, 9, w->job, MSG_FOLLOW, "no such job");
        return;
    }
    if (f->lost_results && w->epoch_counter && w->epoch_counter < f->epoch) {
        fake_error(f, peer, 1, w->job, MSG_FOLLOW, "the coordinator has lost results");
        return;
    }
    j->follower = peer;
    j->cursor = w->cursor;
    j->told_epoch = w->epoch_counter;
    j->credit = w->credit_bytes;
    j->task_order = w->task_order;
    j->inputs = w->inputs;
    j->ended = false;
    fake_feed(f, j);
}

static void fake_query(struct fake *f, peer_id peer, const struct msg *m)
{
    AUTO_BUF rows = BUF_INIT;
    struct msg a = { .type = MSG_ANSWER };
    a.answer = (struct msg_answer){ .id = m->query.id, .last = true };
    if (span_eq(m->query.what, SPAN_LIT("nonsense"))) {
        fake_error(f, peer, 2, 0, MSG_QUERY, "unknown query");
        return;
    }
    for (size_t i = 0; i < f->n_jobs; i++) {
        struct fake_job *j = &f->jobs[i];
        if (m->query.job && m->query.job != j->id)
            continue;
        bool done = j->sealed && f->give_results >= j->tasks;
        map_pack_begin(&rows, 5);
        map_pack_uint(&rows, "id", j->id);
        map_pack_str(&rows, "state", span_str(done ? "done" : "open"));
        map_pack_uint(&rows, "tasks", j->tasks);
        map_pack_uint(&rows, "ok", MIN(j->tasks, f->give_results));
        map_pack_str(&rows, "spec", buf_span(&j->spec));
        a.answer.n++;
    }
    a.body = buf_span(&rows);
    link_send(f->link, peer, &a);
}

/* Cancel, Pause and Remove of a job, or Drain; with an id each is answered. */
static void fake_order(struct fake *f, peer_id peer, const struct msg *m)
{
    bool drain = m->type == MSG_DRAIN, cancel = m->type == MSG_CANCEL;
    uint64_t id = drain    ? 0
                  : cancel ? m->cancel.job
                           : (m->type == MSG_PAUSE ? m->pause.job : m->remove.job);
    struct fake_job *j = fake_job_of(f, id);
    struct msg a = { .type = MSG_ANSWER, .answer.last = true };

    f->orders++;
    if (drain ? !span_eq(m->drain.node, SPAN_LIT("mill-1")) : !j || j->removed) {
        fake_error(f, peer, 9, id, m->type, drain ? "no such node" : "no such job");
        return;
    }
    if (drain) {
        f->drained = !m->drain.undo;
        a.answer.id = m->drain.id;
    } else if (cancel) {
        f->cancels++;
        j->cancelled = true;
        a.answer.id = m->cancel.id;
        fake_feed(f, j);
    } else if (m->type == MSG_PAUSE) {
        j->paused = !m->pause.resume;
        a.answer.id = m->pause.id;
    } else {
        j->removed = true;
        a.answer.id = m->remove.id;
    }
    if (a.answer.id && !f->mute_orders)
        link_send(f->link, peer, &a);
}

static void fake_hello(struct fake *f, peer_id peer)
{
    struct msg m = { .type = MSG_WELCOME };
    m.welcome = (struct msg_welcome){ .version = WIRE_VERSION,
                                      .epoch = { .counter = f->epoch },
                                      .session = peer,
                                      .beat_ms = 50,
                                      .silence_ms = 400 };
    m.welcome.epoch.nonce[0] = f->epoch_nonce;
    f->known[f->n_known++ % ARRAY_LEN(f->known)] = peer;
    f->welcomes++;
    link_send(f->link, peer, &m);
}

static bool fake_knows(const struct fake *f, peer_id peer)
{
    for (size_t i = 0; i < ARRAY_LEN(f->known); i++)
        if (f->known[i] == peer)
            return true;
    return false;
}

static void fake_handle(struct fake *f, peer_id peer, const struct msg *m)
{
    struct fake_job *j;
    switch (m->type) {
    case MSG_BEAT:
        link_send(f->link, peer, m);
        break;
    case MSG_SUBMIT:
        fake_submit(f, peer, m);
        break;
    case MSG_CHUNK:
        fake_chunk_in(f, peer, m);
        break;
    case MSG_SEAL:
        fake_seal(f, peer, m);
        break;
    case MSG_FOLLOW:
        fake_follow(f, peer, m);
        break;
    case MSG_CREDIT:
        j = fake_job_of(f, m->credit.job);
        j->credit += m->credit.bytes;
        fake_feed(f, j);
        break;
    case MSG_CANCEL:
    case MSG_PAUSE:
    case MSG_DRAIN:
    case MSG_REMOVE:
        fake_order(f, peer, m);
        break;
    case MSG_QUERY:
        fake_query(f, peer, m);
        break;
    case MSG_TAKEN: /* between links */
        break;
    default:
        f->wrong++;
    }
}

static void fake_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct fake *f = arg;
    (void)user;
    pthread_mutex_lock(&f->mu);
    if (f->mute)
        ;
    else if (m->type == MSG_HELLO)
        fake_hello(f, peer);
    else if (!fake_knows(f, peer))
        fake_error(f, peer, 1, 0, m->type, WIRE_NO_SESSION);
    else
        fake_handle(f, peer, m);
    pthread_mutex_unlock(&f->mu);
}

static void fake_woken(void *arg)
{
    struct fake *f = arg;
    pthread_mutex_lock(&f->mu);
    if (f->stop)
        loop_stop(f->loop);
    for (size_t i = 0; !f->stop && i < f->n_jobs; i++) {
        if (f->jobs[i].owner)
            fake_accept(f, f->jobs[i].owner, &f->jobs[i]);
        fake_feed(f, &f->jobs[i]);
    }
    pthread_mutex_unlock(&f->mu);
}

static void *fake_main(void *arg)
{
    loop_run(((struct fake *)arg)->loop);
    return NULL;
}

/* Listens; the jobs are those of before, its sessions are not. */
__attribute__((unused)) static void fake_up(struct fake *f)
{
    static const struct link_events events = { .message = fake_message };
    struct err err = { 0 };
    f->stop = false;
    memset(f->known, 0, sizeof(f->known));
    for (size_t i = 0; i < f->n_jobs; i++)
        f->jobs[i].owner = f->jobs[i].follower = 0;
    CHECK(loop_new(LOOP_AUTO, &f->loop, &err) == 0);
    f->ctx = link_ctx_new(1);
    f->wake = loop_wake_new(f->loop, fake_woken, f);
    if (link_listen(f->ctx, f->loop, f->endpoint, NULL, 100, WIRE_CLIENT_FRAME_MAX,
                    &events, f, &f->link, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    CHECK(pthread_create(&f->thread, NULL, fake_main, f) == 0);
}

/* Goes away, as if it was killed. */
__attribute__((unused)) static void fake_down(struct fake *f)
{
    pthread_mutex_lock(&f->mu);
    f->stop = true;
    pthread_mutex_unlock(&f->mu);
    loop_wake_post(f->wake);
    pthread_join(f->thread, NULL);
    link_free(f->link);
    link_ctx_free(f->ctx);
    loop_wake_free(f->wake);
    loop_free(f->loop);
}

/* Changes what it does: fake_set(f, f->mute = true); sends what is due by that. */
#define fake_set(f, statement)                                                           \
    do {                                                                                 \
        pthread_mutex_lock(&(f)->mu);                                                    \
        statement;                                                                       \
        pthread_mutex_unlock(&(f)->mu);                                                  \
        loop_wake_post((f)->wake);                                                       \
    } while (0)

/* It had told of the job's last inputs, and they are gone. While it is down. */
__attribute__((unused)) static void fake_lose_chunks(struct fake_job *j)
{
    for (uint32_t k = 0; k < j->n_chunks; k++) {
        free(j->chunks[k].lens);
        free(j->chunks[k].body);
    }
    j->n_chunks = 0;
    j->tasks = 0;
}

__attribute__((unused)) static unsigned fake_saw(struct fake *f, const unsigned *count)
{
    pthread_mutex_lock(&f->mu);
    unsigned n = *count;
    pthread_mutex_unlock(&f->mu);
    return n;
}

__attribute__((unused)) static struct fake *fake_new(const char *dir)
{
    struct fake *f = xcalloc(1, sizeof(*f));
    pthread_mutex_init(&f->mu, NULL);
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/c", dir);
    f->credit_bytes = 4 * MIB;
    f->take_chunks = UINT32_MAX;
    f->give_results = UINT64_MAX;
    f->value_bytes = 8;
    f->epoch = 1;
    fake_up(f);
    return f;
}

__attribute__((unused)) static void fake_free(struct fake *f)
{
    fake_down(f);
    for (size_t i = 0; i < f->n_jobs; i++) {
        buf_fini(&f->jobs[i].spec);
        fake_lose_chunks(&f->jobs[i]);
    }
    pthread_mutex_destroy(&f->mu);
    free(f);
}

#endif
