/* Inputs become chunks; chunks go out within the coordinator's window and are kept until
 * they are on its disk. An input opens a chunk only while there is room (credit, or
 * nothing unacknowledged), so at most the credit and one chunk are held in memory. */
#include <endian.h>

#include "base/checksum.h"
#include "base/failpoint.h"
#include "client/lib/internal.h"

bool chunk_room(const struct tm_job *job)
{
    return job->open_n > 0 || job->chunk_bytes == 0 ||
           job->chunk_bytes < job->credit_bytes;
}

static size_t open_bytes(const struct tm_job *job)
{
    return job->open_lens.len + job->open_body.len;
}

static void digest(struct chunk *ck)
{
    AUTO_BUF lens = BUF_INIT;
    for (uint32_t i = 0; i < ck->n; i++)
        buf_add_u32(&lens, htole32(ck->lens[i]));
    struct span parts[] = { buf_span(&lens), span_of(ck->body, ck->body_len) };
    checksum(parts, ARRAY_LEN(parts), ck->digest);
}

static void fills_no_more(struct tm_job *job)
{
    if (job->on_filling)
        TAILQ_REMOVE(&job->conn->filling, job, filling_node);
    job->on_filling = false;
}

void chunk_close(struct tm_job *job)
{
    if (job->open_n == 0)
        return;
    struct chunk *ck = xcalloc(1, sizeof(*ck));
    ck->seq = job->next_seq++;
    ck->n = job->open_n;
    ck->lens = (uint32_t *)(void *)STEAL(job->open_lens.data);
    ck->body_len = job->open_body.len;
    ck->body = STEAL(job->open_body.data);
    digest(ck);
    job->open_lens = (struct buf)BUF_INIT;
    job->open_body = (struct buf)BUF_INIT;
    job->open_n = 0;
    job->chunk_bytes += ck->body_len + ck->n * sizeof(uint32_t);
    STAILQ_INSERT_TAIL(&job->chunks, ck, node);
    fills_no_more(job);
    job_ready(job);
}

static size_t given_len(const char *s, size_t len)
{
    return s && len == 0 ? strlen(s) : len;
}

static int input_of(const struct tm_job *job, const struct tm_input *in,
                    struct task_input *ret, struct err *err)
{
    static const char *const kinds[] = { "bytes", "a path", "a URL" };
    int given = !!in->path + !!in->url + !!in->data;
    if (given != 1)
        return err_set(err, TM_USAGE, "an input is exactly one of path, url and data");
    enum tm_source kind =
        in->path ? TM_SOURCE_PATH : (in->url ? TM_SOURCE_URL : TM_SOURCE_BYTES);
    if (kind != job->source)
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
    };
    if (in->path && (ret->path.len == 0 || ret->path.data[0] != '/'))
        return err_set(err, TM_USAGE, "not an absolute path: '%.*s'",
                       (int)MIN(ret->path.len, (size_t)200), in->path);
    return 0;
}

/* The bytes that stand at `from` in the open body become an input of their own. */
static void move_to_next(struct tm_job *job, size_t from)
{
    AUTO_BUF tail = BUF_INIT;
    buf_add(&tail, job->open_body.data + from, job->open_body.len - from);
    job->open_body.len = from;
    chunk_close(job);
    buf_add_span(&job->open_body, buf_span(&tail));
}

int chunk_add(struct tm_job *job, const struct tm_input *in, struct err *err)
{
    struct conn *c = job->conn;
    struct task_input input;
    if (input_of(job, in, &input, err) < 0)
        return -1;
    if (!chunk_room(job)) {
        job->starved = true;
        return TM_AGAIN;
    }
    size_t from = job->open_body.len;
    input_pack(&job->open_body, &input);
    size_t len = job->open_body.len - from;
    if (len > c->input_max) {
        job->open_body.len = from;
        return err_set(err, TM_TOO_LARGE, "too large: an input of %zu bytes, limit %u",
                       len, c->input_max);
    }
    if (job->open_n > 0 && open_bytes(job) + sizeof(uint32_t) > c->chunk_bytes_max) {
        if (job->chunk_bytes + open_bytes(job) - len >= job->credit_bytes) {
            job->open_body.len = from; /* the chunk it would open finds no room */
            chunk_close(job);
            conn_kick(c);
            job->starved = true;
            return TM_AGAIN;
        }
        move_to_next(job, from);
        conn_kick(c);
    }
    buf_add_u32(&job->open_lens, (uint32_t)len);
    job->added++;
    job->open_n++;
    if (job->open_n == 1)
        job->flush_at_ns = clock_mono_ns() + FLUSH_NS;
    if (job->open_n == c->chunk_tasks_max) {
        chunk_close(job);
        conn_kick(c);
    } else if (!job->on_filling) {
        TAILQ_INSERT_TAIL(&c->filling, job, filling_node);
        job->on_filling = true;
        conn_kick(c); /* the thread arms the flush timer */
    }
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
    STAILQ_FOREACH (ck, &job->chunks, node) {
        if (ck->sent)
            continue;
        size_t bytes = ck->body_len + ck->n * sizeof(uint32_t);
        if (!window_allows(job, bytes))
            return 0;
        struct msg m = { .type = MSG_CHUNK, .body = span_of(ck->body, ck->body_len) };
        m.chunk = (struct msg_chunk){
            .job = job->id, .seq = ck->seq, .n = ck->n, .lens = ck->lens
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
    free(ck);
}

void chunk_acknowledge(struct tm_job *job, uint32_t on_disk)
{
    struct chunk *ck;
    while ((ck = STAILQ_FIRST(&job->chunks)) && ck->seq < on_disk) {
        size_t bytes = ck->body_len + ck->n * sizeof(uint32_t);
        STAILQ_REMOVE_HEAD(&job->chunks, node);
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
        STAILQ_REMOVE_HEAD(&job->chunks, node);
        chunk_free(ck);
    }
    job->chunk_bytes = job->sent_bytes = 0;
    job->open_n = 0;
    fills_no_more(job);
    buf_fini(&job->open_body);
    buf_fini(&job->open_lens);
}
