/* Invariant: a waiter is in a queue until it is granted or gives up; who grants takes it
 * out. A granted waiter owns what it waited for even if a cancel arrives before it runs.
 */
#include "worker/corosync.h"

#include <errno.h>
#include <string.h>

#include "worker/coropool.h"

struct corosync_waiter {
    struct coro_task *task;
    bool granted;
    TAILQ_ENTRY(corosync_waiter) waiter_node;
};

/* Waits in the queue until granted. A waiter that gives up leaves the queue. */
static int queue_wait(struct corosync_queue *queue, int64_t timeout_ns)
{
    struct corosync_waiter waiter = { .task = coro_current() };
    if (coro_check() < 0)
        return -1;
    int64_t until =
        timeout_ns < 0 ? 0 : loop_now_ns(coropool_loop(coro_pool())) + timeout_ns;
    TAILQ_INSERT_TAIL(queue, &waiter, waiter_node);
    int rc = 0;
    while (!waiter.granted && rc == 0) {
        int64_t left = -1;
        if (timeout_ns >= 0)
            left = MAX(until - loop_now_ns(coropool_loop(coro_pool())), 0);
        rc = coro_wait(left);
    }
    if (waiter.granted)
        return 0;
    TAILQ_REMOVE(queue, &waiter, waiter_node);
    return -1;
}

/* Grants the first waiter; false when there is none. */
static bool queue_grant(struct corosync_queue *queue)
{
    struct corosync_waiter *waiter = TAILQ_FIRST(queue);
    if (!waiter)
        return false;
    TAILQ_REMOVE(queue, waiter, waiter_node);
    waiter->granted = true;
    coro_wake(waiter->task);
    return true;
}

void coro_sem_init(struct coro_sem *sem, size_t n)
{
    sem->free = n;
    TAILQ_INIT(&sem->waiters);
}

void coro_sem_fini(struct coro_sem *sem)
{
    CHECK(TAILQ_EMPTY(&sem->waiters));
}

int coro_sem_take(struct coro_sem *sem, int64_t timeout_ns)
{
    if (sem->free == 0)
        return queue_wait(&sem->waiters, timeout_ns);
    if (coro_check() < 0)
        return -1;
    sem->free--;
    return 0;
}

void coro_sem_give(struct coro_sem *sem)
{
    if (!queue_grant(&sem->waiters))
        sem->free++;
}

void coro_mutex_init(struct coro_mutex *mutex)
{
    coro_sem_init(&mutex->sem, 1);
    mutex->owner = NULL;
}

void coro_mutex_fini(struct coro_mutex *mutex)
{
    CHECK(!mutex->owner);
    coro_sem_fini(&mutex->sem);
}

int coro_mutex_lock(struct coro_mutex *mutex, int64_t timeout_ns)
{
    CHECK(mutex->owner != coro_current());
    if (coro_sem_take(&mutex->sem, timeout_ns) < 0)
        return -1;
    mutex->owner = coro_current();
    return 0;
}

void coro_mutex_unlock(struct coro_mutex *mutex)
{
    CHECK(mutex->owner == coro_current());
    mutex->owner = NULL;
    coro_sem_give(&mutex->sem);
}

struct coro_chan {
    size_t item_bytes, capacity;
    size_t head, len;
    size_t reserved; /* places granted to senders that have not run yet */
    size_t promised; /* items granted to receivers that have not run yet */
    bool closed;
    struct corosync_queue senders, receivers;
    char *ring; /* owned */
};

struct coro_chan *coro_chan_new(size_t item_bytes, size_t capacity)
{
    CHECK(capacity >= 1 && item_bytes >= 1);
    struct coro_chan *chan = xcalloc(1, sizeof(*chan));
    chan->item_bytes = item_bytes;
    chan->capacity = capacity;
    chan->ring = xcalloc(capacity, item_bytes);
    TAILQ_INIT(&chan->senders);
    TAILQ_INIT(&chan->receivers);
    return chan;
}

void coro_chan_free(struct coro_chan *chan)
{
    if (!chan)
        return;
    CHECK(TAILQ_EMPTY(&chan->senders) && TAILQ_EMPTY(&chan->receivers));
    free(chan->ring);
    free(chan);
}

static void put(struct coro_chan *chan, const void *item)
{
    size_t at = (chan->head + chan->len) % chan->capacity;
    memcpy(chan->ring + at * chan->item_bytes, item, chan->item_bytes);
    chan->len++;
    if (queue_grant(&chan->receivers))
        chan->promised++;
}

int coro_chan_try_send(struct coro_chan *chan, const void *item)
{
    errno = chan->closed ? EPIPE : EAGAIN;
    if (chan->closed || chan->len + chan->reserved >= chan->capacity)
        return -1;
    put(chan, item);
    return 0;
}

int coro_chan_send(struct coro_chan *chan, const void *item, int64_t timeout_ns)
{
    if (coro_check() < 0)
        return -1;
    if (coro_chan_try_send(chan, item) == 0)
        return 0;
    if (errno == EPIPE || queue_wait(&chan->senders, timeout_ns) < 0)
        return -1;
    chan->reserved--;
    if (chan->closed) { /* its receivers may have gone */
        errno = EPIPE;
        return -1;
    }
    put(chan, item);
    return 0;
}

static void get(struct coro_chan *chan, void *ret_item)
{
    memcpy(ret_item, chan->ring + chan->head * chan->item_bytes, chan->item_bytes);
    chan->head = (chan->head + 1) % chan->capacity;
    chan->len--;
    if (!chan->closed && queue_grant(&chan->senders))
        chan->reserved++;
}

int coro_chan_recv(struct coro_chan *chan, void *ret_item, int64_t timeout_ns)
{
    if (coro_check() < 0)
        return -1;
    if (chan->len > chan->promised) {
        get(chan, ret_item);
        return 0;
    }
    if (!chan->closed) {
        if (queue_wait(&chan->receivers, timeout_ns) < 0)
            return -1;
        if (chan->promised > 0) {
            chan->promised--;
            get(chan, ret_item);
            return 0;
        }
    }
    errno = EPIPE;
    return -1;
}

void coro_chan_close(struct coro_chan *chan)
{
    chan->closed = true;
    while (queue_grant(&chan->senders))
        chan->reserved++;
    while (queue_grant(&chan->receivers))
        continue;
}

size_t coro_chan_len(const struct coro_chan *chan)
{
    return chan->len;
}
