/* Who may come, until when: keys that are not known, revoked or expired, invitations and
 * those who come by them, and what becomes of work whose worker may not go on. */
#include "tests/unit/key_rig.h"

enum { TOKEN = 30, NEW_KEY, NEXT_KEY };

static const struct sched_server server = { .public_key = { 1 },
                                            .endpoint = { "tcp://h:1", "tcp://h:2" } };

static void init(struct rig *r)
{
    *r = (struct rig){ .wall_ns = NS_PER_S, .quota.priority = INT32_MAX };
    rig_init(r);
    sched_set_server(r->sched, &server);
}

static struct msg order_of(enum key_verb verb, uint8_t who, const char *name,
                           enum peer_role role)
{
    struct msg m = { .type = MSG_KEY };

    m.key =
        (struct msg_key){ .id = 7, .verb = verb, .name = span_str(name), .role = role };
    if (who)
        memset(m.key.public_key, who, sizeof(m.key.public_key));
    return m;
}

static unsigned count(const struct fx_group *g, enum fx_type type)
{
    const struct fx *fx;
    unsigned n = 0;

    STAILQ_FOREACH (fx, &g->list, node)
        n += fx->type == type;
    return n;
}

/* So many rows, and so many keys saved; frees the group. */
static void expect_rows(struct rig *r, struct fx_group *g, peer_id peer, uint32_t rows,
                        unsigned saved)
{
    const struct msg *m = sent_to(g, peer, MSG_ANSWER);

    assert_non_null(m);
    assert_int_equal(m->answer.n, rows);
    assert_true(m->answer.last);
    assert_int_equal(count(g, FX_KEY), saved);
    fx_group_free(commit(r, g));
}

static void who_is_not_known_does_not_come(void **state)
{
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("keys"), 0 } };
    struct rig r;

    (void)state;
    init(&r);
    expect_error(say_hello_as(&r, EVE, ROLE_CLIENT), EVE, 5, MSG_HELLO,
                 "the coordinator does not know this key");
    expect_error(say_as(&r, EVE, &query), EVE, 5, MSG_HELLO, NULL);
    know(&r, EVE, "eve", ROLE_CLIENT);
    expect_error(say_as(&r, EVE, &query), EVE, 1, MSG_QUERY, WIRE_NO_SESSION);
    expect_error(say_hello_as(&r, EVE, ROLE_WORKER), EVE, 5, MSG_HELLO,
                 "this key is for role client, not for role worker");
    sched_free(r.sched);
}

static void a_key_ends_when_it_is_time(void **state)
{
    struct msg beat = { .type = MSG_BEAT };
    struct rig r;

    (void)state;
    init(&r);
    struct key_row row = key_row_of(BOB, "bob", ROLE_CLIENT);
    row.not_after_wall_ns = 10 * NS_PER_S;
    sched_load_key(r.sched, &row);
    struct fx_group *g = say_hello_as(&r, BOB, ROLE_CLIENT);
    assert_non_null(sent_to(g, BOB, MSG_WELCOME));
    fx_group_free(g);
    r.wall_ns = 10 * NS_PER_S - 1;
    g = turn(&r);
    assert_null(sent_to(g, BOB, MSG_ERROR));
    fx_group_free(g);
    r.wall_ns = 10 * NS_PER_S; /* he says nothing */
    expect_error(turn(&r), BOB, 5, MSG_HELLO, "the key bob has expired");
    expect_error(say_as(&r, BOB, &beat), BOB, 5, MSG_HELLO, "the key bob has expired");
    sched_free(r.sched);
}

/* The tick comes within a second by itself; what is revoked ends with the turn. */
static void a_revoked_workers_tasks_go_to_others(void **state)
{
    struct msg revoke = order_of(KEY_REVOKE, 0, "store1", ROLE_CLIENT);
    static const uint32_t task = 0;
    uint8_t body[INPUT_BYTES] = { 1, 1, 1, 1 };
    struct msg done = done_of(0, &task, span_of(body, sizeof(body)));
    struct rig r;

    (void)state;
    init(&r);
    come(&r, BOB, "store1", ROLE_WORKER);
    struct fx_group *g = commit(&r, say_chunk(&r, 0, 1));
    assert_non_null(sent_to(g, BOB, MSG_LEASE));
    fx_group_free(g);
    hello(&r, OTHER);
    g = say(&r, CLIENT, &revoke);
    assert_non_null(sent_to(g, BOB, MSG_ERROR));
    assert_non_null(sent_to(g, OTHER, MSG_LEASE));
    expect_rows(&r, g, CLIENT, 1, 1);
    g = say_as(&r, BOB, &done); /* stale, and denied */
    assert_null(find(g, FX_BATCH, 0));
    expect_error(g, BOB, 5, MSG_HELLO, "the key store1 was revoked");
    expect_rows(&r, say(&r, CLIENT, &revoke), CLIENT, 1, 0); /* said again */
    sched_free(r.sched);
}

/* Says whether a worker that calls itself as BOB's does is let in; user: NULL = one of
 * this host. */
static bool takes_the_name(struct rig *r, peer_id peer, const char *user, uint8_t nonce)
{
    struct msg m = hello_as(BOB, ROLE_WORKER);

    m.hello.nonce[0] = nonce;
    r->user = user;
    struct fx_group *g = say(r, peer, &m);
    r->user = NULL;
    bool in = sent_to(g, peer, MSG_WELCOME) != NULL;
    if (!in)
        assert_true(
            span_eq(sent_to(g, peer, MSG_ERROR)->error.text, SPAN_LIT(WIRE_NAME_TAKEN)));
    fx_group_free(g);
    return in;
}

static void seconds(struct rig *r, int n)
{
    while (n--) {
        r->now_ns += NS_PER_S - NS_PER_MS; /* begin() adds it */
        fx_group_free(turn(r));
    }
}

static void a_pause_gives_a_nodes_name_to_nobody_else(void **state)
{
    enum { AGAIN = 40 }; /* BOB's worker, started again */
    struct rig r;

    (void)state;
    init(&r);
    come(&r, BOB, "store1", ROLE_WORKER);
    know(&r, EVE, "store1", ROLE_WORKER); /* who is invited may say so */
    for (int i = 0; i < 2; i++) {
        assert_false(takes_the_name(&r, EVE, user_of(EVE), 1));
        assert_false(takes_the_name(&r, EVE, user_of(EVE), BOB)); /* whatever it knows */
        assert_false(takes_the_name(&r, OTHER, NULL, 2));
        if (i == 0)
            seconds(&r, 7);
    }
    assert_true(takes_the_name(&r, AGAIN, user_of(BOB), 3));
    seconds(&r, 7);
    assert_false(takes_the_name(&r, EVE, user_of(EVE), 1));
    seconds(&r, 4); /* it is not there any more */
    assert_true(takes_the_name(&r, EVE, user_of(EVE), 1));
    sched_free(r.sched);
}

/* What waits at its link for who reads slowly would else come after it. */
static void a_revoked_key_gets_nothing_that_waits(void **state)
{
    struct msg revoke = order_of(KEY_REVOKE, 0, "alice", ROLE_CLIENT);
    const struct fx *fx;
    unsigned instead = 0;
    struct rig r;

    (void)state;
    init(&r);
    come(&r, ALICE, "alice", ROLE_CLIENT);
    struct fx_group *g = say(&r, CLIENT, &revoke);
    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == FX_SEND && fx->send.instead) {
            assert_int_equal(fx->send.peer, ALICE);
            assert_int_equal(fx->send.msg.type, MSG_ERROR);
            instead++;
        }
    assert_int_equal(instead, 1);
    fx_group_free(g);
    sched_free(r.sched);
}

static void another_under_a_peers_number_is_not_he(void **state)
{
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("status"), 0 } };
    struct rig r;

    (void)state;
    init(&r);
    come(&r, ALICE, "alice", ROLE_ADMIN);
    know(&r, EVE, "eve", ROLE_CLIENT);
    r.user = user_of(EVE);
    expect_error(say(&r, ALICE, &query), ALICE, 1, MSG_QUERY, WIRE_NO_SESSION);
    r.user = NULL; /* and nobody on this host is either */
    expect_error(say(&r, ALICE, &query), ALICE, 1, MSG_QUERY, WIRE_NO_SESSION);
    sched_free(r.sched);
}

/* ---- orders ---- */

static void trust_says_who_a_key_is(void **state)
{
    struct msg trust = order_of(KEY_TRUST, ALICE, "alice", ROLE_CLIENT);
    struct msg revoke = order_of(KEY_REVOKE, ALICE, "", ROLE_CLIENT);
    struct rig r;

    (void)state;
    init(&r);
    expect_rows(&r, say(&r, CLIENT, &trust), CLIENT, 1, 1);
    struct fx_group *g = say_hello_as(&r, ALICE, ROLE_CLIENT);
    assert_non_null(sent_to(g, ALICE, MSG_WELCOME));
    fx_group_free(g);
    expect_rows(&r, say(&r, CLIENT, &trust), CLIENT, 1, 1);
    trust.key.role = ROLE_ADMIN;
    expect_error(say(&r, CLIENT, &trust), CLIENT, 1, MSG_KEY,
                 "this key is known as client alice");
    expect_rows(&r, say(&r, CLIENT, &revoke), CLIENT, 1, 1);
    expect_error(say_hello_as(&r, ALICE, ROLE_CLIENT), ALICE, 5, MSG_HELLO,
                 "the key alice was revoked");
    trust.key.role = ROLE_CLIENT; /* it is taken back */
    expect_rows(&r, say(&r, CLIENT, &trust), CLIENT, 1, 1);
    g = say_hello_as(&r, ALICE, ROLE_CLIENT);
    assert_non_null(sent_to(g, ALICE, MSG_WELCOME));
    fx_group_free(g);
    sched_free(r.sched);
}

static void what_cannot_be_a_key_is_refused(void **state)
{
    static char long_name[200];
    const char *const names[] = { "",     "two\nlines", long_name,  user_of(BOB),
                                  "a\"b", "a\\b",       "\xc2\x9b", "\x9b" };
    struct rig r;

    (void)state;
    memset(long_name, 'x', sizeof(long_name) - 1);
    init(&r);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct msg m = order_of(KEY_TRUST, ALICE, names[i], ROLE_CLIENT);
        expect_error(say(&r, CLIENT, &m), CLIENT, 2, MSG_KEY, NULL);
    }
    struct msg none = order_of(KEY_TRUST, 0, "alice", ROLE_CLIENT);
    expect_error(say(&r, CLIENT, &none), CLIENT, 2, MSG_KEY, "no public key");
    struct msg late = order_of(KEY_TRUST, ALICE, "alice", ROLE_CLIENT);
    late.key.not_after_wall_ns = r.wall_ns;
    expect_error(say(&r, CLIENT, &late), CLIENT, 2, MSG_KEY, NULL);
    struct msg unknown = order_of(KEY_REVOKE, 0, "nobody", ROLE_CLIENT);
    expect_error(say(&r, CLIENT, &unknown), CLIENT, 9, MSG_KEY, "no such key");
    sched_free(r.sched);
}

/* Two keys may have one name while a key is being replaced; its end is the end of both.
 */
static void a_name_may_have_two_keys(void **state)
{
    struct msg revoke = order_of(KEY_REVOKE, 0, "alice", ROLE_CLIENT);
    struct msg query = { .type = MSG_QUERY, .query = { 1, SPAN_LIT("keys"), 0 } };
    struct rig r;

    (void)state;
    init(&r);
    come(&r, ALICE, "alice", ROLE_CLIENT);
    come(&r, BOB, "alice", ROLE_CLIENT);
    expect_rows(&r, say(&r, CLIENT, &query), CLIENT, 2, 0);
    struct fx_group *g = say(&r, CLIENT, &revoke);
    assert_non_null(sent_to(g, ALICE, MSG_ERROR));
    assert_non_null(sent_to(g, BOB, MSG_ERROR));
    expect_rows(&r, g, CLIENT, 2, 2);
    sched_free(r.sched);
}

/* ---- invitations ---- */

static struct msg enrol_of(uint8_t who, const char *name)
{
    struct msg m = { .type = MSG_ENROL };

    m.enrol = (struct msg_enrol){ .id = 3, .name = span_str(name) };
    memset(m.enrol.public_key, who, sizeof(m.enrol.public_key));
    return m;
}

static void invite(struct rig *r, const char *name, enum peer_role role)
{
    struct msg m = order_of(KEY_INVITE, TOKEN, name, role);

    m.key.not_after_wall_ns = r->wall_ns + 10 * NS_PER_S;
    expect_rows(r, say(r, CLIENT, &m), CLIENT, 1, 1);
    expect_rows(r, say(r, CLIENT, &m), CLIENT, 1, 0); /* said again */
    struct fx_group *g = say_hello_as(r, TOKEN, ROLE_CLIENT);
    assert_non_null(sent_to(g, TOKEN, MSG_WELCOME));
    fx_group_free(g);
}

static void who_is_invited_comes_once(void **state)
{
    struct msg enrol = enrol_of(NEW_KEY, "store1"), other = enrol_of(NEXT_KEY, "store2");
    struct rig r;

    (void)state;
    init(&r);
    invite(&r, "", ROLE_WORKER);
    struct fx_group *g = say_as(&r, TOKEN, &enrol);
    expect_rows(&r, g, TOKEN, 1, 2); /* the key and its use, in one group */
    expect_rows(&r, say_as(&r, TOKEN, &enrol), TOKEN, 1, 0);
    expect_error(say_as(&r, TOKEN, &other), TOKEN, 5, MSG_ENROL,
                 "this invitation is used up");
    g = say_hello_as(&r, TOKEN, ROLE_WORKER); /* the answer was lost: it comes again */
    assert_non_null(sent_to(g, TOKEN, MSG_WELCOME));
    fx_group_free(g);
    expect_rows(&r, say_as(&r, TOKEN, &enrol), TOKEN, 1, 0);
    g = say_hello_as(&r, NEW_KEY, ROLE_WORKER);
    assert_non_null(sent_to(g, NEW_KEY, MSG_WELCOME));
    fx_group_free(g);
    sched_free(r.sched);
}

/* After a restart an invitation is what it was. */
static void a_use_is_counted_on_disk(void **state)
{
    struct msg enrol = enrol_of(NEW_KEY, "store1"), other = enrol_of(NEXT_KEY, "store2");
    struct sched_config config = { .epoch = { 2, { 1 } } };
    const struct fx *fx;
    struct rig r;

    (void)state;
    init(&r);
    invite(&r, "", ROLE_WORKER);
    struct fx_group *g = say_as(&r, TOKEN, &enrol);
    struct sched *next = sched_new(&config);
    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == FX_KEY)
            sched_load_key(next, &fx->key);
    sched_loaded(next, 1);
    fx_group_free(g);
    sched_free(r.sched);
    r.sched = next;
    fx_group_free(say_hello_as(&r, TOKEN, ROLE_CLIENT));
    expect_error(say_as(&r, TOKEN, &other), TOKEN, 5, MSG_ENROL,
                 "this invitation is used up");
    expect_rows(&r, say_as(&r, TOKEN, &enrol), TOKEN, 1, 0);
    sched_free(r.sched);
}

static void an_invitation_ends(void **state)
{
    struct msg enrol = enrol_of(NEW_KEY, "store1");
    struct msg revoke = order_of(KEY_REVOKE, TOKEN, "", ROLE_CLIENT);
    struct rig r;

    (void)state;
    init(&r);
    invite(&r, "", ROLE_WORKER);
    r.wall_ns += 10 * NS_PER_S;
    expect_error(say_as(&r, TOKEN, &enrol), TOKEN, 5, MSG_HELLO,
                 "this invitation has expired");
    expect_rows(&r, say(&r, CLIENT, &revoke), CLIENT, 1, 1);
    expect_error(say_as(&r, TOKEN, &enrol), TOKEN, 5, MSG_HELLO,
                 "this invitation was withdrawn");
    sched_free(r.sched);
}

/* Nobody names himself into another's jobs; an admin may say who somebody is. */
static void who_is_invited_cannot_become_another(void **state)
{
    struct msg as_alice = enrol_of(NEW_KEY, "alice"),
               as_here = enrol_of(NEW_KEY, "local:x");
    struct msg as_known = enrol_of(ALICE, "alice"), named = enrol_of(NEW_KEY, "");
    struct rig r;

    (void)state;
    init(&r);
    know(&r, ALICE, "alice", ROLE_ADMIN);
    invite(&r, "", ROLE_CLIENT);
    expect_error(say_as(&r, TOKEN, &as_alice), TOKEN, 5, MSG_ENROL,
                 "somebody else has this name");
    expect_error(say_as(&r, TOKEN, &as_here), TOKEN, 5, MSG_ENROL,
                 "a key has a name, one line of 1 to 128 bytes");
    expect_error(say_as(&r, TOKEN, &as_known), TOKEN, 5, MSG_ENROL,
                 "this key is known already, and needs no invitation");
    expect_error(say_as(&r, TOKEN, &named), TOKEN, 5, MSG_ENROL, NULL);
    sched_free(r.sched);
    init(&r);
    know(&r, ALICE, "alice", ROLE_ADMIN);
    invite(&r, "alice", ROLE_CLIENT);
    expect_rows(&r, say_as(&r, TOKEN, &named), TOKEN, 1, 2);
    sched_free(r.sched);
}

/* Public keys are no secret: one that came otherwise, or by another's invitation, does
 * not tell who it is. */
static void an_invitation_does_not_ask_about_other_keys(void **state)
{
    struct msg enrol = enrol_of(BOB, "bob");
    struct rig r;

    (void)state;
    init(&r);
    know(&r, BOB, "bob", ROLE_CLIENT);
    invite(&r, "", ROLE_CLIENT);
    for (int revoked = 0; revoked <= 1; revoked++) {
        struct msg revoke = order_of(KEY_REVOKE, BOB, "", ROLE_CLIENT);
        struct fx_group *g = say_as(&r, TOKEN, &enrol);
        assert_null(sent_to(g, TOKEN, MSG_ANSWER));
        expect_error(g, TOKEN, 5, MSG_ENROL,
                     "this key is known already, and needs no invitation");
        fx_group_free(say(&r, CLIENT, &revoke));
    }
    sched_free(r.sched);
}

static void without_encrypted_links_nobody_is_invited(void **state)
{
    struct msg m = order_of(KEY_INVITE, TOKEN, "", ROLE_WORKER);
    struct rig r;

    (void)state;
    init(&r);
    sched_set_server(r.sched, NULL);
    expect_error(say(&r, CLIENT, &m), CLIENT, 1, MSG_KEY,
                 "the coordinator has no encrypted endpoint");
    sched_free(r.sched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_not_known_does_not_come),
        cmocka_unit_test(a_key_ends_when_it_is_time),
        cmocka_unit_test(a_revoked_workers_tasks_go_to_others),
        cmocka_unit_test(a_pause_gives_a_nodes_name_to_nobody_else),
        cmocka_unit_test(a_revoked_key_gets_nothing_that_waits),
        cmocka_unit_test(another_under_a_peers_number_is_not_he),
        cmocka_unit_test(trust_says_who_a_key_is),
        cmocka_unit_test(what_cannot_be_a_key_is_refused),
        cmocka_unit_test(a_name_may_have_two_keys),
        cmocka_unit_test(who_is_invited_comes_once),
        cmocka_unit_test(a_use_is_counted_on_disk),
        cmocka_unit_test(an_invitation_ends),
        cmocka_unit_test(who_is_invited_cannot_become_another),
        cmocka_unit_test(an_invitation_does_not_ask_about_other_keys),
        cmocka_unit_test(without_encrypted_links_nobody_is_invited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
