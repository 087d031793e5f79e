/* What the jobs of a node may do to one server at once, and how often. Loop's thread. */
#ifndef WORKER_NODE_HOSTS_H
#define WORKER_NODE_HOSTS_H

#include "worker/corosync.h"
#include <uthash.h>

enum { HOST_KEY_MAX = 300 };

struct io_host {
    char key[HOST_KEY_MAX]; /* job id, scheme, host and port */
    struct coro_sem places;
    int64_t next_ns; /* when a rate limit lets the next transfer start */
    uint32_t users;
    UT_hash_handle hh;
};

/* The host of a key, made with so many places when it is new; then host_put. */
struct io_host *host_get(struct io_host **hosts, const char *key, uint32_t places);
/* One that nobody uses stays as long as its rate limit needs it: see hosts_tend. */
void host_put(struct io_host **hosts, struct io_host *h, int64_t now_ns);
/* When the next transfer may start at `rate` a second, which is taken as its start. */
int64_t host_turn(struct io_host *h, int64_t now_ns, double rate);
/* Now and then: frees those that nothing holds any more. */
void hosts_tend(struct io_host **hosts, int64_t now_ns);
void hosts_free(struct io_host **hosts);

#endif
