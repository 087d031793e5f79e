/* tidemill job: what jobs there are, what is known of one, and what is done to them. */
#include "client/cmd.h"
#include "client/json.h"
#include "client/rows.h"
#include "client/sub.h"

struct options {
    struct common common;
    bool failed;
    const char *class;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "failed", 0, OPT_FLAG, OFF(failed), NULL, NULL, 0, 0, NULL,
      "retry: everything that is not ok (the default)" },
    { "class", 0, OPT_CHOICE, OFF(class), "CLASS", NULL, 0, 0,
      "retryable|permanent|poison|cancelled",
      "retry: only what failed so: retryable|permanent|poison|cancelled" },
    { 0 },
};

static void job_line(const struct tm_rows *rows)
{
    AUTO_FREE char *command = row_shown(rows, "command");
    AUTO_FREE char *state = row_shown(rows, "state");
    AUTO_FREE char *name = row_shown(rows, "name");
    uint64_t failed = tm_rows_uint(rows, "failed") + tm_rows_uint(rows, "quarantined");
    char id[24], tasks[32], ok[32], bad[32];

    snprintf(id, sizeof(id), "j%llu", (unsigned long long)tm_rows_uint(rows, "id"));
    printf("%-7s %-8s %-10s %12s %12s %10s  %s\n", id, command,
           tm_rows_uint(rows, "paused") ? "paused" : state,
           cli_count(tm_rows_uint(rows, "tasks"), tasks),
           cli_count(tm_rows_uint(rows, "ok"), ok), cli_count(failed, bad), name);
}

static int list(const struct call *call, const char *const *args, size_t n)
{
    (void)args, (void)n;
    return sub_table(
        call, "jobs",
        "JOB     COMMAND  STATE             TASKS           OK     FAILED  NAME",
        job_line);
}

/* ---- what is done to each job that is selected ---- */

struct each {
    enum select_which which;
    int (*one)(const struct call *call, uint64_t id);
};

static int show(const struct call *call, uint64_t id)
{
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(call->tm, "job", id, &rows, &err) < 0)
        return cli_tm_error(&err);
    while (tm_rows_next(rows)) {
        if (call->json)
            row_json(rows);
        else
            row_show(rows);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}

static int done(const struct call *call, uint64_t id, const char *how)
{
    AUTO_BUF out = BUF_INIT;

    if (!call->json) {
        cli_note("j%llu: %s", (unsigned long long)id, how);
        return EXIT_OK;
    }
    json_open(&out);
    json_uint(&out, "v", 1);
    json_uint(&out, "job", id);
    json_text(&out, "done", span_str(how));
    json_close(&out);
    puts(buf_str(&out));
    return EXIT_OK;
}

static int cancel(const struct call *call, uint64_t id)
{
    struct tm_error err = { 0 };
    return tm_cancel(call->tm, id, &err) < 0 ? cli_tm_error(&err)
                                             : done(call, id, "cancelled");
}

static int pause_job(const struct call *call, uint64_t id)
{
    struct tm_error err = { 0 };
    return tm_pause(call->tm, id, &err) < 0 ? cli_tm_error(&err)
                                            : done(call, id, "paused");
}

static int resume(const struct call *call, uint64_t id)
{
    struct tm_error err = { 0 };
    return tm_resume(call->tm, id, &err) < 0 ? cli_tm_error(&err)
                                             : done(call, id, "resumed");
}

static int rm(const struct call *call, uint64_t id)
{
    struct tm_error err = { 0 };
    return tm_remove(call->tm, id, &err) < 0 ? cli_tm_error(&err)
                                             : done(call, id, "removed");
}

static int retry(const struct call *call, uint64_t id)
{
    const struct options *o = call->options;
    struct err err = { 0 };

    if (!o->failed || !o->class)
        return retry_job(call->tm, id, o->class);
    err_set(&err, EXIT_USAGE, "--failed or --class, not both");
    return cli_error(&err);
}

static int each(const struct call *call, const char *const *selectors, size_t n)
{
    const struct each *how = call->sub->how;
    struct tm_error err = { 0 };
    int code = EXIT_OK;

    for (size_t i = 0; i < n; i++) {
        uint64_t *ids;
        size_t n_ids;
        if (cli_select(call->tm, selectors[i], how->which, &ids, &n_ids, &err) < 0) {
            int rc = cli_tm_error(&err);
            code = code ? code : rc;
            continue;
        }
        for (size_t k = 0; k < n_ids; k++) {
            int rc = how->one(call, ids[k]);
            code = code ? code : rc; /* the others are not to blame */
        }
        free(ids);
    }
    return code;
}

#define EACH(which, one)                                                                 \
    &(const struct each)                                                                 \
    {                                                                                    \
        which, one                                                                       \
    }
static const struct sub subs[] = {
    { "ls", "", "List the jobs", NULL, 0, 0, list, NULL },
    { "show", "JOB...", "Tell what is known of jobs", NULL, 1, SIZE_MAX, each,
      EACH(SELECT_ANY, show) },
    { "cancel", "JOB...", "End jobs: what has no result yet ends as cancelled", NULL, 1,
      SIZE_MAX, each, EACH(SELECT_RUNNING, cancel) },
    { "pause", "JOB...", "Start no more tasks of jobs until they are resumed", NULL, 1,
      SIZE_MAX, each, EACH(SELECT_RUNNING, pause_job) },
    { "resume", "JOB...", "Let paused jobs go on", NULL, 1, SIZE_MAX, each,
      EACH(SELECT_RUNNING, resume) },
    { "retry", "JOB... [--failed | --class CLASS]",
      "Run what failed of ended jobs again: prints the new jobs' ids", "|failed|class|",
      1, SIZE_MAX, each, EACH(SELECT_FAILED, retry) },
    { "rm", "JOB...", "Delete ended jobs with their inputs and results", NULL, 1,
      SIZE_MAX, each, EACH(SELECT_ENDED, rm) },
    { 0 },
};

int cmd_job(int argc, char **argv)
{
    struct options o = { 0 };
    return sub_run("job", subs, table, &o, argc, argv);
}
