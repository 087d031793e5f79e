/* A bounded pool of coroutines on one loop. Their code reads from top to bottom; waiting
 * gives the thread to others. Everything here belongs to the loop's thread.
 *
 * Waking only marks ready: coroutines run from one timer of the pool, never inside a
 * callback of the loop or of a library, and never inside the call that woke them.
 *
 * Every call that waits returns 0, or -1 with errno:
 *   ECANCELED  coropool_cancel was called; every later wait says so too
 *   ETIMEDOUT  the call's own timeout or the coroutine's deadline has passed
 * Inside coro_shield(true) … coro_shield(false) waits ignore both, for cleaning up. */
#ifndef WORKER_COROPOOL_H
#define WORKER_COROPOOL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/loop.h"
#include "worker/coro.h"
#include "worker/threadpool.h"

struct coropool;
struct coro_task; /* one coroutine's place in its pool */

/* Names one run of one coroutine; never reused, so it may outlive the coroutine. */
typedef struct {
    uint64_t v; /* 0 = none */
} coro_id;

struct coropool_config {
    size_t max;                 /* coroutines alive at once; at least 1 */
    size_t made_ahead;          /* of them made at the start; at most max */
    size_t stack_bytes;         /* 0 = CORO_STACK_BYTES */
    struct threadpool *threads; /* borrowed, for coro_run_blocking; may be NULL */
};

int coropool_new(struct loop *loop, const struct coropool_config *config,
                 struct coropool **ret_pool, struct err *err);
/* No coroutine may be alive. Takes NULL. */
void coropool_free(struct coropool *pool);
struct loop *coropool_loop(const struct coropool *pool);

/* A new coroutine runs fn(arg), from the next turn on. -1 with EAGAIN when max are alive,
 * ENOMEM when the system has no stack for it. ret_id may be NULL. */
int coropool_spawn(struct coropool *pool, coro_fn *fn, void *arg, coro_id *ret_id);
/* fn(arg) is called, outside of any coroutine, when there is room again after a spawn
 * was refused; once for all refusals since the last call. NULL = nobody. */
void coropool_on_room(struct coropool *pool, loop_fn *fn, void *arg);
size_t coropool_live(const struct coropool *pool);
/* -1 with ESRCH when that coroutine has ended. */
int coropool_cancel(struct coropool *pool, coro_id id);
void coropool_cancel_all(struct coropool *pool);

/* The rest is called inside a coroutine only. */

/* Monotonic time at which waits begin to fail; 0 = none. Starts as none. */
void coro_set_deadline(int64_t deadline_ns);
/* 0, or -1 with errno as the next wait would fail. */
int coro_check(void);
/* Nests. */
void coro_shield(bool on);
/* Lets the others run. */
int coro_yield(void);
int coro_sleep(int64_t ns);
/* timeout_ns < 0: none. Descriptors that are ready go to ret_events (may be NULL). */
int coro_wait_fd(int fd, int events, int64_t timeout_ns, int *ret_events);
/* Runs fn(arg) on the pool's threads; waits for room. Once begun it is waited for to the
 * end, so arg may be on the coroutine's stack: -1 only when it never began. */
int coro_run_blocking(threadpool_fn *fn, void *arg);
/* Runs fn(arg) at once on the loop's own, large stack; fn must not wait. */
void coro_on_loop_stack(coro_fn *fn, void *arg);

/* What other waits are made of. The one who waits tests its condition in a loop:
 *     while (!done) if (coro_wait(timeout) < 0) …
 * and keeps the pointer from others once it has returned. */
struct coro_task *coro_current(void); /* NULL outside */
coro_id coro_current_id(void);
struct coropool *coro_pool(void);
int coro_wait(int64_t timeout_ns);
/* Marks it ready if it waits, else does nothing. From the loop's thread only. */
void coro_wake(struct coro_task *task);

#endif
