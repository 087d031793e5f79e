/* Keys for the rig of sched_rig.h: who comes with one, over a link that knows it. */
#ifndef TESTS_UNIT_KEY_RIG_H
#define TESTS_UNIT_KEY_RIG_H

#include "base/keyfile.h"
#include "tests/unit/sched_rig.h"

enum { ALICE = 11, BOB, EVE }; /* peers with keys; the byte their keys are made of too */

static inline const char *user_of(uint8_t who)
{
    static char texts[256][KEY_TEXT];
    uint8_t key[KEY_BYTES];

    memset(key, who, sizeof(key));
    key_text(key, texts[who]);
    return texts[who];
}

static inline struct key_row key_row_of(uint8_t who, const char *name,
                                        enum peer_role role)
{
    struct key_row row = { .name = span_str(name), .role = role, .created_wall_ns = 1 };

    memset(row.public_key, who, sizeof(row.public_key));
    if (role == ROLE_INVITE)
        row.uses = 1;
    return row;
}

static inline void know(struct rig *r, uint8_t who, const char *name, enum peer_role role)
{
    struct key_row row = key_row_of(who, name, role);
    sched_load_key(r->sched, &row);
}

/* A message of the peer with this number, who has the key made of it. */
static inline struct fx_group *say_as(struct rig *r, uint8_t who, const struct msg *m)
{
    r->user = user_of(who);
    struct fx_group *g = say(r, who, m);
    r->user = NULL;
    return g;
}

static inline struct msg hello_as(uint8_t who, enum peer_role as)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = as,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = as == ROLE_WORKER ? SPAN_LIT("node")
                                                            : SPAN_LIT("login"),
                                  .nonce = { who },
                                  .cpu_slots = as == ROLE_WORKER,
                                  .files = true };
    return m;
}

static inline struct fx_group *say_hello_as(struct rig *r, uint8_t who, enum peer_role as)
{
    struct msg m = hello_as(who, as);
    return say_as(r, who, &m);
}

/* Known, and welcome. */
static inline void come(struct rig *r, uint8_t who, const char *name, enum peer_role role)
{
    know(r, who, name, role);
    struct fx_group *g =
        say_hello_as(r, who, role == ROLE_WORKER ? ROLE_WORKER : ROLE_CLIENT);
    assert_non_null(sent_to(g, who, MSG_WELCOME));
    fx_group_free(commit(r, g));
}

/* The group has an Error with these for the peer; text NULL: whatever it says. */
static inline void expect_error(struct fx_group *g, peer_id peer, uint32_t code,
                                enum msg_type about, const char *text)
{
    const struct msg *m = sent_to(g, peer, MSG_ERROR);

    assert_non_null(m);
    assert_int_equal(m->error.code, code);
    assert_int_equal(m->error.about, about);
    if (text && !span_eq(m->error.text, span_str(text)))
        fail_msg("'%.*s', not '%s'", (int)m->error.text.len, m->error.text.data, text);
    fx_group_free(g);
}

#endif
