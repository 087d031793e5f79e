#include "base/loop.h"

#include <ev.h>
#include <string.h>

#include "base/clock.h"

struct loop {
    struct ev_loop *ev;
};

struct loop_io {
    ev_io ev;
    struct loop *loop;
    loop_io_fn *fn;
    void *arg;
};

struct loop_timer {
    ev_timer ev;
    struct loop *loop;
    loop_fn *fn;
    void *arg;
};

struct loop_wake {
    ev_async ev;
    struct loop *loop;
    loop_fn *fn;
    void *arg;
};

/* prepare asks before the wait, check tells after it; the idle watcher, when active,
 * turns the wait into a poll. */
struct loop_hook {
    ev_prepare prepare;
    ev_check check;
    ev_idle idle;
    struct loop *loop;
    bool (*before_wait)(void *arg);
    loop_fn *after_wait;
    void *arg;
};

struct loop_signal {
    ev_signal ev;
    struct loop *loop;
    loop_fn *fn;
    void *arg;
};

static const struct {
    const char *name;
    enum loop_backend backend;
    unsigned flag;
} backends[] = {
    { "auto", LOOP_AUTO, 0 },
    { "select", LOOP_SELECT, EVBACKEND_SELECT },
    { "poll", LOOP_POLL, EVBACKEND_POLL },
    { "epoll", LOOP_EPOLL, EVBACKEND_EPOLL },
};

int loop_backend_parse(const char *name, enum loop_backend *ret_backend)
{
    for (size_t i = 0; i < ARRAY_LEN(backends); i++) {
        if (strcmp(backends[i].name, name) == 0) {
            *ret_backend = backends[i].backend;
            return 0;
        }
    }
    return -1;
}

int loop_new(enum loop_backend backend, struct loop **ret_loop, struct err *err)
{
    unsigned flag = backend == LOOP_AUTO ? EVBACKEND_EPOLL : backends[backend].flag;
    struct ev_loop *ev = ev_loop_new(flag | EVFLAG_NOENV);
    if (!ev)
        return err_sys(err, 1, "cannot make an event loop over %s",
                       backends[backend].name);
    struct loop *loop = xcalloc(1, sizeof(*loop));
    loop->ev = ev;
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    ev_loop_destroy(loop->ev);
    free(loop);
}

const char *loop_backend_name(const struct loop *loop)
{
    unsigned flag = ev_backend(loop->ev);
    for (size_t i = 1; i < ARRAY_LEN(backends); i++)
        if (backends[i].flag == flag)
            return backends[i].name;
    return "unknown";
}

void loop_run(struct loop *loop)
{
    ev_run(loop->ev, 0);
}

void loop_once(struct loop *loop, bool wait)
{
    ev_run(loop->ev, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
}

void loop_stop(struct loop *loop)
{
    ev_break(loop->ev, EVBREAK_ALL);
}

int64_t loop_now_ns(const struct loop *loop)
{
    (void)loop;
    return clock_mono_ns(); /* a vDSO call: 20 ns, and never behind the turn's real time
                             */
}

static int to_ev(int events)
{
    return (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    (void)ev;
    struct loop_io *io = CONTAINER_OF(w, struct loop_io, ev);
    int events =
        (revents & EV_READ ? LOOP_READ : 0) | (revents & EV_WRITE ? LOOP_WRITE : 0);
    if (revents & EV_ERROR)
        events = LOOP_READ | LOOP_WRITE; /* the next read or write tells what is wrong */
    io->fn(io->arg, events);
}

struct loop_io *loop_io_new(struct loop *loop, int fd, int events, loop_io_fn *fn,
                            void *arg)
{
    struct loop_io *io = xcalloc(1, sizeof(*io));
    io->loop = loop;
    io->fn = fn;
    io->arg = arg;
    ev_io_init(&io->ev, on_io, fd, to_ev(events));
    ev_set_priority(&io->ev, events & LOOP_FIRST ? 1 : 0);
    if (events)
        ev_io_start(loop->ev, &io->ev);
    return io;
}

void loop_io_set(struct loop_io *io, int events)
{
    int fd = io->ev.fd;
    if (ev_is_active(&io->ev) && (io->ev.events & (EV_READ | EV_WRITE)) == to_ev(events))
        return;
    ev_io_stop(io->loop->ev, &io->ev);
    ev_io_set(&io->ev, fd, to_ev(events));
    if (events)
        ev_io_start(io->loop->ev, &io->ev);
}

void loop_io_free(struct loop_io *io)
{
    if (!io)
        return;
    ev_io_stop(io->loop->ev, &io->ev);
    free(io);
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    struct loop_timer *timer = CONTAINER_OF(w, struct loop_timer, ev);
    timer->fn(timer->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *timer = xcalloc(1, sizeof(*timer));
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    ev_timer_init(&timer->ev, on_timer, 0., 0.);
    return timer;
}

void loop_timer_arm(struct loop_timer *timer, int64_t delay_ns)
{
    ev_timer_stop(timer->loop->ev, &timer->ev);
    ev_now_update(
        timer->loop->ev); /* the delay counts from now, not from the turn's start */
    ev_timer_set(&timer->ev, (double)MAX(delay_ns, 0) / (double)NS_PER_S, 0.);
    ev_timer_start(timer->loop->ev, &timer->ev);
}

void loop_timer_stop(struct loop_timer *timer)
{
    ev_timer_stop(timer->loop->ev, &timer->ev);
}

bool loop_timer_armed(const struct loop_timer *timer)
{
    return ev_is_active(&timer->ev);
}

void loop_timer_free(struct loop_timer *timer)
{
    if (!timer)
        return;
    ev_timer_stop(timer->loop->ev, &timer->ev);
    free(timer);
}

static void on_wake(struct ev_loop *ev, ev_async *w, int revents)
{
    (void)ev;
    (void)revents;
    struct loop_wake *wake = CONTAINER_OF(w, struct loop_wake, ev);
    wake->fn(wake->arg);
}

struct loop_wake *loop_wake_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_wake *wake = xcalloc(1, sizeof(*wake));
    wake->loop = loop;
    wake->fn = fn;
    wake->arg = arg;
    ev_async_init(&wake->ev, on_wake);
    ev_async_start(loop->ev, &wake->ev);
    return wake;
}

void loop_wake_post(struct loop_wake *wake)
{
    ev_async_send(wake->loop->ev, &wake->ev);
}

void loop_wake_free(struct loop_wake *wake)
{
    if (!wake)
        return;
    ev_async_stop(wake->loop->ev, &wake->ev);
    free(wake);
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
    (void)revents;
    struct loop_hook *hook = CONTAINER_OF(w, struct loop_hook, prepare);
    if (hook->before_wait(hook->arg))
        ev_idle_start(ev, &hook->idle);
}

static void on_check(struct ev_loop *ev, ev_check *w, int revents)
{
    (void)revents;
    struct loop_hook *hook = CONTAINER_OF(w, struct loop_hook, check);
    ev_idle_stop(ev, &hook->idle);
    hook->after_wait(hook->arg);
}

static void on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
}

struct loop_hook *loop_hook_new(struct loop *loop, bool (*before_wait)(void *arg),
                                loop_fn *after_wait, void *arg)
{
    struct loop_hook *hook = xcalloc(1, sizeof(*hook));
    hook->loop = loop;
    hook->before_wait = before_wait;
    hook->after_wait = after_wait;
    hook->arg = arg;
    ev_prepare_init(&hook->prepare, on_prepare);
    ev_check_init(&hook->check, on_check);
    ev_idle_init(&hook->idle, on_idle);
    ev_prepare_start(loop->ev, &hook->prepare);
    ev_check_start(loop->ev, &hook->check);
    return hook;
}

void loop_hook_free(struct loop_hook *hook)
{
    if (!hook)
        return;
    ev_prepare_stop(hook->loop->ev, &hook->prepare);
    ev_check_stop(hook->loop->ev, &hook->check);
    ev_idle_stop(hook->loop->ev, &hook->idle);
    free(hook);
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    (void)ev;
    (void)revents;
    struct loop_signal *sig = CONTAINER_OF(w, struct loop_signal, ev);
    sig->fn(sig->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_fn *fn, void *arg)
{
    struct loop_signal *sig = xcalloc(1, sizeof(*sig));
    sig->loop = loop;
    sig->fn = fn;
    sig->arg = arg;
    ev_signal_init(&sig->ev, on_signal, signo);
    ev_signal_start(loop->ev, &sig->ev);
    return sig;
}

void loop_signal_free(struct loop_signal *sig)
{
    if (!sig)
        return;
    ev_signal_stop(sig->loop->ev, &sig->ev);
    free(sig);
}
