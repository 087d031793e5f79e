/* Channel, semaphore and mutex: order, bounds, closing, cancelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include "worker/coropool.h"
#include "worker/corosync.h"

static struct loop *loop;
static struct coropool *pool;

static int set_up(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct coropool_config config = { .max = 64 };
    assert_int_equal(loop_new(LOOP_AUTO, &loop, &err), 0);
    return coropool_new(loop, &config, &pool, &err);
}

static int tear_down(void **state)
{
    (void)state;
    coropool_free(pool);
    loop_free(loop);
    return 0;
}

static void run_out(void)
{
    while (coropool_live(pool) > 0)
        loop_once(loop, true);
}

static struct coro_chan *chan;
static int received[200], nreceived, send_errno, recv_errno;

static void producer(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(coro_chan_send(chan, &i, -1), 0);
        assert_true(coro_chan_len(chan) <= 3);
    }
    coro_chan_close(chan);
}

static void consumer(void *arg)
{
    (void)arg;
    int item;
    while (coro_chan_recv(chan, &item, -1) == 0)
        received[nreceived++] = item;
    recv_errno = errno;
}

static void test_channel_keeps_order_and_bound(void **state)
{
    (void)state;
    chan = coro_chan_new(sizeof(int), 3);
    nreceived = 0;
    coropool_spawn(pool, producer, NULL, NULL);
    coropool_spawn(pool, consumer, NULL, NULL);
    run_out();
    assert_int_equal(nreceived, 100);
    assert_int_equal(recv_errno, EPIPE);
    for (int i = 0; i < 100; i++)
        assert_int_equal(received[i], i);
    coro_chan_free(chan);
}

static void send_one(void *arg)
{
    send_errno = coro_chan_send(chan, arg, -1) < 0 ? errno : 0;
}

static void test_close_ends_both_sides(void **state)
{
    (void)state;
    int item = 1;
    chan = coro_chan_new(sizeof(int), 1);
    assert_int_equal(coro_chan_try_send(chan, &item), 0);
    assert_int_equal(coro_chan_try_send(chan, &item), -1);
    assert_int_equal(errno, EAGAIN);
    coropool_spawn(pool, send_one, &item, NULL);
    loop_once(loop, true);
    coro_chan_close(chan);
    run_out();
    assert_int_equal(send_errno, EPIPE);
    nreceived = 0;
    coropool_spawn(pool, consumer, NULL, NULL);
    run_out();
    assert_int_equal(nreceived, 1); /* what was left */
    coro_chan_free(chan);

    chan = coro_chan_new(sizeof(int), 1);
    coropool_spawn(pool, consumer, NULL, NULL);
    coropool_spawn(pool, consumer, NULL, NULL);
    loop_once(loop, true);
    coro_chan_close(chan);
    run_out();
    assert_int_equal(recv_errno, EPIPE);
    coro_chan_free(chan);
}

static void recv_briefly(void *arg)
{
    int item;
    *(int *)arg = coro_chan_recv(chan, &item, NS_PER_MS) < 0 ? errno : 0;
}

static void test_channel_times_out(void **state)
{
    (void)state;
    int error = 0;
    chan = coro_chan_new(sizeof(int), 1);
    coropool_spawn(pool, recv_briefly, &error, NULL);
    run_out();
    assert_int_equal(error, ETIMEDOUT);
    coro_chan_free(chan);
}

static struct coro_sem sem;
static int inside, most, finished, refused;

static void use_sem(void *arg)
{
    (void)arg;
    if (coro_sem_take(&sem, -1) < 0) {
        assert_int_equal(errno, ECANCELED);
        refused++;
        return;
    }
    inside++;
    most = MAX(most, inside);
    coro_shield(true);
    coro_yield();
    coro_shield(false);
    inside--;
    finished++;
    coro_sem_give(&sem);
}

static void test_semaphore_bounds(void **state)
{
    (void)state;
    coro_sem_init(&sem, 3);
    most = finished = 0;
    for (int i = 0; i < 20; i++)
        coropool_spawn(pool, use_sem, NULL, NULL);
    run_out();
    assert_int_equal(most, 3);
    assert_int_equal(finished, 20);
    assert_int_equal(sem.free, 3);
    coro_sem_fini(&sem);
}

static void test_cancel_loses_no_place(void **state)
{
    (void)state;
    coro_sem_init(&sem, 1);
    finished = refused = 0;
    for (int i = 0; i < 10; i++)
        coropool_spawn(pool, use_sem, NULL, NULL);
    loop_once(loop, true);
    loop_once(loop, true); /* the first has given its place to the second, not yet run */
    coropool_cancel_all(pool);
    run_out();
    assert_int_equal(finished + refused, 10);
    assert_true(finished >= 1 && refused >= 1);
    assert_int_equal(sem.free, 1);
    coro_sem_fini(&sem);
}

static struct coro_mutex mutex;
static int shared;

static void add_slowly(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(coro_mutex_lock(&mutex, -1), 0);
        int seen = shared;
        coro_yield();
        shared = seen + 1;
        coro_mutex_unlock(&mutex);
    }
}

static void test_mutex_excludes(void **state)
{
    (void)state;
    coro_mutex_init(&mutex);
    shared = 0;
    for (int i = 0; i < 10; i++)
        coropool_spawn(pool, add_slowly, NULL, NULL);
    run_out();
    assert_int_equal(shared, 100);
    coro_mutex_fini(&mutex);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_channel_keeps_order_and_bound),
        TEST(test_close_ends_both_sides),
        TEST(test_channel_times_out),
        TEST(test_semaphore_bounds),
        TEST(test_cancel_loses_no_place),
        TEST(test_mutex_excludes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
