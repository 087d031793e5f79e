/* libcurl's multi interface on the loop, for fetch.c alone: a transfer is one exchange
 * without redirects. All functions run on the loop's own stack, never a coroutine's. */
#ifndef WORKER_FETCH_CURL_H
#define WORKER_FETCH_CURL_H

#include "worker/coropool.h"
#include "worker/fetch.h"

struct engine;
struct engine_multi;

/* A URL's parts that name its server. */
struct engine_url {
    char host[RESOLVE_NAME_MAX + 3]; /* punycode, in brackets if IPv6 */
    char port[6];
    bool numeric; /* the host is an address */
};

struct transfer_spec {
    const char *url;
    const char *resolve[2]; /* "+host:port:address,…"; NULL = none */
    const char *user_agent, *ca_file;
    int64_t connect_timeout_ns, max_bytes;
    struct coro_task *task; /* woken when something changed */
};

struct transfer {
    /* For the coroutine to read. */
    struct buf filled; /* at most FETCH_BUFFER_BYTES */
    bool paused;       /* the buffer was full: see transfer_continue */
    bool done;
    bool gzip;           /* what is filled is compressed */
    int64_t progress_ns; /* when a byte came last */
    /* Once done: */
    enum fetch_class class;
    struct err err;
    int status;
    int64_t retry_after_s;
    char *redirect_url; /* owned; where the answer points, else NULL */
    /* The engine's own. */
    struct engine_multi *multi;
    void *easy, *hosts, *headers;
    struct coro_task *task;
    int64_t connect_timeout_ns, max_bytes, bytes, discarded, header_bytes, seen_bytes;
    bool too_large, unknown_encoding, discarded_enough, headers_too_large;
    char curl_text[256]; /* CURL_ERROR_SIZE */
};

int engine_new(struct loop *loop, struct engine **ret_engine, struct err *err);
void engine_free(struct engine *engine); /* takes NULL; no transfer may be left */

/* -1 with err: malformed, or neither http nor https. */
int engine_url_parse(const char *url, struct engine_url *ret_url, struct err *err);
/* Begins; caller ends it with transfer_free, done or not. */
struct transfer *transfer_new(struct engine *engine, const struct transfer_spec *spec);
/* Moves what is filled to the caller, who gives it back. */
struct buf transfer_take(struct transfer *transfer);
void transfer_give(struct transfer *transfer, struct buf *bytes);
/* After some of `filled` was taken. */
void transfer_continue(struct transfer *transfer);
/* The request is on its way: what is waited for is the server's answer. */
bool transfer_connected(const struct transfer *transfer);
void transfer_free(struct transfer *transfer); /* takes NULL */

/* "30 s", "250 ms"; "64 KiB", "1000 bytes". text has 32 bytes. Returns text. */
const char *fetch_size(char *text, int64_t bytes);
const char *fetch_duration(char *text, int64_t ns);

#endif
