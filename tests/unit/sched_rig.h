/* A scheduler with a client that has submitted job 1, for tests of what it answers.
 * Included by test_sched_*.c. */
#ifndef TESTS_UNIT_SCHED_RIG_H
#define TESTS_UNIT_SCHED_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/checksum.h"
#include "base/crypto.h"
#include "coordinator/sched.h"
#include "proto/pack.h"

enum { CLIENT = 1, WORKER = 2, OTHER = 3 }; /* peers; OTHER: another worker */
enum { INPUT_BYTES = 4, LENS_MOST = 32 };

struct rig {
    struct sched *sched;
    int64_t now_ns, keep_ns;
    uint64_t reserve_bytes, free_bytes;
    size_t open_bytes, recent_bytes;
    size_t backlog;
    bool full;
    bool light; /* its job 1 is */
    int64_t wall_ns;
    const char *user; /* the key that messages come with; NULL = none */
    struct sched_quota quota;
};

static inline struct fx_group *begin(struct rig *r)
{
    struct fx_group *g = fx_group_new();

    sched_turn_begin(r->sched, r->now_ns += NS_PER_MS, r->wall_ns, g);
    sched_set_backlog(r->sched, r->backlog, r->full);
    sched_set_room(r->sched, r->free_bytes ? r->free_bytes : UINT64_MAX);
    return g;
}

/* One turn in which nobody says anything. */
static inline struct fx_group *turn(struct rig *r)
{
    struct fx_group *g = begin(r);

    sched_turn_end(r->sched);
    return g;
}

/* One turn with a message; its effects are not committed yet. */
static inline struct fx_group *say(struct rig *r, peer_id peer, const struct msg *m)
{
    struct fx_group *g = begin(r);

    sched_message(r->sched, peer, span_str(r->user ? r->user : ""), m);
    sched_turn_end(r->sched);
    return g;
}

/* The store's answer to the reads of a group: chunks of one input, as say_chunk says
 * them, without a record. How many there are. */
static inline unsigned answer_reads(struct fx_group *g)
{
    static const uint32_t len = INPUT_BYTES;
    struct fx *fx;
    unsigned n = 0;

    STAILQ_FOREACH (fx, &g->list, node) {
        struct fx_read_chunk *read = &fx->read_chunk;
        if (fx->type != FX_READ_CHUNK)
            continue;
        n++;
        if (read->ret_recorded)
            continue;
        read->ret = (struct chunk_row){
            .job = read->job, .seq = read->seq, .first = read->first, .n = 1
        };
        read->ret.lens = blob_new(span_of(&len, sizeof(len)));
        read->ret.body = blob_new(SPAN_LIT("abcd"));
        read->ret_recorded = blob_new(SPAN_LIT("\0"));
    }
    return n;
}

/* The commit of g, which is freed: what follows from it. */
static inline struct fx_group *commit(struct rig *r, struct fx_group *g)
{
    struct fx_group *after = begin(r);

    answer_reads(g);
    sched_committed(r->sched, g);
    sched_turn_end(r->sched);
    fx_group_free(g);
    return after;
}

static inline const struct fx *find(const struct fx_group *g, enum fx_type fx_type,
                                    enum msg_type type)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == fx_type &&
            ((fx_type != FX_SEND && fx_type != FX_SEND_NOW) || fx->send.msg.type == type))
            return fx;
    return NULL;
}

/* The first message of the type to peer, 0 = to anybody. */
static inline const struct msg *sent_to(const struct fx_group *g, peer_id peer,
                                        enum msg_type type)
{
    const struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if ((fx->type == FX_SEND || fx->type == FX_SEND_NOW) &&
            (!peer || fx->send.peer == peer) && fx->send.msg.type == type)
            return &fx->send.msg;
    return NULL;
}

static inline const struct msg *sent(const struct fx_group *g, enum msg_type type)
{
    return sent_to(g, 0, type);
}

static inline void say_and_commit(struct rig *r, peer_id peer, const struct msg *m)
{
    fx_group_free(commit(r, say(r, peer, m)));
}

static inline struct msg hello_of(peer_id peer, const char *name, uint8_t nonce)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = peer == CLIENT ? ROLE_CLIENT : ROLE_WORKER,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = span_str(name),
                                  .nonce = { nonce },
                                  .cpu_slots = 1,
                                  .files = true };
    return m;
}

static inline void hello(struct rig *r, peer_id peer)
{
    struct msg m = hello_of(peer, peer == OTHER ? "y" : "x", peer == OTHER ? 9 : 0);
    say_and_commit(r, peer, &m);
}

/* The packed spec of the jobs that are submitted: nobody knows how long a task takes, or,
 * light, inline bytes. */
static inline struct span spec_of(bool light)
{
    static struct buf packed[2];
    struct job_spec spec = { .command = SPAN_LIT("map"),
                             .source = light ? SOURCE_BYTES : SOURCE_PATH };

    if (!packed[light].len)
        spec_pack(&packed[light], &spec);
    return buf_span(&packed[light]);
}

static inline struct fx_group *say_submit(struct rig *r, uint8_t key)
{
    struct msg m = { .type = MSG_SUBMIT };

    m.submit = (struct msg_submit){ .key = { key }, .spec = spec_of(r->light) };
    return say(r, CLIENT, &m);
}

static inline void rig_init(struct rig *r)
{
    struct sched_config config = { .epoch = { 1, { 1 } },
                                   .keep_ns = r->keep_ns,
                                   .reserve_bytes = r->reserve_bytes,
                                   .open_bytes = r->open_bytes,
                                   .recent_bytes = r->recent_bytes,
                                   .quota = r->quota };

    crypto_init();
    r->sched = sched_new(&config);
    r->now_ns = NS_PER_S;
    sched_loaded(r->sched, 1);
    hello(r, CLIENT);
    fx_group_free(commit(r, say_submit(r, 1)));
}

static inline void digest_of(const uint32_t *lens, uint32_t n, struct span body,
                             uint8_t ret[CHECKSUM_BYTES])
{
    /* lens: little-endian, as on the wire */
    struct span parts[] = { span_of(lens, n * sizeof(*lens)), body };
    checksum(parts, ARRAY_LEN(parts), ret);
}

/* A chunk of so many inputs of len bytes each. */
static inline struct fx_group *say_inputs_of(struct rig *r, uint64_t job, uint32_t seq,
                                             uint32_t n, uint32_t len, struct span body)
{
    struct msg m = { .type = MSG_CHUNK, .body = body };
    uint32_t lens[LENS_MOST];

    for (uint32_t i = 0; i < n; i++)
        lens[i] = len;
    m.chunk = (struct msg_chunk){ .job = job, .seq = seq, .n = n, .lens = lens };
    digest_of(lens, n, body, m.chunk.digest);
    return say(r, CLIENT, &m);
}

/* A chunk of job 1 whose one input is the body; n 0: of none. */
static inline struct fx_group *say_inputs(struct rig *r, uint32_t seq, uint32_t n,
                                          struct span body)
{
    return say_inputs_of(r, 1, seq, n, (uint32_t)body.len, body);
}

static inline struct fx_group *say_chunk(struct rig *r, uint32_t seq, uint8_t fill)
{
    uint8_t body[INPUT_BYTES];

    memset(body, fill, sizeof(body));
    return say_inputs(r, seq, 1, span_of(body, sizeof(body)));
}

/* code 0: Accepted. */
static inline void expect_answer(struct fx_group *g, uint32_t code)
{
    const struct fx *error = find(g, FX_SEND, MSG_ERROR);

    assert_int_equal(error ? error->send.msg.error.code : 0, code);
    assert_int_equal(find(g, FX_SEND, MSG_ACCEPTED) != NULL, code == 0);
    fx_group_free(g);
}

/* A worker has done the one task of a chunk, whose only input is the body. */
static inline struct msg done_of(uint32_t chunk, const uint32_t *task, struct span body)
{
    static const uint32_t no_value = 0;
    static const uint8_t ok = TASK_OK;
    struct msg m = { .type = MSG_DONE };

    m.done = (struct msg_done){ .lease = (1ull << 32) + 1 + chunk,
                                .job = 1,
                                .chunk = chunk,
                                .epoch = { 1, { 1 } },
                                .batch = { 1, task, &ok, &no_value },
                                .last = true };
    digest_of(&(uint32_t){ (uint32_t)body.len }, 1, body, m.done.digest);
    return m;
}

/* The worker does the one task of say_chunk(r, 0, fill). */
static inline void do_task(struct rig *r, uint8_t fill)
{
    static const uint32_t task = 0;
    uint8_t body[INPUT_BYTES];

    memset(body, fill, sizeof(body));
    struct msg m = done_of(0, &task, span_of(body, sizeof(body)));
    say_and_commit(r, WORKER, &m);
}

#endif
