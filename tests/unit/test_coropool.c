/* Coroutines on a loop: waits, cancellation, deadlines, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>
#include "base/clock.h"
#include "worker/coropool.h"

static struct loop *loop;
static struct threadpool *threads;

static int set_up(void **state)
{
    struct err err = { 0 };
    (void)state;
    assert_int_equal(loop_new(LOOP_AUTO, &loop, &err), 0);
    return threadpool_new(loop, 2, 2, &threads, &err);
}

static int tear_down(void **state)
{
    (void)state;
    threadpool_free(threads);
    loop_free(loop);
    return 0;
}

static struct coropool *make(size_t max, size_t ahead)
{
    struct coropool_config config = { .max = max,
                                      .made_ahead = ahead,
                                      .threads = threads };
    struct coropool *pool = NULL;
    struct err err = { 0 };
    assert_int_equal(coropool_new(loop, &config, &pool, &err), 0);
    return pool;
}

static void run_out(struct coropool *pool)
{
    while (coropool_live(pool) > 0)
        loop_once(loop, true);
}

static void count(void *arg)
{
    ++*(int *)arg;
}

static void test_full_refuses_then_tells_of_room(void **state)
{
    (void)state;
    struct coropool *pool = make(2, 1);
    int ran = 0, told = 0;
    coropool_on_room(pool, count, &told);
    assert_int_equal(coropool_spawn(pool, count, &ran, NULL), 0);
    assert_int_equal(coropool_spawn(pool, count, &ran, NULL), 0);
    assert_int_equal(coropool_spawn(pool, count, &ran, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(ran, 0); /* never inside spawn */
    run_out(pool);
    assert_int_equal(ran, 2);
    assert_int_equal(told, 1);
    assert_int_equal(coropool_spawn(pool, count, &ran, NULL), 0);
    run_out(pool);
    assert_int_equal(told, 1);
    coropool_free(pool);
}

/* What one wait came to. */
struct outcome {
    int rc, error, again;
    int64_t took_ns, arg_ns;
    bool ended;
};

static void sleeper(void *arg)
{
    struct outcome *o = arg;
    int64_t start = clock_mono_ns();
    o->rc = coro_sleep(o->arg_ns);
    o->error = o->rc < 0 ? errno : 0;
    o->again = coro_sleep(0) < 0 ? errno : 0;
    o->took_ns = clock_mono_ns() - start;
    o->ended = true;
}

static void test_sleep(void **state)
{
    (void)state;
    struct coropool *pool = make(8, 0);
    struct outcome o[3] = { { .arg_ns = 20 * NS_PER_MS },
                            { .arg_ns = NS_PER_MS },
                            { 0 } };
    for (size_t i = 0; i < ARRAY_LEN(o); i++)
        coropool_spawn(pool, sleeper, &o[i], NULL);
    run_out(pool);
    for (size_t i = 0; i < ARRAY_LEN(o); i++) {
        assert_true(o[i].ended && o[i].rc == 0);
        assert_true(o[i].took_ns >= o[i].arg_ns);
    }
    coropool_free(pool);
}

static void test_cancel_ends_this_wait_and_the_next(void **state)
{
    (void)state;
    struct coropool *pool = make(2, 0);
    struct outcome o = { .arg_ns = 3600 * NS_PER_S };
    coro_id id;
    coropool_spawn(pool, sleeper, &o, &id);
    loop_once(loop, true);
    assert_int_equal(coropool_cancel(pool, id), 0);
    assert_false(o.ended); /* marks ready only */
    run_out(pool);
    assert_int_equal(o.error, ECANCELED);
    assert_int_equal(o.again, ECANCELED);
    assert_int_equal(coropool_cancel(pool, id), -1);
    assert_int_equal(errno, ESRCH);
    struct outcome fresh = { 0 };
    coropool_spawn(pool, sleeper, &fresh, NULL); /* the same place, another run */
    assert_int_equal(coropool_cancel(pool, id), -1);
    run_out(pool);
    assert_int_equal(fresh.rc, 0);
    coropool_free(pool);
}

static void with_deadline(void *arg)
{
    struct outcome *o = arg;
    coro_set_deadline(clock_mono_ns() + 5 * NS_PER_MS);
    sleeper(o);
    coro_shield(true);
    assert_int_equal(coro_sleep(NS_PER_MS), 0); /* cleaning up may still wait */
    coro_shield(false);
}

static void test_deadline(void **state)
{
    (void)state;
    struct coropool *pool = make(1, 0);
    struct outcome o = { .arg_ns = 3600 * NS_PER_S };
    coropool_spawn(pool, with_deadline, &o, NULL);
    run_out(pool);
    assert_int_equal(o.error, ETIMEDOUT);
    assert_int_equal(o.again, ETIMEDOUT);
    coropool_free(pool);
}

struct fds {
    int in, out, got;
    int timeout_errno;
};

static void reader(void *arg)
{
    struct fds *f = arg;
    int events = 0;
    char c = 0;
    f->timeout_errno = coro_wait_fd(f->in, LOOP_READ, NS_PER_MS, NULL) < 0 ? errno : 0;
    assert_int_equal(write(f->out, "x", 1), 1);
    assert_int_equal(coro_wait_fd(f->in, LOOP_READ, -1, &events), 0);
    assert_int_equal(events, LOOP_READ);
    assert_int_equal(read(f->in, &c, 1), 1);
    f->got = c;
}

static void test_wait_fd(void **state)
{
    (void)state;
    struct coropool *pool = make(1, 0);
    int p[2];
    assert_int_equal(pipe(p), 0);
    struct fds f = { .in = p[0], .out = p[1] };
    coropool_spawn(pool, reader, &f, NULL);
    run_out(pool);
    assert_int_equal(f.timeout_errno, ETIMEDOUT);
    assert_int_equal(f.got, 'x');
    close(p[0]);
    close(p[1]);
    coropool_free(pool);
}

struct block {
    pthread_t ran_on;
    int rc, value;
};

static void block(void *arg)
{
    struct block *b = arg;
    usleep(1000);
    b->ran_on = pthread_self();
    b->value = 7;
}

static void blocker(void *arg)
{
    struct block *b = arg;
    struct block local = { 0 };
    b->rc = coro_run_blocking(block, &local);
    b->ran_on = local.ran_on;
    b->value = local.value;
}

static void test_run_blocking_waits_for_room(void **state)
{
    (void)state;
    struct coropool *pool = make(16, 0);
    struct block b[16] = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        coropool_spawn(pool, blocker, &b[i], NULL);
    run_out(pool);
    for (size_t i = 0; i < ARRAY_LEN(b); i++) {
        assert_true(b[i].rc == 0 && b[i].value == 7);
        assert_false(pthread_equal(b[i].ran_on, pthread_self()));
    }
    coropool_free(pool);
}

static void test_cancel_never_leaves_a_job_behind(void **state)
{
    (void)state;
    struct coropool *pool = make(16, 0);
    struct block b[16] = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        coropool_spawn(pool, blocker, &b[i], NULL);
    loop_once(loop, true);
    coropool_cancel_all(pool);
    run_out(pool);
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        assert_int_equal(b[i].value, b[i].rc == 0 ? 7 : 0);
    assert_true(b[0].rc == 0 && b[15].rc == -1);
    coropool_free(pool);
}

static void note_stack(void *arg)
{
    *(char **)arg = __builtin_frame_address(0);
    assert_null(coro_current());
}

static void on_both_stacks(void *arg)
{
    char *here = __builtin_frame_address(0), *there = NULL;
    coro_on_loop_stack(note_stack, &there);
    *(bool *)arg = there < here - CORO_STACK_BYTES || there > here + CORO_STACK_BYTES;
    assert_non_null(coro_current());
    assert_int_equal(coro_yield(), 0);
}

static void test_on_loop_stack(void **state)
{
    (void)state;
    struct coropool *pool = make(1, 0);
    bool elsewhere = false;
    coropool_spawn(pool, on_both_stacks, &elsewhere, NULL);
    run_out(pool);
    assert_true(elsewhere);
    coropool_free(pool);
}

static void yielder(void *arg)
{
    for (int i = 0; i < 50; i++) {
        ++*(int *)arg;
        coro_yield();
    }
}

static void test_many(void **state)
{
    (void)state;
    struct coropool *pool = make(1000, 10);
    int sum = 0;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(coropool_spawn(pool, yielder, &sum, NULL), 0);
    run_out(pool);
    assert_int_equal(sum, 50000);
    coropool_free(pool);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_full_refuses_then_tells_of_room),
        TEST(test_sleep),
        TEST(test_cancel_ends_this_wait_and_the_next),
        TEST(test_deadline),
        TEST(test_wait_fd),
        TEST(test_run_blocking_waits_for_room),
        TEST(test_cancel_never_leaves_a_job_behind),
        TEST(test_on_loop_stack),
        TEST(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
