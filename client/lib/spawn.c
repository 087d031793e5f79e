#include "client/lib/spawn.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define END_NS (10 * NS_PER_S) /* a child that ignores its lifeline is killed then */

extern char **environ;

void args_add(struct args *a, const char *fmt, ...)
{
    char *item = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&item, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    a->items = xrealloc(a->items, (a->n + 2) * sizeof(char *));
    a->items[a->n++] = item;
    a->items[a->n] = NULL;
}

void args_fini(struct args *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->items[i]);
    free(a->items);
    *a = (struct args){ NULL, 0 };
}

/* dir/program if it can be executed, else NULL. dir need not be NUL-ended. */
static char *in_dir(const char *dir, size_t len, const char *program)
{
    char *path = xasprintf("%.*s/%s", (int)len, dir, program);
    if (access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* In the directory a file stands in. */
static char *beside(const char *file, const char *program)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    return slash ? in_dir(file, (size_t)(slash - file), program) : NULL;
}

static char *beside_executable(const char *program)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    return beside(exe, program);
}

/* Beside the library itself, or in the bin of the tree whose lib it is in. */
static char *beside_library(const char *program)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)spawn_find, &info) || !info.dli_fname)
        return NULL;
    char *found = beside(info.dli_fname, program);
    const char *slash = strrchr(info.dli_fname, '/');
    if (found || !slash)
        return found;
    AUTO_FREE char *bin =
        xasprintf("%.*s/../bin", (int)(slash - info.dli_fname), info.dli_fname);
    return in_dir(bin, strlen(bin), program);
}

static char *on_path(const char *program)
{
    const char *dir = getenv("PATH");
    while (dir && *dir) {
        size_t len = strcspn(dir, ":");
        char *found = len ? in_dir(dir, len, program) : NULL;
        if (found)
            return found;
        dir += len + (dir[len] == ':');
    }
    return NULL;
}

int spawn_find(const char *bin_dir, const char *program, char **ret, struct err *err)
{
    const char *origin = "bin_dir";
    if (!bin_dir) {
        bin_dir = getenv("TIDEMILL_BIN_DIR");
        origin = "TIDEMILL_BIN_DIR";
    }
    if (bin_dir && *bin_dir) {
        *ret = in_dir(bin_dir, strlen(bin_dir), program);
        if (!*ret) {
            err_sys(err, 1, "%s: %s/%s", origin, bin_dir, program);
            return -1;
        }
        return 0;
    }
    char *found = beside_executable(program);
    if (!found)
        found = beside_library(program);
    if (!found)
        found = on_path(program);
    if (!found) {
        err_set(err, 1, "cannot find the program %s", program);
        return err_hint(err, "install it on PATH, or name its directory in "
                             "TIDEMILL_BIN_DIR");
    }
    *ret = found;
    return 0;
}

static int actions_of(posix_spawn_file_actions_t *fa, const struct spawn_fds *fds,
                      int lifeline)
{
    int rc = posix_spawn_file_actions_addopen(fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    /* dup2 onto itself takes close-on-exec away in the child. */
    rc = rc ? rc : posix_spawn_file_actions_adddup2(fa, lifeline, lifeline);
    for (size_t i = 0; rc == 0 && i < fds->n; i++)
        rc = posix_spawn_file_actions_adddup2(fa, fds->fds[i], fds->fds[i]);
    if (rc == 0 && fds->log_fd >= 0)
        rc = posix_spawn_file_actions_adddup2(fa, fds->log_fd, STDERR_FILENO);
    /* stdout is data of ours alone */
    return rc ? rc : posix_spawn_file_actions_adddup2(fa, STDERR_FILENO, STDOUT_FILENO);
}

static int spawn_raw(const char *path, char **argv, const struct spawn_fds *fds,
                     int lifeline, pid_t *ret_pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int rc = actions_of(&fa, fds, lifeline);
    if (rc == 0)
        rc = posix_spawn(ret_pid, path, &fa, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&fa);
    return rc;
}

int spawn_start(const char *program, const char *path, struct args *args,
                const struct spawn_fds *fds, struct child *ret, struct err *err)
{
    int line[2];
    if (pipe2(line, O_CLOEXEC) < 0)
        return err_sys(err, 1, "pipe");
    args_add(args, "--lifeline-fd");
    args_add(args, "%d", line[0]);
    pid_t pid = 0;
    errno = spawn_raw(path, args->items, fds, line[0], &pid);
    if (errno) {
        err_sys(err, 1, "cannot start %s", path);
        close(line[0]);
        close(line[1]);
        return -1;
    }
    close(line[0]);
    *ret = (struct child){ .program = program, .pid = pid, .lifeline = line[1] };
    return 0;
}

bool spawn_running(struct child *c)
{
    if (c->pid == 0)
        return false;
    int status = 0;
    pid_t got = waitpid(c->pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR))
        return true;
    c->status = got < 0 ? -1 : status; /* ECHILD: the process ignores SIGCHLD */
    c->pid = 0;
    return false;
}

const char *spawn_ending(const struct child *c, char *buf, size_t size)
{
    if (c->status == -1)
        snprintf(buf, size, "ended");
    else if (WIFSIGNALED(c->status))
        snprintf(buf, size, "killed by signal %d", WTERMSIG(c->status));
    else
        snprintf(buf, size, "exit status %d", WEXITSTATUS(c->status));
    return buf;
}

void spawn_let_go(struct child *c, int signo)
{
    if (c->pid != 0 && signo != 0)
        kill(c->pid, signo);
    if (c->lifeline >= 0)
        close(c->lifeline);
    c->lifeline = -1;
}

void spawn_end(struct child *c)
{
    spawn_let_go(c, 0);
    int64_t until_ns = clock_mono_ns() + END_NS;
    long pause_ns = NS_PER_MS / 2;
    while (spawn_running(c)) {
        if (clock_mono_ns() >= until_ns) {
            kill(c->pid, SIGKILL);
            until_ns = INT64_MAX;
        }
        nanosleep(&(struct timespec){ 0, pause_ns }, NULL);
        pause_ns = MIN(pause_ns * 2, 20 * NS_PER_MS);
    }
}
