/* The coroutine's side of a transfer: hops, waiting, time limits. libcurl is called on
 * the loop's own stack only (fetch_curl.c). */
#include "worker/fetch.h"

#include <errno.h>

#include "base/clock.h"
#include "worker/fetch_curl.h"
#include "worker/gunzip.h"

struct fetch {
    struct engine *engine;
    struct fetch_config config;
};

/* One call of fetch_run. */
struct run {
    struct fetch *fetch;
    const struct fetch_request *req;
    struct fetch_reply *reply;
    struct err *err;
    int64_t connect_ns, stall_ns, until_ns; /* until: 0 = no limit */
    char *url;                              /* of this hop */
    char *hosts;                            /* its line for CURLOPT_RESOLVE, or NULL */
    struct engine_url parts;
    struct transfer *t;
    struct gunzip *gunzip; /* once a compressed body begins */
    bool too_large;
    struct coro_task *task; /* who runs it */
    int rc;
};

int fetch_new(struct loop *loop, const struct fetch_config *config,
              struct fetch **ret_fetch, struct err *err)
{
    struct fetch *f = xcalloc(1, sizeof(*f));

    f->config = *config;
    if (engine_new(loop, &f->engine, err) < 0) {
        free(f);
        return -1;
    }
    *ret_fetch = f;
    return 0;
}

void fetch_free(struct fetch *f)
{
    if (!f)
        return;
    engine_free(f->engine);
    free(f);
}

void fetch_reply_fini(struct fetch_reply *reply)
{
    free(reply->effective_url);
    reply->effective_url = NULL;
}

static int end(struct run *r, enum fetch_class class)
{
    r->reply->class = class;
    return class == FETCH_OK ? 0 : -1;
}

/* A wait of the coroutine failed. */
static int interrupted(struct run *r)
{
    if (errno == ECANCELED) {
        err_set(r->err, 1, "cancelled");
        return end(r, FETCH_CANCELLED);
    }
    err_set(r->err, 1, "out of time");
    return end(r, FETCH_RETRYABLE);
}

/* ---- on the loop's stack ---- */

static void call_parse(void *arg)
{
    struct run *r = arg;
    r->rc = engine_url_parse(r->url, &r->parts, r->err);
}

static void call_begin(void *arg)
{
    struct run *r = arg;
    struct transfer_spec spec = {
        .url = r->url,
        .resolve = { r->hosts, NULL },
        .user_agent =
            r->fetch->config.user_agent ? r->fetch->config.user_agent : "tidemill",
        .ca_file = r->req->ca_file,
        .connect_timeout_ns = r->connect_ns,
        .max_bytes = r->req->max_bytes,
        .task = r->task,
    };
    r->t = transfer_new(r->fetch->engine, &spec);
}

static void call_continue(void *arg)
{
    transfer_continue(((struct run *)arg)->t);
}

static void call_end(void *arg)
{
    struct run *r = arg;
    transfer_free(r->t);
    r->t = NULL;
}

/* ---- one hop ---- */

/* Resolves the hop's host with our resolver; libcurl's own would start a thread. */
static int look_up(struct run *r)
{
    struct resolve_list list;
    AUTO_BUF line = BUF_INIT;
    char text[64];

    free(r->hosts);
    r->hosts = NULL;
    if (r->parts.numeric)
        return 0;
    if (resolve_host(r->fetch->config.resolve, r->parts.host, r->connect_ns, &list,
                     r->err) < 0) {
        if (errno == ECANCELED)
            return interrupted(r);
        return end(r, errno == ENOENT || errno == EINVAL ? FETCH_PERMANENT
                                                         : FETCH_RETRYABLE);
    }
    buf_printf(&line, "+%s:%s:", r->parts.host, r->parts.port);
    for (size_t i = 0; i < list.n; i++)
        buf_printf(&line, "%s%s", i ? "," : "",
                   resolve_addr_text(&list.addrs[i], text, sizeof(text)));
    r->hosts = xstrdup(buf_str(&line));
    return 0;
}

/* What came, decoded, to the request's sink. */
static int give(void *arg, struct span bytes, struct err *err)
{
    struct run *r = arg;
    char text[32];

    r->reply->bytes += (int64_t)bytes.len;
    if (r->req->max_bytes && r->reply->bytes > r->req->max_bytes) {
        r->too_large = true;
        return err_set(err, 1, "larger than %s (--max-size)",
                       fetch_size(text, r->req->max_bytes));
    }
    return r->req->sink ? r->req->sink(r->req->sink_arg, bytes, err) : 0;
}

/* The class of a failure that has its text already. */
static int give_failed(struct run *r)
{
    if (r->too_large)
        return end(r, FETCH_PERMANENT);
    return end(r, coro_check() < 0 && errno == ECANCELED ? FETCH_CANCELLED : FETCH_SINK);
}

/* Hands over what came. */
static int drain(struct run *r)
{
    struct transfer *t = r->t;
    struct buf got = transfer_take(t);
    int rc = 0;

    if (t->gzip && !r->gunzip)
        r->gunzip = gunzip_new();
    if (r->gunzip)
        rc = gunzip_pass(r->gunzip, buf_span(&got), give, r, r->err);
    else if (give(r, buf_span(&got), r->err) < 0)
        rc = -2;
    transfer_give(t, &got);
    if (rc < 0)
        return rc == -1 ? end(r, FETCH_PERMANENT) : give_failed(r);
    if (t->paused)
        coro_on_loop_stack(call_continue, r);
    return 0;
}

/* How long may be waited until a limit has passed; -1 when one has. */
static int64_t patience(struct run *r)
{
    int64_t now = clock_mono_ns(), left = r->t->progress_ns + r->stall_ns - now;
    char text[32];

    if (r->until_ns && r->until_ns <= now) {
        err_set(r->err, 1, "not finished within %s",
                fetch_duration(text, r->req->timeout_ns));
        return end(r, FETCH_RETRYABLE);
    }
    if (left <= 0) {
        err_set(r->err, 1, "no byte for %s", fetch_duration(text, r->stall_ns));
        return end(r, FETCH_RETRYABLE);
    }
    return r->until_ns ? MIN(left, r->until_ns - now) : left;
}

static int transfer(struct run *r)
{
    while (!r->t->done || r->t->filled.len) {
        if (r->t->filled.len) {
            if (drain(r) < 0)
                return -1;
            continue;
        }
        int64_t wait = patience(r);
        if (wait < 0)
            return -1;
        if (coro_wait(wait) < 0 && (errno != ETIMEDOUT || coro_check() < 0))
            return interrupted(r);
    }
    r->reply->status = r->t->status;
    r->reply->retry_after_s = r->t->retry_after_s;
    if (r->t->class != FETCH_OK && !r->t->redirect_url)
        *r->err = r->t->err;
    if (r->t->class == FETCH_OK && r->gunzip && !gunzip_ended(r->gunzip)) {
        err_set(r->err, 1, "truncated: the body's compression ends early");
        return end(r, FETCH_RETRYABLE);
    }
    return end(r, r->t->class);
}

/* 1 = there is another hop, whose URL is in r->url. */
static int hop(struct run *r)
{
    int rc;

    coro_on_loop_stack(call_parse, r);
    if (r->rc < 0)
        return end(r, FETCH_PERMANENT);
    if (look_up(r) < 0)
        return -1;
    coro_on_loop_stack(call_begin, r);
    rc = transfer(r);
    if (r->t->redirect_url) {
        free(r->url);
        r->url = STEAL(r->t->redirect_url);
        rc = 1;
    }
    coro_on_loop_stack(call_end, r);
    gunzip_free(r->gunzip);
    r->gunzip = NULL;
    return rc;
}

int fetch_run(struct fetch *f, const struct fetch_request *req,
              struct fetch_reply *ret_reply, struct err *err)
{
    struct err own = { 0 };
    struct run r = {
        .fetch = f,
        .req = req,
        .reply = ret_reply,
        .err = err ? err : &own,
        .connect_ns = req->connect_timeout_ns > 0 ? req->connect_timeout_ns
                                                  : FETCH_CONNECT_TIMEOUT_NS,
        .stall_ns = req->stall_ns > 0 ? req->stall_ns : FETCH_STALL_NS,
        .until_ns = req->timeout_ns > 0 ? clock_mono_ns() + req->timeout_ns : 0,
        .url = span_dup(req->url),
        .task = coro_current(),
    };
    int max = req->max_redirects < 0 ? FETCH_MAX_REDIRECTS : req->max_redirects;
    int rc;

    *ret_reply = (struct fetch_reply){ .class = FETCH_PERMANENT };
    while ((rc = hop(&r)) == 1) {
        if (++ret_reply->redirects > max) {
            err_set(r.err, 1, "more than %d redirects", max);
            rc = end(&r, FETCH_PERMANENT);
            break;
        }
    }
    ret_reply->effective_url = r.url;
    free(r.hosts);
    return rc;
}
