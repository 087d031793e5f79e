/* Host names to addresses, on the loop, for coroutines: c-ares (the only user of ares.h)
 * with /etc/hosts first. Askers of one name share one query; answers are kept for their
 * TTL in a bounded cache. The loop's thread only. */
#ifndef WORKER_RESOLVE_H
#define WORKER_RESOLVE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include "base/loop.h"

/* Eight addresses of a name are enough to try. 253: the longest name, RFC 1035 2.3.4. */
enum { RESOLVE_ADDRS_MAX = 8, RESOLVE_NAME_MAX = 253 };

struct resolve;

struct resolve_addr {
    int family; /* AF_INET or AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};

struct resolve_list {
    size_t n;
    struct resolve_addr addrs[RESOLVE_ADDRS_MAX];
};

struct resolve_config {
    size_t cache_max; /* names kept; 0 = 10,000 */
    const char
        *servers; /* "127.0.0.1:5353,..." instead of /etc/resolv.conf; may be NULL */
};

int resolve_new(struct loop *loop, const struct resolve_config *config,
                struct resolve **ret_resolve, struct err *err);
/* No coroutine may be inside resolve_host. Takes NULL. */
void resolve_free(struct resolve *resolve);

/* Inside a coroutine. Numbers ("127.0.0.1", "::1", "[::1]") are answered at once. -1 with
 * errno (and err, which may be NULL):
 *   ENOENT     no such name, or it has no address
 *   EAGAIN     no answer that could be used; later it may be different
 *   EINVAL     not a host name
 *   ETIMEDOUT  timeout_ns (< 0: none) or the coroutine's deadline has passed
 *   ECANCELED  the coroutine was cancelled */
int resolve_host(struct resolve *resolve, const char *host, int64_t timeout_ns,
                 struct resolve_list *ret_list, struct err *err);
/* The address as text, at least INET6_ADDRSTRLEN bytes; returns text. */
const char *resolve_addr_text(const struct resolve_addr *addr, char *text, size_t size);
/* Queries sent to c-ares so far: what neither the cache nor a shared query answered. */
uint64_t resolve_queries(const struct resolve *resolve);

#endif
