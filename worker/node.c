#include "worker/node_state.h"

#include <errno.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "worker/split.h"

enum {
    BEAT_DEFAULT_MS = 2000,
    SILENCE_DEFAULT_MS = 10000,
    THREAD_QUEUE = 4096,
};
#define NAME_AGAIN_NS (500 * NS_PER_MS)
#define NAME_MORE_NS  (2 * NS_PER_S) /* the coordinator looks once a second */
#define STOP_NS       (5 * NS_PER_S) /* for files that are recorded to be published */

/* ---- leases ---- */

/* All its results are in batches: it is no longer under way. */
static void lease_ended(struct node_lease *l)
{
    lease_remove(l);
    lease_unref(l);
}

/* Its tasks that are not run as parts. False: no mill takes them now. */
static bool start_whole(struct node_lease *l)
{
    struct procpool_run run = { .id = l->id,
                                .spec_id = l->job->id,
                                .epoch = l->attempt_epoch,
                                .lease = l->id,
                                .n = l->n,
                                .tasks = l->tasks,
                                .lens = l->lens,
                                .inputs = span_of(l->body, l->offsets[l->n]),
                                .skip = l->split,
                                .task_timeout_ns = l->task_timeout_ns,
                                .body_fd = -1 };

    if (l->n_split == l->n || procpool_submit(l->node->pool, &run) == 0)
        return true;
    if (errno == EAGAIN)
        return false;
    for (uint32_t i = 0; i < l->n; i++)
        if (!l->split || !l->split[i])
            batch_error(l, i, TASK_FAILED, "too large for a mill");
    return true;
}

static bool start_cpu(struct node_lease *l)
{
    if (!start_whole(l))
        return false;
    split_start(l);
    return true;
}

void node_start_waiting(struct node *n)
{
    bool full[2] = { false, false }; /* cpu, io */
    struct node_lease *l, *tmp;

    TAILQ_FOREACH_SAFE (l, &n->waiting, wait_node, tmp) {
        bool io = l->job->spec.source == SOURCE_URL;
        if (full[io])
            continue;
        l->refs++; /* all its tasks may end at once */
        if (io ? io_start(l) : start_cpu(l)) {
            TAILQ_REMOVE(&n->waiting, l, wait_node);
            l->waiting = false;
        } else {
            full[io] = true;
        }
        lease_unref(l);
    }
}

static void say(struct node *n, struct msg *m)
{
    link_send(n->link, 0, m);
}

/* What it still owes is for others. */
static void give_back(struct node *n, const struct msg_done *of)
{
    struct msg m = { .type = MSG_DONE, .done = *of };

    m.done.last = true;
    say(n, &m);
}

static void on_lease(struct node *n, const struct msg *m)
{
    struct err err = { 0 };
    struct node_job *j;
    struct node_lease *l;

    if (n->stopping)
        return;
    j = job_of(n, &m->lease, &err); /* of one that is known too: its spec comes once */
    if (lease_find(n, m->lease.lease))
        return;
    if (m->lease.publish) {
        batch_republish(n, m);
        return;
    }
    if (!j) {
        log_error("lease_refused", "why=\"%s\"", err.text);
        struct msg_done of = { .lease = m->lease.lease,
                               .job = m->lease.job,
                               .chunk = m->lease.chunk,
                               .epoch = n->epoch };
        memcpy(of.digest, m->lease.digest, WIRE_DIGEST_BYTES);
        give_back(n, &of);
        return;
    }
    FAILPOINT("lease_taken");
    l = lease_new(n, j, m);
    split_mark(l);
    lease_note(l);
    litter_flush(n->litter);
    TAILQ_INSERT_TAIL(&n->waiting, l, wait_node);
    l->waiting = true;
    node_start_waiting(n);
}

/* Its results no longer count: nothing of it is said any more. */
static void lease_revoke(struct node_lease *l)
{
    bool io = l->job->spec.source == SOURCE_URL;

    if (l->revoked)
        return;
    l->revoked = true;
    if (io)
        io_revoke(l);
    if (!l->waiting) {
        if (io)
            return;
        l->refs++; /* its tasks may end at once, and the lease with the last of them */
        procpool_cancel(l->node->pool, l->id);
        split_revoke(l);
        lease_unref(l);
        return;
    }
    TAILQ_REMOVE(&l->node->waiting, l, wait_node);
    l->waiting = false;
    l->left -= io ? l->n - l->io_next : l->n;
    if (l->left == 0)
        lease_ended(l);
}

static void on_revoke(struct node *n, const struct msg *m)
{
    struct node_lease *l, *tmp;

    if (!m->revoke.lease && !m->revoke.job) {
        n->told_all = true;
        return;
    }
    HASH_ITER (hh, n->leases, l, tmp)
        if (m->revoke.lease ? l->id == m->revoke.lease : l->job->id == m->revoke.job)
            lease_revoke(l);
    if (!m->revoke.lease)
        jobs_forget(n, m->revoke.job);
}

/* ---- results of the pool ---- */

static void on_result(void *arg, uint64_t run, uint32_t index, enum task_status status,
                      struct span value)
{
    struct node *n = arg;
    struct node_lease *l;

    if (run >= FIRST_IO_RUN) {
        if (!split_result(n, run, status, value))
            grist_result(n, run, index, status, value);
        return;
    }
    l = lease_find(n, run);
    if (l && index < l->n)
        node_result(l, index, status, value);
}

void node_result(struct node_lease *l, uint32_t index, enum task_status status,
                 struct span value)
{
    /* Whose process was killed could not take its temporary away. */
    if (l->revoked || status == TASK_POISON || status == TASK_LOST ||
        status == TASK_CANCELLED)
        batch_discard(l, index, status);
    if (l->revoked) {
        l->left--;
    } else {
        batch_add(l, index, status, value);
    }
    if (l->left == 0)
        lease_ended(l);
}

static void on_room(void *arg)
{
    grist_room(arg);
}

static const struct procpool_events pool_events = { on_result, on_room };

/* ---- the session ---- */

static void hello(struct node *n)
{
    struct held_lease *held = xcalloc(WIRE_LIST_MAX, sizeof(*held));
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = ROLE_WORKER,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .epoch = n->epoch,
                                  .name = span_str(n->config.name),
                                  .cpu_slots = n->config.procs,
                                  .io_slots = n->config.coroutines,
                                  .held = held,
                                  .n_held = held_list(n, held),
                                  .pid = (uint32_t)getpid(),
                                  .identities = n->config.recipients,
                                  .draining = n->draining,
                                  .files = n->has_roots,
                                  .labels = n->config.labels };
    memcpy(m.hello.nonce, n->nonce, sizeof(n->nonce));
    n->welcomed = false;
    FAILPOINT("worker_hello_send");
    say(n, &m);
    free(held);
}

static void stop_with(struct node *n, uint32_t code, struct span text, struct span hint)
{
    err_set(&n->failure, code ? (int)code : 1, "%.*s", (int)text.len,
            (const char *)text.data);
    if (hint.len)
        err_hint(&n->failure, "%.*s", (int)hint.len, (const char *)hint.data);
    loop_stop(n->loop);
}

/* While the coordinator changes its key, both are known. */
static void learn(const struct node *n, struct span next)
{
    struct err err;

    if (keyring_learn(n->config.keyring, n->link, next, &err) < 0)
        log_warn("known_keys", "why=\"%s\"", err.text);
}

static void on_welcome(struct node *n, const struct msg *m)
{
    const struct msg_welcome *w = &m->welcome;
    bool known = n->epoch.counter != 0;
    bool same = memcmp(w->epoch.nonce, n->epoch.nonce, sizeof(n->epoch.nonce)) == 0;

    /* R5 */
    if (w->epoch.counter < n->epoch.counter ||
        (known && w->epoch.counter == n->epoch.counter && !same)) {
        stop_with(n, 1, SPAN_LIT("the coordinator runs on an old copy of its state"),
                  SPAN_LIT("start the one with the newest state, then this worker"));
        return;
    }
    n->epoch = w->epoch;
    n->session = w->session;
    n->beat_ns = MAX(100u, w->beat_ms) * NS_PER_MS;
    n->silence_ns = MAX(1000u, w->silence_ms) * NS_PER_MS;
    n->welcomed = true;
    n->refused_ns = 0;
    log_info("joined", "coordinator=%s epoch=%llu", n->config.join,
             (unsigned long long)n->epoch.counter);
    learn(n, w->next_server);
    jobs_forget(n, 0);
    batch_resend(n);
}

/* One of our name that was killed is known until it has been silent for a while. */
static bool name_may_get_free(struct node *n, const struct msg_error *e)
{
    int64_t now = loop_now_ns(n->loop);

    if (!span_eq(e->text, SPAN_LIT(WIRE_NAME_TAKEN)))
        return false;
    if (!n->refused_ns) {
        n->refused_ns = now;
        log_warn("name_taken", "name=%s effect=\"tried again for %lld s\"",
                 n->config.name, (long long)((n->silence_ns + NAME_MORE_NS) / NS_PER_S));
    }
    loop_timer_arm(n->beat, NAME_AGAIN_NS);
    return now - n->refused_ns < n->silence_ns + NAME_MORE_NS;
}

static void on_error(struct node *n, const struct msg *m)
{
    const struct msg_error *e = &m->error;

    if (e->about == MSG_HELLO && name_may_get_free(n, e))
        return;
    if (e->about == MSG_HELLO) {
        stop_with(n, e->code, e->text, e->hint);
        return;
    }
    log_warn("coordinator_error", "about=%s text=\"%.*s\"", msg_type_name(e->about),
             (int)e->text.len, (const char *)e->text.data);
    if (n->welcomed && span_eq(e->text, SPAN_LIT(WIRE_NO_SESSION)))
        hello(n);
}

static void on_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct node *n = arg;

    (void)peer, (void)user;
    n->heard_ns = loop_now_ns(n->loop);
    switch (m->type) {
    case MSG_WELCOME:
        on_welcome(n, m);
        break;
    case MSG_LEASE:
        on_lease(n, m);
        break;
    case MSG_COMMITTED:
        FAILPOINT("committed_taken");
        batch_committed(n, &m->committed);
        break;
    case MSG_REVOKE:
        on_revoke(n, m);
        break;
    case MSG_TAKEN: /* there is room in the link */
        batch_say_unsaid(n);
        break;
    case MSG_DRAIN:
        n->draining = !m->drain.undo; /* the coordinator's next life hears it in Hello */
        break;
    case MSG_ERROR:
        on_error(n, m);
        break;
    default: /* Beat: that it came is all it says */
        break;
    }
}

static void on_garbage(void *arg, peer_id peer, const char *why)
{
    (void)arg, (void)peer;
    log_warn("garbage", "why=\"%s\"", why);
}

/* At the end of a new connection may be a coordinator that does not know us. */
static void on_connected(void *arg)
{
    hello(arg);
}

/* It will not get in, however often it tries. */
static void on_refused(void *arg, enum link_refusal why)
{
    struct node *n = arg;

    keyring_explain(n->config.keyring, why, &n->failure);
    loop_stop(n->loop);
}

static const struct link_events link_events = { .message = on_message,
                                                .garbage = on_garbage,
                                                .connected = on_connected,
                                                .refused = on_refused };

/* ---- what goes on ---- */

static void on_beat(void *arg)
{
    struct node *n = arg;
    struct msg m = { .type = MSG_BEAT };

    if (n->stopping) {
        node_leave(n);
        return;
    }
    loop_timer_arm(n->beat, n->beat_ns);
    if (loop_now_ns(n->loop) - n->heard_ns > n->silence_ns) {
        if (n->welcomed)
            log_warn("coordinator_silent", "coordinator=%s", n->config.join);
        n->heard_ns = loop_now_ns(n->loop);
        link_reset(n->link); /* Hello follows when it is connected */
        return;
    }
    if (!n->welcomed) {
        if (n->refused_ns)
            hello(n);
        return;
    }
    AUTO_FREE uint64_t *moving = xcalloc(WIRE_LIST_MAX, sizeof(*moving));
    m.beat.session = n->session;
    m.beat.cpu_busy = procpool_busy(n->pool);
    m.beat.io_busy = n->io_busy;
    m.beat.progressing = moving;
    m.beat.n_progressing = held_moving(n, moving);
    say(n, &m);
}

static void on_flush(void *arg)
{
    struct node *n = arg;

    loop_timer_arm(n->flush, BATCH_NS);
    batch_flush_due(n, false);
    batch_say_unsaid(n);
    journal_tend(n);
    io_tend(n);
}

/* ---- life ---- */

int node_new(struct loop *loop, const struct node_config *config, struct node **ret_node,
             struct err *err)
{
    struct node *n = xcalloc(1, sizeof(*n));
    struct procpool_config pool = { .procs = config->procs,
                                    .roots = config->roots,
                                    .identity_fd = config->identity_fd };
    size_t n_roots = 0;

    n->loop = loop;
    n->config = *config;
    n->next_run = FIRST_IO_RUN;
    n->beat_ns = BEAT_DEFAULT_MS * NS_PER_MS;
    n->silence_ns = SILENCE_DEFAULT_MS * NS_PER_MS;
    TAILQ_INIT(&n->waiting);
    TAILQ_INIT(&n->batches);
    TAILQ_INIT(&n->mill_waiting);
    TAILQ_INIT(&n->splits);
    crypto_random(n->nonce, sizeof(n->nonce));
    while (config->roots[n_roots])
        n_roots++;
    journal_open(n);
    n->has_roots = n_roots > 0;
    /* Processes first: none of them shall see sockets or threads of ours. */
    if (files_roots_new(config->roots, n_roots, &n->roots, err) < 0 ||
        procpool_new(loop, &pool, &pool_events, n, &n->pool, err) < 0 ||
        threadpool_new(loop, config->threads, THREAD_QUEUE, &n->threads, err) < 0 ||
        io_new(n, err) < 0) {
        node_free(n);
        return -1;
    }
    struct link_curve curve;
    n->ctx = link_ctx_new(1);
    if (link_connect(n->ctx, loop, config->join, keyring_curve(config->keyring, &curve),
                     WIRE_WORKER_FRAME_MAX, &link_events, n, &n->link, err) < 0) {
        node_free(n);
        return -1;
    }
    n->beat = loop_timer_new(loop, on_beat, n);
    n->flush = loop_timer_new(loop, on_flush, n);
    n->heard_ns = loop_now_ns(loop);
    loop_timer_arm(n->beat, n->beat_ns);
    loop_timer_arm(n->flush, BATCH_NS);
    *ret_node = n;
    return 0;
}

void node_leave(struct node *n)
{
    struct msg m = { .type = MSG_BEAT,
                     .beat = { .session = n->session, .leaving = true } };

    if (n->left)
        return;
    n->left = true;
    if (n->welcomed)
        say(n, &m);
    loop_stop(n->loop);
}

/* What is recorded is published still; what is not begun is for others. */
void node_stop(struct node *n)
{
    struct node_lease *l, *tmp;

    if (n->stopping)
        return;
    n->stopping = true;
    batch_flush_due(n, true);
    HASH_ITER (hh, n->leases, l, tmp) {
        struct msg_done of = {
            .lease = l->id, .job = l->job->id, .chunk = l->chunk, .epoch = l->epoch
        };
        memcpy(of.digest, l->digest, WIRE_DIGEST_BYTES);
        l->given_back = batch_owed(l, NULL);
        if (!l->given_back)
            give_back(n, &of);
        lease_revoke(l);
    }
    if (TAILQ_EMPTY(&n->batches))
        node_leave(n);
    else
        loop_timer_arm(n->beat, STOP_NS);
}

const struct err *node_failure(const struct node *n)
{
    return n->failure.code ? &n->failure : NULL;
}

void node_free(struct node *n)
{
    struct node_lease *l, *ltmp;
    struct batch *b;
    bool keep;

    if (!n)
        return;
    n->left = true;
    procpool_free(n->pool);
    n->pool = NULL; /* coroutines find it gone */
    split_free_all(n);
    io_free(n);
    threadpool_free(n->threads); /* what it has begun is finished, then told */
    keep = n->roots && batch_discard_all(n);
    litter_free(n->litter, keep);
    while ((b = TAILQ_FIRST(&n->batches)))
        batch_free(b);
    HASH_ITER (hh, n->leases, l, ltmp)
        lease_ended(l);
    jobs_forget(n, 0);
    loop_timer_free(n->beat);
    loop_timer_free(n->flush);
    link_free(n->link);
    link_ctx_free(n->ctx);
    files_roots_free(n->roots);
    free(n);
}
