/* The calls of the public header that submit. */
#include "client/lib/internal.h"

/* Waits until the coordinator has given the job an id. */
static int await_id(struct tm_job *job, struct err *err)
{
    struct waiter w = conn_waiter(TM_FOREVER);
    while (!job->accepted) {
        if (job_check(job, err) < 0)
            return -1;
        if (conn_wait(job->conn, &w) != 0)
            return TM_AGAIN;
    }
    return 0;
}

/* A known key: how many tasks an earlier process has put on disk. */
static int ask_earlier(struct tm_job *job, struct err *err)
{
    struct tm_rows *rows = NULL;
    int rc = query_run(job->conn, "job", job->id, &rows, err);
    if (rc != 0)
        return rc;
    bool found = tm_rows_next(rows);
    job->earlier = tm_rows_uint(rows, "tasks");
    job->tasks_on_disk = job->earlier;
    tm_rows_free(rows);
    return found ? 0 : err_set(err, TM_ERROR, "the coordinator does not know the job");
}

int tm_submit(struct tm *tm, const struct tm_job_spec *spec, struct tm_job **ret,
              struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct err err = { 0 };
    struct tm_job *job = NULL;
    bool earlier = false;
    pthread_mutex_lock(&c->mu);
    int rc = conn_alive(c, &err);
    if (rc == 0)
        rc = job_new(c, spec, &job, &err);
    if (rc == 0) {
        job_ready(job);
        conn_kick(c);
        rc = await_id(job, &err);
        if (rc == TM_AGAIN && !spec->key && job->on_asked)
            job->unwanted = true; /* its Accepted cancels it */
        else if (rc != 0)
            job_forget(job);
        earlier = rc == 0 && job->chunks_on_disk > 0;
    }
    pthread_mutex_unlock(&c->mu);
    if (earlier) {
        rc = ask_earlier(job, &err);
        if (rc != 0)
            tm_job_free(job);
    }
    if (rc == 0)
        *ret = job;
    return rc == -1 ? error_out(terr, &err) : rc;
}

int tm_attach(struct tm *tm, uint64_t job_id, struct tm_job **ret, struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct tm_rows *rows = NULL;
    struct err err = { 0 };
    int rc = query_run(c, "job", job_id, &rows, &err);
    if (rc != 0)
        return rc == -1 ? error_out(terr, &err) : rc;
    bool found = tm_rows_next(rows);
    tm_rows_free(rows);
    if (!found) {
        err_set(&err, TM_NOT_FOUND, "no such job: %llu", (unsigned long long)job_id);
        return error_out(terr, &err);
    }
    pthread_mutex_lock(&c->mu);
    job_new(c, NULL, ret, &err);
    (*ret)->id = job_id;
    pthread_mutex_unlock(&c->mu);
    return 0;
}

void tm_job_free(struct tm_job *job)
{
    if (!job)
        return;
    struct conn *c = job->conn;
    pthread_mutex_lock(&c->mu);
    job_drop(job);
    pthread_mutex_unlock(&c->mu);
}

uint64_t tm_job_id(const struct tm_job *job)
{
    pthread_mutex_lock(&job->conn->mu);
    uint64_t id = job->id;
    pthread_mutex_unlock(&job->conn->mu);
    return id;
}

/* -1 when what was added will not be done. */
static int check_taken(struct tm_job *job, struct err *err)
{
    unsigned long long id = job->id;
    if (job_check(job, err) < 0)
        return -1;
    if (job->heard.state == TM_JOB_CANCELLED)
        return err_set(err, TM_CANCELLED, "job %llu was cancelled", id);
    if (job->heard.state == TM_ABANDONED)
        return err_set(err, TM_CANCELLED, "job %llu was abandoned", id);
    return 0;
}

/* -1 when the job takes no more inputs. */
static int check_open(struct tm_job *job, struct err *err)
{
    unsigned long long id = job->id;
    if (check_taken(job, err) < 0)
        return -1;
    if (job->attached)
        return err_set(err, TM_USAGE, "job %llu was not submitted here", id);
    if (job->sealing || job->sealed)
        return err_set(err, TM_USAGE, "job %llu is sealed: it takes no more inputs", id);
    return 0;
}

static int add(struct tm_job *job, const struct tm_input *in, bool wait,
               struct tm_error *terr)
{
    struct err err;
    struct waiter w = conn_waiter(TM_FOREVER);
    pthread_mutex_lock(&job->conn->mu);
    int rc;
    do {
        rc = check_open(job, &err);
        if (rc == 0)
            rc = chunk_add(job, in, &err);
    } while (rc == TM_AGAIN && wait && conn_wait(job->conn, &w) == 0);
    pthread_mutex_unlock(&job->conn->mu);
    return rc == -1 ? error_out(terr, &err) : rc;
}

int tm_add(struct tm_job *job, const struct tm_input *in, struct tm_error *err)
{
    return add(job, in, true, err);
}

int tm_try_add(struct tm_job *job, const struct tm_input *in, struct tm_error *err)
{
    return add(job, in, false, err);
}

int tm_flush(struct tm_job *job, struct tm_error *terr)
{
    struct err err;
    pthread_mutex_lock(&job->conn->mu);
    int rc = job_check(job, &err);
    if (rc == 0 && job->open_n > 0) {
        chunk_close(job);
        conn_kick(job->conn);
    }
    pthread_mutex_unlock(&job->conn->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

int tm_seal(struct tm_job *job, struct tm_error *terr)
{
    struct err err;
    pthread_mutex_lock(&job->conn->mu);
    int rc = job->sealing || job->sealed ? job_check(job, &err) : check_open(job, &err);
    if (rc == 0 && !job->sealing) {
        chunk_close(job);
        job->sealing = true;
        job_ready(job);
        conn_kick(job->conn);
    }
    pthread_mutex_unlock(&job->conn->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

uint64_t tm_added(const struct tm_job *job)
{
    pthread_mutex_lock(&job->conn->mu);
    uint64_t added = job->added;
    pthread_mutex_unlock(&job->conn->mu);
    return added;
}

uint64_t tm_accepted(const struct tm_job *job, bool *ret_sealed)
{
    pthread_mutex_lock(&job->conn->mu);
    uint64_t tasks = job->tasks_on_disk;
    if (ret_sealed)
        *ret_sealed = job->sealed;
    pthread_mutex_unlock(&job->conn->mu);
    return tasks;
}

int tm_sync(struct tm_job *job, int64_t timeout_ns, struct tm_error *terr)
{
    struct err err;
    struct waiter w = conn_waiter(timeout_ns);
    struct conn *c = job->conn;
    pthread_mutex_lock(&c->mu);
    if (job->open_n > 0) {
        chunk_close(job);
        conn_kick(c);
    }
    int rc = check_taken(job, &err);
    while (rc == 0 && (!STAILQ_EMPTY(&job->chunks) || (job->sealing && !job->sealed))) {
        rc = conn_wait(c, &w);
        if (rc == 0)
            rc = check_taken(job, &err);
    }
    pthread_mutex_unlock(&c->mu);
    return rc == -1 ? error_out(terr, &err) : rc;
}
