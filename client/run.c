#include "client/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "client/digests.h"
#include "client/dry.h"
#include "client/progress.h"
#include "client/walk.h"

enum {
    DRAIN_EVERY = 256,
    AWAIT_MS = 200, /* a signal just before poll is noticed then */
};
#define SECOND_NS (2 * NS_PER_S)  /* how long a second Ctrl-C is waited for */
#define LEAVE_NS  (10 * NS_PER_S) /* how long all that is said on leaving */

/* ---- Ctrl-C ---- */

static struct tm *interrupt_tm;
static volatile sig_atomic_t interrupts, last_signal;

static void on_interrupt(int signo)
{
    last_signal = signo;
    interrupts++;
    if (interrupt_tm)
        tm_interrupt(interrupt_tm);
}

void run_catch_interrupts(struct tm *tm)
{
    struct sigaction act = { .sa_handler = on_interrupt };

    interrupt_tm = tm;
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

bool run_interrupted(void)
{
    return interrupts > 0;
}

static int64_t leave_left_ns(struct run *run)
{
    if (!run->leave_by_ns)
        run->leave_by_ns = clock_mono_ns() + LEAVE_NS;
    return run->leave_by_ns - clock_mono_ns();
}

int run_order(struct run *run, int (*order)(struct tm *, uint64_t, struct tm_error *),
              uint64_t job, struct tm_error *err)
{
    int rc;

    do {
        bool leaving = interrupts || run->stop;
        int64_t left_ns = leaving ? leave_left_ns(run) : TM_FOREVER;
        if (left_ns <= 0)
            return TM_AGAIN;
        tm_patience(run->open.tm, left_ns);
        rc = order(run->open.tm, job, err);
    } while (rc == TM_AGAIN);
    return rc;
}

void run_withdraw(struct run *run)
{
    struct tm_error err;

    run_order(run, tm_cancel, tm_job_id(run->job), &err);
}

/* A second Ctrl-C soon after the first cancels. */
static void offer_cancel(struct run *run)
{
    struct timespec pause = { 0, 20 * NS_PER_MS };
    struct tm_error err = { 0 };
    int64_t until_ns = clock_mono_ns() + SECOND_NS;
    int rc;

    while (interrupts < 2 && clock_mono_ns() < until_ns)
        nanosleep(&pause, NULL); /* a signal ends it early */
    if (interrupts < 2)
        return;
    rc = run_order(run, tm_cancel, tm_job_id(run->job), &err);
    if (rc == TM_AGAIN) {
        fprintf(stderr, "tidemill: j%llu could not be told to stop: nobody answers\n",
                (unsigned long long)tm_job_id(run->job));
        return;
    }
    run->stop = rc < 0 ? cli_tm_error(&err) : EXIT_CANCELLED;
    if (rc == 0)
        fprintf(stderr, "tidemill: j%llu: cancelled\n",
                (unsigned long long)tm_job_id(run->job));
}

/* Inputs that nobody can add to any more: the job shall end with those it has. */
static void seal_behind(struct run *run)
{
    struct tm_error err = { 0 };
    int64_t left_ns;
    int rc = tm_seal(run->job, &err) < 0 ? -1 : TM_AGAIN;

    while (rc == TM_AGAIN && (left_ns = leave_left_ns(run)) > 0 && interrupts < 2)
        rc = tm_sync(run->job, left_ns, &err);
    if (rc != 0)
        fprintf(
            stderr,
            "tidemill: j%llu could not be told that this was all%s%s: it is abandoned "
            "after a while\n",
            (unsigned long long)tm_job_id(run->job), rc < 0 ? ": " : "",
            rc < 0 ? err.text : "");
}

/* What becomes of the job on a cluster. */
static void say_detached(const struct run *run, bool sealing)
{
    unsigned long long id = tm_job_id(run->job);
    char n[32];

    if (run->draining)
        fprintf(stderr, "tidemill: detached; j%llu goes on\n", id);
    else if (sealing)
        fprintf(
            stderr,
            "tidemill: detached; j%llu goes on with the inputs it has (%s), and takes "
            "no more\n",
            id, cli_count(run->added, n));
    else
        fprintf(
            stderr,
            "tidemill: detached; j%llu waits for the inputs it lacks: the same command "
            "goes on from here\n",
            id);
    fprintf(stderr,
            "  to come back: tidemill watch j%llu; its results: tidemill results j%llu\n",
            id, id);
}

/* Says how to come back, and which exit code that is. */
static int interrupted(struct run *run)
{
    bool sealing = !run->draining && !cli_common_now()->state;

    run->stop = EXIT_STILL_RUNNING;
    progress_clear(run->progress);
    if (run->open.endpoint) {
        say_detached(run, sealing);
        if (last_signal == SIGINT) {
            fprintf(stderr, "  Ctrl-C again: cancel it\n");
            offer_cancel(run);
        }
        if (sealing && run->stop == EXIT_STILL_RUNNING)
            seal_behind(run);
    } else if (run->private_only) {
        fprintf(stderr, "tidemill: stopped\n");
        run->stop = EXIT_CANCELLED;
    } else if (cli_common_now()->state) {
        fprintf(stderr, "tidemill: stopped; the same command goes on from here\n");
    } else {
        fprintf(stderr, "tidemill: stopped; with --state DIR it could be gone on with\n");
        run->stop = EXIT_CANCELLED;
    }
    return -1;
}

/* ---- what an earlier run had accepted ---- */

struct seen {
    struct digests set;
    uint64_t left; /* accepted, but not yet seen */
};

static void input_digest(struct span path, struct span url, struct span data,
                         uint8_t out[DIGEST_BYTES])
{
    struct span parts[] = { path, SPAN_LIT("\0u"), url, SPAN_LIT("\0b"), data };
    crypto_digest(parts, ARRAY_LEN(parts), out);
}

static void seen_add(struct seen *s, const struct tm_result *r)
{
    uint8_t digest[DIGEST_BYTES];

    input_digest(span_of(r->path.data, r->path.len), span_of(r->url.data, r->url.len),
                 span_of(r->data.data, r->data.len), digest);
    digests_add(&s->set, digest);
    s->left--;
}

static bool seen_has(const struct seen *s, const struct tm_input *in)
{
    uint8_t digest[DIGEST_BYTES];

    input_digest(span_str(in->path), span_str(in->url), span_of(in->data, in->data_len),
                 digest);
    return digests_has(&s->set, digest);
}

static void seen_free(struct seen *s)
{
    if (!s)
        return;
    digests_fini(&s->set);
    free(s);
}

/* ---- results ---- */

static void take(struct run *run, const struct tm_result *r)
{
    if (run->seen && run->seen->left)
        seen_add(run->seen, r);
    if (run->on_result)
        run->on_result(run->arg, r);
    else
        present_result(&run->present, r);
}

/* Inputs may wait long for a private coordinator's disk: not in silence. */
static void warn(struct run *run)
{
    struct tm_error why;

    if (!tm_warning(run->open.tm, &why))
        return;
    progress_clear(run->progress);
    cli_note("the private coordinator: %s", why.text);
    if (why.hint[0])
        cli_note("hint: %s", why.hint);
}

/* Nobody can run it. What was not begun is not left to begin some day, when nobody
 * expects it any more: as if it had been refused at once. */
static void withdraw_unbegun(struct run *run)
{
    struct tm_job_status st;

    tm_job_heard(run->job, &st);
    if (st.counts.ok + st.counts.failed + st.counts.quarantined == 0)
        run_withdraw(run);
}

/* Prints what is there; waits for the first at most timeout_ns. 1 = more may come, 0 =
 * that was all of the job, -1 = over. */
static int drain(struct run *run, int64_t timeout_ns)
{
    struct tm_result r;
    struct tm_error err = { 0 };
    bool taken = false;
    int rc;

    while ((rc = tm_next(run->job, &r, timeout_ns, &err)) == 1) {
        take(run, &r);
        taken = true;
        timeout_ns = 0;
        if (run->present.broken) {
            run->stop = cli_tm_error(&run->present.err);
            return -1;
        }
    }
    if (taken)
        fflush(stdout); /* who reads them shall not wait for the next ones */
    warn(run);
    progress_show(run->progress, run->job, rc == 0);
    if (rc == TM_AGAIN && interrupts)
        return interrupted(run);
    if (rc == -1) {
        progress_clear(run->progress);
        run->stop = cli_tm_error(&err);
        if (err.code == TM_UNPLACEABLE && run->submitted)
            withdraw_unbegun(run);
    }
    return rc == TM_AGAIN ? 1 : rc;
}

/* ---- the job ---- */

void run_key(struct run *run, const struct cli_args *call, struct span more)
{
    AUTO_FREE char *cwd = walk_absolute(".");
    AUTO_BUF words = BUF_INIT;

    crypto_init();
    buf_printf(&words, "%s%c", cwd, 0);
    for (int i = 0; call && i < call->argc; i++)
        buf_add(&words, call->argv[i], strlen(call->argv[i]) + 1);
    struct span parts[] = { buf_span(&words), more };
    crypto_digest(parts, ARRAY_LEN(parts), run->key);
}

/* The same command again: first everything it had accepted is seen, then the walk adds
 * what is absent (a walk is never resumed by count, R15). */
static int see_accepted(struct run *run)
{
    bool sealed = false;
    uint64_t accepted = tm_accepted(run->job, &sealed);

    if (!accepted || sealed) {
        run->draining = sealed;
        return 0;
    }
    if (run->counted) {
        run->skip = accepted;
        return 0;
    }
    run->seen = xcalloc(1, sizeof(*run->seen));
    run->seen->left = accepted;
    while (run->seen->left)
        if (drain(run, TM_FOREVER) != 1)
            return -1;
    return 0;
}

static int begin(struct run *run, struct tm_open_options *open, struct tm_job_spec *spec)
{
    const struct common *c = cli_common_now();
    AUTO_BUF present = BUF_INIT;
    struct tm_error err = { 0 };

    crypto_init();
    run->detach = c->detach;
    run->present.json = c->json;
    run->present.algos = spec->algos;
    run->present.out_algos = spec->out_algos;
    run->present.command = xstrdup(spec->command);
    present_pack(&run->present, &present);
    spec->present = present.data;
    spec->present_len = present.len;
    spec->name = c->name;
    spec->priority = (int32_t)c->priority;
    spec->retries = c->retries ? (int32_t)c->retries : -1;
    spec->task_timeout_ns = c->task_timeout_ns;
    spec->deadline_ns = c->deadline_ns;
    spec->detached = c->detach;
    if (c->state && !run->private_only)
        spec->key = run->key;
    int opened = run->private_only ? cli_open_private(open, &run->open, &err)
                                   : cli_open(open, &run->open, &err);
    if (opened < 0 || where_find(run->where, &run->open, spec, &run->found, &err) < 0 ||
        present_check_nodes(&run->present, (const char *const *)run->found.nodes,
                            run->found.n, &err) < 0 ||
        tm_submit(run->open.tm, spec, &run->job, &err) < 0)
        goto failed;
    run->submitted = true;
    run_catch_interrupts(run->open.tm);
    if (run->detach)
        return 0;
    run->progress = progress_new(c, spec->command);
    if (tm_follow(run->job, 0, TM_INPUTS | run->follow_flags, &err) < 0)
        goto failed;
    return see_accepted(run) < 0 ? run_end(run) : 0;
failed:
    run->stop = cli_tm_error(&err);
    return run_end(run);
}

/* One task. */
static int add(struct run *run, const struct tm_input *in)
{
    struct tm_error err = { 0 };
    int rc;

    if (run->draining || (run->seen && seen_has(run->seen, in)))
        return 0; /* it is a task already */
    if (run->skip) {
        run->skip--;
        return 0;
    }
    while ((rc = run->detach ? tm_add(run->job, in, &err)
                             : tm_try_add(run->job, in, &err)) == TM_AGAIN) {
        if (interrupts)
            return interrupted(run);
        if (!run->detach && drain(run, 10 * NS_PER_MS) < 0)
            return -1;
    }
    if (rc < 0 && err.code == TM_TOO_LARGE) { /* this input alone */
        run_refuse(run, in->shown ? in->shown : in->path ? in->path : in->url, err.text);
        return 0;
    }
    if (rc < 0) {
        run->stop = cli_tm_error(&err);
        return -1;
    }
    if (++run->added % DRAIN_EVERY == 0 && !run->detach && drain(run, 0) < 0)
        return -1;
    return interrupts ? interrupted(run) : 0;
}

int run_add(struct run *run, const struct tm_input *in)
{
    struct tm_input one = *in;
    size_t n = 0;

    if (run->stop)
        return -1;
    if (run->dry) {
        dry_add(run, in);
        return 0;
    }
    do {
        one.node = run->only ? run->only : run->found.n ? run->found.nodes[n] : NULL;
        if (add(run, &one) < 0)
            return -1;
    } while (!run->only && ++n < run->found.n);
    return 0;
}

int run_pause(struct run *run, int64_t timeout_ns)
{
    struct timespec pause = { 0, timeout_ns };

    if (interrupts)
        return interrupted(run);
    if (run->detach)
        return nanosleep(&pause, NULL) < 0 && interrupts ? interrupted(run) : 0;
    return drain(run, timeout_ns) < 0 ? -1 : 0;
}

int run_over(struct run *run, const char *why)
{
    struct err err = { 0 };

    err_set(&err, EXIT_ERROR, "%s", why);
    run->stop = cli_error(&err);
    return -1;
}

int run_await(struct run *run, int fd)
{
    if (run->dry)
        return 1; /* the read waits */
    struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
                            { .fd = tm_fd(run->open.tm), .events = POLLIN } };
    int rc;

    for (;;) {
        if (interrupts)
            return interrupted(run);
        if (poll(fds, run->detach ? 1 : 2, AWAIT_MS) < 0 && errno != EINTR)
            return 1; /* the read will say what is wrong */
        if (fds[1].revents)
            tm_process(run->open.tm, NULL);
        rc = run->detach ? 1 : drain(run, 0);
        run->over = rc == 0;
        if (rc <= 0)
            return -1;
        if (fds[0].revents)
            return 1;
    }
}

void run_refuse(struct run *run, const char *name, const char *why)
{
    struct tm_result r = { .status = TM_FAILED,
                           .shown = { (const uint8_t *)name, strlen(name) },
                           .error = { (const uint8_t *)why, strlen(why) },
                           .node = { (const uint8_t *)run->only,
                                     run->only ? strlen(run->only) : 0 } };

    run->refused++;
    progress_clear(run->progress);
    if (run->on_result)
        run->on_result(run->arg, &r);
    else if (run->job && (run->present.json || run->only)) {
        r.job = tm_job_id(run->job);
        present_result(&run->present, &r);
    } else
        cli_input_error(name, strlen(name), why);
}

/* ---- the end ---- */

static int seal(struct run *run)
{
    struct tm_error err = { 0 };

    if (run->draining)
        return 0;
    if (tm_seal(run->job, &err) < 0 ||
        (run->detach && tm_sync(run->job, TM_FOREVER, &err) < 0)) {
        run->stop = interrupts ? 0 : cli_tm_error(&err);
        return interrupts ? interrupted(run) : -1;
    }
    run->draining = true;
    return 0;
}

static void summary(const struct run *run, const struct tm_counts *c)
{
    const struct common *common = cli_common_now();
    uint64_t bad = c->failed + c->quarantined + c->cancelled + run->refused;
    char ok[32], failed[32];

    if (common->quiet || common->json || run->on_result || (!bad && !common->verbose))
        return;
    fprintf(stderr, "tidemill: j%llu: %s ok, %s failed",
            (unsigned long long)tm_job_id(run->job), cli_count(c->ok, ok),
            cli_count(bad, failed));
    if (run->open.endpoint && bad > run->refused)
        fprintf(stderr, " (tidemill results j%llu --failed)",
                (unsigned long long)tm_job_id(run->job));
    fprintf(stderr, "\n");
}

static int finish(struct run *run)
{
    struct tm_job_status st;
    struct tm_error err = { 0 };
    int rc;

    if (run->stop)
        return run->stop;
    if (seal(run) < 0)
        return run->stop;
    if (run->detach) {
        printf("j%llu\n", (unsigned long long)tm_job_id(run->job));
        return run->refused ? EXIT_SOME_FAILED : EXIT_OK;
    }
    while ((rc = drain(run, 100 * NS_PER_MS)) == 1)
        ;
    progress_clear(run->progress);
    if (rc < 0)
        return run->stop;
    tm_job_heard(run->job, &st);
    if (present_end(&run->present, &err) < 0)
        return cli_tm_error(&err);
    summary(run, &st.counts);
    if (st.state == TM_JOB_CANCELLED || st.state == TM_ABANDONED)
        return EXIT_CANCELLED;
    if (run->refused || st.counts.failed || st.counts.quarantined || st.counts.cancelled)
        return EXIT_SOME_FAILED;
    return EXIT_OK;
}

int run_end(struct run *run)
{
    int code = finish(run);

    if (run->on_end)
        run->on_end(run->arg);
    progress_free(run->progress);
    interrupt_tm = NULL;
    if (run->job)
        tm_job_free(run->job);
    cli_close(&run->open);
    present_fini(&run->present);
    where_found_fini(&run->found);
    seen_free(run->seen);
    fflush(stdout);
    memset(run, 0, sizeof(*run));
    return code;
}

int run_job(struct run *run, struct tm_open_options *open, struct tm_job_spec *spec,
            int (*feed)(void *arg), void *arg)
{
    int code;

    if (cli_common_now()->dry_run)
        return dry_run(run, feed, arg);
    code = begin(run, open, spec);
    if (code)
        return code;
    feed(arg);
    return run_end(run);
}
