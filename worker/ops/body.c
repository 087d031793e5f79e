#include "worker/ops/body.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "worker/ops/hash.h"
#include "worker/ops/task.h"

/* The disk begins to write when so much is there: it works while the rest comes, and the
 * sync at the end finds little left. */
enum { WRITE_BACK_BYTES = 4 * MIB };

struct body {
    struct body_work work;
    struct hash *in, *out; /* NULL: not wanted */
    bool begun;
    int fd;                      /* -1: none is open */
    uint64_t bytes, begun_bytes; /* begun_bytes: the disk was told to write them */
};

bool body_can(const struct job_spec *spec)
{
    return spec->transform == TRANSFORM_NONE && spec->sink != SINK_RETURN;
}

struct body *body_new(const struct body_work *work)
{
    struct body *b = xcalloc(1, sizeof(*b));

    b->work = *work;
    b->fd = -1;
    return b;
}

static struct hash *begin_hash(uint32_t algos)
{
    struct hash *h = algos ? hash_new() : NULL;

    if (h)
        hash_begin(h, algos);
    return h;
}

static enum task_status begin(struct body *b, struct err *err)
{
    const struct body_work *w = &b->work;

    b->begun = true;
    b->in = begin_hash(w->spec->algos);
    b->out = begin_hash(w->spec->out_algos);
    if (w->spec->sink != SINK_FILE)
        return TASK_OK;
    if (w->out.len == 0) {
        err_set(err, 1, "no output file is named");
        return TASK_FAILED;
    }
    errno = 0;
    if (files_create(w->roots, w->out, &w->attempt, w->spec->force, &b->fd, err) < 0)
        return task_status_of(errno);
    return TASK_OK;
}

static enum task_status put(struct body *b, struct span bytes, struct err *err)
{
    while (bytes.len) {
        ssize_t n = write(b->fd, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set(err, 1, "cannot write the output: %s", strerror(errno));
            return task_status_of(errno);
        }
        bytes = span_of(bytes.data + n, bytes.len - (size_t)n);
    }
    return TASK_OK;
}

static void write_back(struct body *b)
{
    if (b->work.spec->no_sync || b->bytes - b->begun_bytes < WRITE_BACK_BYTES)
        return;
    sync_file_range(b->fd, (off_t)b->begun_bytes, (off_t)(b->bytes - b->begun_bytes),
                    SYNC_FILE_RANGE_WRITE);
    b->begun_bytes = b->bytes;
}

enum task_status body_pass(struct body *b, struct span bytes, struct err *err)
{
    enum task_status status = b->begun ? TASK_OK : begin(b, err);

    if (status != TASK_OK)
        return status;
    if (b->in)
        hash_update(b->in, bytes);
    if (b->out)
        hash_update(b->out, bytes);
    if (b->fd >= 0)
        status = put(b, bytes, err);
    b->bytes += bytes.len;
    if (b->fd >= 0)
        write_back(b);
    return status;
}

enum task_status body_end(struct body *b, struct task_value *ret, struct err *err)
{
    enum task_status status = b->begun ? TASK_OK : begin(b, err);
    int fd = b->fd;

    if (status != TASK_OK)
        return status;
    b->fd = -1;
    if (fd >= 0)
        fchmod(fd, b->work.mode); /* not every file system has modes */
    FAILPOINT("mill_file_close_before");
    if (fd >= 0 && close(fd) < 0) {
        err_set(err, 1, "cannot write the output: %s", strerror(errno));
        return task_status_of(errno);
    }
    value_clear(ret);
    ret->bytes = b->bytes;
    if (b->in)
        ret->n_digests = hash_end(b->in, ret->digests);
    if (b->out)
        ret->n_out_digests = hash_end(b->out, ret->out_digests);
    if (b->work.spec->sink == SINK_FILE) {
        ret->out_bytes = b->bytes;
        ret->output = b->work.out;
    }
    return TASK_OK;
}

void body_discard(struct body *b)
{
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
    if (b->begun && b->work.spec->sink == SINK_FILE)
        files_discard(b->work.roots, b->work.out, &b->work.attempt);
}

void body_free(struct body *b)
{
    if (!b)
        return;
    if (b->fd >= 0)
        close(b->fd);
    hash_free(b->in);
    hash_free(b->out);
    free(b);
}
