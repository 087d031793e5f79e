/* tidemill-coordinator: options, signals, life. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/opt.h"
#include "coordinator/coord.h"
#include "coordinator/server_key.h"
#include "coordinator/store_move.h"

enum {
    CONNECTIONS_DEFAULT = 10000,
    FILES_BESIDE = 64, /* store, log, loop, the library's own */
};

struct options {
    struct opt_list listen, listen_workers;
    const char *advertise, *state, *to, *durability, *log_level;
    int64_t silence_ns, keep_ns, reserve_bytes, connections, lifeline_fd, ready_fd;
    int64_t max_jobs, max_tasks, max_stored, max_priority;
    int64_t io_threads;
    bool plain, finish, ephemeral, help, version;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "listen", 0, OPT_LIST, OFF(listen), "ENDPOINT", NULL, 0, 0, NULL,
      "ipc:///path, for this host; tcp://HOST:PORT, for clients that have a key; "
      "repeatable" },
    { "listen-workers", 0, OPT_LIST, OFF(listen_workers), "ENDPOINT", NULL, 0, 0, NULL,
      "tcp://HOST:PORT, for workers that have a key; repeatable" },
    { "plain", 0, OPT_FLAG, OFF(plain), NULL, NULL, 0, 0, NULL,
      "tcp is not encrypted, and whoever reaches it is let in: on loopback only" },
    { "advertise", 0, OPT_STR, OFF(advertise), "HOST", NULL, 0, 0, NULL,
      "the host that invitations name; as bound, or this host's name by default" },
    { "io-threads", 0, OPT_INT, OFF(io_threads), "N", "0", 0, 16, NULL,
      "threads of the links; 0 = 1, or 2 where one is encrypted" },
    { "connections", 0, OPT_INT, OFF(connections), "N", "-1", -1, 1 << 20, NULL,
      "clients and workers at each endpoint; more have to wait (10,000)" },
    { "state", 0, OPT_STR, OFF(state), "DIR", NULL, 0, 0, NULL,
      "directory that keeps jobs and results" },
    { "to", 0, OPT_STR, OFF(to), "DIR", NULL, 0, 0, NULL,
      "move: the directory the state goes to; empty or not there" },
    { "finish", 0, OPT_FLAG, OFF(finish), NULL, NULL, 0, 0, NULL,
      "rekey: the next key is the server's from now on" },
    { "durability", 0, OPT_CHOICE, OFF(durability), "LEVEL", "full", 0, 0,
      "full|normal|none",
      "full survives power loss, normal kill -9; none may lose what it told of in the "
      "last moments before kill -9, and says so" },
    { "keep", 0, OPT_DURATION, OFF(keep_ns), "TIME", "0s", 0, 0, NULL,
      "remove jobs so long after they ended, counted while this runs; 0s: never" },
    { "reserve", 0, OPT_SIZE, OFF(reserve_bytes), "SIZE", "64MiB", 0, 0, NULL,
      "keep so much of the state's disk free: below twice of it no job is taken" },
    { "max-jobs", 0, OPT_INT, OFF(max_jobs), "N", "0", 0, UINT32_MAX, NULL,
      "jobs an owner may have, running or ended; 0: any number. This and the next three "
      "are not for admins" },
    { "max-tasks", 0, OPT_INT, OFF(max_tasks), "N", "0", 0, INT64_MAX, NULL,
      "tasks of an owner that may wait: his submitting waits then; 0: any number" },
    { "max-stored", 0, OPT_SIZE, OFF(max_stored), "SIZE", "0", 0, INT64_MAX, NULL,
      "inputs and results an owner may have stored; 0: any number" },
    { "max-priority", 0, OPT_INT, OFF(max_priority), "N", "2147483647", INT32_MIN,
      INT32_MAX, NULL, "the highest priority a job may have" },
    { "silence", 0, OPT_DURATION, OFF(silence_ns), "TIME", "10s", NS_PER_S,
      3600 * NS_PER_S, NULL, "a peer not heard for so long is gone" },
    { "log-level", 0, OPT_CHOICE, OFF(log_level), "LEVEL", "info", 0, 0,
      "error|warn|info|debug", "what is written to stderr" },
    { "ephemeral", 0, OPT_FLAG, OFF(ephemeral), NULL, NULL, 0, 0, NULL,
      "at the end remove the state directory, and the one it is in when that is empty" },
    { "lifeline-fd", 0, OPT_INT, OFF(lifeline_fd), "FD", "-1", -1, 1 << 20, NULL,
      "end when this descriptor is closed at its other end" },
    { "ready-fd", 0, OPT_INT, OFF(ready_fd), "FD", "-1", -1, 1 << 20, NULL,
      "write the endpoint here once it can be reached" },
    { "help", 'h', OPT_FLAG, OFF(help), NULL, NULL, 0, 0, NULL, "this text" },
    { "version", 0, OPT_FLAG, OFF(version), NULL, NULL, 0, 0, NULL, "name and version" },
    { 0 },
};
static const struct opt *const tables[] = { table, NULL };

struct run {
    struct loop *loop;
    struct coord *coord;
};

static void on_term(void *arg)
{
    struct run *run = arg;
    notify("STOPPING=1");
    coord_drain(run->coord);
}

static void on_lifeline(void *arg, int events)
{
    struct run *run = arg;
    (void)events; /* it is never written to: the other end is closed */
    loop_stop(run->loop);
}

static int complain(const struct err *err)
{
    fprintf(stderr, "tidemill-coordinator: error: %s\n", err->text);
    if (err->hint[0])
        fprintf(stderr, "  hint: %s\n", err->hint);
    return err->code ? err->code : 1;
}

static void say_totals(const struct check_totals *t)
{
    printf("%llu jobs, %llu tasks in %llu chunks, %llu records: ",
           (unsigned long long)t->jobs, (unsigned long long)t->tasks,
           (unsigned long long)t->chunks, (unsigned long long)t->records);
}

/* tidemill-coordinator check --state DIR: 0 = whole, 1 = damaged. */
static int check_state(const struct options *o, struct err *err)
{
    struct check_totals t;

    if (store_check(o->state, stdout, &t, err) < 0)
        return -1;
    say_totals(&t);
    if (t.findings == 0)
        printf("no damage\n");
    else
        printf("%llu findings\n", (unsigned long long)t.findings);
    if (fflush(stdout) != 0)
        return err_sys(err, 1, "cannot write to standard output");
    return t.findings ? 1 : 0;
}

/* tidemill-coordinator move --state OLD --to NEW */
static int move_state(const struct options *o, struct err *err)
{
    struct check_totals t;

    if (!o->to)
        return err_set(err, 2, "no --to DIR");
    crypto_no_core(); /* keys are copied */
    if (store_move(o->state, o->to, stdout, &t, err) < 0) {
        fflush(stdout); /* what was found comes before the error */
        return -1;
    }
    say_totals(&t);
    printf("moved to %s\n", o->to);
    if (fflush(stdout) != 0)
        return err_sys(err, 1, "cannot write to standard output");
    return 0;
}

/* ---- keys ---- */

static int say_key(const uint8_t public_key[KEY_BYTES], struct err *err)
{
    char text[KEY_TEXT];

    key_text(public_key, text);
    printf("%s\n", text);
    if (fflush(stdout) != 0)
        return err_sys(err, 1, "cannot write to standard output");
    return 0;
}

/* tidemill-coordinator init --state DIR */
static int init_state(const struct options *o, struct err *err)
{
    uint8_t public_key[KEY_BYTES];

    crypto_no_core();
    if (server_key_init(o->state, public_key, err) < 0)
        return -1;
    return say_key(public_key, err);
}

/* tidemill-coordinator rekey [--finish] --state DIR */
static int rekey_state(const struct options *o, struct err *err)
{
    uint8_t public_key[KEY_BYTES];

    crypto_no_core();
    if ((o->finish ? server_key_finish : server_key_rekey)(o->state, public_key, err) < 0)
        return -1;
    return say_key(public_key, err);
}

/* What is done instead of serving; the result is the exit code. */
static const struct subcommand {
    const char *name;
    int (*run)(const struct options *o, struct err *err);
} subcommands[] = { { "check", check_state },
                    { "move", move_state },
                    { "init", init_state },
                    { "rekey", rekey_state } };

static const struct subcommand *subcommand_of(size_t n_args, const char **args)
{
    for (size_t i = 0; n_args == 1 && i < ARRAY_LEN(subcommands); i++)
        if (strcmp(args[0], subcommands[i].name) == 0)
            return &subcommands[i];
    return NULL;
}

static int check_options(const struct options *o, const struct subcommand *sub,
                         size_t n_args, const char **args, struct err *err)
{
    if (n_args && !sub)
        return err_set(err, 2, "unexpected argument '%s'", args[0]);
    if (o->to && !(sub && sub->run == move_state)) {
        err_set(err, 2, "--to without 'move'");
        return err_hint(err, "tidemill-coordinator move --state OLD --to NEW");
    }
    if (o->finish && !(sub && sub->run == rekey_state))
        return err_set(err, 2, "--finish without 'rekey'");
    if (!sub && o->listen.n == 0) {
        err_set(err, 2, "no --listen ENDPOINT");
        return err_hint(err, "for example --listen ipc:///run/tidemill/socket");
    }
    if (!o->state)
        return err_set(err, 2, "no --state DIR");
    return 0;
}

static void say_ready(const struct options *o, const struct coord *c)
{
    const char *endpoint = coord_endpoint(c, 0);

    log_info("serving", "state=%s durability=%s", o->state, o->durability);
    notify("READY=1");
    if (o->ready_fd < 0)
        return;
    if (dprintf((int)o->ready_fd, "%s\n", endpoint) < 0)
        log_warn("ready_fd", "why=\"cannot be written to\"");
    close((int)o->ready_fd);
}

/* How many connections an endpoint takes; raises the limit of descriptors as far as it
 * goes. A quarter of them is left for those that come while the door is being shut. */
static int connections(const struct options *o, unsigned *ret, struct err *err)
{
    int64_t endpoints = (int64_t)(o->listen.n + o->listen_workers.n), room;
    struct rlimit rl;

    CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    room = ((int64_t)MIN(rl.rlim_max, 1u << 30) - FILES_BESIDE) / endpoints;
    room -= room / 4;
    if (room < 1 || o->connections > room) {
        err_set(
            err, 2, "%lld connections need %lld file descriptors; the limit is %lld",
            (long long)MAX(o->connections, 1),
            (long long)(MAX(o->connections, 1) * endpoints * 4 / 3 + FILES_BESIDE + 1),
            (long long)rl.rlim_max);
        return err_hint(err, "raise LimitNOFILE or ulimit -n, or lower --connections");
    }
    *ret =
        (unsigned)(o->connections > 0 ? o->connections : MIN(room, CONNECTIONS_DEFAULT));
    return 0;
}

static enum durability durability_of(const char *name)
{
    static const struct {
        const char *name;
        enum durability d;
    } names[] = { { "full", DURABILITY_FULL }, { "normal", DURABILITY_NORMAL } };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].d;
    return DURABILITY_NONE;
}

/* The private directory that held socket and state, when nothing else is in it. */
static void remove_parent(const char *state)
{
    AUTO_FREE char *dir = xstrdup(state);
    char *slash = strrchr(dir, '/');

    if (!slash || slash == dir)
        return;
    *slash = 0;
    rmdir(dir);
}

static int serve(const struct options *o, struct err *err)
{
    struct coord_config config = {
        .advertise = o->advertise,
        .io_threads = (int)o->io_threads,
        .state_dir = o->state,
        .durability = durability_of(o->durability),
        .ephemeral = o->ephemeral,
        .silence_ns = o->silence_ns,
        .keep_ns = o->keep_ns,
        .reserve_bytes = (uint64_t)o->reserve_bytes,
        .quota = { .jobs = (uint64_t)o->max_jobs,
                   .tasks = (uint64_t)o->max_tasks,
                   .stored_bytes = (uint64_t)o->max_stored,
                   .priority = (int32_t)o->max_priority },
    };
    struct run run = { NULL, NULL };
    struct loop_io *lifeline = NULL;
    int rc = -1;

    if (doors_plan(o->listen.items, o->listen.n, o->listen_workers.items,
                   o->listen_workers.n, o->plain, &config.doors, err) < 0 ||
        connections(o, &config.connections_max, err) < 0)
        return -1;
    if (config.doors.encrypted)
        crypto_no_core();
    if (loop_new(LOOP_AUTO, &run.loop, err) < 0)
        return -1;
    if (coord_new(run.loop, &config, &run.coord, err) == 0) {
        struct loop_signal *term = loop_signal_new(run.loop, SIGTERM, on_term, &run);
        struct loop_signal *intr = loop_signal_new(run.loop, SIGINT, on_term, &run);
        if (o->lifeline_fd >= 0)
            lifeline =
                loop_io_new(run.loop, (int)o->lifeline_fd, LOOP_READ, on_lifeline, &run);
        say_ready(o, run.coord);
        loop_run(run.loop);
        loop_io_free(lifeline);
        loop_signal_free(term);
        loop_signal_free(intr);
        rc = coord_close(run.coord, err);
        if (o->ephemeral)
            remove_parent(o->state);
    }
    loop_free(run.loop);
    return rc;
}

/* What --help or --version asks for. */
static void say(const struct options *o)
{
    if (o->version) {
        printf("tidemill-coordinator %s\n", TM_VERSION);
        return;
    }
    printf("usage: tidemill-coordinator --listen ENDPOINT --state DIR\n"
           "       tidemill-coordinator init --state DIR\n"
           "       tidemill-coordinator rekey [--finish] --state DIR\n"
           "       tidemill-coordinator check --state DIR\n"
           "       tidemill-coordinator move --state OLD --to NEW\n\n");
    opt_help(table, stdout);
}

/* What the options ask for; the exit code, or -1. */
static int act(const struct options *o, size_t n_args, const char **args, struct err *err)
{
    const struct subcommand *sub = subcommand_of(n_args, args);
    enum log_level level;

    if (o->help || o->version) {
        say(o);
        return 0;
    }
    if (check_options(o, sub, n_args, args, err) < 0)
        return -1;
    if (sub)
        return sub->run(o, err);
    log_level_parse(o->log_level, &level);
    log_init("tidemill-coordinator", level);
    return serve(o, err);
}

int main(int argc, char **argv)
{
    static const char *const files[] = { "/etc/tidemill/coordinator.conf", NULL };
    const struct opt_sources sources = { "TIDEMILL", files };
    struct options o = { 0 };
    const char **args = NULL;
    struct err err = { 0 };
    size_t n_args = 0;
    int rc;

    signal(SIGPIPE, SIG_IGN);
    memory_keep();
    crypto_init();
    rc = opt_parse(tables, &sources, argc, argv, &o, &args, &n_args, &err);
    if (rc == 0)
        rc = act(&o, n_args, args, &err);
    free(args);
    opt_fini(tables, &o);
    return rc < 0 ? complain(&err) : rc;
}
