#include "worker/millproc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Signals by which a process ends itself (R12). Anything else came from outside. */
static const int own_signals[] = { SIGSEGV, SIGABRT, SIGSYS,  SIGILL, SIGFPE,
                                   SIGBUS,  SIGTRAP, SIGXCPU, SIGXFSZ };

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The child's descriptors, to be given their fixed numbers. */
struct child_fds {
    int shm, work, done, socket, identities;
};

static void child_fds_fini(struct child_fds *c)
{
    close_fd(&c->shm);
    close_fd(&c->work);
    close_fd(&c->done);
    close_fd(&c->socket);
    close_fd(&c->identities);
}

/* A copy above all fixed numbers, so that none is overwritten before it is used. */
static int dup_high(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, MILL_FD_END);
}

/* Shared memory whose size nobody can change any more: reading it never faults. */
static int make_shm(struct millproc *p, int *ret_fd, struct err *err)
{
    int fd = memfd_create("tidemill-mill", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_sys(err, 0, "memfd_create");
    *ret_fd = fd;
    if (ftruncate(fd, sizeof(*p->shm)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(err, 0, "shared memory of a mill");
    void *at = mmap(NULL, sizeof(*p->shm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return err_sys(err, 0, "mapping the shared memory of a mill");
    p->shm = at;
    ring_init(&p->work, &p->shm->work, p->shm->work_bytes, PROCPOOL_RING_BYTES);
    ring_init(&p->done, &p->shm->done, p->shm->done_bytes, PROCPOOL_RING_BYTES);
    return 0;
}

static int make_fds(struct millproc *p, int identity_fd, struct child_fds *ret,
                    struct err *err)
{
    int shm = -1, pair[2] = { -1, -1 }, rc = -1;
    if (make_shm(p, &shm, err) < 0)
        goto out;
    rc = -1;
    p->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->work_fd < 0 || p->done_fd < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        err_sys(err, 0, "descriptors of a mill");
        goto out;
    }
    p->socket = pair[0];
    *ret = (struct child_fds){
        .shm = dup_high(shm),
        .work = dup_high(p->work_fd),
        .done = dup_high(p->done_fd),
        .socket = dup_high(pair[1]),
        .identities = identity_fd < 0 ? -1 : dup_high(identity_fd),
    };
    rc = 0;
    if (ret->shm < 0 || ret->work < 0 || ret->done < 0 || ret->socket < 0 ||
        (identity_fd >= 0 && ret->identities < 0))
        rc = err_sys(err, 0, "descriptors of a mill");
out:
    close_fd(&shm);
    close_fd(&pair[1]);
    return rc;
}

static char **make_argv(const char *const *roots, bool identities)
{
    size_t n = 0;
    while (roots && roots[n])
        n++;
    const char **argv = xcalloc(2 * n + 4, sizeof(*argv));
    size_t i = 0;
    argv[i++] = "tidemill-mill";
    argv[i++] = "--mill";
    if (identities)
        argv[i++] = "--identities";
    for (size_t r = 0; r < n; r++) {
        argv[i++] = "--root";
        argv[i++] = roots[r];
    }
    return (char **)argv;
}

/* posix_spawn with the child's descriptors in place, every signal as by default, and
 * those of a terminal blocked until it ignores them. */
static int spawn(struct millproc *p, const char *program, char **argv,
                 const struct child_fds *c)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t all, terminal;
    sigfillset(&all);
    sigemptyset(&terminal);
    sigaddset(&terminal, SIGINT);
    sigaddset(&terminal, SIGTERM);
    sigaddset(&terminal, SIGHUP);
    sigaddset(&terminal, SIGQUIT);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &terminal);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, c->shm, MILL_FD_SHM);
    posix_spawn_file_actions_adddup2(&actions, c->work, MILL_FD_WORK);
    posix_spawn_file_actions_adddup2(&actions, c->done, MILL_FD_DONE);
    posix_spawn_file_actions_adddup2(&actions, c->socket, MILL_FD_SOCKET);
    if (c->identities >= 0)
        posix_spawn_file_actions_adddup2(&actions, c->identities, MILL_FD_IDENTITIES);
    int error = posix_spawn(&p->pid, program ? program : "/proc/self/exe", &actions,
                            &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    errno = error;
    return error == 0 ? 0 : -1;
}

int millproc_start(struct millproc *p, const char *program, const char *const *roots,
                   int identity_fd, struct err *err)
{
    struct child_fds child = { -1, -1, -1, -1, -1 };
    *p = (struct millproc){ .pidfd = -1, .work_fd = -1, .done_fd = -1, .socket = -1 };
    int rc = make_fds(p, identity_fd, &child, err);
    if (rc == 0) {
        char **argv = make_argv(roots, identity_fd >= 0);
        rc = spawn(p, program, argv, &child);
        if (rc < 0) {
            p->pid = 0;
            err_sys(err, 0, "starting a mill: %s", program ? program : "/proc/self/exe");
        }
        free(argv);
    }
    child_fds_fini(&child);
    if (rc == 0 && (p->pidfd = pidfd_open(p->pid, 0)) < 0) {
        rc = err_sys(err, 0, "pidfd_open");
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
        p->pid = 0;
    }
    if (rc < 0)
        millproc_close(p);
    return rc;
}

void millproc_wake_work(struct millproc *p)
{
    if (ring_push_notify(&p->work))
        eventfd_write(p->work_fd, 1);
}

void millproc_wake_room(struct millproc *p)
{
    if (ring_release_notify(&p->done))
        eventfd_write(p->work_fd, 1);
}

int millproc_send_fd(struct millproc *p, int fd)
{
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return sendmsg(p->socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -1;
}

void millproc_kill(struct millproc *p)
{
    pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
}

static bool is_own(int signo)
{
    for (size_t i = 0; i < ARRAY_LEN(own_signals); i++)
        if (own_signals[i] == signo)
            return true;
    return false;
}

bool millproc_reap(struct millproc *p, bool wait, struct millproc_end *ret)
{
    siginfo_t info = { 0 };
    int rc;
    do
        rc = waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | (wait ? 0 : WNOHANG));
    while (rc < 0 && errno == EINTR);
    if (rc == 0 && info.si_pid == 0)
        return false;
    p->pid = 0;
    /* Someone else reaped it (SIGCHLD ignored): how it ended is lost. */
    const char *name = rc == 0 ? sigabbrev_np(info.si_status) : "unknown";
    ret->killed = rc == 0 && info.si_code != CLD_EXITED && info.si_status == SIGKILL;
    ret->own = rc == 0 && (info.si_code == CLD_EXITED || is_own(info.si_status));
    if (rc == 0 && info.si_code == CLD_EXITED)
        snprintf(ret->text, sizeof(ret->text), "exit status %d", info.si_status);
    else
        snprintf(ret->text, sizeof(ret->text), "SIG%s", name ? name : "?");
    return true;
}

void millproc_close(struct millproc *p)
{
    CHECK(p->pid == 0);
    if (p->shm)
        munmap(p->shm, sizeof(*p->shm));
    p->shm = NULL;
    close_fd(&p->pidfd);
    close_fd(&p->work_fd);
    close_fd(&p->done_fd);
    close_fd(&p->socket);
}
