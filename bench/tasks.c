/* Small tasks through libtidemill: 64 bytes in, SHA-256 out, every digest checked.
 *     bench-tasks ENDPOINT rate N          submit to last result, one job
 *     bench-tasks ENDPOINT unchecked N     the same without the check, which allocates
 *     bench-tasks ENDPOINT latency N       one task at a time, all in one job
 *     bench-tasks ENDPOINT futures N       one task at a time, a job each
 *     bench-tasks ENDPOINT queue N JOBS    put N tasks of JOBS jobs on the coordinator's
 * disk bench-tasks ENDPOINT drain ID JOBS   results of jobs ID, ID+1... until they have
 * ended bench-tasks ENDPOINT jobs N JOBS     rate, but shared out over JOBS jobs at once
 */
#include <pthread.h>
#include <tidemill.h>

#include "bench/common.h"

static const struct tm_job_spec spec = {
    .command = "map",
    .source = TM_SOURCE_BYTES,
    .algos = TM_BIT(TM_SHA256),
};

static struct tm *tm;

static void fail(const struct tm_error *err)
{
    die("bench-tasks: %s", err->text);
}

static void add(struct tm_job *job, uint64_t i)
{
    uint8_t data[PAYLOAD];
    struct tm_error err;
    payload(data, i);
    if (tm_add(job, &(struct tm_input){ .data = data, .data_len = PAYLOAD }, &err) != 0)
        fail(&err);
}

static struct tm_job *submit(void)
{
    struct tm_job *job;
    struct tm_error err;
    if (tm_submit(tm, &spec, &job, &err) != 0)
        fail(&err);
    return job;
}

/* A job and the digests that came of its n tasks, whose payloads begin with `first`. */
struct run {
    struct tm_job *job;
    uint64_t first, n;
    uint8_t (*digests)[DIGEST];
    uint8_t *seen;
};

static void run_init(struct run *r, uint64_t first, uint64_t n)
{
    *r = (struct run){ .job = submit(), .first = first, .n = n };
    r->digests = calloc(n, DIGEST);
    r->seen = calloc(n, 1);
    if (!r->digests || !r->seen)
        die("out of memory");
}

static void *fill(void *arg)
{
    struct run *r = arg;
    struct tm_error err;
    for (uint64_t i = 0; i < r->n; i++)
        add(r->job, r->first + i);
    if (tm_seal(r->job, &err) != 0)
        fail(&err);
    return NULL;
}

/* Keeps one result for the check that comes after the clock has stopped. */
static void keep(struct run *r, const struct tm_result *result)
{
    if (result->status != TM_OK || result->n_digests != 1 ||
        result->digests[0].bytes.len != DIGEST || result->task >= r->n)
        die("task %llu failed", (unsigned long long)result->task);
    memcpy(r->digests[result->task], result->digests[0].bytes.data, DIGEST);
    r->seen[result->task]++;
}

static void read_all(struct run *r)
{
    struct tm_result result;
    struct tm_error err;
    int rc;
    while ((rc = tm_next(r->job, &result, TM_FOREVER, &err)) == 1)
        keep(r, &result);
    if (rc != 0)
        fail(&err);
}

static void check(const struct run *r)
{
    uint8_t data[PAYLOAD], want[DIGEST];
    for (uint64_t i = 0; i < r->n; i++) {
        payload(data, r->first + i);
        sha256(data, PAYLOAD, want);
        if (r->seen[i] != 1 || memcmp(want, r->digests[i], DIGEST) != 0)
            die("task %llu: %u results, the digest is %s", (unsigned long long)i,
                r->seen[i], memcmp(want, r->digests[i], DIGEST) ? "wrong" : "right");
    }
}

static void rate(uint64_t n, bool checked)
{
    pthread_t feeder;
    struct run r;
    double start = now_s();
    run_init(&r, 0, n);
    pthread_create(&feeder, NULL, fill, &r);
    read_all(&r);
    pthread_join(feeder, NULL);
    double took = now_s() - start;
    if (checked)
        check(&r);
    emit("tasks.rate", (double)n / took, "tasks/s", "one job");
}

struct share {
    struct run *runs;
    uint64_t n;
};

/* Input by input from job to job, as many clients would. */
static void *fill_shares(void *arg)
{
    struct share *s = arg;
    struct tm_error err;
    for (uint64_t i = 0; i < s->runs[0].n; i++)
        for (uint64_t j = 0; j < s->n; j++)
            if (i < s->runs[j].n)
                add(s->runs[j].job, s->runs[j].first + i);
    for (uint64_t j = 0; j < s->n; j++)
        if (tm_seal(s->runs[j].job, &err) != 0)
            fail(&err);
    return NULL;
}

static void jobs(uint64_t n, uint64_t n_jobs)
{
    pthread_t feeder;
    struct share share = { calloc(n_jobs, sizeof(struct run)), n_jobs };
    for (uint64_t j = 0; j < n_jobs; j++) { /* each waits for its commit: not counted */
        struct tm_error err;
        run_init(&share.runs[j], j * (n / n_jobs), n / n_jobs);
        if (tm_follow(share.runs[j].job, 0, 0, &err) != 0) /* not one after the other */
            fail(&err);
    }
    double start = now_s();
    pthread_create(&feeder, NULL, fill_shares, &share);
    for (uint64_t j = 0; j < n_jobs; j++)
        read_all(&share.runs[j]);
    pthread_join(feeder, NULL);
    double took = now_s() - start;
    for (uint64_t j = 0; j < n_jobs; j++)
        check(&share.runs[j]);
    emit("tasks.jobs", (double)(n / n_jobs * n_jobs) / took, "tasks/s", "many jobs");
}

static void latency(uint64_t n)
{
    struct run r;
    struct tm_result result;
    struct tm_error err;
    double *took = calloc(n, sizeof(*took));
    run_init(&r, 0, n);
    for (uint64_t i = 0; i < n; i++) {
        double start = now_s();
        add(r.job, i);
        if (tm_flush(r.job, &err) != 0 || tm_next(r.job, &result, TM_FOREVER, &err) != 1)
            fail(&err);
        took[i] = now_s() - start;
        keep(&r, &result);
    }
    check(&r);
    emit_latency("latency.task", took, n, "one at a time in one job");
}

static void futures(uint64_t n)
{
    struct tm_result result;
    struct tm_error err;
    uint8_t data[PAYLOAD], want[DIGEST];
    double *took = calloc(n, sizeof(*took));
    for (uint64_t i = 0; i < n; i++) {
        struct tm_future *f;
        payload(data, i);
        sha256(data, PAYLOAD, want);
        double start = now_s();
        if (tm_submit_one(tm, &spec,
                          &(struct tm_input){ .data = data, .data_len = PAYLOAD }, &f,
                          &err) != 0 ||
            tm_future_result(f, &result, TM_FOREVER, &err) != 1)
            fail(&err);
        took[i] = now_s() - start;
        if (result.n_digests != 1 || memcmp(result.digests[0].bytes.data, want, DIGEST))
            die("the digest is wrong");
        tm_future_free(f);
    }
    emit_latency("latency.future", took, n, "one at a time, a job each");
}

static void queue(uint64_t n, uint64_t n_jobs)
{
    struct tm_error err;
    double start = now_s();
    uint64_t first = 0;
    for (uint64_t j = 0; j < n_jobs; j++) {
        struct tm_job_spec detached = spec;
        struct tm_job *job;
        detached.detached = true;
        if (tm_submit(tm, &detached, &job, &err) != 0)
            fail(&err);
        for (uint64_t i = 0; i < n / n_jobs; i++)
            add(job, j * (n / n_jobs) + i);
        if (tm_seal(job, &err) != 0 || tm_sync(job, TM_FOREVER, &err) != 0)
            fail(&err);
        first = first ? first : tm_job_id(job);
        tm_job_free(job);
    }
    emit("queue.rate", (double)(n / n_jobs * n_jobs) / (now_s() - start), "tasks/s",
         "submitted and on disk");
    printf("queue.first\t%llu\tid\tof the first job\n", (unsigned long long)first);
}

static void drain(uint64_t id, uint64_t n_jobs)
{
    struct tm_job_status status;
    struct tm_error err;
    uint64_t n = 0;
    double start = now_s();
    for (uint64_t j = 0; j < n_jobs; j++) {
        struct tm_job *job;
        struct tm_result result;
        int rc = tm_attach(tm, id + j, &job, &err);
        while (rc == 0 && (rc = tm_next(job, &result, TM_FOREVER, &err)) == 1)
            rc = 0;
        if (rc < 0)
            fail(&err);
        tm_job_heard(job, &status);
        n += status.counts.ok;
        tm_job_free(job);
    }
    emit("queue.drain", (double)n / (now_s() - start), "tasks/s", "leased, done, read");
    emit("queue.drained", (double)n, "tasks", "");
}

int main(int argc, char **argv)
{
    struct tm_error err;
    if (argc < 4)
        die("usage: bench-tasks ENDPOINT MODE N [JOBS]");
    struct tm_open_options open = { .coordinator = argv[1] };
    const char *mode = argv[2];
    uint64_t n = number(argv[3]), n_jobs = argc > 4 ? number(argv[4]) : 1;
    if (tm_open(&open, &tm, &err) != 0)
        fail(&err);
    if (strcmp(mode, "rate") == 0)
        rate(n, true);
    else if (strcmp(mode, "unchecked") == 0)
        rate(n, false);
    else if (strcmp(mode, "jobs") == 0)
        jobs(n, n_jobs);
    else if (strcmp(mode, "latency") == 0)
        latency(n);
    else if (strcmp(mode, "futures") == 0)
        futures(n);
    else if (strcmp(mode, "queue") == 0)
        queue(n, n_jobs);
    else if (strcmp(mode, "drain") == 0)
        drain(n, n_jobs);
    else
        die("unknown mode: %s", mode);
    tm_close(tm);
    return 0;
}
