/* tidemill up: a coordinator and a worker of this user, in the foreground. */
#include <signal.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "client/cmd.h"

struct options {
    struct common common;
    const char *listen;
    struct opt_list roots, identities;
    int64_t coroutines;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "listen", 0, OPT_STR, OFF(listen), "ENDPOINT", NULL, 0, 0, NULL,
      "instead of your own socket" },
    { "root", 0, OPT_LIST, OFF(roots), "DIR[:ro]", NULL, 0, 0, NULL,
      "what the worker may use; / by default; repeatable" },
    { "coroutines", 0, OPT_INT, OFF(coroutines), "N", "0", 0, 100000, NULL,
      "transfers at once; 0 = the worker's default" },
    { "identity", 'i', OPT_LIST, OFF(identities), "FILE", NULL, 0, 0, NULL,
      "age identities the worker may decrypt with; repeatable" },
    { 0 },
};

#define JOINED_NS                                                                        \
    (10 * NS_PER_MS) /* how often it is looked whether the worker is there */

static volatile sig_atomic_t ending;

static void on_signal(int signo)
{
    (void)signo;
    ending = 1;
}

/* Says what is up once the worker has joined: then whoever reads it can go on. */
static void say_ready(struct tm_up *up)
{
    struct tm_open_options opts = { .coordinator = tm_up_endpoint(up) };
    char procs[32], coroutines[32];
    struct tm_rows *rows = NULL;
    struct tm *tm;

    if (tm_open(&opts, &tm, NULL) < 0)
        return; /* it has ended: tm_up_wait says why */
    while (!ending && tm_query(tm, "nodes", 0, &rows, NULL) == 0) {
        /* One of an earlier life may be known and not be there yet. */
        bool joined = false;
        while (!joined && tm_rows_next(rows)) {
            struct tm_bytes state = tm_rows_text(rows, "state");
            joined = !(state.len == 4 && memcmp(state.data, "away", 4) == 0);
        }
        if (joined) {
            fprintf(stderr, "tidemill: up: %s, %s processes, %s coroutines\n",
                    tm_up_endpoint(up), cli_count(tm_rows_uint(rows, "processes"), procs),
                    cli_count(tm_rows_uint(rows, "coroutines"), coroutines));
            break;
        }
        tm_rows_free(rows);
        rows = NULL;
        if (tm_up_wait(up, JOINED_NS, NULL) != TM_AGAIN)
            break;
    }
    tm_close(tm); /* and the rows with it */
}

static int serve(const struct options *o, const struct tm_up_options *opts)
{
    struct sigaction act = { .sa_handler = on_signal };
    struct tm_error err = { 0 };
    struct tm_up *up;
    int rc;

    (void)o;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    if (tm_up_start(opts, &up, &err) < 0)
        return cli_tm_error(&err);
    say_ready(up);
    do
        rc = tm_up_wait(up, TM_FOREVER, &err);
    while (rc == TM_AGAIN && !ending);
    tm_up_stop(up);
    return rc == TM_AGAIN ? EXIT_OK : cli_tm_error(&err);
}

static int up(void *options, const struct cli_args *call)
{
    const struct options *o = options;
    AUTO_BUF identities = BUF_INIT;
    struct err err = { 0 };

    if (call->n)
        err_set(&err, EXIT_USAGE, "unexpected argument '%s'", call->args[0]);
    for (size_t i = 0; i < o->identities.n && !err.code; i++) {
        cli_read_file(o->identities.items[i], MIB, &identities, &err);
        buf_add_u8(&identities, '\n');
    }
    const char **roots = xcalloc(o->roots.n + 1, sizeof(*roots));
    for (size_t i = 0; i < o->roots.n; i++)
        roots[i] = o->roots.items[i];
    struct tm_up_options opts = { .listen = o->listen,
                                  .state_dir = o->common.state,
                                  .roots = o->roots.n ? roots : NULL,
                                  .procs = (uint32_t)o->common.procs,
                                  .coroutines = (uint32_t)o->coroutines,
                                  .identity = identities.len > 1 ? identities.data : NULL,
                                  .identity_len = identities.len };
    int code = err.code ? cli_error(&err) : serve(o, &opts);
    if (identities.len)
        crypto_zero(identities.data, identities.cap);
    free(roots);
    return code;
}

int cmd_up(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("up", table, argc, argv, &o, up);
}
