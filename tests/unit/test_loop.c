#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"

struct seen {
    struct loop *loop;
    struct loop_wake *wake;
    int fd, reads, fires, wakes, asked;
};

static void on_read(void *arg, int events)
{
    struct seen *seen = arg;
    char byte;
    assert_int_equal(events, LOOP_READ);
    assert_int_equal(read(seen->fd, &byte, 1), 1);
    seen->reads++;
}

static void on_fire(void *arg)
{
    ((struct seen *)arg)->fires++;
}

static void on_wake(void *arg)
{
    ((struct seen *)arg)->wakes++;
}

static void *post(void *arg)
{
    loop_wake_post(((struct seen *)arg)->wake);
    return NULL;
}

static bool must_not_wait(void *arg)
{
    ((struct seen *)arg)->asked++;
    return true;
}

static void nothing(void *arg)
{
    (void)arg;
}

/* On each backend: a byte is read, a timer fires once, another thread's post arrives, and
 * a hook that has work keeps the loop from blocking. */
static void every_backend_delivers(void **state)
{
    (void)state;
    static const char *const names[] = { "select", "poll", "epoll" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct seen seen = { 0 };
        struct err err = { 0 };
        enum loop_backend backend;
        int fds[2];
        assert_int_equal(loop_backend_parse(names[i], &backend), 0);
        assert_int_equal(loop_new(backend, &seen.loop, &err), 0);
        assert_string_equal(loop_backend_name(seen.loop), names[i]);
        assert_int_equal(pipe(fds), 0);
        seen.fd = fds[0];
        struct loop_io *io = loop_io_new(seen.loop, fds[0], LOOP_READ, on_read, &seen);
        struct loop_timer *timer = loop_timer_new(seen.loop, on_fire, &seen);
        seen.wake = loop_wake_new(seen.loop, on_wake, &seen);
        assert_int_equal(write(fds[1], "x", 1), 1);
        loop_timer_arm(timer, 0);
        assert_true(loop_timer_armed(timer));
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, post, &seen), 0);
        while (!seen.reads || !seen.fires || !seen.wakes)
            loop_once(seen.loop, true);
        pthread_join(thread, NULL);
        assert_false(loop_timer_armed(timer));
        struct loop_hook *hook = loop_hook_new(seen.loop, must_not_wait, nothing, &seen);
        loop_once(seen.loop, true); /* would block for ever without the hook */
        assert_int_equal(seen.asked, 1);
        assert_int_equal(seen.reads, 1);
        assert_int_equal(seen.fires, 1);
        loop_hook_free(hook);
        loop_wake_free(seen.wake);
        loop_timer_free(timer);
        loop_io_free(io);
        loop_free(seen.loop);
        close(fds[0]);
        close(fds[1]);
    }
}

static char order[16];

static void note(const char *what)
{
    strncat(order, what, sizeof(order) - strlen(order) - 1);
}
static void note_fd(void *arg, int events)
{
    (void)events;
    note(arg);
}
static void note_event(void *arg)
{
    note(arg);
}
static bool note_asked(void *arg)
{
    note(arg);
    return false;
}

/* Links rest on it: what the newest hook sends, the older ones see before the wait; and
 * what an fd says that comes first, they see after it, before any timer fires. */
static void hooks_run_newest_first(void **state)
{
    (void)state;
    struct loop *loop;
    struct err err = { 0 };
    int fds[2];
    assert_int_equal(loop_new(LOOP_AUTO, &loop, &err), 0);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    struct loop_hook *old = loop_hook_new(loop, note_asked, note_event, "o");
    struct loop_hook *new = loop_hook_new(loop, note_asked, note_event, "n");
    struct loop_io *first =
        loop_io_new(loop, fds[0], LOOP_READ | LOOP_FIRST, note_fd, "1");
    struct loop_timer *timer = loop_timer_new(loop, note_event, "t");
    loop_timer_arm(timer, 0);
    loop_once(loop, true);
    assert_string_equal(order, "no1not");
    loop_io_free(first);
    struct loop_io *later = loop_io_new(loop, fds[0], LOOP_READ, note_fd, "2");
    order[0] = '\0';
    loop_once(loop, true);
    assert_string_equal(order, "nono2");
    loop_timer_free(timer);
    loop_io_free(later);
    loop_hook_free(new);
    loop_hook_free(old);
    loop_free(loop);
    close(fds[0]);
    close(fds[1]);
}

static void an_unknown_backend_is_refused(void **state)
{
    (void)state;
    enum loop_backend backend;
    assert_int_equal(loop_backend_parse("kqueue", &backend), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_backend_delivers),
        cmocka_unit_test(hooks_run_newest_first),
        cmocka_unit_test(an_unknown_backend_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
