/* tidemill node: the cluster's nodes; taking one out of work and back. */
#include <time.h>

#include "base/clock.h"
#include "client/cmd.h"
#include "client/rows.h"
#include "client/sub.h"

struct options {
    struct common common;
    bool wait;
    int64_t timeout_ns;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "wait", 0, OPT_FLAG, OFF(wait), NULL, NULL, 0, 0, NULL,
      "drain: until the node has nothing left to do" },
    { "timeout", 0, OPT_DURATION, OFF(timeout_ns), "TIME", NULL, 0, 0, NULL,
      "drain --wait: exit with 7 after so long" },
    { 0 },
};
#define POLL_NS (100 * NS_PER_MS)

static void line(const struct tm_rows *rows)
{
    AUTO_FREE char *name = row_shown(rows, "name");
    AUTO_FREE char *state = row_shown(rows, "state");
    AUTO_FREE char *labels = row_shown(rows, "labels");
    char procs[48], coros[48], tasks[32], done[32];

    snprintf(procs, sizeof(procs), "%llu/%llu",
             (unsigned long long)tm_rows_uint(rows, "processes_busy"),
             (unsigned long long)tm_rows_uint(rows, "processes"));
    snprintf(coros, sizeof(coros), "%llu/%llu",
             (unsigned long long)tm_rows_uint(rows, "coroutines_busy"),
             (unsigned long long)tm_rows_uint(rows, "coroutines"));
    printf("%-20s %-9s %10s %12s %10s %14s  %s\n", name, state, procs, coros,
           cli_count(tm_rows_uint(rows, "tasks"), tasks),
           cli_count(tm_rows_uint(rows, "done"), done), labels);
}

static int list(const struct call *call, const char *const *args, size_t n)
{
    (void)args, (void)n;
    return sub_table(call, "nodes",
                     "NODE                 STATE      PROCESSES   COROUTINES      TASKS  "
                     "         DONE  LABELS",
                     line);
}

/* The row of one node, moved to: 0, or -1. Caller frees *ret. */
static int find(struct tm *tm, const char *name, struct tm_rows **ret,
                struct tm_error *err)
{
    struct tm_rows *rows;

    if (tm_query(tm, "nodes", 0, &rows, err) < 0)
        return -1;
    while (tm_rows_next(rows)) {
        AUTO_FREE char *its = row_text(rows, "name");
        if (strcmp(its, name) == 0) {
            *ret = rows;
            return 0;
        }
    }
    tm_rows_free(rows);
    err->code = EXIT_NOTHING;
    snprintf(err->text, sizeof(err->text), "no such node: %.500s", name);
    snprintf(err->hint, sizeof(err->hint), "tidemill node ls");
    return -1;
}

static int show(const struct call *call, const char *const *names, size_t n)
{
    int code = EXIT_OK;

    for (size_t i = 0; i < n; i++) {
        struct tm_error err = { 0 };
        struct tm_rows *rows;
        if (find(call->tm, names[i], &rows, &err) < 0) {
            int rc = cli_tm_error(&err);
            code = code ? code : rc;
            continue;
        }
        if (call->json)
            row_json(rows);
        else
            row_show(rows);
        tm_rows_free(rows);
    }
    return code;
}

/* ---- drain ---- */

/* How a drained node's row looks: 1 = nothing is left, 0 = something is, -1 = it is no
 * longer drained. */
static int is_idle(const struct tm_rows *rows, const char *name, struct tm_error *err)
{
    AUTO_FREE char *state = row_text(rows, "state");

    if (strcmp(state, "up") == 0) {
        err->code = EXIT_ERROR;
        snprintf(err->text, sizeof(err->text), "%.500s takes work again", name);
        snprintf(err->hint, sizeof(err->hint),
                 "it was undrained, or its worker was started anew");
        return -1;
    }
    return strcmp(state, "draining") == 0 && tm_rows_uint(rows, "tasks") == 0 &&
           tm_rows_uint(rows, "publishing") == 0;
}

static int still_busy(const struct tm_rows *rows, const char *name)
{
    char tasks[32], files[32];

    cli_note("%s: still has %s tasks, and %s files to put in place", name,
             cli_count(tm_rows_uint(rows, "tasks"), tasks),
             cli_count(tm_rows_uint(rows, "publishing"), files));
    return EXIT_STILL_RUNNING;
}

static int await_idle(struct tm *tm, const char *name, int64_t until_ns)
{
    const struct timespec pause = { .tv_nsec = POLL_NS };
    struct tm_error err = { 0 };
    int code = -1;

    while (code < 0) {
        struct tm_rows *rows;
        if (find(tm, name, &rows, &err) < 0)
            return cli_tm_error(&err);
        int idle = is_idle(rows, name, &err);
        if (idle < 0)
            code = cli_tm_error(&err);
        else if (idle)
            code = EXIT_OK;
        else if (until_ns && clock_mono_ns() >= until_ns)
            code = still_busy(rows, name);
        tm_rows_free(rows);
        if (code < 0)
            nanosleep(&pause, NULL);
    }
    return code;
}

static int drain(const struct call *call, const char *const *names, size_t n)
{
    const struct options *o = call->options;
    int64_t until = o->timeout_ns ? clock_mono_ns() + o->timeout_ns : 0;
    struct tm_error err = { 0 };
    int code = EXIT_OK;

    if (o->timeout_ns && !o->wait) {
        struct err usage = { 0 };
        err_set(&usage, EXIT_USAGE, "--timeout is for drain --wait");
        return cli_error(&usage);
    }
    for (size_t i = 0; i < n && code == EXIT_OK; i++)
        if (tm_drain(call->tm, names[i], &err) < 0)
            code = cli_tm_error(&err);
    for (size_t i = 0; i < n && code == EXIT_OK && o->wait; i++)
        code = await_idle(call->tm, names[i], until);
    for (size_t i = 0; i < n && code == EXIT_OK; i++) {
        if (call->json)
            code = show(call, names + i, 1);
        else
            cli_note("%s: %s", names[i], o->wait ? "drained" : "draining");
    }
    return code;
}

static int undrain(const struct call *call, const char *const *names, size_t n)
{
    struct tm_error err = { 0 };
    int code = EXIT_OK;

    for (size_t i = 0; i < n && code == EXIT_OK; i++) {
        if (tm_undrain(call->tm, names[i], &err) < 0)
            code = cli_tm_error(&err);
        else if (call->json)
            code = show(call, names + i, 1);
        else
            cli_note("%s: takes work again", names[i]);
    }
    return code;
}

static const struct sub subs[] = {
    { "ls", "", "List the nodes", NULL, 0, 0, list, NULL },
    { "show", "NODE...", "Tell what is known of nodes", NULL, 1, SIZE_MAX, show, NULL },
    { "drain", "NODE... [--wait [--timeout TIME]]",
      "Give nodes no new work; what they have, they finish", "|wait|timeout|", 1,
      SIZE_MAX, drain, NULL },
    { "undrain", "NODE...", "Give them work again", NULL, 1, SIZE_MAX, undrain, NULL },
    { 0 },
};

int cmd_node(int argc, char **argv)
{
    struct options o = { 0 };
    return sub_run("node", subs, table, &o, argc, argv);
}
