/* Invariant: every job is in exactly one of free, waiting, a thread's hands, done. The
 * jobs are made once; submitting allocates nothing. `lock` guards waiting, done and
 * stopping; free, busy and rooms belong to the loop's thread. */
#include "worker/threadpool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { THREADS_MAX = 256 };

struct job {
    threadpool_fn *fn, *done_fn;
    void *arg;
    STAILQ_ENTRY(job) job_node;
};
STAILQ_HEAD(job_list, job);

struct threadpool {
    struct loop_wake *wake;
    struct job *jobs; /* owned array, all of the lists' nodes */
    struct job_list free, waiting, done;
    TAILQ_HEAD(, threadpool_room) rooms; /* borrowed nodes */
    size_t busy;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool stopping;
    size_t nthreads;
    pthread_t *threads; /* owned array */
};

static void *thread_main(void *arg)
{
    struct threadpool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct job *job = STAILQ_FIRST(&pool->waiting);
        if (!job) {
            if (pool->stopping)
                break;
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&pool->waiting, job_node);
        pthread_mutex_unlock(&pool->lock);
        job->fn(job->arg);
        pthread_mutex_lock(&pool->lock);
        bool first = STAILQ_EMPTY(&pool->done);
        STAILQ_INSERT_TAIL(&pool->done, job, job_node);
        if (first)
            loop_wake_post(pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void call_rooms(struct threadpool *pool)
{
    struct threadpool_room *room;
    size_t nfree = 0;
    struct job *job;
    STAILQ_FOREACH (job, &pool->free, job_node)
        nfree++;
    while (nfree-- > 0 && (room = TAILQ_FIRST(&pool->rooms))) {
        room->waiting = false;
        TAILQ_REMOVE(&pool->rooms, room, room_node);
        room->fn(room->arg);
    }
}

static void report_done(void *arg)
{
    struct threadpool *pool = arg;
    struct job_list done = STAILQ_HEAD_INITIALIZER(done);
    pthread_mutex_lock(&pool->lock);
    STAILQ_CONCAT(&done, &pool->done);
    pthread_mutex_unlock(&pool->lock);
    while (!STAILQ_EMPTY(&done)) {
        struct job *job = STAILQ_FIRST(&done);
        struct job copy = *job;
        STAILQ_REMOVE_HEAD(&done, job_node);
        STAILQ_INSERT_HEAD(&pool->free, job, job_node);
        pool->busy--;
        if (copy.done_fn)
            copy.done_fn(copy.arg);
    }
    if (!TAILQ_EMPTY(&pool->rooms))
        call_rooms(pool);
}

static int start_threads(struct threadpool *pool, size_t nthreads, struct err *err)
{
    sigset_t all, old;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool->nthreads < nthreads && rc == 0) {
        rc = pthread_create(&pool->threads[pool->nthreads], NULL, thread_main, pool);
        if (rc == 0)
            pool->nthreads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        return 0;
    return err_set(err, 0, "cannot start thread %zu of %zu: %s", pool->nthreads + 1,
                   nthreads, strerror(rc));
}

int threadpool_new(struct loop *loop, size_t nthreads, size_t capacity,
                   struct threadpool **ret_pool, struct err *err)
{
    CHECK(nthreads >= 1 && nthreads <= THREADS_MAX && capacity >= 1);
    struct threadpool *pool = xcalloc(1, sizeof(*pool));
    STAILQ_INIT(&pool->free);
    STAILQ_INIT(&pool->waiting);
    STAILQ_INIT(&pool->done);
    TAILQ_INIT(&pool->rooms);
    pool->jobs = xcalloc(capacity, sizeof(*pool->jobs));
    for (size_t i = 0; i < capacity; i++)
        STAILQ_INSERT_TAIL(&pool->free, &pool->jobs[i], job_node);
    CHECK(pthread_mutex_init(&pool->lock, NULL) == 0);
    CHECK(pthread_cond_init(&pool->work, NULL) == 0);
    pool->threads = xcalloc(nthreads, sizeof(*pool->threads));
    pool->wake = loop_wake_new(loop, report_done, pool);
    if (start_threads(pool, nthreads, err) < 0) {
        threadpool_free(pool);
        return -1;
    }
    *ret_pool = pool;
    return 0;
}

void threadpool_free(struct threadpool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->nthreads; i++)
        pthread_join(pool->threads[i], NULL);
    report_done(pool);
    CHECK(pool->busy == 0 && TAILQ_EMPTY(&pool->rooms));
    loop_wake_free(pool->wake);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool->jobs);
    free(pool);
}

int threadpool_submit(struct threadpool *pool, threadpool_fn *fn, void *arg,
                      threadpool_fn *done_fn)
{
    struct job *job = STAILQ_FIRST(&pool->free);
    if (!job) {
        errno = EAGAIN;
        return -1;
    }
    STAILQ_REMOVE_HEAD(&pool->free, job_node);
    job->fn = fn;
    job->arg = arg;
    job->done_fn = done_fn;
    pool->busy++;
    pthread_mutex_lock(&pool->lock);
    CHECK(!pool->stopping);
    STAILQ_INSERT_TAIL(&pool->waiting, job, job_node);
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

size_t threadpool_busy(const struct threadpool *pool)
{
    return pool->busy;
}

void threadpool_wait_room(struct threadpool *pool, struct threadpool_room *room)
{
    CHECK(!room->waiting);
    room->waiting = true;
    TAILQ_INSERT_TAIL(&pool->rooms, room, room_node);
}

void threadpool_leave_room(struct threadpool *pool, struct threadpool_room *room)
{
    if (room->waiting) {
        room->waiting = false;
        TAILQ_REMOVE(&pool->rooms, room, room_node);
    } else {
        call_rooms(pool); /* it was called and goes unused: the next one's turn */
    }
}
