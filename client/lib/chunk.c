/* Inputs become chunks; chunks go out within the coordinator's window and are kept until
 * they are on its disk. Inputs for one node fill a chunk of their own. An input opens a
 * chunk only while there is room (credit, or nothing unacknowledged), so at most the
 * credit and a chunk for each node are held in memory. */
#include <endian.h>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "client/lib/internal.h"

bool chunk_room(const struct tm_job *job)
{
    return job->open_n > 0 || job->chunk_bytes == 0 ||
           job->chunk_bytes < job->credit_bytes;
}

static size_t bytes_of(const struct filling *f)
{
    return f->lens.len + f->body.len;
}

static void digest(struct chunk *ck)
{
    AUTO_BUF lens = BUF_INIT;
    buf_reserve(&lens, ck->n * sizeof(uint32_t));
    for (uint32_t i = 0; i < ck->n; i++)
        buf_add_u32(&lens, htole32(ck->lens[i]));
    struct span parts[] = { buf_span(&lens), span_of(ck->body, ck->body_len),
                            span_str(ck->node) };
    checksum(parts, ARRAY_LEN(parts), ck->digest);
}

static void fills_no_more(struct tm_job *job)
{
    if (job->on_filling)
        TAILQ_REMOVE(&job->conn->filling, job, filling_node);
    job->on_filling = false;
}

static void filling_free(struct tm_job *job, struct filling *f)
{
    STAILQ_REMOVE(&job->fillings, f, filling, fillings_node);
    job->open_n -= f->n;
    job->open_bytes -= bytes_of(f);
    buf_fini(&f->body);
    buf_fini(&f->lens);
    free(f->node);
    free(f);
}

/* Nearly all inputs are for any node: that is seen without a call for each. */
static bool is_for(const struct filling *f, const char *node)
{
    return f->node[0] == node[0] && (node[0] == '\0' || strcmp(f->node, node) == 0);
}

static struct filling *filling_of(struct tm_job *job, const char *node)
{
    struct filling *f;
    STAILQ_FOREACH (f, &job->fillings, fillings_node)
        if (is_for(f, node))
            return f;
    return NULL;
}

static struct filling *filling_new(struct tm_job *job, const char *node)
{
    struct filling *f = xcalloc(1, sizeof(*f));
    f->node = xstrdup(node);
    STAILQ_INSERT_TAIL(&job->fillings, f, fillings_node);
    return f;
}

/* It becomes a chunk, unless it has no input. */
static void filling_close(struct tm_job *job, struct filling *f)
{
    if (f->n > 0) {
        struct chunk *ck = xcalloc(1, sizeof(*ck));
        ck->seq = job->next_seq++;
        ck->n = f->n;
        job->open_n -= f->n;
        job->open_bytes -= bytes_of(f);
        job->chunk_bytes += bytes_of(f);
        ck->body_len = f->body.len;
        ck->lens = (uint32_t *)(void *)STEAL(f->lens.data);
        ck->body = STEAL(f->body.data);
        ck->node = STEAL(f->node);
        f->lens = f->body = (struct buf)BUF_INIT;
        f->n = 0;
        digest(ck);
        STAILQ_INSERT_TAIL(&job->chunks, ck, node_entry);
        job_ready(job);
    }
    filling_free(job, f);
    if (job->open_n == 0)
        fills_no_more(job);
}

void chunk_close(struct tm_job *job)
{
    struct filling *f;
    while ((f = STAILQ_FIRST(&job->fillings)))
        filling_close(job, f);
}

static size_t given_len(const char *s, size_t len)
{
    return s && len == 0 ? strlen(s) : len;
}

static int input_of(const struct tm_job *job, const struct tm_input *in,
                    struct task_input *ret, struct err *err)
{
    static const char *const kinds[] = { "bytes", "a path", "a URL", "a directory" };
    int given = !!in->path + !!in->url + !!in->data;
    if (given != 1)
        return err_set(err, TM_USAGE, "an input is exactly one of path, url and data");
    enum tm_source kind =
        in->path ? TM_SOURCE_PATH : (in->url ? TM_SOURCE_URL : TM_SOURCE_BYTES);
    if (kind != (job->source == TM_SOURCE_DIR ? TM_SOURCE_PATH : job->source))
        return err_set(err, TM_USAGE, "an input is %s, but the job's inputs are %s",
                       kinds[kind], kinds[job->source]);
    *ret = (struct task_input){
        .path = span_of(in->path, given_len(in->path, in->path_len)),
        .url = span_of(in->url, given_len(in->url, in->url_len)),
        .data = span_of(in->data, in->data ? in->data_len : 0),
        .shown = span_of(in->shown, given_len(in->shown, in->shown_len)),
        .out = span_of(in->out, given_len(in->out, in->out_len)),
        .size = in->size,
        .has_data = in->data != NULL,
        .after = span_of(in->after, given_len(in->after, in->after_len)),
        .named = in->named,
    };
    if (in->path && (ret->path.len == 0 || ret->path.data[0] != '/'))
        return err_set(err, TM_USAGE, "not an absolute path: '%.*s'",
                       (int)MIN(ret->path.len, (size_t)200), in->path);
    return 0;
}

/* No room for more: what is there goes out. */
static int starve(struct tm_job *job)
{
    chunk_close(job);
    conn_kick(job->conn);
    job->starved = true;
    return TM_AGAIN;
}

/* The bytes that stand at `from` in a filling become an input of the next one. */
static struct filling *move_to_next(struct tm_job *job, struct filling *f, size_t from)
{
    AUTO_FREE char *node = xstrdup(f->node);
    AUTO_BUF tail = BUF_INIT;
    buf_add(&tail, f->body.data + from, f->body.len - from);
    f->body.len = from;
    job->open_bytes -= tail.len;
    filling_close(job, f);
    f = filling_new(job, node);
    buf_add_span(&f->body, buf_span(&tail));
    job->open_bytes += tail.len;
    return f;
}

static void take_back(struct tm_job *job, struct filling *f, size_t from)
{
    job->open_bytes -= f->body.len - from;
    f->body.len = from;
    if (f->n == 0)
        filling_free(job, f);
}

/* The input is in it, and counts. */
static void filling_took(struct tm_job *job, struct filling *f, size_t len)
{
    struct conn *c = job->conn;
    buf_add_u32(&f->lens, (uint32_t)len);
    job->open_bytes += sizeof(uint32_t);
    job->added++;
    f->n++;
    job->open_n++;
    if (job->open_n == 1)
        job->flush_at_ns = clock_mono_ns() + FLUSH_NS;
    if (f->n == c->chunk_tasks_max) {
        filling_close(job, f);
        conn_kick(c);
    } else if (!job->on_filling) {
        TAILQ_INSERT_TAIL(&c->filling, job, filling_node);
        job->on_filling = true;
        conn_kick(c); /* the thread arms the flush timer */
    }
}

int chunk_add(struct tm_job *job, const struct tm_input *in, struct err *err)
{
    struct conn *c = job->conn;
    const char *node = in->node ? in->node : "";
    struct task_input input;
    if (input_of(job, in, &input, err) < 0)
        return -1;
    struct filling *f = filling_of(job, node);
    if (!chunk_room(job) ||
        (!f && job->open_n && job->chunk_bytes + job->open_bytes >= job->credit_bytes))
        return starve(job);
    if (!f)
        f = filling_new(job, node);
    size_t from = f->body.len, len = input_pack(&f->body, &input);
    job->open_bytes += len;
    if (len > c->input_max) {
        take_back(job, f, from);
        return err_set(err, TM_TOO_LARGE, "too large: an input of %zu bytes, limit %u",
                       len, c->input_max);
    }
    if (f->n > 0 && bytes_of(f) + sizeof(uint32_t) > c->chunk_bytes_max) {
        if (job->chunk_bytes + job->open_bytes - len >= job->credit_bytes) {
            take_back(job, f, from); /* the chunk it would open finds no room */
            return starve(job);
        }
        f = move_to_next(job, f, from);
        conn_kick(c);
    }
    filling_took(job, f, len);
    return 0;
}

static bool window_allows(const struct tm_job *job, size_t bytes)
{
    if (job->credit_bytes == 0)
        return false;
    return job->sent_bytes == 0 || job->sent_bytes + bytes <= job->credit_bytes;
}

int chunk_send_all(struct tm_job *job)
{
    struct chunk *ck;
    STAILQ_FOREACH (ck, &job->chunks, node_entry) {
        if (ck->sent)
            continue;
        size_t bytes = ck->body_len + ck->n * sizeof(uint32_t);
        if (!window_allows(job, bytes))
            return 0;
        struct msg m = { .type = MSG_CHUNK, .body = span_of(ck->body, ck->body_len) };
        m.chunk = (struct msg_chunk){
            .job = job->id,
            .seq = ck->seq,
            .n = ck->n,
            .lens = ck->lens,
            .node = span_str(ck->node),
        };
        memcpy(m.chunk.digest, ck->digest, sizeof(ck->digest));
        FAILPOINT("client_chunk_send_before");
        if (link_send(job->conn->link, 0, &m) < 0)
            return -1;
        FAILPOINT("client_chunk_send_after");
        ck->sent = true;
        job->sent_bytes += bytes;
    }
    return 0;
}

static void chunk_free(struct chunk *ck)
{
    free(ck->lens);
    free(ck->body);
    free(ck->node);
    free(ck);
}

void chunk_acknowledge(struct tm_job *job, uint32_t on_disk)
{
    struct chunk *ck;
    while ((ck = STAILQ_FIRST(&job->chunks)) && ck->seq < on_disk) {
        size_t bytes = ck->body_len + ck->n * sizeof(uint32_t);
        STAILQ_REMOVE_HEAD(&job->chunks, node_entry);
        job->chunk_bytes -= bytes;
        if (ck->sent)
            job->sent_bytes -= bytes;
        job->tasks_on_disk += ck->n;
        chunk_free(ck);
    }
    job->chunks_on_disk = MAX(job->chunks_on_disk, on_disk);
}

void chunk_free_all(struct tm_job *job)
{
    struct chunk *ck;
    while ((ck = STAILQ_FIRST(&job->chunks))) {
        STAILQ_REMOVE_HEAD(&job->chunks, node_entry);
        chunk_free(ck);
    }
    job->chunk_bytes = job->sent_bytes = 0;
    struct filling *f;
    while ((f = STAILQ_FIRST(&job->fillings)))
        filling_free(job, f);
    fills_no_more(job);
}
