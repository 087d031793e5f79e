/* What coroutines of one loop share: a channel, a semaphore, a mutex. First come, first
 * served. Calls that wait return -1 with errno as coropool.h says; timeout_ns < 0 = none.
 * No waiter may be left when one is freed. The loop's thread only. */
#ifndef WORKER_COROSYNC_H
#define WORKER_COROSYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct corosync_waiter;
TAILQ_HEAD(corosync_queue, corosync_waiter);

struct coro_sem {
    size_t free;
    struct corosync_queue waiters;
};

void coro_sem_init(struct coro_sem *sem, size_t n);
void coro_sem_fini(struct coro_sem *sem);
int coro_sem_take(struct coro_sem *sem, int64_t timeout_ns);
/* Also from outside of coroutines. A waiter gets the place itself, so none barges in. */
void coro_sem_give(struct coro_sem *sem);

struct coro_mutex {
    struct coro_sem sem;
    const void *owner; /* the coroutine that holds it */
};

void coro_mutex_init(struct coro_mutex *mutex);
void coro_mutex_fini(struct coro_mutex *mutex);
int coro_mutex_lock(struct coro_mutex *mutex, int64_t timeout_ns);
void coro_mutex_unlock(struct coro_mutex *mutex);

/* A queue of at most `capacity` items of one size, copied in and out. */
struct coro_chan;

struct coro_chan *coro_chan_new(size_t item_bytes, size_t capacity);
void coro_chan_free(struct coro_chan *chan); /* takes NULL */
/* EPIPE once closed. */
int coro_chan_send(struct coro_chan *chan, const void *item, int64_t timeout_ns);
/* From a callback: EAGAIN instead of waiting. */
int coro_chan_try_send(struct coro_chan *chan, const void *item);
/* EPIPE once closed and empty. */
int coro_chan_recv(struct coro_chan *chan, void *ret_item, int64_t timeout_ns);
/* Senders fail from now on, receivers get what is left. */
void coro_chan_close(struct coro_chan *chan);
size_t coro_chan_len(const struct coro_chan *chan);

#endif
