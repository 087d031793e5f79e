/* The thread pool: every job reports once on the loop's thread, and it refuses when full.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include "worker/threadpool.h"

struct job {
    pthread_t loop_thread, ran_on;
    sem_t *gate;
    bool blocked, reported;
};

static void run(void *arg)
{
    struct job *job = arg;
    sigset_t mask;
    if (job->gate)
        sem_wait(job->gate);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    job->blocked = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGINT);
    job->ran_on = pthread_self();
}

static void report(void *arg)
{
    struct job *job = arg;
    assert_false(job->reported);
    job->reported = true;
    job->loop_thread = pthread_self();
}

static struct threadpool *make(struct loop **ret_loop, size_t threads, size_t capacity)
{
    struct err err = { 0 };
    struct threadpool *pool = NULL;
    assert_int_equal(loop_new(LOOP_AUTO, ret_loop, &err), 0);
    assert_int_equal(threadpool_new(*ret_loop, threads, capacity, &pool, &err), 0);
    return pool;
}

static void test_jobs_run_elsewhere_and_report_here(void **state)
{
    (void)state;
    enum { N = 200 };
    static struct job jobs[N];
    struct loop *loop;
    struct threadpool *pool = make(&loop, 4, N);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(threadpool_submit(pool, run, &jobs[i], report), 0);
    while (threadpool_busy(pool) > 0)
        loop_once(loop, true);
    for (size_t i = 0; i < N; i++) {
        assert_true(jobs[i].reported && jobs[i].blocked);
        assert_true(pthread_equal(jobs[i].loop_thread, pthread_self()));
        assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
    }
    threadpool_free(pool);
    loop_free(loop);
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static void test_full_refuses_and_calls_when_there_is_room(void **state)
{
    (void)state;
    sem_t gate;
    sem_init(&gate, 0, 0);
    struct job jobs[3] = { { .gate = &gate }, { .gate = &gate }, { 0 } };
    bool called[2] = { false, false };
    struct threadpool_room room[2] = { { .fn = set_flag, .arg = &called[0] },
                                       { .fn = set_flag, .arg = &called[1] } };
    struct loop *loop;
    struct threadpool *pool = make(&loop, 1, 2);
    assert_int_equal(threadpool_submit(pool, run, &jobs[0], report), 0);
    assert_int_equal(threadpool_submit(pool, run, &jobs[1], NULL), 0);
    assert_int_equal(threadpool_submit(pool, run, &jobs[2], report), -1);
    assert_int_equal(errno, EAGAIN);
    threadpool_wait_room(pool, &room[0]);
    threadpool_wait_room(pool, &room[1]);
    sem_post(&gate);
    while (!called[0])
        loop_once(loop, true);
    assert_false(called[1]);
    threadpool_leave_room(pool, &room[0]); /* not used: passed on */
    assert_true(called[1]);
    assert_int_equal(threadpool_submit(pool, run, &jobs[2], report), 0);
    sem_post(&gate);
    threadpool_free(pool);
    assert_true(jobs[0].reported && jobs[2].reported && !jobs[1].reported);
    loop_free(loop);
    sem_destroy(&gate);
}

static void test_free_finishes_what_was_submitted(void **state)
{
    (void)state;
    static struct job jobs[50];
    struct loop *loop;
    struct threadpool *pool = make(&loop, 2, ARRAY_LEN(jobs));
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        assert_int_equal(threadpool_submit(pool, run, &jobs[i], report), 0);
    threadpool_free(pool);
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++)
        assert_true(jobs[i].reported);
    threadpool_free(NULL);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jobs_run_elsewhere_and_report_here),
        cmocka_unit_test(test_full_refuses_and_calls_when_there_is_room),
        cmocka_unit_test(test_free_finishes_what_was_submitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
