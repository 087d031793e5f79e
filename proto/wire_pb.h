/* What the wire's files share, and nobody else (the only includers of protobuf-c): one
 * pair of functions a message, `put` into protobuf's structs and `take` out of them. */
#ifndef PROTO_WIRE_PB_H
#define PROTO_WIRE_PB_H

#include <tidemill.pb-c.h>

#include "proto/wire.h"

/* One of each protobuf message, for encoding without allocation. */
union any {
    Tidemill__Hello hello;
    Tidemill__Welcome welcome;
    Tidemill__Beat beat;
    Tidemill__Submit submit;
    Tidemill__Chunk chunk;
    Tidemill__Seal seal;
    Tidemill__Accepted accepted;
    Tidemill__Lease lease;
    Tidemill__Done done;
    Tidemill__Committed committed;
    Tidemill__Published published;
    Tidemill__Follow follow;
    Tidemill__Results results;
    Tidemill__Cancel cancel;
    Tidemill__Drain drain;
    Tidemill__Query query;
    Tidemill__Answer answer;
    Tidemill__Error error;
    Tidemill__Revoke revoke;
    Tidemill__Taken taken;
    Tidemill__Credit credit;
    Tidemill__Remove remove;
    Tidemill__Pause pause;
    Tidemill__Enrol enrol;
    Tidemill__Key key;
};

/* What decoding one message needs. */
struct in {
    const Tidemill__Envelope *e;
    struct msg *m;
    struct arena *arena;
    size_t body_len;
    struct err *err;
};

static inline ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){ len, (uint8_t *)data };
}
static inline ProtobufCBinaryData bytes_of(struct span s)
{
    return bytes(s.data, s.len);
}
#define LIST(n_field, field, n, p) ((n_field) = (n), (field) = (void *)(p))

static inline struct span span_pb(ProtobufCBinaryData b)
{
    return span_of(b.data, b.len);
}

static inline int bad(struct in *in, const char *what)
{
    return err_set(in->err, 1, "%s message: bad %s", msg_type_name(in->m->type), what);
}

static inline int fixed(struct in *in, ProtobufCBinaryData b, uint8_t to[16],
                        const char *what)
{
    if (b.len != 16)
        return bad(in, what);
    memcpy(to, b.data, 16);
    return 0;
}

static inline int public_key(struct in *in, ProtobufCBinaryData b,
                             uint8_t to[WIRE_PUBLIC_KEY_BYTES])
{
    if (b.len != WIRE_PUBLIC_KEY_BYTES)
        return bad(in, "public key");
    memcpy(to, b.data, WIRE_PUBLIC_KEY_BYTES);
    return 0;
}

static inline int text(struct in *in, ProtobufCBinaryData b, size_t max, struct span *ret,
                       const char *what)
{
    if (b.len > max)
        return bad(in, what);
    *ret = span_pb(b);
    return 0;
}

static inline int epoch(struct in *in, uint64_t counter, ProtobufCBinaryData nonce,
                        struct epoch *ret)
{
    ret->counter = counter;
    return fixed(in, nonce, ret->nonce, "epoch");
}

static inline int state(struct in *in, int value, enum job_state *ret)
{
    if (value < JOB_OPEN || value > JOB_ABANDONED)
        return bad(in, "job state");
    *ret = (enum job_state)value;
    return 0;
}

/* Sums lengths; -1 when they pass the body. */
static inline int sum(const uint32_t *lens, size_t n, size_t body_len, size_t *total)
{
    for (size_t i = 0; i < n; i++) {
        if (lens[i] > body_len - *total)
            return -1;
        *total += lens[i];
    }
    return 0;
}

static inline int lens_fill(struct in *in, const uint32_t *lens, size_t n)
{
    size_t total = 0;

    if (sum(lens, n, in->body_len, &total) < 0 || total != in->body_len)
        return bad(in, "lengths");
    return 0;
}

/* Arrays of one batch must be of one size. */
static inline int batch(struct in *in, size_t n, const uint32_t *tasks,
                        ProtobufCBinaryData statuses, size_t n_lens)
{
    if (n > WIRE_CHUNK_TASKS_MAX || statuses.len != n || n_lens != n)
        return bad(in, "batch");
    for (size_t i = 0; i < n; i++)
        if (statuses.data[i] >= TASK_STATUS_COUNT)
            return bad(in, "status");
    (void)tasks;
    return 0;
}

/* Ranges are pairs, of a chunk's tasks at most. */
static inline int ranges(struct in *in, size_t n, const uint32_t *pairs,
                         uint64_t *ret_tasks)
{
    uint64_t tasks = 0;

    if (n % 2 || n / 2 > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "ranges");
    for (size_t i = 1; i < n; i += 2)
        tasks += pairs[i];
    if (tasks > WIRE_CHUNK_TASKS_MAX)
        return bad(in, "ranges");
    if (ret_tasks)
        *ret_tasks = tasks;
    return 0;
}

/* NAME: how the message is called in the schema, in small letters. */
#define WIRE_PAIR(name)                                                                  \
    void wire_put_##name(const struct msg *m, union any *a);                             \
    int wire_take_##name(struct in *in)
WIRE_PAIR(hello);
WIRE_PAIR(welcome);
WIRE_PAIR(beat);
WIRE_PAIR(submit);
WIRE_PAIR(chunk);
WIRE_PAIR(seal);
WIRE_PAIR(accepted);
WIRE_PAIR(lease);
WIRE_PAIR(done);
WIRE_PAIR(committed);
WIRE_PAIR(published);
WIRE_PAIR(follow);
WIRE_PAIR(results);
WIRE_PAIR(cancel);
WIRE_PAIR(pause);
WIRE_PAIR(remove);
WIRE_PAIR(drain);
WIRE_PAIR(query);
WIRE_PAIR(answer);
WIRE_PAIR(error);
WIRE_PAIR(revoke);
WIRE_PAIR(taken);
WIRE_PAIR(credit);
WIRE_PAIR(enrol);
WIRE_PAIR(key);

#endif
