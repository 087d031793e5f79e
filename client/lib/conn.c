/* The connection's thread and its session with the coordinator.
 *
 *     GREETING --Welcome--> UP --silence, or a session the coordinator forgot--.
 *        ^ `--no Welcome for the time limit--> DEAD        (new socket, Hello)  |
 *        '----------------------------------------------------------------------'
 *
 * After a reconnect everything is sent again from the state of the jobs. A coordinator
 * with an older state than one seen before is refused for good (R5). */
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/crypto.h"
#include "client/lib/internal.h"
#include "client/lib/pair.h"

/* Until Welcome says otherwise. */
#define BEAT_NS    (2 * NS_PER_S)
#define SILENCE_NS (10 * NS_PER_S)
/* Hello without an answer: a new socket, as it also shortens the reconnect's back-off. */
#define GREET_AGAIN_NS (2 * NS_PER_S)
#define TICK_NS        (250 * NS_PER_MS)
#define RETRY_NS       (5 * NS_PER_MS) /* the link's queue was full */

int error_out(struct tm_error *out, const struct err *err)
{
    if (!out)
        return -1;
    out->code = err->code ? err->code : TM_ERROR;
    snprintf(out->text, sizeof(out->text), "%s", err->text);
    snprintf(out->hint, sizeof(out->hint), "%s", err->hint);
    return -1;
}

/* ---- under the mutex ---- */

void conn_kick(struct conn *c)
{
    loop_wake_post(c->wake);
}

void conn_notify(struct conn *c)
{
    c->news = true;
    if (c->event_hot)
        return;
    c->event_hot = true;
    ssize_t n = write(c->event_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
    CHECK(n == sizeof(uint64_t));
}

void conn_die(struct conn *c, const struct err *why)
{
    if (c->state == CONN_DEAD)
        return;
    c->state = CONN_DEAD;
    c->fatal = *why;
    conn_notify(c);
}

int conn_alive(const struct conn *c, struct err *err)
{
    if (c->state != CONN_DEAD)
        return 0;
    *err = c->fatal;
    return -1;
}

struct waiter conn_waiter(int64_t timeout_ns)
{
    int64_t deadline = 0;
    if (timeout_ns == TM_FOREVER)
        deadline = TM_FOREVER;
    else if (timeout_ns > 0 &&
             __builtin_add_overflow(clock_mono_ns(), timeout_ns, &deadline))
        deadline = TM_FOREVER;
    return (struct waiter){ .deadline_ns = deadline };
}

int conn_wait(struct conn *c, struct waiter *w)
{
    if (w->deadline_ns == 0)
        return TM_AGAIN;
    unsigned now = __atomic_load_n(&c->interrupts, __ATOMIC_RELAXED);
    if (!w->entered) {
        w->entered = true;
        w->interrupts = c->interrupts_seen;
    }
    int rc = 0;
    if (now == w->interrupts && w->deadline_ns == TM_FOREVER) {
        pthread_cond_wait(&c->cond, &c->mu);
    } else if (now == w->interrupts) {
        struct timespec until = { w->deadline_ns / NS_PER_S, w->deadline_ns % NS_PER_S };
        rc = pthread_cond_timedwait(&c->cond, &c->mu, &until);
    }
    now = __atomic_load_n(&c->interrupts, __ATOMIC_RELAXED);
    if (now == w->interrupts)
        return rc == ETIMEDOUT ? TM_AGAIN : 0;
    c->interrupts_seen = now;
    return TM_AGAIN;
}

void tm_interrupt(struct tm *tm)
{
    struct conn *c = conn_of(tm);
    __atomic_add_fetch(&c->interrupts, 1, __ATOMIC_RELAXED);
    loop_wake_post(c->wake);
}

/* ---- the thread: what goes out ---- */

/* Waiters are woken when they can go on: in the mutex they would only wait for it. */
static void leave(struct conn *c)
{
    bool news = c->news;
    c->news = false;
    pthread_mutex_unlock(&c->mu);
    if (news)
        pthread_cond_broadcast(&c->cond);
}

/* A chunk that is not full leaves when its time is up, but not while an earlier one of
 * its job is on its way: what the coordinator is slow to take then comes in fewer, larger
 * chunks, as segments do by Nagle's algorithm (RFC 896). */
static int64_t flush_due_ns(const struct tm_job *job)
{
    return STAILQ_EMPTY(&job->chunks) ? job->flush_at_ns : INT64_MAX;
}

/* Sends what is due, and arms the timer of chunks that wait for more inputs. */
static void pump(struct conn *c)
{
    struct tm_job *job;
    int64_t next_ns = INT64_MAX;
    TAILQ_FOREACH (job, &c->filling, filling_node)
        next_ns = MIN(next_ns, flush_due_ns(job));
    if (next_ns != INT64_MAX && !loop_timer_armed(c->flush)) {
        int64_t left_ns = next_ns - clock_mono_ns();
        loop_timer_arm(c->flush, MAX(left_ns, 0));
    }
    if (c->state != CONN_UP)
        return;
    bool full = query_send_all(c) < 0;
    while (!full && (job = TAILQ_FIRST(&c->ready))) {
        full = job_send(job) < 0;
        if (full)
            break;
        TAILQ_REMOVE(&c->ready, job, ready_node);
        job->on_ready = false;
    }
    if (full)
        loop_timer_arm(c->retry, RETRY_NS);
}

static void send_hello(struct conn *c)
{
    struct msg m = { .type = MSG_HELLO };
    m.hello = (struct msg_hello){
        .role = ROLE_CLIENT,
        .version_min = WIRE_VERSION,
        .version_max = WIRE_VERSION,
        .epoch = c->epoch,
        .name = span_str(c->name),
        .pid = (uint32_t)getpid(),
    };
    memcpy(m.hello.nonce, c->nonce, sizeof(c->nonce));
    c->greeted_ns = clock_mono_ns();
    link_send(c->link, 0, &m); /* lost: said again after GREET_AGAIN_NS */
}

static void send_beat(struct conn *c)
{
    struct msg m = { .type = MSG_BEAT };
    m.beat.session = c->session;
    c->beat_at_ns = clock_mono_ns();
    link_send(c->link, 0, &m);
}

/* Everything is to be said again, once there is a new session. */
static void session_lost(struct conn *c)
{
    struct tm_job *job;
    c->session_unknown = false;
    if (c->state != CONN_UP)
        return;
    c->state = CONN_GREETING;
    c->lost_ns = clock_mono_ns();
    TAILQ_FOREACH (job, &c->all, all_node)
        if (!job->failed.code)
            job_session_lost(job);
    query_session_lost(c);
}

/* Over a new socket. */
static void start_over(struct conn *c)
{
    session_lost(c);
    link_reset(c->link);
    send_hello(c);
}

/* ---- the thread: what comes in ---- */

static int check_epoch(struct conn *c, const struct epoch *e, struct err *err)
{
    bool same = memcmp(e->nonce, c->epoch.nonce, sizeof(e->nonce)) == 0;
    if (!c->epoch_known || e->counter > c->epoch.counter)
        return 0;
    if (e->counter == c->epoch.counter && same)
        return 0;
    err_set(err, TM_ERROR, "%s runs on %s state than the coordinator seen before",
            c->endpoint, e->counter < c->epoch.counter ? "an older" : "another");
    return err_hint(err, "stop it, and start it with the state directory it had");
}

static uint32_t limit(uint32_t told, uint32_t most)
{
    return told == 0 ? most : MIN(told, most);
}

static void on_welcome(struct conn *c, const struct msg *m)
{
    const struct msg_welcome *w = &m->welcome;
    struct err why;
    if (c->state != CONN_GREETING)
        return;
    if (w->version != WIRE_VERSION) {
        err_set(&why, TM_ERROR, "%s speaks version %u of the protocol, this library %d",
                c->endpoint, w->version, WIRE_VERSION);
        conn_die(c, &why);
        return;
    }
    if (check_epoch(c, &w->epoch, &why) < 0) {
        conn_die(c, &why);
        return;
    }
    c->epoch = w->epoch;
    c->epoch_known = true;
    c->session = w->session;
    c->chunk_tasks_max = limit(w->chunk_tasks_max, WIRE_CHUNK_TASKS_MAX);
    c->chunk_bytes_max = limit(w->chunk_bytes_max, WIRE_CHUNK_BYTES_MAX);
    c->input_max = limit(w->input_max, INPUT_MAX_BYTES);
    if (w->beat_ms)
        c->beat_ns = w->beat_ms * NS_PER_MS;
    if (w->silence_ms)
        c->silence_ns = w->silence_ms * NS_PER_MS;
    c->state = CONN_UP;
    c->beat_at_ns = clock_mono_ns();
    keyring_learn(&c->keyring, c->link, w->next_server, NULL);
    conn_notify(c);
}

static void on_error(struct conn *c, const struct msg *m)
{
    AUTO_FREE char *text = span_dup(m->error.text);
    AUTO_FREE char *hint = span_dup(m->error.hint);
    struct err why;
    err_set(&why, (int)m->error.code, "%s", text);
    err_hint(&why, "%s", hint);
    if (span_eq(m->error.text, SPAN_LIT(WIRE_NO_SESSION))) {
        c->session_unknown = true; /* the socket is in use here: at the next tick */
        loop_timer_arm(c->tick, 0);
    } else if (m->error.about == MSG_HELLO) {
        conn_die(c, &why);
    } else if (query_owns(m->error.about)) {
        query_on_error(c, m, &why);
    } else {
        job_on_error(c, m, &why);
    }
}

static void on_accepted(struct conn *c, const struct msg *m)
{
    job_on_accepted(c, m);
}

typedef void handler(struct conn *c, const struct msg *m);
static handler *const handlers[MSG_TYPE_COUNT] = {
    [MSG_WELCOME] = on_welcome,
    [MSG_ACCEPTED] = on_accepted,
    [MSG_RESULTS] = results_on_message,
    [MSG_ANSWER] = query_on_answer,
    [MSG_ERROR] = on_error,
};

static void on_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    (void)peer, (void)user;
    struct conn *c = arg;
    pthread_mutex_lock(&c->mu);
    c->heard_ns = clock_mono_ns(); /* any whole message proves life (R9) */
    bool expected = c->state == CONN_UP || m->type == MSG_WELCOME || m->type == MSG_ERROR;
    if (c->state != CONN_DEAD && expected && handlers[m->type]) {
        handlers[m->type](c, m);
        pump(c);
    }
    leave(c);
}

static void on_garbage(void *arg, peer_id peer, const char *text)
{
    (void)peer;
    struct conn *c = arg;
    struct err why;
    err_set(&why, TM_ERROR, "%s sent what is no message: %s", c->endpoint, text);
    pthread_mutex_lock(&c->mu);
    conn_die(c, &why);
    leave(c);
}

/* Another connection than the session began on: at its end may be a new coordinator. */
static void on_connected(void *arg)
{
    struct conn *c = arg;
    pthread_mutex_lock(&c->mu);
    if (c->state == CONN_UP) {
        session_lost(c);
        send_hello(c);
    }
    leave(c);
}

static void on_refused(void *arg, enum link_refusal why)
{
    struct conn *c = arg;
    struct err err = { 0 };
    keyring_explain(&c->keyring, why, &err);
    pthread_mutex_lock(&c->mu);
    conn_die(c, &err);
    leave(c);
}

/* ---- the thread: timers ---- */

static void on_wake(void *arg)
{
    struct conn *c = arg;
    pthread_mutex_lock(&c->mu);
    if (c->stop)
        loop_stop(c->loop);
    unsigned interrupts = __atomic_load_n(&c->interrupts, __ATOMIC_RELAXED);
    c->news |= interrupts != c->interrupts_told;
    c->interrupts_told = interrupts;
    pump(c);
    leave(c);
}

static void on_retry(void *arg)
{
    struct conn *c = arg;
    pthread_mutex_lock(&c->mu);
    pump(c);
    leave(c);
}

static void on_flush(void *arg)
{
    struct conn *c = arg;
    pthread_mutex_lock(&c->mu);
    int64_t now = clock_mono_ns();
    struct tm_job *job, *next;
    for (job = TAILQ_FIRST(&c->filling); job; job = next) {
        next = TAILQ_NEXT(job, filling_node);
        if (flush_due_ns(job) <= now)
            chunk_close(job);
    }
    pump(c);
    leave(c);
}

static void check_greeting(struct conn *c, int64_t now)
{
    int64_t most = c->epoch_known ? c->reconnect_timeout_ns : c->connect_timeout_ns;
    struct err why;
    if (now - c->lost_ns >= most) {
        err_set(&why, TM_UNREACHABLE, "%s coordinator %s (no answer in %.3g s)",
                c->epoch_known ? "lost the" : "cannot reach", c->endpoint,
                (double)most / NS_PER_S);
        err_hint(&why, "is it running there?");
        conn_die(c, &why);
    } else if (now - c->greeted_ns >= GREET_AGAIN_NS) {
        start_over(c);
    }
}

static void on_tick(void *arg)
{
    struct conn *c = arg;
    struct err why;
    pthread_mutex_lock(&c->mu);
    int64_t now = clock_mono_ns();
    if (c->pair && c->state != CONN_DEAD && pair_check(c->pair, &why) < 0)
        conn_die(c, &why);
    bool silent = c->session_unknown || now - c->heard_ns >= c->silence_ns;
    if (c->state == CONN_UP && silent)
        start_over(c);
    else if (c->state == CONN_UP && now - c->beat_at_ns >= c->beat_ns)
        send_beat(c);
    else if (c->state == CONN_GREETING && c->greeted_ns == 0)
        send_hello(c);
    else if (c->state == CONN_GREETING)
        check_greeting(c, now);
    loop_timer_arm(c->tick, MIN(TICK_NS, c->beat_ns));
    leave(c);
}

static void *thread_main(void *arg)
{
    struct conn *c = arg;
    loop_run(c->loop);
    return NULL;
}

/* ---- start and stop ---- */

void conn_init(struct conn *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&c->mu, NULL);
    TAILQ_INIT(&c->all);
    TAILQ_INIT(&c->ready);
    TAILQ_INIT(&c->asked);
    TAILQ_INIT(&c->filling);
    TAILQ_INIT(&c->queries);
    LIST_INIT(&c->rows);
    LIST_INIT(&c->futures);
    LIST_INIT(&c->maps);
    crypto_init();
    crypto_random(c->nonce, sizeof(c->nonce));
    c->beat_ns = BEAT_NS;
    c->silence_ns = SILENCE_NS;
    c->event_fd = -1;
}

void conn_fini(struct conn *c)
{
    if (c->event_fd >= 0)
        close(c->event_fd);
    pthread_cond_destroy(&c->cond);
    pthread_mutex_destroy(&c->mu);
    keyring_fini(&c->keyring);
    free(c->endpoint);
    free(c->name);
}

static int make_parts(struct conn *c, struct err *err)
{
    static const struct link_events events = { .message = on_message,
                                               .garbage = on_garbage,
                                               .connected = on_connected,
                                               .refused = on_refused };
    struct link_curve curve;
    c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->event_fd < 0)
        return err_sys(err, TM_ERROR, "eventfd");
    if (loop_new(LOOP_AUTO, &c->loop, err) < 0)
        return -1;
    c->wake = loop_wake_new(c->loop, on_wake, c);
    c->tick = loop_timer_new(c->loop, on_tick, c);
    c->flush = loop_timer_new(c->loop, on_flush, c);
    c->retry = loop_timer_new(c->loop, on_retry, c);
    c->ctx = link_ctx_new(1);
    return link_connect(c->ctx, c->loop, c->endpoint, keyring_curve(&c->keyring, &curve),
                        WIRE_CLIENT_FRAME_MAX, &events, c, &c->link, err);
}

static void free_parts(struct conn *c)
{
    link_free(c->link);
    link_ctx_free(c->ctx);
    loop_timer_free(c->retry);
    loop_timer_free(c->flush);
    loop_timer_free(c->tick);
    loop_wake_free(c->wake);
    loop_free(c->loop);
}

static int await_welcome(struct conn *c, struct err *err)
{
    struct waiter w = conn_waiter(TM_FOREVER); /* the thread keeps the time limit */
    pthread_mutex_lock(&c->mu);
    int rc = 0;
    while (c->state == CONN_GREETING)
        conn_wait(c, &w);
    rc = conn_alive(c, err);
    pthread_mutex_unlock(&c->mu);
    return rc;
}

int conn_start(struct conn *c, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* handlers run in callers' threads */
    int rc = make_parts(c, err);
    if (rc == 0) {
        c->lost_ns = c->heard_ns = clock_mono_ns();
        loop_timer_arm(c->tick, 0);
        errno = pthread_create(&c->thread, NULL, thread_main, c);
        if (errno)
            rc = err_sys(err, TM_ERROR, "pthread_create");
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc < 0) {
        free_parts(c);
        return -1;
    }
    rc = await_welcome(c, err);
    if (rc < 0)
        conn_stop(c);
    return rc;
}

void conn_stop(struct conn *c)
{
    pthread_mutex_lock(&c->mu);
    c->stop = true;
    conn_kick(c);
    pthread_mutex_unlock(&c->mu);
    pthread_join(c->thread, NULL);
    free_parts(c);
}
