#include "worker/ops/part.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/failpoint.h"

/* Chunks at once: what is read and what it becomes fit the second-level cache. */
enum { PART_CHUNKS = 4 };

/* Kept between parts, as the buffers of whole tasks are. */
static _Thread_local uint8_t *read_buf, *write_buf;

struct part_source part_source_of(const struct stat *st)
{
    return (struct part_source){ .dev = st->st_dev,
                                 .ino = st->st_ino,
                                 .size = (uint64_t)st->st_size,
                                 .mtime_s = st->st_mtim.tv_sec,
                                 .mtime_ns = st->st_mtim.tv_nsec,
                                 .ctime_s = st->st_ctim.tv_sec,
                                 .ctime_ns = st->st_ctim.tv_nsec };
}

static enum task_status cannot(struct err *err, const char *what)
{
    int error = errno;

    err_set(err, 1, "%s: %s", what, strerror(error));
    return task_status_of(error);
}

static enum task_status changed(struct err *err)
{
    err_set(err, 1, "changed while it was read");
    return TASK_RETRYABLE;
}

/* Is it still the file that the head saw? */
static enum task_status look(const struct part *part, int in, struct err *err)
{
    struct stat st;

    if (fstat(in, &st) < 0)
        return cannot(err, "cannot be read");
    struct part_source now = part_source_of(&st);
    return memcmp(&now, &part->source, sizeof(now)) == 0 ? TASK_OK : changed(err);
}

/* Exactly len bytes: fewer are there only when it was truncated meanwhile. */
static enum task_status read_at(int fd, uint8_t *to, size_t len, uint64_t at,
                                struct err *err)
{
    while (len) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cannot(err, "cannot be read");
        if (n == 0)
            return changed(err);
        to += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return TASK_OK;
}

static enum task_status write_at(int fd, const uint8_t *from, size_t len, uint64_t at,
                                 struct err *err)
{
    while (len) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cannot(err, "cannot write the output");
        from += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return TASK_OK;
}

/* Numbers with which nothing overflows, in no mill that gets a range of it. */
static bool is_whole_range(const struct part *p)
{
    return p->kind == PART_RANGE && p->seal <= 1 && p->first == 0 &&
           p->source.size >= PART_FILE_MIN && p->source.size <= INT64_MAX &&
           p->header <= AGE_HEADER_MAX + AGE_NONCE &&
           p->n == age_payload_chunks(p->seal, p->header, p->source.size);
}

bool part_answer_ok(const struct part *part, struct span value)
{
    struct task_value v;
    struct part whole;
    bool ok;

    if (value_unpack(value, &v, NULL) < 0)
        return false;
    if (!v.has_body)
        return true;
    if (part->kind != PART_HEAD || v.body.len != sizeof(whole))
        return false;
    memcpy(&whole, v.body.data, sizeof(whole));
    ok = is_whole_range(&whole);
    crypto_zero(&whole, sizeof(whole));
    return ok;
}

/* ---- head ---- */

static enum task_status head_seal(const struct job_spec *spec, int out, struct part *part,
                                  struct err *err)
{
    AUTO_BUF header = BUF_INIT;

    if (age_payload_begin(spec->recipients, spec->n_recipients, &header, part->key, err) <
        0)
        return TASK_FAILED;
    part->header = header.len;
    return write_at(out, header.data, header.len, 0, err);
}

/* False: there is no header that opens. A pass over the whole file says why. */
static bool head_open(const struct task_env *env, int in, struct part *part)
{
    enum { LEN = AGE_HEADER_MAX + AGE_NONCE };
    AUTO_FREE uint8_t *bytes = xmalloc(LEN);
    size_t header = 0;

    if (read_at(in, bytes, LEN, 0, NULL) != TASK_OK ||
        age_payload_find(span_of(bytes, LEN), env->identities, &header, part->key,
                         NULL) != 1)
        return false;
    part->header = header;
    return true;
}

enum task_status part_head(const struct task_env *env, const struct job_spec *spec,
                           int in, int out, struct part *ret, bool *ret_shared,
                           struct err *err)
{
    enum task_status status = TASK_OK;
    struct stat st;

    *ret_shared = false;
    memset(ret, 0, sizeof(*ret)); /* its padding is sent too */
    if (fstat(in, &st) < 0)
        return cannot(err, "cannot be read");
    if (st.st_size < PART_FILE_MIN)
        return TASK_OK;
    ret->kind = PART_RANGE;
    ret->seal = spec->transform == TRANSFORM_ENCRYPT;
    ret->source = part_source_of(&st);
    if (ret->seal)
        status = head_seal(spec, out, ret, err);
    else if (!head_open(env, in, ret))
        return TASK_OK;
    ret->n = age_payload_chunks(ret->seal, ret->header, ret->source.size);
    *ret_shared = status == TASK_OK;
    return status;
}

/* ---- ranges ---- */

/* Turns what was read, chunks from `chunk` on, into *ret_len bytes of write_buf. */
static int turn(struct age_payload *p, const struct part *part, uint64_t chunk,
                struct age_range *r, size_t *ret_len, struct err *err)
{
    size_t in_of = part->seal ? AGE_CHUNK : AGE_SEALED, at = 0, done = 0;

    do { /* also when there is nothing: a payload has one chunk at least */
        struct span in = span_of(read_buf + at, MIN(in_of, r->in_len - at));
        bool last = r->last && at + in.len == r->in_len;
        at += in.len;
        if (part->seal) {
            age_payload_seal(p, chunk++, last, in, write_buf + done);
            done += in.len + EVP_AEAD_TAG;
        } else {
            if (age_payload_open(p, chunk++, last, in, write_buf + done, err) < 0)
                return -1;
            done += in.len - EVP_AEAD_TAG;
        }
    } while (at < r->in_len);
    *ret_len = done;
    return 0;
}

static enum task_status some_chunks(struct age_payload *p, const struct part *part,
                                    uint64_t first, uint64_t n, int in, int out,
                                    uint64_t *out_bytes, struct err *err)
{
    struct age_range r =
        age_payload_range(part->seal, part->header, part->source.size, first, n);
    enum task_status status = read_at(in, read_buf, r.in_len, r.in_at, err);
    size_t len = 0;

    if (status == TASK_OK && turn(p, part, first, &r, &len, err) < 0)
        status = TASK_FAILED;
    if (status == TASK_OK)
        status = write_at(out, write_buf, len, r.out_at, err);
    *out_bytes += len;
    return status;
}

enum task_status part_range(const struct task_env *env, const struct part *part, int in,
                            int out, uint64_t *ret_out_bytes, struct err *err)
{
    struct age_payload *p = age_payload_new(part->key);
    uint64_t end = part->first + part->n, done = 0;
    enum task_status status = look(part, in, err);

    if (!read_buf) {
        read_buf = task_pages(PART_CHUNKS * AGE_SEALED);
        write_buf = task_pages(PART_CHUNKS * AGE_SEALED);
    }
    posix_fadvise(in, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (uint64_t at = part->first; status == TASK_OK && at < end; at += PART_CHUNKS) {
        FAILPOINT("mill_part_chunks");
        if (task_cancelled(env)) {
            err_set(err, 1, "cancelled");
            status = TASK_CANCELLED;
        } else {
            status =
                some_chunks(p, part, at, MIN(PART_CHUNKS, end - at), in, out, &done, err);
        }
    }
    if (status == TASK_OK)
        status = look(part, in, err);
    age_payload_free(p);
    *ret_out_bytes = done;
    return status;
}
