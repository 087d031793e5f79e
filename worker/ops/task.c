#include "worker/ops/task.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/failpoint.h"
#include "worker/ops/age.h"
#include "worker/ops/hash.h"
#include "worker/ops/part.h"
#include "worker/ops/walkdir.h"

/* One read: large enough for the disk, small enough for the second-level cache. */
enum { READ_BYTES = 256 * KIB };
/* What a returned body leaves of VALUE_MAX_BYTES for digests and names. */
enum { BODY_MAX_BYTES = VALUE_MAX_BYTES - 4 * KIB };

/* Kept between tasks, so that a small task allocates nothing. */
struct tools {
    struct hash *in, *out;
    uint8_t *read;
    struct buf stage; /* what the transform gave */
};
static _Thread_local struct tools tools;

struct run {
    const struct task_env *env;
    const struct task_work *work;
    struct task_value *ret;
    struct buf *mem;
    enum task_status status; /* of a failure */
    struct age_enc *enc;
    bool sealed; /* enc has had its end */
    struct age_dec *dec;
    int out_fd;
    mode_t mode;    /* of the output, once it is written */
    bool shared;    /* there are ranges to come */
    struct err err; /* last: written by who fails, not cleared for every task */
};

static int fail(struct run *r, enum task_status status)
{
    r->status = status;
    return -1;
}

uint8_t *task_pages(size_t len)
{
    enum { PAGE = 4 * KIB };
    void *at = aligned_alloc(PAGE, (len + PAGE - 1) / PAGE * PAGE);

    CHECK(at);
    return at;
}

enum task_status task_status_of(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ESTALE:
        return TASK_RETRYABLE;
    default:
        return TASK_FAILED;
    }
}

/* ---- sink ---- */

static int put_file(struct run *r, struct span bytes)
{
    while (bytes.len) {
        ssize_t n = write(r->out_fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set(&r->err, 1, "cannot write the output: %s", strerror(errno));
            return fail(r, task_status_of(errno));
        }
        bytes = span_of(bytes.data + n, bytes.len - (size_t)n);
    }
    return 0;
}

static int put(struct run *r, struct span bytes)
{
    r->ret->out_bytes += bytes.len;
    if (r->work->spec->out_algos)
        hash_update(tools.out, bytes);
    switch (r->work->spec->sink) {
    case SINK_FILE:
        return put_file(r, bytes);
    case SINK_RETURN:
        if (r->mem->len + bytes.len > BODY_MAX_BYTES) {
            err_set(&r->err, 1, "too large to be returned (over %d bytes)",
                    BODY_MAX_BYTES);
            return fail(r, TASK_FAILED);
        }
        buf_add_span(r->mem, bytes);
        return 0;
    case SINK_NONE:
        return 0;
    }
    return 0;
}

/* ---- stages ---- */

static int put_stage(struct run *r)
{
    int rc = put(r, buf_span(&tools.stage));
    buf_clear(&tools.stage);
    return rc;
}

static int stages_begin(struct run *r)
{
    const struct job_spec *s = r->work->spec;

    if (!tools.in) {
        tools.in = hash_new();
        tools.out = hash_new();
    }
    if (s->algos)
        hash_begin(tools.in, s->algos);
    if (s->out_algos)
        hash_begin(tools.out, s->out_algos);
    buf_clear(&tools.stage);
    if (s->transform == TRANSFORM_ENCRYPT) {
        if (age_enc_new(s->recipients, s->n_recipients, s->armor, &tools.stage, &r->enc,
                        &r->err) < 0)
            return fail(r, TASK_FAILED);
        return 0; /* the header is written with what comes first */
    }
    if (s->transform == TRANSFORM_DECRYPT)
        r->dec = age_dec_new(r->env->identities);
    return 0;
}

/* last: nothing follows for certain, so what is written of it goes in one piece. */
static int stages_pass(struct run *r, struct span bytes, bool last)
{
    r->ret->bytes += bytes.len;
    if (r->work->spec->algos)
        hash_update(tools.in, bytes);
    if (r->enc) {
        r->sealed = last;
        if (last)
            age_enc_end(r->enc, bytes, &tools.stage);
        else
            age_enc_update(r->enc, bytes, &tools.stage);
        return put_stage(r);
    }
    if (r->dec) {
        if (age_dec_update(r->dec, bytes, &tools.stage, &r->err) < 0)
            return fail(r, TASK_FAILED);
        return put_stage(r);
    }
    return put(r, bytes);
}

static int stages_end(struct run *r)
{
    const struct job_spec *s = r->work->spec;

    if (r->enc && !r->sealed) {
        age_enc_end(r->enc, SPAN_NONE, &tools.stage);
        if (put_stage(r) < 0)
            return -1;
    }
    if (r->dec) {
        if (age_dec_end(r->dec, &tools.stage, &r->err) < 0)
            return fail(r, TASK_FAILED);
        if (put_stage(r) < 0)
            return -1;
    }
    if (s->algos)
        r->ret->n_digests = hash_end(tools.in, r->ret->digests);
    if (s->out_algos)
        r->ret->n_out_digests = hash_end(tools.out, r->ret->out_digests);
    return 0;
}

/* ---- source ---- */

bool task_cancelled(const struct task_env *env)
{
    if (env->moved)
        task_moved(env);
    return env->cancelled && atomic_load_explicit(env->cancelled, memory_order_relaxed);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* before: of a file that must not change meanwhile; NULL: it has no other writer. */
static int pass_fd(struct run *r, int fd, const struct stat *before)
{
    struct stat body, after;
    uint64_t start = r->ret->bytes;
    off_t at = 0, size;

    if (!tools.read)
        tools.read = task_pages(READ_BYTES);
    if (!before && fstat(fd, &body) < 0)
        goto failed;
    size = before ? before->st_size : body.st_size;
    if (size > READ_BYTES)
        posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t n = pread(fd, tools.read, READ_BYTES, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            goto failed;
        if (n == 0)
            break;
        if (task_cancelled(r->env)) {
            err_set(&r->err, 1, "cancelled");
            return fail(r, TASK_CANCELLED);
        }
        at += n;
        /* Files that say their size are read once less. /proc says 0. */
        bool last = size && at >= size;
        if (stages_pass(r, span_of(tools.read, (size_t)n), last) < 0)
            return -1;
        if (last)
            break;
    }
    if (!before)
        return 0;
    if (fstat(fd, &after) < 0)
        goto failed;
    if (!same_file(before, &after) || (size && r->ret->bytes - start != (uint64_t)size)) {
        err_set(&r->err, 1, "changed while it was read");
        return fail(r, TASK_RETRYABLE);
    }
    return 0;
failed:
    err_set(&r->err, 1, "cannot be read: %s", strerror(errno));
    return fail(r, task_status_of(errno));
}

static mode_t default_mode(void)
{
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

/* The output has the permissions of the source, when that is a file. */
static int open_sink(struct run *r, const struct stat *source)
{
    if (r->work->spec->sink != SINK_FILE)
        return 0;
    if (r->work->in->out.len == 0) {
        err_set(&r->err, 1, "no output file is named");
        return fail(r, TASK_FAILED);
    }
    if (files_create(r->env->roots, r->work->in->out, &r->work->attempt,
                     r->work->spec->force, &r->out_fd, &r->err) < 0)
        return fail(r, task_status_of(errno));
    r->mode = source ? source->st_mode & 0777 : default_mode();
    return 0;
}

/* ---- parts (part.h) ---- */

/* 1: it is shared, and its part is the value; 0: the whole task is to be run here. */
static int run_head(struct run *r, int source)
{
    struct part part;
    bool shared;
    enum task_status status =
        part_head(r->env, r->work->spec, source, r->out_fd, &part, &shared, &r->err);

    if (status == TASK_OK && shared) {
        part.mode = r->mode;
        buf_add(r->mem, &part, sizeof(part));
        r->ret->has_body = r->shared = true;
    }
    crypto_zero(&part, sizeof(part));
    return status != TASK_OK ? fail(r, status) : shared;
}

static int run_range(struct run *r, int source)
{
    int64_t began = clock_mono_ns();
    enum task_status status;

    if (files_reopen(r->env->roots, r->work->in->out, &r->work->attempt, &r->out_fd,
                     &r->err) < 0)
        return fail(r, TASK_FAILED);
    status =
        part_range(r->env, r->work->part, source, r->out_fd, &r->ret->out_bytes, &r->err);
    r->ret->elapsed_us = (uint64_t)(clock_mono_ns() - began) / 1000;
    return status == TASK_OK ? 0 : fail(r, status);
}

static bool is_range(const struct task_work *w)
{
    return w->part && w->part->kind == PART_RANGE;
}

/* ---- the whole ---- */

/* From a source to an open sink. */
static int run_stages(struct run *r, int source, const struct stat *before)
{
    const struct task_work *w = r->work;
    int rc = stages_begin(r);

    if (rc == 0 && source >= 0)
        rc = pass_fd(r, source, before);
    else if (rc == 0)
        rc = stages_pass(r, w->has_body ? w->body : w->in->data, true);
    return rc == 0 ? stages_end(r) : rc;
}

static int run(struct run *r)
{
    const struct task_work *w = r->work;
    int source = w->body_fd, rc;
    bool opened = false;
    struct stat st;

    if (w->spec->source == SOURCE_DIR) {
        r->status = walkdir_run(r->env, w->in, r->mem, r->ret, &r->err);
        return r->status == TASK_OK ? 0 : -1;
    }
    if (!w->has_body && source < 0 && w->in->path.len) {
        if (files_open(r->env->roots, w->in->path, &source, &st, &r->err) < 0)
            return fail(r, task_status_of(errno));
        opened = true;
    } else if (!w->has_body && source < 0 && !w->in->has_data) {
        err_set(&r->err, 1, "nothing to read");
        return fail(r, TASK_FAILED);
    }
    if (is_range(w)) {
        rc = run_range(r, source);
    } else {
        rc = open_sink(r, opened ? &st : NULL);
        if (rc == 0 && w->part)
            rc = run_head(r, source);
        if (rc == 0)
            rc = run_stages(r, source, opened ? &st : NULL);
    }
    if (opened)
        close(source);
    return rc;
}

/* Closes the output; what failed leaves nothing behind. */
static int close_sink(struct run *r, int rc)
{
    if (r->out_fd < 0)
        return rc;
    FAILPOINT("mill_file_close_before");
    /* What is shared gets it behind its last range. Not every file system has modes. */
    if (rc == 0 && !r->shared && !is_range(r->work))
        fchmod(r->out_fd, r->mode);
    if (close(r->out_fd) < 0 && rc == 0) {
        err_set(&r->err, 1, "cannot write the output: %s", strerror(errno));
        rc = fail(r, task_status_of(errno));
    }
    if (rc < 0 && !is_range(r->work))
        files_discard(r->env->roots, r->work->in->out, &r->work->attempt);
    return rc;
}

enum task_status task_run(const struct task_env *env, const struct task_work *work,
                          struct buf *mem, struct task_value *ret)
{
    struct run r;
    int rc;

    memset(&r, 0, offsetof(struct run, err));
    r.env = env;
    r.work = work;
    r.ret = ret;
    r.mem = mem;
    r.out_fd = -1;
    value_clear(ret);
    buf_clear(mem);
    rc = close_sink(&r, run(&r));
    age_enc_free(r.enc);
    age_dec_free(r.dec);
    if (rc < 0) {
        value_clear(ret);
        buf_clear(mem);
        buf_printf(mem, "%s", r.err.text);
        ret->error = buf_span(mem);
        return r.status;
    }
    if (work->spec->sink == SINK_RETURN || ret->has_body) {
        ret->body = buf_span(mem);
        ret->has_body = true;
    }
    if (work->spec->sink == SINK_FILE)
        ret->output = work->in->out;
    if (work->spec->sink == SINK_NONE && work->spec->transform == TRANSFORM_NONE)
        ret->out_bytes = 0;
    return TASK_OK;
}
