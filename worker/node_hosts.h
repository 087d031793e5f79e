/* What the jobs of a node may do to one server at once, and how often. Loop's thread. */
#ifndef WORKER_NODE_HOSTS_H
#define WORKER_NODE_HOSTS_H

#include "worker/corosync.h"
#include <uthash.h>

enum { HOST_KEY_MAX = 300 };

/* R11: for a turn that is further away nothing here waits. */
#define HOST_WAIT_NS (1 * NS_PER_S)

struct io_host {
    char key[HOST_KEY_MAX]; /* job id, scheme, host and port */
    struct coro_sem places;
    uint32_t n_places, users;
    uint32_t waiting;    /* for a place */
    int64_t next_ns;     /* when a rate limit lets the next transfer start */
    int64_t promised_ns; /* the turn of the last task that was sent back */
    int64_t held_ns;     /* how long a place is held, of late; 0 = not known */
    int64_t moved_ns;    /* when a place was last taken or left */
    UT_hash_handle hh;
};

/* The host of a key, made with so many places when it is new; then host_put. */
struct io_host *host_get(struct io_host **hosts, const char *key, uint32_t places);
/* One that nobody uses stays as long as its turns say something: see hosts_tend. */
void host_put(struct io_host **hosts, struct io_host *h, int64_t now_ns);
/* When the next transfer may start at `rate` a second, which is taken as its start. */
int64_t host_turn(struct io_host *h, int64_t now_ns, double rate);
/* 0: the next turn is near enough to be waited for. Else that task is to come back in so
 * many seconds. Each that is sent back has a turn of its own, as far apart as the server
 * takes them, so that not all come at once to be sent back again. has_place: it waits for
 * the rate only. */
uint32_t host_later_s(struct io_host *h, int64_t now_ns, double rate, bool has_place);
/* The same for one that has waited for a place in vain. */
uint32_t host_send_back(struct io_host *h, int64_t now_ns, double rate);
void host_entered(struct io_host *h, int64_t now_ns); /* its place was taken, */
void host_left(struct io_host *h, int64_t now_ns, int64_t since_ns); /* and given */
/* Now and then: frees those that nothing holds any more. */
void hosts_tend(struct io_host **hosts, int64_t now_ns);
void hosts_free(struct io_host **hosts);

#endif
