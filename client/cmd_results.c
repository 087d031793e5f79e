/* tidemill results, wait and watch: jobs that this or another process submitted. */
#include "base/clock.h"
#include "client/cmd.h"
#include "client/kept.h"
#include "client/progress.h"
#include "client/run.h"

struct options {
    struct common common;
    const char *out;
    int64_t timeout_ns;
    bool follow, failed, order, force;
};

#define OFF(field) offsetof(struct options, field)
static const struct opt results_table[] = {
    { "follow", 0, OPT_FLAG, OFF(follow), NULL, NULL, 0, 0, NULL,
      "wait for what is not there yet" },
    { "failed", 0, OPT_FLAG, OFF(failed), NULL, NULL, 0, 0, NULL, "only what failed" },
    { "keep-order", 'k', OPT_FLAG, OFF(order), NULL, NULL, 0, 0, NULL,
      "in the order of the inputs" },
    { "out", 'o', OPT_STR, OFF(out), "DIR", NULL, 0, 0, NULL,
      "write manifests: DIR/SHA256SUMS ..." },
    { "force", 0, OPT_FLAG, OFF(force), NULL, NULL, 0, 0, NULL,
      "replace manifests that exist" },
    { 0 },
};
static const struct opt wait_table[] = {
    { "timeout", 0, OPT_DURATION, OFF(timeout_ns), "TIME", NULL, 0, 0, NULL,
      "exit with 7 after so long" },
    { 0 },
};

static int usage(const char *text)
{
    struct err err = { 0 };

    err_set(&err, EXIT_USAGE, "%s", text);
    err_hint(&err, "a job is j41, 41, last, 3-5 or all; tidemill job ls lists them");
    return cli_error(&err);
}

static int code_of(const struct tm_job_status *st)
{
    if (st->state == TM_JOB_CANCELLED || st->state == TM_ABANDONED)
        return EXIT_CANCELLED;
    return st->counts.failed || st->counts.quarantined || st->counts.cancelled
               ? EXIT_SOME_FAILED
               : EXIT_OK;
}

/* ---- results ---- */

static void print(void *arg, const struct tm_result *r)
{
    present_result(arg, r);
}

/* The records that are there now, not those still to come: as many as the job's status
 * counts, which come in the order of their recording. kept: they are sorted first. */
static int print_now(struct run *run, const struct options *o,
                     const struct tm_job_status *st, struct kept *kept)
{
    const struct tm_counts *n = &st->counts;
    uint64_t want = n->failed + n->quarantined + n->cancelled + (o->failed ? 0 : n->ok);
    struct tm_error err = { 0 };
    struct tm_result r;
    int rc = 1;

    while (rc == 1 && want-- > 0 && !run->present.broken) {
        rc = tm_next(run->job, &r, TM_FOREVER, &err);
        if (rc == 1 && kept)
            kept_add(kept, &r);
        else if (rc == 1)
            print(&run->present, &r);
    }
    if (rc == TM_AGAIN)
        return EXIT_STILL_RUNNING;
    if (rc != -1 && kept && kept_each(kept, print, &run->present) < 0) {
        struct err e = { 0 };
        err_sys(&e, EXIT_ERROR, "a temporary file");
        return cli_error(&e);
    }
    if (rc == -1 || present_end(&run->present, &err) < 0)
        return cli_tm_error(&err);
    return code_of(st);
}

static int print_running(struct run *run, const struct options *o,
                         const struct tm_job_status *st)
{
    struct kept *kept = o->order ? kept_new() : NULL;
    struct err err = { 0 };
    int code;

    if (o->order && !kept) {
        err_sys(&err, EXIT_ERROR, "a temporary file");
        return cli_error(&err);
    }
    code = print_now(run, o, st, kept);
    kept_free(kept);
    return code;
}

static int print_one(struct run *run, const struct options *o, uint64_t id)
{
    struct tm_job_spec spec;
    struct tm_job_status st;
    struct tm_error err = { 0 };
    unsigned flags = TM_INPUTS | (o->failed ? TM_FAILED_ONLY : 0);

    if (tm_attach(run->open.tm, id, &run->job, &err) < 0 ||
        tm_job_describe(run->job, &spec, &err) < 0 ||
        present_of_job(&spec, &run->present, &err) < 0)
        return cli_tm_error(&err);
    run->present.json = o->common.json;
    run->present.manifest_dir = o->out ? xstrdup(o->out) : NULL;
    run->present.force = o->force;
    if ((!o->failed && present_check(&run->present, &err) < 0) ||
        tm_job_status(run->job, &st, &err) < 0)
        return cli_tm_error(&err);
    bool now = !st.ended && !o->follow;
    if (o->order && !now)
        flags |= TM_TASK_ORDER;
    if (tm_follow(run->job, 0, flags, &err) < 0)
        return cli_tm_error(&err);
    run_catch_interrupts(run->open.tm);
    if (now)
        return print_running(run, o, &st);
    run->draining = true;
    return run_end(run);
}

static int results(void *options, const struct cli_args *call)
{
    const struct options *o = options;
    struct run run = { 0 };
    struct tm_error err = { 0 };
    uint64_t *ids = NULL;
    size_t n_ids = 0;
    int code;

    if (call->n != 1)
        return usage("whose results?");
    if (cli_open_cluster("tidemill results", &run.open, &err) < 0 ||
        cli_select(run.open.tm, call->args[0], SELECT_ANY, &ids, &n_ids, &err) < 0)
        code = cli_tm_error(&err);
    else if (n_ids != 1)
        code = usage("one job at a time");
    else
        code = print_one(&run, o, ids[0]);
    if (run.open.tm)
        tm_job_free(run.job);
    cli_close(&run.open);
    present_fini(&run.present);
    free(ids);
    return code;
}

int cmd_results(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("results", results_table, argc, argv, &o, results);
}

/* ---- wait, watch ---- */

static void say_end(uint64_t id, const struct tm_counts *c)
{
    uint64_t bad = c->failed + c->quarantined + c->cancelled;
    char ok[32], failed[32];

    if (bad)
        cli_note("j%llu: %s ok, %s failed (tidemill results j%llu --failed)",
                 (unsigned long long)id, cli_count(c->ok, ok), cli_count(bad, failed),
                 (unsigned long long)id);
    else if (cli_common_now()->verbose)
        cli_note("j%llu: %s ok", (unsigned long long)id, cli_count(c->ok, ok));
}

static int watch_begin(struct tm_job *job, struct progress **ret, struct tm_error *err)
{
    struct tm_job_spec spec;

    if (tm_job_describe(job, &spec, err) < 0)
        return -1;
    *ret = progress_new(cli_common_now(), spec.command ? spec.command : "map");
    progress_at_once(*ret);
    return 0;
}

/* Waits for one job; shows its progress meanwhile when asked to. */
static int wait_one(struct tm *tm, uint64_t id, int64_t until_ns, bool watch)
{
    struct tm_job *job = NULL;
    struct tm_job_status st;
    struct tm_error err = { 0 };
    struct progress *progress = NULL;
    int rc = tm_attach(tm, id, &job, &err);

    if (rc == 0 && watch)
        rc = watch_begin(job, &progress, &err);
    run_catch_interrupts(tm);
    while (rc == 0) {
        int64_t left = until_ns ? until_ns - clock_mono_ns() : TM_FOREVER;
        rc = tm_job_wait(job, MAX(0, watch ? MIN(left, 200 * NS_PER_MS) : left), &st,
                         &err);
        progress_show(progress, job, rc == 0);
        if (rc != TM_AGAIN)
            break;
        if (!run_interrupted() && !(until_ns && clock_mono_ns() >= until_ns))
            rc = 0;
    }
    progress_free(progress);
    tm_job_free(job);
    if (rc == TM_AGAIN) {
        cli_note("j%llu: still running", (unsigned long long)id);
        if (run_interrupted())
            cli_note(
                "  to come back: tidemill watch j%llu; its results: tidemill results "
                "j%llu",
                (unsigned long long)id, (unsigned long long)id);
        return EXIT_STILL_RUNNING;
    }
    if (rc < 0)
        return cli_tm_error(&err);
    say_end(id, &st.counts);
    return code_of(&st);
}

/* argv[0] says which of the two it is. */
static int wait_all(void *options, const struct cli_args *call)
{
    const struct options *o = options;
    const char *name = call->argv[0];
    int64_t until = o->timeout_ns ? clock_mono_ns() + o->timeout_ns : 0;
    struct opened opened = { 0 };
    struct tm_error err = { 0 };
    int code = 0;

    if (call->n == 0)
        return usage("which job?");
    if (cli_open_cluster(name, &opened, &err) < 0)
        code = cli_tm_error(&err);
    for (size_t i = 0; opened.tm && i < call->n && code != EXIT_STILL_RUNNING; i++) {
        uint64_t *ids;
        size_t n_ids;
        if (cli_select(opened.tm, call->args[i], SELECT_ANY, &ids, &n_ids, &err) < 0) {
            code = cli_tm_error(&err);
            break;
        }
        for (size_t k = 0; k < n_ids && code != EXIT_STILL_RUNNING; k++) {
            int one = wait_one(opened.tm, ids[k], until, strcmp(name, "watch") == 0);
            code = MAX(code, one); /* a macro: not the call */
        }
        free(ids);
    }
    cli_close(&opened);
    return code;
}

int cmd_wait(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("wait", wait_table, argc, argv, &o, wait_all);
}

int cmd_watch(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("watch", wait_table, argc, argv, &o, wait_all);
}
