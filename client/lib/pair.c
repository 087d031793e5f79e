#include "client/lib/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/tmpdir.h"
#include "client/lib/spawn.h"

#define READY_NS (30 * NS_PER_S) /* a large state is checked before it is served (R6) */
enum {
    LOG_BYTES_MAX = 1 * MIB, /* of a quiet program's stderr; what comes later is lost */
    LINE_BYTES_MAX = 300,
    ENDPOINT_BYTES_MAX = 512,
};

struct pair {
    char *dir; /* private; NULL: none */
    char *endpoint, *state;
    struct child coordinator, worker;
    int coordinator_log, worker_log; /* -1: shown */
    char *worker_path;
    bool ephemeral;
    off_t told; /* of the coordinator's log: what pair_warning has seen */
};

/* ---- what they say ---- */

/* A file in memory that cannot grow: whoever fills it loses lines, never blocks. */
static int log_open(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, LOG_BYTES_MAX) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Its last line, or "". */
static void log_last(int fd, char line[LINE_BYTES_MAX])
{
    char text[LINE_BYTES_MAX];
    line[0] = '\0';
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_CUR);
    if (end <= 0)
        return;
    off_t from = end > (off_t)sizeof(text) - 1 ? end - (off_t)sizeof(text) + 1 : 0;
    ssize_t n = pread(fd, text, (size_t)(end - from), from);
    if (n <= 0)
        return;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = '\0';
    char *start = strrchr(text, '\n');
    snprintf(line, LINE_BYTES_MAX, "%s", start ? start + 1 : text);
}

static int ended(const struct child *c, int log, struct err *err)
{
    char how[64], line[LINE_BYTES_MAX];
    log_last(log, line);
    return err_set(err, 1, "%s ended: %s%s%s", c->program,
                   spawn_ending(c, how, sizeof(how)), line[0] ? ": " : "", line);
}

int pair_check(struct pair *p, struct err *err)
{
    if (!spawn_running(&p->coordinator))
        return ended(&p->coordinator, p->coordinator_log, err);
    if (!spawn_running(&p->worker))
        return ended(&p->worker, p->worker_log, err);
    return 0;
}

bool pair_warning(struct pair *p, char *text, size_t size)
{
    char chunk[2 * LINE_BYTES_MAX];
    bool found = false;
    ssize_t n;
    if (p->coordinator_log < 0)
        return false;
    off_t end = lseek(p->coordinator_log, 0, SEEK_CUR);
    while (p->told < end &&
           (n = pread(p->coordinator_log, chunk, sizeof(chunk) - 1, p->told)) > 0) {
        chunk[n] = '\0';
        char *line_end = strchr(chunk, '\n');
        if (!line_end && n < (ssize_t)sizeof(chunk) - 1)
            break; /* the rest is being written */
        if (line_end)
            *line_end = '\0';
        char *event = strstr(chunk, " disk_");
        if (event) {
            snprintf(text, size, "%s", event + 1);
            found = true;
        }
        p->told += line_end ? line_end - chunk + 1 : n;
    }
    return found;
}

const char *pair_endpoint(const struct pair *p)
{
    return p->endpoint;
}

const char *pair_state(const struct pair *p)
{
    return p->state;
}

/* ---- their private directory ---- */

/* For the socket and the state, which may be large: the runtime directory is memory. The
 * socket's path has to fit into an address. */
static int dir_make(struct pair *p, struct err *err)
{
    static const char name[] = "/tidemill-XXXXXX";
    size_t most =
        sizeof((struct sockaddr_un){ 0 }.sun_path) - sizeof(name) - sizeof("/c");
    const char *base = tmpdir(most);
    char *dir = xasprintf("%s%s", base, name);
    if (!mkdtemp(dir)) { /* mode 0700 */
        err_sys(err, 1, "cannot make a directory in %s", base);
        free(dir);
        return -1;
    }
    p->dir = dir;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

/* ---- starting ---- */

struct start {
    const struct pair_options *opts;
    char *listen; /* owned */
    char *coordinator_path, *worker_path;
    int ready[2], identity; /* -1: none */
};

static void start_fini(struct start *s)
{
    int fds[] = { s->ready[0], s->ready[1], s->identity };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(s->listen);
    free(s->coordinator_path);
    free(s->worker_path);
}

/* A pipe that holds the whole identity already: it never is on a disk. */
static int identity_pipe(struct start *s, struct err *err)
{
    int fds[2];
    if (s->opts->identity_len == 0)
        return 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, 1, "pipe");
    s->identity = fds[0];
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    ssize_t n = write(fds[1], s->opts->identity, s->opts->identity_len);
    close(fds[1]);
    if (n != (ssize_t)s->opts->identity_len)
        return err_set(err, 2, "the identity is too large: %zu bytes",
                       s->opts->identity_len);
    return 0;
}

static int start_coordinator(struct pair *p, struct start *s, struct err *err)
{
    bool kept = s->opts->state_dir != NULL;
    struct args args = { NULL, 0 };
    args_add(&args, "%s", s->coordinator_path);
    args_add(&args, "--listen");
    args_add(&args, "%s", s->listen);
    args_add(&args, "--plain"); /* this user's, on this host */
    args_add(&args, "--state");
    args_add(&args, "%s", p->state);
    if (!kept) {
        args_add(&args, "--durability");
        args_add(&args, "none");
        args_add(&args, "--ephemeral");
        args_add(&args, "--reserve"); /* nothing of it is to be kept */
        args_add(&args, "4MiB");
    }
    args_add(&args, "--ready-fd");
    args_add(&args, "%d", s->ready[1]);
    struct spawn_fds fds = { &s->ready[1], 1, p->coordinator_log };
    int rc = spawn_start("tidemill-coordinator", s->coordinator_path, &args, &fds,
                         &p->coordinator, err);
    args_fini(&args);
    close(s->ready[1]); /* EOF then means that it ended */
    s->ready[1] = -1;
    return rc;
}

static int start_worker(struct pair *p, struct start *s, struct err *err)
{
    static const char *const whole[] = { "/", NULL };
    const struct pair_options *o = s->opts;
    struct args args = { NULL, 0 };
    args_add(&args, "%s", s->worker_path);
    args_add(&args, "--join");
    args_add(&args, "%s", p->endpoint ? p->endpoint : s->listen);
    for (const char *const *root = o->roots ? o->roots : whole; *root; root++) {
        args_add(&args, "--root");
        args_add(&args, "%s", *root);
    }
    if (o->procs) {
        args_add(&args, "--procs");
        args_add(&args, "%u", o->procs);
    }
    if (o->coroutines) {
        args_add(&args, "--coroutines");
        args_add(&args, "%u", o->coroutines);
    }
    if (!o->state_dir)
        args_add(&args, "--ephemeral");
    if (o->scratch) {
        args_add(&args, "--scratch");
        args_add(&args, "%s", o->scratch);
    }
    if (s->identity >= 0) {
        args_add(&args, "--identity-fd");
        args_add(&args, "%d", s->identity);
    }
    struct spawn_fds fds = { &s->identity, s->identity >= 0, p->worker_log };
    int rc = spawn_start("tidemill-worker", s->worker_path, &args, &fds, &p->worker, err);
    args_fini(&args);
    return rc;
}

/* Reads the endpoint the coordinator is bound to. */
static int await_ready(struct pair *p, struct start *s, struct err *err)
{
    char text[ENDPOINT_BYTES_MAX];
    size_t len = 0;
    int64_t until_ns = clock_mono_ns() + READY_NS;
    while (len < sizeof(text) - 1 && (len == 0 || text[len - 1] != '\n')) {
        struct pollfd pfd = { .fd = s->ready[0], .events = POLLIN };
        int64_t left_ms = (until_ns - clock_mono_ns()) / NS_PER_MS;
        if (left_ms <= 0)
            return err_set(err, 6, "tidemill-coordinator does not listen after %lld s",
                           READY_NS / NS_PER_S);
        if (poll(&pfd, 1, (int)left_ms) <= 0)
            continue;
        ssize_t n = read(s->ready[0], text + len, sizeof(text) - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    if (len == 0 || text[len - 1] != '\n') {
        spawn_end(&p->coordinator);
        return ended(&p->coordinator, p->coordinator_log, err);
    }
    text[len - 1] = '\0';
    p->endpoint = xstrdup(text);
    return 0;
}

static int prepare(struct pair *p, struct start *s, struct err *err)
{
    const struct pair_options *o = s->opts;
    if (spawn_find(o->bin_dir, "tidemill-coordinator", &s->coordinator_path, err) < 0 ||
        spawn_find(o->bin_dir, "tidemill-worker", &s->worker_path, err) < 0 ||
        identity_pipe(s, err) < 0)
        return -1;
    if (!o->listen && dir_make(p, err) < 0)
        return -1;
    s->listen = o->listen ? xstrdup(o->listen) : xasprintf("ipc://%s/c", p->dir);
    p->state = o->state_dir ? xstrdup(o->state_dir) : xasprintf("%s/state", p->dir);
    if (pipe2(s->ready, O_CLOEXEC) < 0)
        return err_sys(err, 1, "pipe");
    if (o->quiet && !getenv("TIDEMILL_LOG_LEVEL")) {
        p->coordinator_log = log_open("tidemill-coordinator");
        p->worker_log = log_open("tidemill-worker");
    }
    return 0;
}

int pair_start(const struct pair_options *opts, struct pair **ret, struct err *err)
{
    CHECK(opts->state_dir || !opts->listen);
    struct pair *p = xcalloc(1, sizeof(*p));
    struct start s = { .opts = opts, .ready = { -1, -1 }, .identity = -1 };
    p->coordinator = p->worker = CHILD_NONE;
    p->coordinator_log = p->worker_log = -1;
    /* Side by side where the worker can know the endpoint: a TCP port may be chosen at
     * the bind. */
    bool in_turn = opts->listen && strncmp(opts->listen, "tcp:", 4) == 0;
    int rc = prepare(p, &s, err);
    if (rc == 0)
        rc = start_coordinator(p, &s, err);
    if (rc == 0 && in_turn)
        rc = await_ready(p, &s, err);
    if (rc == 0)
        rc = start_worker(p, &s, err);
    if (rc == 0 && !in_turn)
        rc = await_ready(p, &s, err);
    p->ephemeral = !opts->state_dir;
    p->worker_path = s.worker_path ? xstrdup(s.worker_path) : NULL;
    start_fini(&s);
    if (rc < 0) {
        pair_free(p, 0);
        return -1;
    }
    *ret = p;
    return 0;
}

/* A worker that was killed could not remove its unfinished files. With a kept state the
 * next worker does, which may have to publish some of them. */
static void sweep(struct pair *p)
{
    struct args args = { NULL, 0 };
    struct spawn_fds fds = { NULL, 0, p->worker_log };
    struct child c = CHILD_NONE;

    if (!p->ephemeral || p->worker.status == 0 || !p->worker_path)
        return;
    args_add(&args, "%s", p->worker_path);
    args_add(&args, "--sweep");
    if (spawn_start("tidemill-worker", p->worker_path, &args, &fds, &c, NULL) == 0)
        spawn_end(&c);
    args_fini(&args);
}

void pair_free(struct pair *p, int signo)
{
    if (!p)
        return;
    /* Both lifelines first: they end side by side. */
    struct child *both[] = { &p->worker, &p->coordinator };
    for (size_t i = 0; i < ARRAY_LEN(both); i++)
        spawn_let_go(both[i], signo);
    for (size_t i = 0; i < ARRAY_LEN(both); i++)
        spawn_end(both[i]);
    sweep(p);
    if (p->dir)
        nftw(p->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (p->coordinator_log >= 0)
        close(p->coordinator_log);
    if (p->worker_log >= 0)
        close(p->worker_log);
    free(p->worker_path);
    free(p->dir);
    free(p->endpoint);
    free(p->state);
    free(p);
}
