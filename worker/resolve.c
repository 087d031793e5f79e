/* Invariant: an entry is in the tree and in `order` (least recently used first) until it
 * is evicted; one that is being asked about or has waiters is never evicted. c-ares's
 * callbacks only fill entries and mark coroutines ready. The tree is a balanced one, so
 * names chosen by a stranger cannot make it slow. */
#include "worker/resolve.h"

#include <ares.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <search.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "worker/coropool.h"

/* A query is sent up to 3 times, 2 s, then 4 s, then 8 s apart (c-ares doubles). */
enum { QUERY_TIMEOUT_MS = 2000, QUERY_TRIES = 3 };
/* TTLs are kept within these seconds: no storm for a TTL of 0, no week-old address. */
enum { TTL_MIN_S = 1, TTL_MAX_S = 3600, TTL_ABSENT_S = 10, TTL_HOSTS_S = 10 };
enum { CACHE_MAX_DEFAULT = 10000 };
/* c-ares opens a UDP and a TCP socket a server; above this it fails the query. */
enum { SOCKETS_MAX = 64 };

struct waiter {
    struct coro_task *task;
    LIST_ENTRY(waiter) waiter_node;
};

struct name_entry {
    struct resolve *owner;
    bool asking;
    int error; /* 0, ENOENT or EAGAIN */
    int64_t expires_ns;
    struct resolve_list list;
    LIST_HEAD(, waiter) waiters; /* on the coroutines' stacks */
    TAILQ_ENTRY(name_entry) order_node;
    char name[RESOLVE_NAME_MAX + 1]; /* lower case */
};

struct socket_watch {
    struct resolve *owner;
    ares_socket_t fd;
    struct loop_io *io; /* owned; NULL = place is free */
};

struct resolve {
    struct loop *loop;
    ares_channel channel;
    bool channel_made;
    struct loop_timer *timer;
    struct socket_watch sockets[SOCKETS_MAX];
    void *tree; /* of struct name_entry, owned; tsearch */
    TAILQ_HEAD(, name_entry) order;
    size_t nentries, max;
    uint64_t queries;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct name_entry *)a)->name,
                  ((const struct name_entry *)b)->name);
}

/* The time of the next retransmission changes with everything c-ares does. */
static void arm(struct resolve *resolve)
{
    struct timeval tv;
    if (!ares_timeout(resolve->channel, NULL, &tv)) {
        loop_timer_stop(resolve->timer);
        return;
    }
    loop_timer_arm(resolve->timer, tv.tv_sec * NS_PER_S + tv.tv_usec * NS_PER_US);
}

static void on_timer(void *arg)
{
    struct resolve *resolve = arg;
    ares_process_fd(resolve->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(resolve);
}

static void on_socket(void *arg, int events)
{
    struct socket_watch *watch = arg;
    struct resolve *resolve = watch->owner; /* the watch may be gone after the call */
    ares_socket_t fd = watch->fd;
    ares_process_fd(resolve->channel, events & LOOP_READ ? fd : ARES_SOCKET_BAD,
                    events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    arm(resolve);
}

/* c-ares tells what it wants of a socket; nothing = it is about to close it. */
static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct resolve *resolve = data;
    int events = (readable ? LOOP_READ : 0) | (writable ? LOOP_WRITE : 0);
    struct socket_watch *place = NULL;
    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        struct socket_watch *watch = &resolve->sockets[i];
        if (watch->io && watch->fd == fd) {
            place = watch;
            break;
        }
        if (!watch->io && !place)
            place = watch;
    }
    if (!place)
        return; /* too many: this query runs into its timeout */
    if (events == 0) {
        loop_io_free(place->io);
        place->io = NULL;
    } else if (place->io) {
        loop_io_set(place->io, events);
    } else {
        place->owner = resolve;
        place->fd = fd;
        place->io = loop_io_new(resolve->loop, fd, events, on_socket, place);
    }
}

int resolve_new(struct loop *loop, const struct resolve_config *config,
                struct resolve **ret_resolve, struct err *err)
{
    struct resolve *resolve = xcalloc(1, sizeof(*resolve));
    struct ares_options options = {
        .timeout = QUERY_TIMEOUT_MS,
        .tries = QUERY_TRIES,
        .lookups = (char[]){ "fb" }, /* files, then the servers */
        .sock_state_cb = on_socket_state,
        .sock_state_cb_data = resolve,
    };
    int mask =
        ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    resolve->loop = loop;
    resolve->max = config->cache_max ? config->cache_max : CACHE_MAX_DEFAULT;
    TAILQ_INIT(&resolve->order);
    int rc = ares_library_init(ARES_LIB_INIT_ALL);
    CHECK(rc == ARES_SUCCESS);
    rc = ares_init_options(&resolve->channel, &options, mask);
    resolve->channel_made = rc == ARES_SUCCESS;
    if (rc == ARES_SUCCESS && config->servers)
        rc = ares_set_servers_ports_csv(resolve->channel, config->servers);
    if (rc != ARES_SUCCESS) {
        resolve_free(resolve);
        return err_set(err, 0, "cannot start the DNS resolver: %s", ares_strerror(rc));
    }
    resolve->timer = loop_timer_new(loop, on_timer, resolve);
    *ret_resolve = resolve;
    return 0;
}

static void entry_drop(struct resolve *resolve, struct name_entry *entry)
{
    CHECK(LIST_EMPTY(&entry->waiters));
    tdelete(entry, &resolve->tree, by_name);
    TAILQ_REMOVE(&resolve->order, entry, order_node);
    resolve->nentries--;
    free(entry);
}

void resolve_free(struct resolve *resolve)
{
    if (!resolve)
        return;
    if (resolve->channel_made)
        ares_destroy(resolve->channel); /* ends its queries: asking becomes false */
    while (!TAILQ_EMPTY(&resolve->order))
        entry_drop(resolve, TAILQ_FIRST(&resolve->order));
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        loop_io_free(resolve->sockets[i].io);
    loop_timer_free(resolve->timer);
    ares_library_cleanup();
    free(resolve);
}

static void list_add(struct resolve_list *list, const struct sockaddr *sa)
{
    if (list->n == RESOLVE_ADDRS_MAX)
        return;
    struct resolve_addr *addr = &list->addrs[list->n];
    if (sa->sa_family == AF_INET)
        addr->v4 = ((const struct sockaddr_in *)(const void *)sa)->sin_addr;
    else if (sa->sa_family == AF_INET6)
        addr->v6 = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
    else
        return;
    addr->family = sa->sa_family;
    list->n++;
}

static int error_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
        return ENOENT;
    default:
        return EAGAIN;
    }
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
    struct name_entry *entry = arg;
    struct waiter *waiter;
    int ttl = TTL_MAX_S;
    (void)timeouts;
    entry->asking = false;
    entry->list.n = 0;
    entry->error = error_of(status);
    if (result) {
        for (struct ares_addrinfo_node *n = result->nodes; n; n = n->ai_next) {
            list_add(&entry->list, n->ai_addr);
            ttl = MIN(ttl, n->ai_ttl > 0 ? n->ai_ttl : TTL_HOSTS_S); /* 0: a file's */
        }
        ares_freeaddrinfo(result);
    }
    if (entry->error == 0 && entry->list.n == 0)
        entry->error = ENOENT;
    if (entry->error == ENOENT)
        ttl = TTL_ABSENT_S;
    else if (entry->error)
        ttl = 0; /* those who wait share it; the next one asks again */
    else
        ttl = MAX(ttl, TTL_MIN_S);
    entry->expires_ns = clock_mono_ns() + ttl * NS_PER_S;
    LIST_FOREACH (waiter, &entry->waiters, waiter_node)
        coro_wake(waiter->task);
}

/* Makes room in the cache: the least recently used that nobody needs goes. */
static void evict(struct resolve *resolve)
{
    struct name_entry *entry, *next;
    for (entry = TAILQ_FIRST(&resolve->order); entry && resolve->nentries >= resolve->max;
         entry = next) {
        next = TAILQ_NEXT(entry, order_node);
        if (!entry->asking && LIST_EMPTY(&entry->waiters))
            entry_drop(resolve, entry);
    }
}

static struct name_entry *entry_get(struct resolve *resolve, const struct name_entry *key)
{
    void *found = tfind(key, &resolve->tree, by_name);
    struct name_entry *entry;
    if (found) {
        entry = *(struct name_entry **)found;
        TAILQ_REMOVE(&resolve->order, entry, order_node);
    } else {
        evict(resolve);
        entry = xcalloc(1, sizeof(*entry));
        entry->owner = resolve;
        memcpy(entry->name, key->name, sizeof(entry->name));
        LIST_INIT(&entry->waiters);
        CHECK(tsearch(entry, &resolve->tree, by_name));
        resolve->nentries++;
    }
    TAILQ_INSERT_TAIL(&resolve->order, entry, order_node);
    return entry;
}

/* c-ares reads files and parses here: on the loop's stack. */
static void ask(void *arg)
{
    struct name_entry *entry = arg;
    struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
                                         .ai_socktype = SOCK_STREAM };
    entry->asking = true;
    entry->owner->queries++;
    ares_getaddrinfo(entry->owner->channel, entry->name, NULL, &hints, on_answer, entry);
    arm(entry->owner);
}

static int numeric(const char *host, struct resolve_list *ret_list)
{
    struct resolve_addr addr = { 0 };
    char inner[INET6_ADDRSTRLEN];
    size_t len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']' && len - 2 < sizeof(inner)) {
        memcpy(inner, host + 1, len - 2);
        inner[len - 2] = 0;
        host = inner;
    }
    if (inet_pton(AF_INET, host, &addr.v4) == 1)
        addr.family = AF_INET;
    else if (inet_pton(AF_INET6, host, &addr.v6) == 1)
        addr.family = AF_INET6;
    else
        return -1;
    *ret_list = (struct resolve_list){ .n = 1, .addrs = { addr } };
    return 0;
}

static int tell(struct err *err, const char *host, int error)
{
    switch (error) {
    case ENOENT:
        err_set(err, 0, "host %s not found", host);
        break;
    case EAGAIN:
        err_set(err, 0, "host %s: the DNS servers gave no answer", host);
        break;
    case EINVAL:
        err_set(err, 0, "not a host name: \"%.64s\"", host);
        break;
    case ETIMEDOUT:
        err_set(err, 0, "host %s: the DNS servers took too long", host);
        break;
    default:
        err_set(err, 0, "host %s: %s", host, strerror(error));
        break;
    }
    errno = error;
    return -1;
}

/* Waits until the entry is answered. */
static int wait_answer(struct name_entry *entry, int64_t timeout_ns)
{
    struct waiter waiter = { .task = coro_current() };
    int64_t until = timeout_ns < 0 ? 0 : clock_mono_ns() + timeout_ns;
    int rc = 0, saved = 0;
    LIST_INSERT_HEAD(&entry->waiters, &waiter, waiter_node);
    while (entry->asking && rc == 0) {
        int64_t left = until - clock_mono_ns();
        rc = coro_wait(timeout_ns < 0 ? -1 : MAX(left, 0));
        saved = errno;
    }
    LIST_REMOVE(&waiter, waiter_node);
    errno = saved;
    return rc;
}

int resolve_host(struct resolve *resolve, const char *host, int64_t timeout_ns,
                 struct resolve_list *ret_list, struct err *err)
{
    struct name_entry key = { 0 };
    size_t len = strlen(host);
    if (len == 0 || len > RESOLVE_NAME_MAX)
        return tell(err, host, EINVAL);
    if (numeric(host, ret_list) == 0)
        return 0;
    for (size_t i = 0; i < len; i++)
        key.name[i] = (char)tolower((unsigned char)host[i]);
    struct name_entry *entry = entry_get(resolve, &key);
    if (!entry->asking && entry->expires_ns <= clock_mono_ns())
        coro_on_loop_stack(ask, entry);
    if (entry->asking && wait_answer(entry, timeout_ns) < 0)
        return tell(err, host, errno);
    if (entry->error)
        return tell(err, host, entry->error);
    *ret_list = entry->list;
    return 0;
}

const char *resolve_addr_text(const struct resolve_addr *addr, char *text, size_t size)
{
    CHECK(inet_ntop(addr->family, &addr->v4, text, (socklen_t)size));
    return text;
}

uint64_t resolve_queries(const struct resolve *resolve)
{
    return resolve->queries;
}
