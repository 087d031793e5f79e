/* One task submitted alone: a job of one input that is sealed and followed at once.
 * Nothing waits for the coordinator until the result is asked for. */
#include "client/lib/internal.h"

struct tm_future {
    LIST_ENTRY(tm_future) node;
    struct tm_job *job;
    struct tm_result result;
    bool done;
};

static int prepare(struct tm_job *job, const struct tm_input *in, struct err *err)
{
    if (chunk_add(job, in, err) < 0)
        return -1;
    chunk_close(job);
    job->sealing = true;
    return results_follow(job, 0, 0, err);
}

int tm_submit_one(struct tm *tm, const struct tm_job_spec *spec,
                  const struct tm_input *in, struct tm_future **ret,
                  struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct tm_job *job = NULL;
    struct err err;
    pthread_mutex_lock(&c->mu);
    int rc = conn_alive(c, &err);
    if (rc == 0)
        rc = job_new(c, spec, &job, &err);
    if (rc == 0) {
        rc = prepare(job, in, &err);
        if (rc < 0)
            job_forget(job);
    }
    if (rc == 0) {
        struct tm_future *f = xcalloc(1, sizeof(*f));
        f->job = job;
        LIST_INSERT_HEAD(&c->futures, f, node);
        *ret = f;
    }
    pthread_mutex_unlock(&c->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

int tm_future_result(struct tm_future *f, struct tm_result *ret, int64_t timeout_ns,
                     struct tm_error *terr)
{
    if (!f->done) {
        int rc = tm_next(f->job, &f->result, timeout_ns, terr);
        if (rc == 0) {
            struct err err;
            err_set(&err, TM_CANCELLED, "job %llu ended without its result",
                    (unsigned long long)f->job->id);
            return error_out(terr, &err);
        }
        if (rc != 1)
            return rc;
        f->done = true;
    }
    *ret = f->result;
    return 1;
}

int tm_future_cancel(struct tm_future *f, struct tm_error *terr)
{
    struct conn *c = f->job->conn;
    struct waiter w = conn_waiter(TM_FOREVER);
    struct err err;
    pthread_mutex_lock(&c->mu);
    int rc = 0;
    while (f->job->id == 0 && rc == 0) {
        rc = job_check(f->job, &err);
        if (rc == 0)
            rc = conn_wait(c, &w);
    }
    if (rc == 0)
        query_cancel_unheard(c, f->job->id);
    pthread_mutex_unlock(&c->mu);
    return rc == -1 ? error_out(terr, &err) : rc;
}

void future_free_locked(struct tm_future *f)
{
    LIST_REMOVE(f, node);
    job_drop(f->job);
    free(f);
}

void tm_future_free(struct tm_future *f)
{
    if (!f)
        return;
    struct conn *c = f->job->conn;
    pthread_mutex_lock(&c->mu);
    future_free_locked(f);
    pthread_mutex_unlock(&c->mu);
}
