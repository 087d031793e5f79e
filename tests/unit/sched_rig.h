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

enum { CLIENT = 1, WORKER = 2 }; /* peers */
enum { INPUT_BYTES = 4 };

struct rig {
    struct sched *sched;
    int64_t now_ns, keep_ns;
    uint64_t reserve_bytes, free_bytes;
    size_t open_bytes;
    size_t backlog;
    bool full;
};

static inline struct fx_group *begin(struct rig *r)
{
    struct fx_group *g = fx_group_new();

    sched_turn_begin(r->sched, r->now_ns += NS_PER_MS, 0, g);
    sched_set_backlog(r->sched, r->backlog, r->full);
    sched_set_room(r->sched, r->free_bytes ? r->free_bytes : UINT64_MAX);
    return g;
}

/* One turn with a message; its effects are not committed yet. */
static inline struct fx_group *say(struct rig *r, peer_id peer, const struct msg *m)
{
    struct fx_group *g = begin(r);

    sched_message(r->sched, peer, m);
    sched_turn_end(r->sched);
    return g;
}

/* The commit of g, which is freed: what follows from it. */
static inline struct fx_group *commit(struct rig *r, struct fx_group *g)
{
    struct fx_group *after = begin(r);

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

static inline void say_and_commit(struct rig *r, peer_id peer, const struct msg *m)
{
    fx_group_free(commit(r, say(r, peer, m)));
}

static inline void hello(struct rig *r, peer_id peer)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = peer == WORKER ? ROLE_WORKER : ROLE_CLIENT,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = SPAN_LIT("x"),
                                  .cpu_slots = 1 };
    say_and_commit(r, peer, &m);
}

static inline void submit(struct rig *r)
{
    struct job_spec spec = { .command = SPAN_LIT("map") };
    struct msg m = { .type = MSG_SUBMIT };
    AUTO_BUF packed = BUF_INIT;

    spec_pack(&packed, &spec);
    m.submit = (struct msg_submit){ .key = { 1 }, .spec = buf_span(&packed) };
    say_and_commit(r, CLIENT, &m);
}

static inline void rig_init(struct rig *r)
{
    struct sched_config config = { .epoch = { 1, { 1 } },
                                   .keep_ns = r->keep_ns,
                                   .reserve_bytes = r->reserve_bytes,
                                   .open_bytes = r->open_bytes };

    crypto_init();
    r->sched = sched_new(&config);
    r->now_ns = NS_PER_S;
    sched_loaded(r->sched, 1);
    hello(r, CLIENT);
    submit(r);
}

/* A chunk of job 1 whose one input is the body; n 0: of none. */
static inline struct fx_group *say_inputs(struct rig *r, uint32_t seq, uint32_t n,
                                          struct span body)
{
    uint32_t lens[] = { (uint32_t)body.len }; /* little-endian, as on the wire */
    struct msg m = { .type = MSG_CHUNK, .body = body };
    struct span parts[] = { span_of(lens, n * sizeof(*lens)), body };

    m.chunk = (struct msg_chunk){ .job = 1, .seq = seq, .n = n, .lens = lens };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    return say(r, CLIENT, &m);
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

/* The worker does the one task of the chunk. */
static inline void do_task(struct rig *r, uint8_t fill)
{
    static const uint32_t task = 0, len = 0;
    static const uint8_t status = TASK_OK;
    uint8_t body[INPUT_BYTES];
    struct msg m = { .type = MSG_DONE };
    struct span parts[] = { span_of(&(uint32_t){ INPUT_BYTES }, 4),
                            span_of(body, sizeof(body)) };

    memset(body, fill, sizeof(body));
    m.done = (struct msg_done){ .lease = (1ull << 32) + 1,
                                .job = 1,
                                .epoch = { 1, { 1 } },
                                .batch = { 1, &task, &status, &len },
                                .last = true };
    checksum(parts, ARRAY_LEN(parts), m.done.digest);
    say_and_commit(r, WORKER, &m);
}

#endif
