/* tidemill job retry: a new job over those tasks of an ended one that failed. It has the
 * old one's spec, name, priority and limits; no record is replaced (R16).
 *
 * The new job's key is made of the old one's, of what is selected and of how many tasks
 * that are, so a retry that was interrupted is found again by the same command. The
 * records of an ended job never change: what is selected is the same sequence each time,
 * in the order of the tasks, and what the new job has on disk is the beginning of it. So
 * it goes on after as many (unlike a walk, whose files may have changed: R15).
 *
 * A retry that was submitted whole is not submitted again: its job is named, for what
 * still fails is among that one's. One that was removed, or that ended before it was
 * whole, is in nobody's way: then comes the next generation of the key. */
#include "base/crypto.h"
#include "client/cmd.h"
#include "client/json.h"
#include "proto/select.h"

enum { GENERATIONS_MAX = 1000 };

struct retry {
    struct tm *tm;
    uint64_t old;
    const char *class; /* NULL = all that is not ok */
    struct tm_job_spec spec;
    uint64_t n; /* selected */
};

static bool selects(const struct retry *r, enum tm_status status)
{
    return status != TM_OK && (!r->class || strcmp(tm_class_name(status), r->class) == 0);
}

/* Opens the failed ones of the old job, in the order of tasks. */
static int open_failed(const struct retry *r, unsigned flags, struct tm_job **ret,
                       struct tm_error *err)
{
    if (tm_attach(r->tm, r->old, ret, err) < 0)
        return -1;
    if (tm_follow(*ret, 0, flags | TM_TASK_ORDER | TM_FAILED_ONLY, err) == 0)
        return 0;
    tm_job_free(*ret);
    return -1;
}

static int count(struct retry *r, struct tm_error *err)
{
    struct tm_job *failed;
    struct tm_result result;
    int rc;

    if (open_failed(r, 0, &failed, err) < 0)
        return -1;
    while ((rc = tm_next(failed, &result, TM_FOREVER, err)) == 1)
        r->n += selects(r, result.status);
    tm_job_free(failed);
    return rc;
}

/* each: a task is of the node that its result names. */
static int add(struct tm_job *job, const struct tm_result *r, bool each,
               struct tm_error *err)
{
    AUTO_FREE char *node = each ? span_dup(span_of(r->node.data, r->node.len)) : NULL;
    struct tm_input in = {
        .node = node,
        .shown = r->shown.len ? (const char *)r->shown.data : NULL,
        .shown_len = r->shown.len,
        .out = r->out.len ? (const char *)r->out.data : NULL,
        .out_len = r->out.len,
        .size = r->size_hint,
    };

    if (r->path.len) {
        in.path = (const char *)r->path.data;
        in.path_len = r->path.len;
    } else if (r->url.len) {
        in.url = (const char *)r->url.data;
        in.url_len = r->url.len;
    } else {
        in.data = r->data.len ? (const void *)r->data.data : "";
        in.data_len = r->data.len;
    }
    return tm_add(job, &in, err);
}

/* Adds what is selected but for the first `skip`, and seals. */
static int feed(const struct retry *r, struct tm_job *job, uint64_t skip,
                struct tm_error *err)
{
    struct tm_job *failed;
    struct tm_result result;
    int rc;

    if (open_failed(r, TM_INPUTS, &failed, err) < 0)
        return -1;
    while ((rc = tm_next(failed, &result, TM_FOREVER, err)) == 1) {
        if (!selects(r, result.status))
            continue;
        if (skip)
            skip--;
        else if (add(job, &result, select_each(span_str(r->spec.on)), err) < 0)
            break;
    }
    tm_job_free(failed);
    if (rc != 0)
        return -1;
    return tm_seal(job, err) < 0 ? -1 : tm_sync(job, TM_FOREVER, err);
}

static void key_of(const struct retry *r, unsigned generation, const uint8_t old[16],
                   uint8_t key[16])
{
    AUTO_BUF text = BUF_INIT;

    buf_add(&text, old, 16);
    buf_printf(&text, "retry %s %llu %u", r->class ? r->class : "all",
               (unsigned long long)r->n, generation);
    struct span part = buf_span(&text);
    crypto_digest(&part, 1, key);
}

static void say(const struct retry *r, uint64_t id)
{
    AUTO_BUF out = BUF_INIT;

    if (!cli_common_now()->json) {
        printf("j%llu\n", (unsigned long long)id);
        return;
    }
    json_open(&out);
    json_uint(&out, "v", 1);
    json_uint(&out, "job", id);
    json_uint(&out, "retried", r->old);
    json_uint(&out, "tasks", r->n);
    json_close(&out);
    puts(buf_str(&out));
}

/* Makes this generation's job, or goes on with it: 1 = its id is said, 0 = it is no use,
 * -1. */
static int generation(const struct retry *r, unsigned number, struct tm_error *err)
{
    struct tm_job_spec spec = r->spec;
    struct tm_job *job;
    uint8_t key[16];
    bool whole, sealed;
    int rc = 1;

    key_of(r, number, r->spec.key, key);
    spec.key = key;
    if (tm_submit(r->tm, &spec, &job, err) < 0)
        return err->code == EXIT_NOTHING ? 0 : -1; /* removed */
    uint64_t have = tm_accepted(job, &sealed), id = tm_job_id(job);
    whole = sealed && have == r->n;
    if (whole)
        cli_note("j%llu was retried as j%llu; what fails of that: tidemill job retry "
                 "j%llu",
                 (unsigned long long)r->old, (unsigned long long)id,
                 (unsigned long long)id);
    else if (sealed)
        rc = 0;
    else if (feed(r, job, have, err) < 0)
        rc = -1;
    tm_job_free(job);
    if (rc == 1)
        say(r, id);
    return rc;
}

static int make(struct retry *r, struct tm_job *old, struct tm_error *err)
{
    unsigned long long id = r->old;
    struct tm_job_status status;
    int rc = 0;

    if (tm_job_status(old, &status, err) < 0 || tm_job_describe(old, &r->spec, err) < 0)
        return -1;
    if (!status.ended || !r->spec.key) {
        err->code = EXIT_ERROR;
        snprintf(err->text, sizeof(err->text), "j%llu has not ended", id);
        snprintf(err->hint, sizeof(err->hint),
                 "tidemill wait j%llu, or tidemill job cancel j%llu", id, id);
        return -1;
    }
    if (r->spec.source == TM_SOURCE_DIR) {
        err->code = EXIT_ERROR;
        snprintf(err->text, sizeof(err->text), "j%llu is a walk of directories", id);
        snprintf(err->hint, sizeof(err->hint), "say the command again that made it");
        return -1;
    }
    if (count(r, err) < 0)
        return -1;
    if (r->n == 0) {
        err->code = EXIT_NOTHING;
        snprintf(err->text, sizeof(err->text), "j%llu has nothing to retry", id);
        snprintf(err->hint, sizeof(err->hint), "tidemill results j%llu --failed", id);
        return -1;
    }
    for (unsigned i = 0; i < GENERATIONS_MAX && rc == 0; i++)
        rc = generation(r, i, err);
    if (rc == 0) {
        err->code = EXIT_ERROR;
        snprintf(err->text, sizeof(err->text),
                 "j%llu was retried %d times, and none is left", id, GENERATIONS_MAX);
        return -1;
    }
    return rc;
}

int retry_job(struct tm *tm, uint64_t id, const char *class)
{
    struct retry r = { .tm = tm, .old = id, .class = class };
    struct tm_error err = { 0 };
    struct tm_job *old = NULL;
    int rc = tm_attach(tm, id, &old, &err);

    if (rc == 0)
        rc = make(&r, old, &err);
    tm_job_free(old);
    return rc < 0 ? cli_tm_error(&err) : EXIT_OK;
}
