#include "worker/millwork.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/failpoint.h"
#include "worker/millshm.h"
#include "worker/ops/part.h"

struct mill_spec {
    struct buf packed;    /* owned; spec borrows from it */
    struct job_spec spec; /* valid when error is empty */
    struct err err;
};

struct millwork {
    struct mill_shm *shm;
    struct ring work, done;
    mill_task_fn *fn;
    struct task_env env;
    struct mill_spec specs[MILL_SPEC_SLOTS];
    struct buf mem, value; /* of the task under way; grown once, then reused */
    size_t unflushed;      /* bytes in the done ring the pool was not woken for */
    int64_t now_ns;        /* when the last task ended, or the run under way began */
    int64_t flushed_ns;
};

/* One run under way. */
struct job {
    const struct mill_run_head *head;
    struct mill_run run;
    int body_fd;               /* owned; -1 = none */
    _Atomic uint64_t *unbegun; /* what is not begun of it */
    uint32_t index;            /* of the task that was taken last, */
    struct span input;         /* and what it is about */
    struct span body;          /* of it, with MILL_BODY_BYTES */
};

/* Good to a few ms, costs no system call: limits and flushes need no more. */
static int64_t coarse_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void end_if_orphaned(int events)
{
    if (events & (POLLHUP | POLLRDHUP | POLLERR))
        _exit(0);
}

/* SIGIO: something happened on the socket. Async-signal-safe. */
static void on_socket(int signo)
{
    struct pollfd pfd = { .fd = MILL_FD_SOCKET, .events = POLLRDHUP };
    int saved = errno;
    (void)signo;
    if (poll(&pfd, 1, 0) > 0)
        end_if_orphaned(pfd.revents);
    errno = saved;
}

/* The death signal alone would leave a gap before it is set; the socket has none, and its
 * signal ends a mill that is deep in a task. */
static void die_with_parent(void)
{
    struct sigaction act = { .sa_handler = on_socket, .sa_flags = SA_RESTART };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGIO, &act, NULL);
    fcntl(MILL_FD_SOCKET, F_SETOWN, getpid());
    fcntl(MILL_FD_SOCKET, F_SETFL, O_ASYNC);
    on_socket(SIGIO); /* it may have happened already */
}

void millwork_enter(void)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };
    sigset_t none;
    close_range(MILL_FD_END, ~0u, 0);
    prctl(PR_SET_NAME, "tidemill-mill");
    crypto_no_core(); /* it may hold identities */
    die_with_parent();
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none); /* the pool starts us with these blocked */
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Blocks until the pool rings. */
static void wait_bell(void)
{
    struct pollfd pfds[] = {
        { .fd = MILL_FD_WORK, .events = POLLIN },
        { .fd = MILL_FD_SOCKET, .events = POLLRDHUP },
    };
    eventfd_t n;
    if (poll(pfds, ARRAY_LEN(pfds), -1) <= 0)
        return; /* a signal: look again */
    end_if_orphaned(pfds[1].revents);
    eventfd_read(MILL_FD_WORK, &n); /* does not block */
}

static void flush(struct millwork *m)
{
    m->unflushed = 0;
    m->flushed_ns = m->now_ns;
    if (ring_push_notify(&m->done))
        eventfd_write(MILL_FD_DONE, 1);
}

static void *reserve(struct millwork *m, size_t len)
{
    void *at;
    while (!(at = ring_reserve(&m->done, len))) {
        CHECK(!m->done.broken);
        m->now_ns = coarse_ns();
        flush(m);
        if (ring_wait_room(&m->done, len))
            wait_bell();
    }
    return at;
}

/* Puts one result into the ring. The record of a run is given back before its last
 * result: when the pool has that one, there is room for another run. */
static void report(struct millwork *m, const struct job *job, uint32_t index,
                   enum task_status status, bool last)
{
    struct mill_done_head head = { job->head->serial, index, (uint32_t)status, 0 };
    size_t len = sizeof(head) + m->value.len;
    uint8_t *at = reserve(m, len);
    memcpy(at, &head, sizeof(head));
    memcpy(at + sizeof(head), m->value.data, m->value.len);
    if (job->head->body == MILL_BODY_PART) {
        crypto_zero(m->value.data, m->value.len);
        crypto_zero(job->run.body, job->head->body_len);
    }
    if (last)
        ring_release(&m->work);
    ring_push(&m->done);
    m->unflushed += len;
    m->now_ns = coarse_ns();
    if (last || m->unflushed >= MILL_FLUSH_BYTES ||
        m->now_ns - m->flushed_ns >= MILL_FLUSH_NS)
        flush(m);
}

/* Packs what became of a task into m->value. */
static enum task_status pack(struct millwork *m, enum task_status status,
                             const struct task_value *value)
{
    buf_clear(&m->value);
    value_pack(&m->value, value);
    if (m->value.len <= VALUE_MAX_BYTES)
        return status;
    struct task_value error = { .error =
                                    SPAN_LIT("too large: its result is over 256 KiB") };
    buf_clear(&m->value);
    value_pack(&m->value, &error);
    return TASK_FAILED;
}

/* The task that was taken last. */
static enum task_status run_task(struct millwork *m, const struct job *job)
{
    const struct mill_run_head *head = job->head;
    const struct mill_spec *spec = &m->specs[head->spec_slot];
    struct task_value value;
    struct task_input in;
    struct err err; /* written by who fails */

    value_clear(&value);
    if (atomic_load_explicit(m->env.cancelled, memory_order_relaxed))
        return pack(m, TASK_CANCELLED, &value);
    if (spec->err.text[0] != '\0') {
        value.error = span_str(spec->err.text);
        return pack(m, TASK_FAILED, &value);
    }
    if (input_unpack(job->input, &in, &err) < 0) {
        value.error = span_str(err.text);
        return pack(m, TASK_FAILED, &value);
    }
    struct task_work work = {
        .spec = &spec->spec,
        .in = &in,
        .attempt = { head->epoch, head->lease, job->run.tasks[job->index] },
        .has_body = head->body == MILL_BODY_BYTES || head->body == MILL_BODY_FD,
        .body = job->body,
        .body_fd = job->body_fd,
    };
    struct part part;
    if (head->body == MILL_BODY_PART) {
        CHECK(head->body_len == sizeof(part));
        memcpy(&part, job->run.body, sizeof(part));
        work.part = &part;
    }
    enum task_status status = m->fn(&m->env, &work, &m->mem, &value);
    status = pack(m, status, &value);
    if (work.part) { /* of the key nothing stays */
        crypto_zero(&part, sizeof(part));
        crypto_zero(m->mem.data, m->mem.len);
    }
    return status;
}

/* The body's file that was sent before the run was. */
static int receive_fd(void)
{
    char byte;
    struct iovec iov = { &byte, 1 };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;
    do
        n = recvmsg(MILL_FD_SOCKET, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        _exit(0); /* the parent is gone */
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    int fd = -1;
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    CHECK(fd >= 0);
    return fd;
}

/* Takes the next task of a run, unless the pool has; false: none is left, for good. */
static bool take_task(struct job *job)
{
    uint64_t seen = atomic_load_explicit(job->unbegun, memory_order_relaxed);
    uint32_t end = mill_unbegun_end(seen), next = mill_unbegun_first(seen);
    bool has_bodies = job->head->body == MILL_BODY_BYTES;

    while (next < end && mill_run_is_done(&job->run, next))
        next++;
    CHECK(end <= job->head->n);
    while (next < end && !atomic_compare_exchange_weak(job->unbegun, &seen,
                                                       mill_unbegun(next + 1, end)))
        end = mill_unbegun_end(seen);
    if (next >= end)
        return false;
    for (; job->index < next; job->index++) {
        job->input.data += job->run.lens[job->index];
        if (has_bodies)
            job->body.data += job->run.body_lens[job->index];
    }
    job->input.len = job->run.lens[next];
    job->body.len = has_bodies ? job->run.body_lens[next] : 0;
    return true;
}

static void serve_run(struct millwork *m, const struct mill_run_head *head)
{
    struct mill_control *control = &m->shm->control;
    struct mill_run run = mill_run_parts((struct mill_run_head *)head);
    struct job job = { .head = head,
                       .run = run,
                       .body_fd = -1,
                       .input = span_of(run.inputs, 0),
                       .body = span_of(run.body, 0) };
    bool more;

    CHECK(head->place < PROCPOOL_AHEAD && head->spec_slot < MILL_SPEC_SLOTS);
    job.unbegun = &control->unbegun[head->place];
    m->env.cancelled = &control->cancelled[head->place];
    m->env.moved = &control->moved;
    if (head->body == MILL_BODY_FD)
        job.body_fd = receive_fd();
    m->now_ns = coarse_ns();
    more = take_task(&job);
    CHECK(more); /* the pool never takes all of them */
    while (more) {
        uint32_t i = job.index;
        /* In this order: the pool reads `on`, since_ns, and `on` again. */
        atomic_store_explicit(&control->since_ns, m->now_ns, memory_order_relaxed);
        atomic_store_explicit(&control->on, (uint64_t)head->serial << 32 | i,
                              memory_order_release);
        task_moved(&m->env);
        FAILPOINT("mill_task_before");
        enum task_status status = run_task(m, &job);
        atomic_store_explicit(&control->since_ns, 0, memory_order_relaxed);
        if (job.body_fd >= 0)
            close(job.body_fd); /* it is a run's only task that has one */
        FAILPOINT("mill_report_before");
        /* Before its result is reported: which is the last is certain only when the pool
         * can take none any more. */
        more = take_task(&job);
        report(m, &job, i, status, !more);
        FAILPOINT("mill_report_after");
    }
}

static void take_spec(struct millwork *m, const struct mill_spec_head *head, size_t len)
{
    CHECK(head->slot < MILL_SPEC_SLOTS);
    struct mill_spec *spec = &m->specs[head->slot];
    buf_clear(&spec->packed);
    buf_add(&spec->packed, head + 1, len - sizeof(*head));
    spec->err = (struct err){ 0 };
    spec_unpack(buf_span(&spec->packed), &spec->spec, &spec->err);
    ring_release(&m->work);
}

_Noreturn void millwork_loop(mill_task_fn *fn, const struct task_env *env)
{
    static struct millwork m;
    m.fn = fn;
    m.env = *env;
    m.shm = mmap(NULL, sizeof(*m.shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                 MILL_FD_SHM, 0);
    CHECK(m.shm != MAP_FAILED);
    close(MILL_FD_SHM);
    ring_init(&m.work, &m.shm->work, m.shm->work_bytes, PROCPOOL_RING_BYTES);
    ring_init(&m.done, &m.shm->done, m.shm->done_bytes, PROCPOOL_RING_BYTES);
    atomic_store(&m.shm->control.ready, 1);
    eventfd_write(MILL_FD_DONE, 1);
    for (;;) {
        struct span record;
        int rc = ring_next(&m.work, &record);
        CHECK(rc >= 0);
        if (rc == 0) {
            if (ring_sleep(&m.work))
                wait_bell();
            continue;
        }
        const struct mill_run_head *head = (const void *)record.data;
        if (head->kind == MILL_SPEC)
            take_spec(&m, (const void *)record.data, record.len);
        else
            serve_run(&m, head);
    }
}
