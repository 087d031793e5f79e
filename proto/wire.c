/* The table of messages, and envelopes in and out. */
#include "proto/wire_pb.h"

static const struct {
    const char *name;
    void (*put)(const struct msg *m, union any *a);
    int (*take)(struct in *in);
} types[MSG_TYPE_COUNT] = {
    [MSG_HELLO] = { "Hello", wire_put_hello, wire_take_hello },
    [MSG_WELCOME] = { "Welcome", wire_put_welcome, wire_take_welcome },
    [MSG_BEAT] = { "Beat", wire_put_beat, wire_take_beat },
    [MSG_SUBMIT] = { "Submit", wire_put_submit, wire_take_submit },
    [MSG_CHUNK] = { "Chunk", wire_put_chunk, wire_take_chunk },
    [MSG_SEAL] = { "Seal", wire_put_seal, wire_take_seal },
    [MSG_ACCEPTED] = { "Accepted", wire_put_accepted, wire_take_accepted },
    [MSG_LEASE] = { "Lease", wire_put_lease, wire_take_lease },
    [MSG_DONE] = { "Done", wire_put_done, wire_take_done },
    [MSG_COMMITTED] = { "Committed", wire_put_committed, wire_take_committed },
    [MSG_PUBLISHED] = { "Published", wire_put_published, wire_take_published },
    [MSG_FOLLOW] = { "Follow", wire_put_follow, wire_take_follow },
    [MSG_RESULTS] = { "Results", wire_put_results, wire_take_results },
    [MSG_CANCEL] = { "Cancel", wire_put_cancel, wire_take_cancel },
    [MSG_DRAIN] = { "Drain", wire_put_drain, wire_take_drain },
    [MSG_QUERY] = { "Query", wire_put_query, wire_take_query },
    [MSG_ANSWER] = { "Answer", wire_put_answer, wire_take_answer },
    [MSG_ERROR] = { "Error", wire_put_error, wire_take_error },
    [MSG_REVOKE] = { "Revoke", wire_put_revoke, wire_take_revoke },
    [MSG_CREDIT] = { "Credit", wire_put_credit, wire_take_credit },
    [MSG_REMOVE] = { "Remove", wire_put_remove, wire_take_remove },
    [MSG_PAUSE] = { "Pause", wire_put_pause, wire_take_pause },
    [MSG_TAKEN] = { "Taken", wire_put_taken, wire_take_taken },
    [MSG_ENROL] = { "Enrol", wire_put_enrol, wire_take_enrol },
    [MSG_KEY] = { "Key", wire_put_key, wire_take_key },
};
/* A payload's field number is 16 + its type: the oneof's case and the type must agree. */
enum { PAYLOAD_FIELD_BASE = 16 };

const char *msg_type_name(enum msg_type t)
{
    return (unsigned)t < MSG_TYPE_COUNT && types[t].name ? types[t].name : "?";
}

void wire_encode(const struct msg *m, struct buf *out)
{
    Tidemill__Envelope e = TIDEMILL__ENVELOPE__INIT;
    union any any;
    size_t size;

    CHECK((unsigned)m->type < MSG_TYPE_COUNT && types[m->type].put);
    types[m->type].put(m, &any);
    e.version = WIRE_VERSION;
    e.type = (Tidemill__Type)m->type;
    e.payload_case = (Tidemill__Envelope__PayloadCase)(PAYLOAD_FIELD_BASE + m->type);
    e.hello = &any.hello; /* whichever it is: all are at the union's start */
    size = tidemill__envelope__get_packed_size(&e);
    out->len += tidemill__envelope__pack(&e, buf_reserve(out, size));
    if (m->type == MSG_HELLO) {
        free(any.hello.held[m->hello.n_held]);
        free(any.hello.held);
    }
}

static void *budget_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void budget_free(void *arena, void *p)
{
    (void)arena, (void)p; /* all goes with the arena */
}

int wire_decode(struct span envelope, struct span body, struct arena *arena,
                struct msg *ret, struct err *err)
{
    ProtobufCAllocator allocator = { budget_alloc, budget_free, arena };
    struct in in = { .m = ret, .arena = arena, .body_len = body.len, .err = err };
    Tidemill__Envelope *e;

    e = tidemill__envelope__unpack(&allocator, envelope.len, envelope.data);
    if (!e)
        return err_set(err, 1, "not an envelope, or a too large one");
    if (e->version != WIRE_VERSION)
        return err_set(err, 1, "unknown protocol version %u", e->version);
    if ((int)e->type <= 0 || (int)e->type >= MSG_TYPE_COUNT)
        return err_set(err, 1, "unknown message type %d", (int)e->type);
    memset(ret, 0, sizeof(*ret));
    ret->type = (enum msg_type)e->type;
    ret->body = body;
    in.e = e;
    if ((int)e->payload_case != PAYLOAD_FIELD_BASE + (int)e->type)
        return bad(&in, "payload");
    return types[ret->type].take(&in);
}
