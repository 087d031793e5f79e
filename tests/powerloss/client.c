/* A client that keeps a log of what it was promised, and one that holds a coordinator to
 * such a log. Both write and read lines
 *
 *   TIME accepted KEY TASKS     so many tasks of this job are on disk
 *   TIME result KEY TASK HEX    this result was seen
 *   TIME removing KEY           the job may be gone from now on
 *
 * TIME: monotonic ns, taken after the promise came (before the removal was asked for).
 *
 *   powerloss-client load ENDPOINT LOG SEED JOBS
 *   powerloss-client verify ENDPOINT LOG TIME    what was promised before TIME is there
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/tidemill.h"

enum { TASKS_MAX = 3000, DIGEST_SHOWN = 8 };

static void die(const char *what, const struct tm_error *err)
{
    fprintf(stderr, "powerloss-client: %s: %s\n", what, err ? err->text : "");
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void hex(const struct tm_result *r, char out[2 * DIGEST_SHOWN + 1])
{
    out[0] = 0;
    if (r->n_digests == 0)
        die("a result without a digest", NULL);
    for (int i = 0; i < DIGEST_SHOWN; i++)
        snprintf(out + 2 * i, 3, "%02x", r->digests[0].bytes.data[i]);
}

static struct tm *connect_to(const char *endpoint)
{
    struct tm_open_options o = { .coordinator = endpoint, .name = "powerloss" };
    struct tm_error err = { 0 };
    struct tm *tm;

    if (tm_open(&o, &tm, &err) < 0)
        die("open", &err);
    return tm;
}

/* ---- load ---- */

struct load {
    FILE *log;
    struct tm_job *job;
    unsigned key;
    uint64_t accepted, seen;
};

static void note(struct load *l)
{
    uint64_t accepted = tm_accepted(l->job, NULL);

    if (accepted == l->accepted)
        return;
    l->accepted = accepted;
    fprintf(l->log, "%" PRId64 " accepted %u %" PRIu64 "\n", now_ns(), l->key, accepted);
}

/* Takes results, waiting for each at most so long; 1 = that were all. */
static int take(struct load *l, int64_t wait_ns)
{
    struct tm_error err = { 0 };
    struct tm_result r;
    char digest[2 * DIGEST_SHOWN + 1];
    int rc;

    while ((rc = tm_next(l->job, &r, wait_ns, &err)) == 1) {
        hex(&r, digest);
        fprintf(l->log, "%" PRId64 " result %u %" PRIu64 " %s\n", now_ns(), l->key,
                r.task, digest);
        l->seen++;
    }
    note(l);
    if (rc == -1)
        die("next", &err);
    return rc == 0;
}

static void one_job(struct tm *tm, FILE *log, unsigned key)
{
    struct load l = { .log = log, .key = key };
    uint8_t key_bytes[16] = { 0 };
    struct tm_error err = { 0 };
    struct tm_job_spec spec = { .source = TM_SOURCE_BYTES,
                                .algos = 1u << TM_SHA256,
                                .key = key_bytes };
    unsigned tasks = 1 + (unsigned)rand() % TASKS_MAX, burst = 1 + (unsigned)rand() % 500;
    char data[300];

    memcpy(key_bytes, &key, sizeof(key));
    memset(data, 'x', sizeof(data));
    if (tm_submit(tm, &spec, &l.job, &err) < 0 || tm_follow(l.job, 0, 0, &err) < 0)
        die("submit", &err);
    for (unsigned i = 0; i < tasks; i++) {
        int n = snprintf(data, 64, "job %u task %u ", key, i);
        data[n] = 'x';
        struct tm_input in = { .data = data, .data_len = 20 + (unsigned)rand() % 280 };
        if (tm_add(l.job, &in, &err) < 0)
            die("add", &err);
        if (i % burst == 0) {
            tm_flush(l.job, &err);
            take(&l, 0);
        }
    }
    if (tm_seal(l.job, &err) < 0)
        die("seal", &err);
    while (!take(&l, 1000000))
        ;
    if (l.seen != tasks)
        die("not every task has a result", NULL);
    if (rand() % 3 == 0) {
        fprintf(log, "%" PRId64 " removing %u\n", now_ns(), key);
        if (tm_remove(tm, tm_job_id(l.job), &err) < 0)
            die("remove", &err);
    }
    tm_job_free(l.job);
}

static int load(const char *endpoint, const char *path, unsigned seed, unsigned jobs)
{
    struct tm *tm = connect_to(endpoint);
    FILE *log = fopen(path, "w");

    if (!log)
        die(path, NULL);
    srand(seed);
    for (unsigned key = 1; key <= jobs; key++)
        one_job(tm, log, key);
    if (fclose(log) != 0)
        die(path, NULL);
    tm_close(tm);
    return 0;
}

/* ---- verify ---- */

struct promise {
    uint64_t accepted, results;
    int removing;
    char *digests; /* TASKS_MAX of them, "" = not seen */
};

static struct promise *read_log(const char *path, int64_t before, unsigned *ret_n)
{
    struct promise *all = NULL;
    char line[256], what[16], digest[2 * DIGEST_SHOWN + 1];
    FILE *f = fopen(path, "r");
    unsigned n = 0, key;
    uint64_t number;
    int64_t at;

    if (!f)
        die(path, NULL);
    while (fgets(line, sizeof(line), f)) {
        number = 0;
        digest[0] = 0;
        if (sscanf(line, "%" SCNd64 " %15s %u %" SCNu64 " %16s", &at, what, &key, &number,
                   digest) < 3 ||
            at >= before)
            continue;
        if (key > n) {
            all = realloc(all, key * sizeof(*all));
            memset(all + n, 0, (key - n) * sizeof(*all));
            n = key;
        }
        struct promise *p = &all[key - 1];
        if (!p->digests)
            p->digests = calloc(TASKS_MAX, sizeof(digest));
        if (what[0] == 'a') {
            p->accepted = number;
        } else if (what[2] == 's') { /* result */
            memcpy(p->digests + number * sizeof(digest), digest, sizeof(digest));
            p->results++;
        } else {
            p->removing = 1;
        }
    }
    fclose(f);
    *ret_n = n;
    return all;
}

/* Every result that was seen is there, and is what it was. */
static void verify_results(struct tm_job *job, unsigned key, const struct promise *p)
{
    struct tm_error err = { 0 };
    struct tm_result r;
    char digest[2 * DIGEST_SHOWN + 1];
    char *twice = calloc(TASKS_MAX, 1);
    uint64_t found = 0;

    if (tm_follow(job, 0, TM_INPUTS, &err) < 0)
        die("follow", &err);
    while (found < p->results && tm_next(job, &r, 5000000000, &err) == 1) {
        const char *was = p->digests + r.task * sizeof(digest);
        hex(&r, digest);
        if (r.task >= TASKS_MAX || twice[r.task]++)
            die("a task has two records", NULL);
        if (*was && strcmp(was, digest) != 0)
            die("a record has changed", NULL);
        found += *was != 0;
    }
    free(twice);
    if (found < p->results) {
        fprintf(stderr, "job %u: %" PRIu64 " of %" PRIu64 " results: %s\n", key, found,
                p->results, err.text);
        die("results are lost", NULL);
    }
}

/* The job's id, by its key: the ids count as the jobs were submitted. */
static void verify_job(struct tm *tm, unsigned key, const struct promise *p)
{
    struct tm_job_status st;
    struct tm_error err = { 0 };
    struct tm_job *job;

    if (tm_attach(tm, key, &job, &err) < 0) {
        if (p->removing && err.code == TM_NOT_FOUND)
            return;
        die("a job is lost", &err);
    }
    if (tm_job_status(job, &st, &err) < 0)
        die("status", &err);
    if (st.counts.tasks < p->accepted) {
        fprintf(stderr, "job %u: %" PRIu64 " of %" PRIu64 " tasks\n", key,
                st.counts.tasks, p->accepted);
        die("inputs are lost", NULL);
    }
    verify_results(job, key, p);
    tm_job_free(job);
}

static int verify(const char *endpoint, const char *path, int64_t before)
{
    struct tm *tm = connect_to(endpoint);
    unsigned n = 0;
    struct promise *all = read_log(path, before, &n);

    for (unsigned i = 0; i < n; i++) {
        if (all[i].accepted)
            verify_job(tm, i + 1, &all[i]);
        free(all[i].digests);
    }
    free(all);
    tm_close(tm);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "load") == 0)
        return load(argv[2], argv[3], (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
    if (argc == 5 && strcmp(argv[1], "verify") == 0)
        return verify(argv[2], argv[3], atoll(argv[4]));
    fprintf(stderr, "usage: powerloss-client load ENDPOINT LOG SEED JOBS\n"
                    "       powerloss-client verify ENDPOINT LOG TIME\n");
    return 2;
}
