/* One HTTP or HTTPS GET, called from a coroutine: redirects followed, body to a sink,
 * failures sorted into those worth another try and the others. HTTP/1.1 by libcurl on the
 * loop, names by resolve.h. Memory per transfer is bounded whatever the body's size:
 * FETCH_BUFFER_BYTES twice, 64 KiB in libcurl, and what gunzip.h has. */
#ifndef WORKER_FETCH_H
#define WORKER_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "worker/resolve.h"

enum { FETCH_BUFFER_BYTES = 128 * KIB };
enum { FETCH_MAX_REDIRECTS = 10 };
#define FETCH_CONNECT_TIMEOUT_NS (10 * NS_PER_S)
#define FETCH_STALL_NS           (30 * NS_PER_S)

struct fetch;

struct fetch_config {
    struct resolve *resolve; /* borrowed */
    const char *user_agent;  /* NULL = "tidemill" */
};

int fetch_new(struct loop *loop, const struct fetch_config *config,
              struct fetch **ret_fetch, struct err *err);
/* No coroutine may be inside fetch_run. Takes NULL. */
void fetch_free(struct fetch *fetch);

/* Gets the body's bytes in order, inside the coroutine, so it may wait; the transfer goes
 * on meanwhile until its buffer is full. -1 with err ends the transfer. */
typedef int fetch_sink_fn(void *arg, struct span bytes, struct err *err);

struct fetch_request {
    struct span url;
    int64_t connect_timeout_ns; /* 0 = FETCH_CONNECT_TIMEOUT_NS */
    int64_t stall_ns;           /* no byte for so long; 0 = FETCH_STALL_NS */
    int64_t timeout_ns;         /* for all of it; 0 = none */
    int64_t max_bytes;          /* of the body, decompressed; 0 = any */
    int max_redirects;          /* < 0 = FETCH_MAX_REDIRECTS */
    const char *ca_file;        /* PEM; NULL = the system's */
    fetch_sink_fn *sink;        /* only bytes of a 2xx answer; NULL = thrown away */
    void *sink_arg;
};

enum fetch_class {
    FETCH_OK,
    FETCH_RETRYABLE, /* refused, reset, timed out, truncated, DNS, 408, 425, 429, 5xx */
    FETCH_PERMANENT, /* bad URL, other 4xx, bad certificate, redirects, too large */
    FETCH_SINK,      /* the sink failed; err is its own */
    FETCH_CANCELLED, /* the coroutine was */
};

struct fetch_reply {
    enum fetch_class class;
    int status;            /* HTTP's, of the last answer; 0 = there was none */
    int64_t bytes;         /* of the body, decompressed, given to the sink */
    int64_t retry_after_s; /* what the server asks for; 0 = nothing */
    int redirects;
    char *effective_url; /* owned, see fetch_reply_fini; the last one tried */
};

/* 0, or -1 with ret_reply->class and one line in err. ret_reply is always filled. */
int fetch_run(struct fetch *fetch, const struct fetch_request *req,
              struct fetch_reply *ret_reply, struct err *err);
void fetch_reply_fini(struct fetch_reply *reply);

#endif
