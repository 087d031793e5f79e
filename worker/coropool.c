/* FREE -> READY <-> RUNNING -> FREE      a task's states; `ready` holds the READY ones
 *           ^          |
 *           '- WAITING <'                woken, timed out or cancelled
 *
 * Invariant: coroutines are entered only in run_ready, on the loop's stack. */
#include "worker/coropool.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

enum task_state { TASK_FREE, TASK_READY, TASK_RUNNING, TASK_WAITING };

struct coro_task {
    struct coropool *pool;
    struct coro *coro; /* owned while not free */
    enum task_state state;
    uint32_t generation; /* counts the runs of this place */
    coro_fn *fn;
    void *arg;
    bool cancelled;
    int wait_error; /* errno of the wait that ends, 0 = woken */
    unsigned shield;
    int64_t deadline_ns;      /* 0 = none */
    struct loop_timer *timer; /* owned, made at the first timed wait */
    coro_fn *outer_fn;        /* to be run on the loop's stack */
    void *outer_arg;
    TAILQ_ENTRY(coro_task) list_node; /* free or ready */
};
TAILQ_HEAD(task_list, coro_task);

struct coropool {
    struct loop *loop;
    struct threadpool *threads; /* borrowed */
    struct coro_cache cache;
    struct coro_task *tasks; /* owned array of max */
    size_t max, live;
    struct task_list free, ready;
    struct loop_timer *run; /* armed while ready is not empty */
    bool refused;
    loop_fn *room_fn;
    void *room_arg;
};

static __thread struct coro_task *current;

static void make_ready(struct coro_task *task)
{
    struct coropool *pool = task->pool;
    task->state = TASK_READY;
    TAILQ_INSERT_TAIL(&pool->ready, task, list_node);
    if (!loop_timer_armed(pool->run))
        loop_timer_arm(pool->run, 0);
}

static void end_wait(struct coro_task *task, int error)
{
    if (task->state != TASK_WAITING)
        return;
    task->wait_error = error;
    if (task->timer)
        loop_timer_stop(task->timer);
    make_ready(task);
}

static void task_main(void *arg)
{
    struct coro_task *task = arg;
    task->fn(task->arg);
}

static void task_end(struct coro_task *task)
{
    struct coropool *pool = task->pool;
    CHECK(task->shield == 0);
    coro_put(&pool->cache, task->coro);
    task->coro = NULL;
    task->state = TASK_FREE;
    task->generation++;
    TAILQ_INSERT_HEAD(&pool->free, task, list_node);
    pool->live--;
}

static void run_task(struct coro_task *task)
{
    task->state = TASK_RUNNING;
    for (;;) {
        current = task;
        coro_resume(task->coro);
        current = NULL;
        coro_fn *outer = task->outer_fn;
        if (!outer)
            break;
        task->outer_fn = NULL;
        outer(task->outer_arg);
    }
    if (coro_ended(task->coro))
        task_end(task);
}

/* One turn runs those that were ready when it began: who yields goes behind the I/O. */
static void run_ready(void *arg)
{
    struct coropool *pool = arg;
    struct task_list batch = TAILQ_HEAD_INITIALIZER(batch);
    struct coro_task *task;
    TAILQ_CONCAT(&batch, &pool->ready, list_node);
    while ((task = TAILQ_FIRST(&batch))) {
        TAILQ_REMOVE(&batch, task, list_node);
        run_task(task);
    }
    if (pool->refused && pool->live < pool->max) {
        pool->refused = false;
        if (pool->room_fn)
            pool->room_fn(pool->room_arg);
    }
}

int coropool_new(struct loop *loop, const struct coropool_config *config,
                 struct coropool **ret_pool, struct err *err)
{
    CHECK(config->max >= 1 && config->max < UINT32_MAX);
    CHECK(config->made_ahead <= config->max);
    struct coropool *pool = xcalloc(1, sizeof(*pool));
    coro_cache_init(&pool->cache, config->stack_bytes);
    if (coro_cache_fill(&pool->cache, config->made_ahead, err) < 0) {
        coro_cache_fini(&pool->cache);
        free(pool);
        return -1;
    }
    pool->loop = loop;
    pool->threads = config->threads;
    pool->max = config->max;
    pool->tasks = xcalloc(pool->max, sizeof(*pool->tasks));
    TAILQ_INIT(&pool->free);
    TAILQ_INIT(&pool->ready);
    for (size_t i = 0; i < pool->max; i++) {
        pool->tasks[i].pool = pool;
        pool->tasks[i].generation = 1;
        TAILQ_INSERT_TAIL(&pool->free, &pool->tasks[i], list_node);
    }
    pool->run = loop_timer_new(loop, run_ready, pool);
    *ret_pool = pool;
    return 0;
}

void coropool_free(struct coropool *pool)
{
    if (!pool)
        return;
    CHECK(pool->live == 0);
    for (size_t i = 0; i < pool->max; i++)
        loop_timer_free(pool->tasks[i].timer);
    loop_timer_free(pool->run);
    coro_cache_fini(&pool->cache);
    free(pool->tasks);
    free(pool);
}

struct loop *coropool_loop(const struct coropool *pool)
{
    return pool->loop;
}

static coro_id id_of(const struct coro_task *task)
{
    uint64_t index = (uint64_t)(task - task->pool->tasks);
    return (coro_id){ (uint64_t)task->generation << 32 | index };
}

int coropool_spawn(struct coropool *pool, coro_fn *fn, void *arg, coro_id *ret_id)
{
    struct coro_task *task = TAILQ_FIRST(&pool->free);
    if (!task) {
        pool->refused = true;
        errno = EAGAIN;
        return -1;
    }
    struct coro *coro = coro_take(&pool->cache, task_main, task);
    if (!coro) {
        pool->refused = true;
        errno = ENOMEM;
        return -1;
    }
    TAILQ_REMOVE(&pool->free, task, list_node);
    task->coro = coro;
    task->fn = fn;
    task->arg = arg;
    task->cancelled = false;
    task->deadline_ns = 0;
    pool->live++;
    make_ready(task);
    if (ret_id)
        *ret_id = id_of(task);
    return 0;
}

void coropool_on_room(struct coropool *pool, loop_fn *fn, void *arg)
{
    pool->room_fn = fn;
    pool->room_arg = arg;
}

size_t coropool_live(const struct coropool *pool)
{
    return pool->live;
}

static void cancel_task(struct coro_task *task)
{
    task->cancelled = true;
    if (task->shield == 0)
        end_wait(task, ECANCELED);
}

int coropool_cancel(struct coropool *pool, coro_id id)
{
    uint64_t index = id.v & UINT32_MAX;
    if (index < pool->max) {
        struct coro_task *task = &pool->tasks[index];
        if (task->state != TASK_FREE && id_of(task).v == id.v) {
            cancel_task(task);
            return 0;
        }
    }
    errno = ESRCH;
    return -1;
}

void coropool_cancel_all(struct coropool *pool)
{
    for (size_t i = 0; i < pool->max; i++)
        if (pool->tasks[i].state != TASK_FREE)
            cancel_task(&pool->tasks[i]);
}

struct coro_task *coro_current(void)
{
    return current;
}

static struct coro_task *self(void)
{
    CHECK(current);
    return current;
}

coro_id coro_current_id(void)
{
    return id_of(self());
}

struct coropool *coro_pool(void)
{
    return self()->pool;
}

void coro_set_deadline(int64_t deadline_ns)
{
    self()->deadline_ns = deadline_ns;
}

int coro_check(void)
{
    struct coro_task *task = self();
    if (task->shield > 0)
        return 0;
    if (task->cancelled) {
        errno = ECANCELED;
        return -1;
    }
    if (task->deadline_ns && loop_now_ns(task->pool->loop) >= task->deadline_ns) {
        errno = ETIMEDOUT;
        return -1;
    }
    return 0;
}

void coro_shield(bool on)
{
    struct coro_task *task = self();
    CHECK(on || task->shield > 0);
    if (on)
        task->shield++;
    else
        task->shield--;
}

static void on_timeout(void *arg)
{
    end_wait(arg, ETIMEDOUT);
}

/* The timer for the nearer of timeout and deadline, if any. */
static void arm_timeout(struct coro_task *task, int64_t timeout_ns)
{
    if (task->deadline_ns && task->shield == 0) {
        int64_t left = task->deadline_ns - loop_now_ns(task->pool->loop);
        if (timeout_ns < 0 || left < timeout_ns)
            timeout_ns = MAX(left, 0);
    }
    if (timeout_ns < 0)
        return;
    if (!task->timer)
        task->timer = loop_timer_new(task->pool->loop, on_timeout, task);
    loop_timer_arm(task->timer, timeout_ns);
}

int coro_wait(int64_t timeout_ns)
{
    struct coro_task *task = self();
    if (coro_check() < 0)
        return -1;
    arm_timeout(task, timeout_ns);
    task->state = TASK_WAITING;
    coro_suspend(task->coro);
    if (task->wait_error == 0)
        return 0;
    errno = task->wait_error;
    return -1;
}

void coro_wake(struct coro_task *task)
{
    end_wait(task, 0);
}

int coro_yield(void)
{
    struct coro_task *task = self();
    if (coro_check() < 0)
        return -1;
    make_ready(task);
    coro_suspend(task->coro);
    return 0;
}

int coro_sleep(int64_t ns)
{
    struct coro_task *task = self();
    int64_t until = loop_now_ns(task->pool->loop) + MAX(ns, 0);
    for (;;) {
        int64_t left = until - loop_now_ns(task->pool->loop);
        if (left <= 0)
            return coro_check();
        if (coro_wait(left) < 0 && (errno != ETIMEDOUT || coro_check() < 0))
            return -1;
    }
}

struct fd_wait {
    struct coro_task *task;
    struct loop_io *io;
    int events;
};

static void on_fd(void *arg, int events)
{
    struct fd_wait *wait = arg;
    wait->events |= events;
    loop_io_set(wait->io, 0);
    coro_wake(wait->task);
}

int coro_wait_fd(int fd, int events, int64_t timeout_ns, int *ret_events)
{
    struct fd_wait wait = { .task = self() };
    if (coro_check() < 0)
        return -1;
    wait.io = loop_io_new(wait.task->pool->loop, fd, events, on_fd, &wait);
    int rc = coro_wait(timeout_ns);
    int saved = errno;
    loop_io_free(wait.io);
    if (rc == 0 && ret_events)
        *ret_events = wait.events;
    errno = saved;
    return rc;
}

struct blocking {
    struct coro_task *task;
    threadpool_fn *fn;
    void *arg;
    bool done;
};

static void blocking_run(void *arg)
{
    struct blocking *job = arg;
    job->fn(job->arg);
}

static void blocking_done(void *arg)
{
    struct blocking *job = arg;
    job->done = true;
    coro_wake(job->task);
}

static void wake_task(void *arg)
{
    coro_wake(arg);
}

/* Submits, or waits in line for a place and tries again. */
static int blocking_submit(struct blocking *job)
{
    struct threadpool *threads = job->task->pool->threads;
    while (threadpool_submit(threads, blocking_run, job, blocking_done) < 0) {
        struct threadpool_room room = { .fn = wake_task, .arg = job->task };
        threadpool_wait_room(threads, &room);
        while (room.waiting) {
            if (coro_wait(-1) == 0)
                continue;
            int saved = errno;
            threadpool_leave_room(threads, &room);
            errno = saved;
            return -1;
        }
    }
    return 0;
}

int coro_run_blocking(threadpool_fn *fn, void *arg)
{
    struct blocking job = { .task = self(), .fn = fn, .arg = arg };
    CHECK(job.task->pool->threads);
    if (coro_check() < 0 || blocking_submit(&job) < 0)
        return -1;
    coro_shield(true);
    while (!job.done)
        CHECK(coro_wait(-1) == 0);
    coro_shield(false);
    return 0;
}

void coro_on_loop_stack(coro_fn *fn, void *arg)
{
    struct coro_task *task = self();
    task->outer_fn = fn;
    task->outer_arg = arg;
    coro_suspend(task->coro);
}
