/* Tasks that fetch: a coroutine each. A short body is gathered in memory and goes
 * through a mill: making thousands of files on the threads was slower. A long one that
 * is kept as it is, is digested and written by the threads while it comes; one that is
 * encrypted or returned is gathered in an unlinked file for a mill. */
#include "worker/node_state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/fetch.h"
#include "worker/node_grist.h"
#include "worker/node_hosts.h"
#include "worker/ops/body.h"
#include "worker/resolve.h"

enum { PER_HOST_DEFAULT = 8 };

struct io_task {
    struct node_lease *lease;
    uint32_t index;
    coro_id id;
    struct buf body;   /* what came, or the beginning of it */
    struct body *kept; /* NULL: it is for a mill, or for nobody */
    enum task_status kept_status;
    bool long_body; /* it did not fit the memory for it */
    int spool_fd;
    struct buf value; /* from the mill */
    LIST_ENTRY(io_task) lease_node;
};

/* ---- servers ---- */

/* "JOB scheme://host:port" of a URL. */
static void host_key(const struct io_task *t, struct span url, char key[])
{
    const uint8_t *scheme = memmem(url.data, url.len, "://", 3);
    size_t end = scheme ? (size_t)(scheme - url.data) + 3 : 0;

    while (end < url.len && !memchr("/?#", url.data[end], 3))
        end++;
    snprintf(key, HOST_KEY_MAX, "%llu %.*s", (unsigned long long)t->lease->job->id,
             (int)MIN(end, 256u), (const char *)url.data);
}

/* Waits for a place at the server, then for its rate. *ret_later_s > 0: either would take
 * more than a second, and the coroutine is for other servers meanwhile (R11). */
static int host_enter(struct node *n, struct io_host *h, double rate,
                      uint32_t *ret_later_s)
{
    int64_t now = loop_now_ns(n->loop), at;
    int rc;

    *ret_later_s = host_later_s(h, now, rate, false);
    if (*ret_later_s)
        return -1;
    h->waiting++;
    rc = coro_sem_take(&h->places, HOST_WAIT_NS);
    h->waiting--;
    now = loop_now_ns(n->loop);
    if (rc < 0) {
        *ret_later_s = errno == ETIMEDOUT ? host_send_back(h, now, rate) : 0;
        return -1;
    }
    host_entered(h, now);
    if (rate <= 0)
        return 0;
    *ret_later_s = host_later_s(h, now, rate, true);
    at = *ret_later_s ? now : host_turn(h, now, rate);
    if (*ret_later_s || (at > now && coro_sleep(at - now) < 0)) {
        coro_sem_give(&h->places);
        return -1;
    }
    return 0;
}

/* ---- the body ---- */

struct spool_call {
    const char *dir;
    int fd;
    struct span bytes;
    int error;
};

static void spool_write(void *arg)
{
    struct spool_call *c = arg;

    if (c->fd < 0)
        c->fd = open(c->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    c->error = c->fd < 0 ? errno : 0;
    while (!c->error && c->bytes.len) {
        ssize_t n = write(c->fd, c->bytes.data, c->bytes.len);
        if (n < 0)
            c->error = errno;
        else
            c->bytes = span_of(c->bytes.data + n, c->bytes.len - (size_t)n);
    }
}

static int spool(struct io_task *t, struct span bytes, struct err *err)
{
    struct node *n = t->lease->node;
    struct spool_call c = { n->config.spool_dir, t->spool_fd, bytes, 0 };

    if (coro_run_blocking(spool_write, &c) < 0)
        return err_set(err, 1, "cancelled");
    t->spool_fd = c.fd;
    if (c.error) {
        errno = c.error;
        return err_sys(err, 1, "cannot spool to %s", n->config.spool_dir);
    }
    return 0;
}

struct keep_call {
    struct io_task *t;
    struct span bytes[2];   /* the first may be empty */
    struct task_value *ret; /* NULL: there is more to come */
    struct err *err;
};

static void keep_call(void *arg)
{
    struct keep_call *c = arg;
    struct io_task *t = c->t;

    for (size_t i = 0; i < ARRAY_LEN(c->bytes) && t->kept_status == TASK_OK; i++)
        if (c->bytes[i].len)
            t->kept_status = body_pass(t->kept, c->bytes[i], c->err);
    if (c->ret && t->kept_status == TASK_OK)
        t->kept_status = body_end(t->kept, c->ret, c->err);
}

static int keep(struct io_task *t, struct span bytes, struct task_value *ret,
                struct err *err)
{
    struct keep_call c = { t, { buf_span(&t->body), bytes }, ret, err };

    if (coro_run_blocking(keep_call, &c) < 0) {
        t->kept_status = TASK_CANCELLED;
        return err_set(err, 1, "cancelled");
    }
    buf_fini(&t->body);
    return t->kept_status == TASK_OK ? 0 : -1;
}

static void drop_call(void *arg)
{
    body_discard(arg);
}

/* What is kept of a body ends here: it stands, or nothing of it is left. */
static void kept_end(struct io_task *t, enum task_status status)
{
    if (t->kept && status != TASK_OK) {
        coro_shield(true);
        coro_run_blocking(drop_call, t->kept);
        coro_shield(false);
    }
    body_free(t->kept);
    t->kept = NULL;
}

static int take_bytes(void *arg, struct span bytes, struct err *err)
{
    struct io_task *t = arg;

    if (!t->long_body && t->body.len + bytes.len <= BODY_IN_MEMORY) {
        buf_add_span(&t->body, bytes);
        return 0;
    }
    t->long_body = true;
    if (t->kept)
        return keep(t, bytes, NULL, err);
    if (t->spool_fd < 0 && spool(t, buf_span(&t->body), err) < 0)
        return -1;
    buf_fini(&t->body);
    return spool(t, bytes, err);
}

/* ---- a task ---- */

static enum task_status status_of(enum fetch_class class)
{
    static const enum task_status statuses[] = {
        [FETCH_OK] = TASK_OK,
        [FETCH_RETRYABLE] = TASK_RETRYABLE,
        [FETCH_PERMANENT] = TASK_FAILED,
        [FETCH_SINK] = TASK_RETRYABLE,
        [FETCH_CANCELLED] = TASK_CANCELLED,
    };
    return statuses[class];
}

static bool wants_mill(const struct job_spec *s)
{
    return s->algos || s->out_algos || s->transform != TRANSFORM_NONE ||
           s->sink != SINK_NONE;
}

static struct body *kept_new(const struct io_task *t, const struct task_input *in)
{
    struct node_lease *l = t->lease;
    struct body_work work = { .roots = l->node->roots,
                              .spec = &l->job->spec,
                              .out = in->out,
                              .attempt = lease_attempt(l, t->index),
                              .mode = l->node->file_mode };

    return body_can(work.spec) ? body_new(&work) : NULL;
}

/* The stages over a body in a mill; the value it says in t->value. */
static enum task_status mill(struct io_task *t)
{
    struct grist g = { .lease = t->lease,
                       .index = t->index,
                       .bytes = buf_span(&t->body),
                       .fd = t->spool_fd };
    int rc = grist_pass(&g);

    t->value = g.value;
    return rc < 0 ? TASK_CANCELLED : g.status;
}

/* The stages over a body that came. */
static enum task_status finish(struct io_task *t, struct task_value *v, struct err *err)
{
    enum task_status status;

    if (t->kept && (t->long_body || !wants_mill(&t->lease->job->spec)))
        return keep(t, SPAN_NONE, v, err) < 0 ? t->kept_status : TASK_OK;
    status = mill(t);
    if (value_unpack(buf_span(&t->value), v, err) < 0)
        *v = (struct task_value){ 0 };
    return status;
}

static enum task_status fetch_one(struct io_task *t, struct span url,
                                  struct fetch_reply *reply, struct err *err)
{
    struct node *n = t->lease->node;
    const struct job_spec *s = &t->lease->job->spec;
    AUTO_FREE char *ca_file = s->ca_file.len ? span_dup(s->ca_file) : NULL;
    struct fetch_request req = { .url = url,
                                 .connect_timeout_ns = (int64_t)s->connect_timeout_ns,
                                 .stall_ns = (int64_t)s->stall_ns,
                                 .timeout_ns = (int64_t)s->timeout_ns,
                                 .max_bytes = (int64_t)s->max_bytes,
                                 .max_redirects = -1,
                                 .ca_file = ca_file,
                                 .sink = take_bytes,
                                 .sink_arg = t };
    char key[HOST_KEY_MAX];
    struct io_host *h;
    enum task_status status = TASK_CANCELLED;
    uint32_t later_s;

    host_key(t, url, key);
    h = host_get(&n->hosts, key, s->per_host ? s->per_host : PER_HOST_DEFAULT);
    if (host_enter(n, h, s->rate, &later_s) == 0) {
        int64_t since = loop_now_ns(n->loop);
        fetch_run(n->fetch, &req, reply, err);
        status = status_of(reply->class);
        host_left(h, loop_now_ns(n->loop), since);
        coro_sem_give(&h->places);
    } else if (later_s) {
        reply->retry_after_s = later_s;
        status = TASK_NOT_YET;
    }
    host_put(&n->hosts, h, loop_now_ns(n->loop));
    return status;
}

static enum task_status run_task(struct io_task *t, struct buf *packed)
{
    struct task_input in;
    struct task_value v = { 0 };
    struct fetch_reply reply = { 0 };
    struct err err = { 0 };
    int64_t began = clock_mono_ns();
    enum task_status status;

    if (input_unpack(lease_input(t->lease, t->index), &in, &err) < 0 || !in.url.len) {
        err_set(&err, 1, "not a URL");
        status = TASK_FAILED;
    } else {
        t->kept = kept_new(t, &in);
        status = fetch_one(t, in.url, &reply, &err);
    }
    if (status == TASK_OK)
        status = finish(t, &v, &err);
    else if (t->kept_status != TASK_OK)
        status = t->kept_status;
    v.http_status = (uint32_t)reply.status;
    v.retry_after_s = (uint32_t)MIN(reply.retry_after_s, 86400);
    v.elapsed_us = (uint64_t)(clock_mono_ns() - began) / 1000;
    if (status != TASK_OK && !v.error.len)
        v.error = span_str(err.text);
    value_pack(packed, &v);
    kept_end(t, status);
    fetch_reply_fini(&reply);
    return status;
}

static void io_main(void *arg)
{
    struct io_task *t = arg;
    struct node_lease *l = t->lease;
    struct node *n = l->node;
    AUTO_BUF packed = BUF_INIT;
    enum task_status status = run_task(t, &packed);
    uint32_t index = t->index;

    if (t->spool_fd >= 0)
        close(t->spool_fd);
    buf_fini(&t->body);
    buf_fini(&t->value);
    LIST_REMOVE(t, lease_node);
    free(t);
    n->io_busy--;
    node_result(l, index, status, buf_span(&packed));
}

bool io_start(struct node_lease *l)
{
    struct node *n = l->node;

    while (l->io_next < l->n) {
        struct io_task *t = xcalloc(1, sizeof(*t));
        t->lease = l;
        t->index = l->io_next;
        t->spool_fd = -1;
        if (coropool_spawn(n->coros, io_main, t, &t->id) < 0) {
            free(t);
            return false;
        }
        LIST_INSERT_HEAD(&l->io_tasks, t, lease_node);
        n->io_busy++;
        l->io_next++;
    }
    return true;
}

void io_revoke(struct node_lease *l)
{
    struct io_task *t;

    LIST_FOREACH (t, &l->io_tasks, lease_node)
        coropool_cancel(l->node->coros, t->id);
}

void io_tend(struct node *n)
{
    hosts_tend(&n->hosts, loop_now_ns(n->loop));
}

/* ---- life ---- */

static void on_coro_room(void *arg)
{
    node_start_waiting(arg);
}

int io_new(struct node *n, struct err *err)
{
    mode_t mask = umask(0); /* no other thread makes a file yet */

    struct coropool_config coros = { .max = n->config.coroutines,
                                     .made_ahead = MIN(n->config.coroutines, 16u),
                                     .threads = n->threads };
    struct resolve_config names = { 0 };
    struct fetch_config fetch = { .user_agent = "tidemill/" TM_VERSION };

    umask(mask);
    n->file_mode = 0666 & ~mask;
    if (n->config.coroutines == 0)
        return 0;
    if (coropool_new(n->loop, &coros, &n->coros, err) < 0 ||
        resolve_new(n->loop, &names, &n->resolve, err) < 0)
        return -1;
    grist_init(n);
    fetch.resolve = n->resolve;
    coropool_on_room(n->coros, on_coro_room, n);
    return fetch_new(n->loop, &fetch, &n->fetch, err);
}

void io_free(struct node *n)
{
    if (n->coros) {
        coropool_on_room(n->coros, NULL, NULL);
        coropool_cancel_all(n->coros);
        grist_end(n);
        while (coropool_live(n->coros))
            loop_once(n->loop, true);
        coropool_free(n->coros);
    }
    grist_fini(n);
    fetch_free(n->fetch);
    resolve_free(n->resolve);
    hosts_free(&n->hosts);
}
