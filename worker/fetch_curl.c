/* The only user of curl/curl.h. Many small multis: one with 10,000 transfers searches its
 * lists 20 times longer per transfer than 128 of them do. libcurl's callbacks only copy
 * bytes and mark coroutines ready. */
#include "worker/fetch_curl.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "worker/blocks.h"
#include "worker/ops/task.h"

enum {
    MULTI_TRANSFERS_MAX = 128,
    MULTI_CONNECTIONS_MAX = 128, /* idle and busy, in a multi's cache */
    NETWORK_READ_BYTES = 64 * KIB,
    BLOCKS_KEPT = 64,       /* for reuse, while they are in the cache */
    DISCARD_MAX = 64 * KIB, /* of an unwanted body: reading it keeps a connection */
    HEADERS_MAX = 256 * KIB,
};

struct engine_multi {
    CURLM *curl;
    struct engine *engine;
    struct loop_timer *timer;
    size_t ntransfers;
};

struct engine {
    struct loop *loop;
    struct blocks *blocks;        /* owned; for what came */
    struct engine_multi **multis; /* owned array of owned */
    size_t nmultis;
};

struct socket_watch {
    struct engine_multi *multi;
    curl_socket_t fd;
    struct loop_io *io;
};

const char *fetch_duration(char *text, int64_t ns)
{
    if (ns % NS_PER_S == 0)
        snprintf(text, 32, "%lld s", (long long)(ns / NS_PER_S));
    else
        snprintf(text, 32, "%lld ms", (long long)(ns / NS_PER_MS));
    return text;
}

const char *fetch_size(char *text, int64_t bytes)
{
    if (bytes % MIB == 0)
        snprintf(text, 32, "%lld MiB", (long long)(bytes / MIB));
    else if (bytes % KIB == 0)
        snprintf(text, 32, "%lld KiB", (long long)(bytes / KIB));
    else
        snprintf(text, 32, "%lld bytes", (long long)bytes);
    return text;
}

static int fail(struct transfer *t, enum fetch_class class, const char *text)
{
    t->class = class;
    return err_set(&t->err, 0, "%s", text);
}

static void fail_tls(struct transfer *t)
{
    static const char *const prefixes[] = { "SSL certificate problem: ", "SSL: " };
    const char *why = t->curl_text;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (strncmp(why, prefixes[i], strlen(prefixes[i])) == 0)
            why += strlen(prefixes[i]);
    t->class = FETCH_PERMANENT;
    err_set(&t->err, 0, "certificate not valid: %s", *why ? why : "not trusted");
}

static void fail_connect(struct transfer *t)
{
    long os_errno = 0;
    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
    t->class = FETCH_RETRYABLE;
    if (os_errno == ECONNREFUSED || os_errno == 0)
        err_set(&t->err, 0, "connection refused");
    else
        err_set(&t->err, 0, "cannot connect: %s", strerror((int)os_errno));
}

/* What our own callbacks ended; false = none of them did. */
static bool judge_own(struct transfer *t)
{
    char text[32];
    if (t->too_large) {
        t->class = FETCH_PERMANENT;
        err_set(&t->err, 0, "larger than %s (--max-size)",
                fetch_size(text, t->max_bytes));
    } else if (t->unknown_encoding) {
        fail(t, FETCH_PERMANENT,
             "the body is compressed in a way that was not asked for");
    } else if (t->headers_too_large) {
        fail(t, FETCH_PERMANENT, "headers larger than 256 KiB");
    } else {
        return false;
    }
    return true;
}

static void judge_code(struct transfer *t, CURLcode code)
{
    char text[32];
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        fail_connect(t);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        t->class = FETCH_RETRYABLE;
        err_set(&t->err, 0, "no connection within %s",
                fetch_duration(text, t->connect_timeout_ns));
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        fail_tls(t);
        break;
    case CURLE_SSL_CACERT_BADFILE:
        fail(t, FETCH_PERMANENT, "the CA file cannot be read");
        break;
    case CURLE_PARTIAL_FILE:
        fail(t, FETCH_RETRYABLE,
             "truncated: the server closed the connection in the body");
        break;
    case CURLE_GOT_NOTHING:
        fail(t, FETCH_RETRYABLE, "the server closed the connection without an answer");
        break;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        fail(t, FETCH_RETRYABLE, "connection reset");
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        fail(t, FETCH_RETRYABLE, "host not found");
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        fail(t, FETCH_PERMANENT, "the server does not speak HTTP");
        break;
    case CURLE_URL_MALFORMAT:
        fail(t, FETCH_PERMANENT, "malformed URL");
        break;
    default:
        t->class = FETCH_RETRYABLE;
        err_set(&t->err, 0, "%s",
                *t->curl_text ? t->curl_text : curl_easy_strerror(code));
        break;
    }
}

static void judge_status(struct transfer *t)
{
    int s = t->status;
    if (s >= 200 && s < 300) {
        t->class = FETCH_OK;
        return;
    }
    t->class =
        s == 408 || s == 425 || s == 429 || s >= 500 ? FETCH_RETRYABLE : FETCH_PERMANENT;
    err_set(&t->err, 0, "HTTP %d", s);
}

static void finish(struct transfer *t, CURLcode code)
{
    long status = 0;
    curl_off_t retry_after = 0;
    char *url = NULL;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
    curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &url);
    t->status = (int)status;
    t->retry_after_s = retry_after;
    /* A body we do not want may end as it likes: its status tells all. */
    if (code == CURLE_OK || t->discarded_enough) {
        judge_status(t);
        if (url && status >= 300 && status < 400)
            t->redirect_url = xstrdup(url);
    } else if (!judge_own(t)) {
        judge_code(t, code);
    }
    t->done = true;
    coro_wake(t->task);
}

static void read_messages(struct engine_multi *multi)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(multi->curl, &left))) {
        struct transfer *t = NULL;
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURLcode code = msg->data.result;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
        finish(t, code);
    }
}

static void act(struct engine_multi *multi, curl_socket_t fd, int events)
{
    int running;
    int mask = (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
               (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0);
    CHECK(curl_multi_socket_action(multi->curl, fd, mask, &running) == CURLM_OK);
    read_messages(multi);
}

static void on_timer(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(void *arg, int events)
{
    struct socket_watch *watch = arg; /* may be freed by what follows */
    act(watch->multi, watch->fd, events);
}

static int set_timer(CURLM *curl, long ms, void *arg)
{
    struct engine_multi *multi = arg;
    (void)curl;
    if (ms < 0)
        loop_timer_stop(multi->timer);
    else
        loop_timer_arm(multi->timer, ms * NS_PER_MS);
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
    struct engine_multi *multi = arg;
    struct socket_watch *watch = assigned;
    int events =
        (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch)
            loop_io_free(watch->io);
        free(watch);
        curl_multi_assign(multi->curl, fd, NULL);
        return 0;
    }
    if (watch) {
        loop_io_set(watch->io, events);
        return 0;
    }
    watch = xcalloc(1, sizeof(*watch));
    watch->multi = multi;
    watch->fd = fd;
    watch->io = loop_io_new(multi->engine->loop, fd, events, on_socket, watch);
    curl_multi_assign(multi->curl, fd, watch);
    return 0;
}

/* ---- memory ---- */

/* What the kernel copies to begins where a page does (task_pages). */
static void *curl_memory(size_t len)
{
    return len < NETWORK_READ_BYTES ? malloc(len) : task_pages(len);
}

struct buf transfer_take(struct transfer *t)
{
    struct buf bytes = t->filled;

    t->filled = (struct buf)BUF_INIT;
    return bytes;
}

void transfer_give(struct transfer *t, struct buf *bytes)
{
    blocks_give(t->multi->engine->blocks, bytes);
}

/* ---- life ---- */

int engine_new(struct loop *loop, struct engine **ret_engine, struct err *err)
{
    CURLcode code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_memory, free, realloc,
                                         strdup, calloc);
    if (code != CURLE_OK)
        return err_set(err, 0, "cannot start libcurl: %s", curl_easy_strerror(code));
    struct engine *engine = xcalloc(1, sizeof(*engine));
    engine->loop = loop;
    engine->blocks = blocks_new(FETCH_BUFFER_BYTES);
    *ret_engine = engine;
    return 0;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    for (size_t i = 0; i < engine->nmultis; i++) {
        struct engine_multi *multi = engine->multis[i];
        CHECK(multi->ntransfers == 0);
        curl_multi_cleanup(multi->curl);
        loop_timer_free(multi->timer);
        free(multi);
    }
    free(engine->multis);
    blocks_free(engine->blocks);
    free(engine);
    curl_global_cleanup();
}

static struct engine_multi *multi_new(struct engine *engine)
{
    struct engine_multi *multi = xcalloc(1, sizeof(*multi));
    multi->engine = engine;
    multi->curl = curl_multi_init();
    CHECK(multi->curl);
    multi->timer = loop_timer_new(engine->loop, on_timer, multi);
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(multi->curl, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi->curl, CURLMOPT_TIMERDATA, multi);
    curl_multi_setopt(multi->curl, CURLMOPT_MAXCONNECTS, (long)MULTI_CONNECTIONS_MAX);
    engine->multis =
        xrealloc(engine->multis, (engine->nmultis + 1) * sizeof(*engine->multis));
    engine->multis[engine->nmultis++] = multi;
    return multi;
}

/* A host's own multi while it has room, so that its connections are found again. */
static struct engine_multi *multi_pick(struct engine *engine, const char *url)
{
    const char *host = strstr(url, "://");
    uint32_t hash = 2166136261u; /* FNV-1a; a poor spread only costs a search */
    host = host ? host + 3 : url;
    for (size_t i = 0; host[i] && !strchr("/?#", host[i]); i++)
        hash = (hash ^ (uint8_t)host[i]) * 16777619u;
    for (size_t i = 0; i < engine->nmultis; i++) {
        struct engine_multi *multi = engine->multis[(hash + i) % engine->nmultis];
        if (multi->ntransfers < MULTI_TRANSFERS_MAX)
            return multi;
    }
    return multi_new(engine);
}

/* Counts and refuses; 0 = refuse. Only a 2xx body is wanted. */
static size_t on_body(char *data, size_t one, size_t len, void *arg)
{
    struct transfer *t = arg;
    long status = 0;
    (void)one;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (t->unknown_encoding)
        return 0;
    if (status < 200 || status >= 300) {
        t->discarded += (int64_t)len;
        t->discarded_enough = t->discarded > DISCARD_MAX;
        return t->discarded_enough ? 0 : len;
    }
    /* Of a compressed body the length that counts is known when it is decoded. */
    if (t->max_bytes && !t->gzip && t->bytes + (int64_t)len > t->max_bytes) {
        t->too_large = true;
        return 0;
    }
    if (t->filled.len > 0 && t->filled.len + len > FETCH_BUFFER_BYTES) {
        t->paused = true;
        coro_wake(t->task);
        return CURL_WRITEFUNC_PAUSE;
    }
    CHECK(len <= FETCH_BUFFER_BYTES);
    if (!t->filled.data)
        t->filled = blocks_take(t->multi->engine->blocks);
    buf_add(&t->filled, data, len);
    t->bytes += (int64_t)len;
    t->progress_ns = clock_mono_ns();
    coro_wake(t->task);
    return len;
}

/* The value of a header line when it has this name, else NULL. */
static const char *header_value(const char *line, size_t len, const char *name,
                                size_t *ret_len)
{
    size_t n = strlen(name);
    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return NULL;
    const char *at = line + n + 1, *end = line + len;
    while (at < end && isspace((unsigned char)*at))
        at++;
    while (end > at && isspace((unsigned char)end[-1]))
        end--;
    *ret_len = (size_t)(end - at);
    return at;
}

static void note_encoding(struct transfer *t, const char *line, size_t len)
{
    static const char *const known[] = { "gzip", "x-gzip", "identity", "" };
    size_t n, i;
    const char *value = header_value(line, len, "content-encoding", &n);
    if (!value)
        return;
    for (i = 0; i < ARRAY_LEN(known); i++)
        if (n == strlen(known[i]) && strncasecmp(value, known[i], n) == 0)
            break;
    t->gzip = i < 2;
    t->unknown_encoding = i == ARRAY_LEN(known);
}

static size_t on_header(char *data, size_t one, size_t len, void *arg)
{
    struct transfer *t = arg;
    (void)one;
    note_encoding(t, data, len);
    t->progress_ns = clock_mono_ns();
    t->header_bytes += (int64_t)len;
    t->headers_too_large = t->header_bytes > HEADERS_MAX;
    return t->headers_too_large ? 0 : len;
}

/* Sees bytes that the decoder keeps for itself, too. */
static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    struct transfer *t = arg;
    (void)total;
    (void)up_total;
    if (now + up_now != t->seen_bytes) {
        t->seen_bytes = now + up_now;
        t->progress_ns = clock_mono_ns();
    }
    return 0;
}

int engine_url_parse(const char *url, struct engine_url *ret_url, struct err *err)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    struct engine_url parts = { 0 };
    struct in6_addr any;
    int rc = -1;
    CHECK(u);
    CURLUcode code = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    if (code == CURLUE_OK)
        code = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    if (code == CURLUE_OK && strcmp(scheme, "http") != 0 &&
        strcmp(scheme, "https") != 0) {
        err_set(err, 0, "unsupported scheme \"%.32s\": only http and https", scheme);
        goto out;
    }
    if (code == CURLUE_OK)
        code = curl_url_get(u, CURLUPART_HOST, &host, CURLU_PUNYCODE);
    if (code == CURLUE_OK)
        code = curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    if (code != CURLUE_OK || strlen(host) >= sizeof(parts.host) ||
        strlen(port) >= sizeof(parts.port)) {
        err_set(err, 0, "malformed URL: %s",
                code == CURLUE_OK ? "the host's name is too long"
                                  : curl_url_strerror(code));
        goto out;
    }
    strcpy(parts.host, host);
    strcpy(parts.port, port);
    parts.numeric = host[0] == '[' || inet_pton(AF_INET, host, &any) == 1;
    *ret_url = parts;
    rc = 0;
out:
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return rc;
}

/* Nothing of the environment, of the user's files or of other transfers gets in. */
static void set_limits(CURL *easy, const struct transfer_spec *spec)
{
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    /* 1.1: a paused HTTP/2 stream keeps up to its window in memory. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)NETWORK_READ_BYTES);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)MAX(spec->connect_timeout_ns / NS_PER_MS, 1));
    if (spec->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, spec->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

struct transfer *transfer_new(struct engine *engine, const struct transfer_spec *spec)
{
    struct transfer *t = xcalloc(1, sizeof(*t));
    struct curl_slist *hosts = NULL;
    CURL *easy = curl_easy_init();
    CHECK(easy && sizeof(t->curl_text) >= CURL_ERROR_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(spec->resolve) && spec->resolve[i]; i++)
        CHECK((hosts = curl_slist_append(hosts, spec->resolve[i])));
    t->easy = easy;
    t->hosts = hosts;
    t->task = spec->task;
    t->max_bytes = spec->max_bytes;
    t->connect_timeout_ns = spec->connect_timeout_ns;
    t->progress_ns = clock_mono_ns();
    set_limits(easy, spec);
    /* Asked for, but not decoded by libcurl: see gunzip.h. */
    t->headers = curl_slist_append(NULL, "Accept-Encoding: gzip");
    CHECK(t->headers);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, (struct curl_slist *)t->headers);
    curl_easy_setopt(easy, CURLOPT_URL, spec->url);
    curl_easy_setopt(easy, CURLOPT_RESOLVE, hosts);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, spec->user_agent);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->curl_text);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    t->multi = multi_pick(engine, spec->url);
    CHECK(curl_multi_add_handle(t->multi->curl, easy) == CURLM_OK);
    t->multi->ntransfers++;
    return t;
}

void transfer_continue(struct transfer *t)
{
    if (!t->paused || t->done)
        return;
    t->paused = false;
    t->progress_ns = clock_mono_ns();
    /* What our callback refuses here comes back here, and nowhere else. */
    CURLcode code = curl_easy_pause(t->easy, CURLPAUSE_CONT);
    if (code != CURLE_OK && !t->done)
        finish(t, code);
}

bool transfer_connected(const struct transfer *t)
{
    curl_off_t us = 0;
    curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &us);
    return us > 0;
}

void transfer_free(struct transfer *t)
{
    if (!t)
        return;
    curl_multi_remove_handle(t->multi->curl, t->easy);
    t->multi->ntransfers--;
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->hosts);
    curl_slist_free_all(t->headers);
    blocks_give(t->multi->engine->blocks, &t->filled);
    free(t->redirect_url);
    free(t);
}
