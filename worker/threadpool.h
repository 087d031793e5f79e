/* A few threads for calls that block (open, fsync, big reads). Bounded: it refuses
 * instead of growing. Everything but the submitted functions runs on the loop's thread.
 */
#ifndef WORKER_THREADPOOL_H
#define WORKER_THREADPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>
#include "base/loop.h"

struct threadpool;
typedef void threadpool_fn(void *arg);

/* nthreads: 1 to 256. capacity: jobs that may be waiting, running or not yet reported. */
int threadpool_new(struct loop *loop, size_t nthreads, size_t capacity,
                   struct threadpool **ret_pool, struct err *err);
/* Lets running and waiting jobs finish, calls their done_fn, joins. Takes NULL. No
 * threadpool_room may be waiting. */
void threadpool_free(struct threadpool *pool);

/* Runs fn(arg) on a thread (all signals blocked there), then done_fn(arg) on the loop's
 * thread; done_fn may be NULL. arg must live until then. -1 with EAGAIN when full. */
int threadpool_submit(struct threadpool *pool, threadpool_fn *fn, void *arg,
                      threadpool_fn *done_fn);
/* Jobs submitted whose done_fn has not been called. */
size_t threadpool_busy(const struct threadpool *pool);

/* Waiting for room after EAGAIN: fn(arg) is called once, first come first served, when a
 * place is free. The caller owns the struct. Who gives up, called or not, says so with
 * threadpool_leave_room, so that the next one is called. */
struct threadpool_room {
    threadpool_fn *fn;
    void *arg;
    bool waiting;
    TAILQ_ENTRY(threadpool_room) room_node;
};
void threadpool_wait_room(struct threadpool *pool, struct threadpool_room *room);
void threadpool_leave_room(struct threadpool *pool, struct threadpool_room *room);

#endif
