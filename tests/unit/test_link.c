/* A link: a connection is told of before the first message that comes in on it; who comes
 * when all places are taken gets in once somebody has left; bulk in flight is bounded,
 * and a Beat waits behind no more than that (R10). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "proto/link.h"

enum { ROUNDS = 20, TURNS = 1000, PLACES = 8 };

struct side {
    struct loop *loop;
    struct link *link;
    unsigned connected, messages;
    bool early; /* a message came before the connection */
};

static void echo(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct side *s = arg;
    assert_int_equal(user.len, 0); /* nobody vouches on a plain link */
    s->messages++;
    assert_int_equal(link_send(s->link, peer, m), 0);
}

static void take(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct side *s = arg;
    (void)peer, (void)user, (void)m;
    s->messages++;
    s->early |= !s->connected;
}

static unsigned garbage_expected;

static void garbage(void *arg, peer_id peer, const char *why)
{
    (void)arg, (void)peer;
    if (garbage_expected == 0)
        fail_msg("garbage: %s", why);
    garbage_expected--;
}

static void connected(void *arg)
{
    ((struct side *)arg)->connected++;
}

static struct side side_new(void)
{
    struct side s = { NULL };
    struct err err = { 0 };
    assert_int_equal(loop_new(LOOP_AUTO, &s.loop, &err), 0);
    return s;
}

/* A dealer that is connected and has sent, while its loop did not turn: a message that
 * had to be queued was too early. */
static void send_at_once(struct link_ctx *ctx, struct side *s, const char *endpoint)
{
    static const struct link_events events = { .message = take,
                                               .garbage = garbage,
                                               .connected = connected };
    struct msg beat = { .type = MSG_BEAT };
    struct err err = { 0 };

    for (useconds_t wait_us = 1000;; wait_us *= 2) {
        assert_int_equal(link_connect(ctx, s->loop, endpoint, NULL, WIRE_CLIENT_FRAME_MAX,
                                      &events, s, &s->link, &err),
                         0);
        usleep(wait_us);
        assert_int_equal(link_send(s->link, 0, &beat), 0);
        if (link_queued_bytes(s->link, 0) == 0)
            return;
        link_free(s->link);
    }
}

/* Answered while the dealer's loop stands, so that news and answer wait side by side. */
static void round_trip(struct link_ctx *ctx, const char *endpoint)
{
    static const struct link_events router_events = { .message = echo,
                                                      .garbage = garbage };
    struct side router = side_new(), dealer = side_new();
    struct err err = { 0 };

    assert_int_equal(link_listen(ctx, router.loop, endpoint, NULL, 100,
                                 WIRE_CLIENT_FRAME_MAX, &router_events, &router,
                                 &router.link, &err),
                     0);
    send_at_once(ctx, &dealer, endpoint);
    while (!router.messages)
        loop_once(router.loop, true);
    for (int i = 0; i < TURNS; i++)
        loop_once(router.loop, false);
    while (!dealer.messages)
        loop_once(dealer.loop, true);
    assert_int_equal(dealer.connected, 1);
    assert_false(dealer.early);
    link_free(dealer.link);
    link_free(router.link);
    loop_free(dealer.loop);
    loop_free(router.loop);
}

/* A dealer that says a Beat as soon as it is in. */
static void say_beat(void *arg)
{
    struct side *s = arg;
    struct msg beat = { .type = MSG_BEAT };

    s->connected++;
    assert_int_equal(link_send(s->link, 0, &beat), 0);
}

static void come(struct link_ctx *ctx, struct side *dealer, const char *endpoint)
{
    static const struct link_events events = { .message = take,
                                               .garbage = garbage,
                                               .connected = say_beat };
    struct err err = { 0 };

    *dealer = side_new();
    assert_int_equal(link_connect(ctx, dealer->loop, endpoint, NULL,
                                  WIRE_CLIENT_FRAME_MAX, &events, dealer, &dealer->link,
                                  &err),
                     0);
}

static void until_answered(struct side *router, struct side *dealer)
{
    while (!dealer->messages) {
        loop_once(router->loop, false);
        loop_once(dealer->loop, false);
        usleep(1000);
    }
}

static void leave(struct side *dealer)
{
    link_free(dealer->link);
    loop_free(dealer->loop);
}

/* Whether somebody who connects is let in, at once or within 0.1 s. */
static bool lets_in(const char *endpoint)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct timeval patience = { .tv_usec = 100000 };
    unsigned port = 0;
    bool tcp = sscanf(endpoint, "tcp://127.0.0.1:%u", &port) == 1, yes;
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_port = htons((uint16_t)port);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", endpoint + strlen("ipc://"));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    yes = (tcp ? connect(fd, (struct sockaddr *)&in, sizeof(in))
               : connect(fd, (struct sockaddr *)&un, sizeof(un))) == 0;
    close(fd);
    return yes;
}

static void when_full(struct link_ctx *ctx, const char *listen)
{
    static const struct link_events events = { .message = echo, .garbage = garbage };
    struct side router = side_new(), in[PLACES], late;
    struct err err = { 0 };
    const char *endpoint;

    assert_int_equal(link_listen(ctx, router.loop, listen, NULL, PLACES,
                                 WIRE_CLIENT_FRAME_MAX, &events, &router, &router.link,
                                 &err),
                     0);
    endpoint = link_endpoint(router.link);
    assert_true(lets_in(endpoint));
    for (unsigned i = 0; i < PLACES; i++) {
        come(ctx, &in[i], endpoint);
        until_answered(&router, &in[i]);
    }
    while (lets_in(endpoint)) {
        loop_once(router.loop, false);
        usleep(1000);
    }
    come(ctx, &late, endpoint);
    leave(&in[0]);
    until_answered(&router, &late);
    for (unsigned i = 1; i < PLACES; i++)
        leave(&in[i]);
    leave(&late);
    link_free(router.link);
    loop_free(router.loop);
}

static void with_ipc(void (*test)(struct link_ctx *, const char *))
{
    char dir[] = "/tmp/tidemill-link.XXXXXX", endpoint[80], path[64];
    struct link_ctx *ctx = link_ctx_new(1);

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
    test(ctx, endpoint);
    link_ctx_free(ctx);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static void round_trips(struct link_ctx *ctx, const char *endpoint)
{
    for (int i = 0; i < ROUNDS; i++)
        round_trip(ctx, endpoint);
}

static void test_who_comes_when_all_places_are_taken_gets_in_later(void **state)
{
    struct link_ctx *ctx = link_ctx_new(1);

    (void)state;
    with_ipc(when_full);
    when_full(ctx, "tcp://127.0.0.1:0");
    link_ctx_free(ctx);
}

static void test_a_connection_is_told_of_before_its_first_message(void **state)
{
    (void)state;
    with_ipc(round_trips);
}

/* ---- bulk ---- */

enum { BULK = 100 * KIB, WINDOW = 256 * KIB };

struct pair {
    char dir[32], endpoint[80];
    struct link_ctx *ctx;
    struct side side[2]; /* router, dealer */
    peer_id id[2];       /* of the other side */
    unsigned bulk_seen[2],
        beat_after[2];                /* by who got it: the Beat came behind so many */
    unsigned small_seen, errors_seen; /* by the dealer */
    bool beat_seen[2], in_order;
};
static struct pair *pair;

static void taken_in(int at, peer_id peer, const struct msg *m)
{
    pair->id[at] = peer;
    pair->side[at].messages++;
    if (m->type == MSG_BEAT) {
        pair->beat_seen[at] = true;
        pair->beat_after[at] = pair->bulk_seen[at];
    } else if (m->type == MSG_ANSWER) {
        pair->in_order =
            pair->in_order && m->answer.id == pair->bulk_seen[at] && m->body.len == BULK;
        pair->bulk_seen[at]++;
    }
}

static void router_takes(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    (void)arg, (void)user;
    taken_in(0, peer, m);
}

static void dealer_takes(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    (void)arg, (void)user;
    pair->small_seen += m->type == MSG_CREDIT;
    pair->errors_seen += m->type == MSG_ERROR;
    taken_in(1, peer, m);
}

/* Both know each other; nothing else has been said. */
static void pair_up(struct pair *p)
{
    static const struct link_events events[] = {
        { .message = router_takes, .garbage = garbage },
        { .message = dealer_takes, .garbage = garbage, .connected = connected }
    };
    struct err err = { 0 };
    struct msg hello = { .type = MSG_CREDIT };

    *p = (struct pair){ .dir = "/tmp/tidemill-link.XXXXXX", .in_order = true };
    pair = p;
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->endpoint, sizeof(p->endpoint), "ipc://%s/s", p->dir);
    p->ctx = link_ctx_new(1);
    p->side[0] = side_new();
    p->side[1] = side_new();
    assert_int_equal(link_listen(p->ctx, p->side[0].loop, p->endpoint, NULL, 100,
                                 WIRE_WORKER_FRAME_MAX, &events[0], &p->side[0],
                                 &p->side[0].link, &err),
                     0);
    assert_int_equal(link_connect(p->ctx, p->side[1].loop, p->endpoint, NULL,
                                  WIRE_WORKER_FRAME_MAX, &events[1], &p->side[1],
                                  &p->side[1].link, &err),
                     0);
    while (!p->side[1].connected)
        loop_once(p->side[1].loop, true);
    assert_int_equal(link_send(p->side[1].link, 0, &hello), 0);
    while (!p->side[0].messages)
        loop_once(p->side[0].loop, true);
}

static void pair_end(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        link_free(p->side[i].link);
        loop_free(p->side[i].loop);
    }
    link_ctx_free(p->ctx);
    rmdir(p->dir);
}

static int say_bulk(struct pair *p, int from, uint32_t number)
{
    static const uint8_t bytes[BULK];
    struct msg m = { .type = MSG_ANSWER, .body = span_of(bytes, sizeof(bytes)) };

    m.answer.id = number;
    return link_send(p->side[from].link, p->id[from], &m);
}

/* Whichever side sends: while the other does not read, no more than the window is given
 * to the library, what waits here is bounded too, and a Beat is the next to go. */
static void test_bulk_waits_here_and_beats_do_not(void **state)
{
    (void)state;
    for (int from = 0; from < 2; from++) {
        struct pair p;
        struct msg beat = { .type = MSG_BEAT };
        uint32_t n = 0, in_flight = WINDOW / BULK + 1; /* the last may overdraw */
        pair_up(&p);
        struct link *link = p.side[from].link;
        while (say_bulk(&p, from, n) == 0) {
            n++;
            for (int i = 0; i < 10; i++)
                loop_once(p.side[from].loop, false);
        }
        assert_int_equal(link_queued_bytes(link, p.id[from]) / BULK, n - in_flight);
        assert_true(link_queued_bytes(link, p.id[from]) <= 8 * MIB);
        assert_int_equal(link_send(link, p.id[from], &beat), 0);
        while (p.bulk_seen[!from] < n) {
            loop_once(p.side[!from].loop, false);
            loop_once(p.side[from].loop, false);
        }
        assert_true(p.beat_seen[!from]);
        assert_true(p.beat_after[!from] <= in_flight);
        assert_true(p.in_order);
        assert_int_equal(link_queued_bytes(link, p.id[from]), 0);
        pair_end(&p);
    }
}

/* In the place of the first one, which ends: the dealer has to connect again. */
static void another_router(struct pair *p)
{
    static const struct link_events events = { .message = router_takes,
                                               .garbage = garbage };
    struct err err = { 0 };

    link_free(p->side[0].link);
    p->side[0].messages = 0;
    p->bulk_seen[0] = 0;
    assert_int_equal(link_listen(p->ctx, p->side[0].loop, p->endpoint, NULL, 100,
                                 WIRE_WORKER_FRAME_MAX, &events, &p->side[0],
                                 &p->side[0].link, &err),
                     0);
}

/* Bulk of the old connection dies with it, what is small does not; the new connection
 * begins with a whole window, whatever the old one had in flight. */
static void test_a_new_connection_has_a_new_window(void **state)
{
    struct pair p;
    struct msg small = { .type = MSG_CREDIT };

    (void)state;
    pair_up(&p);
    struct link *dealer = p.side[1].link;
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(say_bulk(&p, 1, 1000 + i), 0);
    assert_true(link_queued_bytes(dealer, 0) > 0);
    assert_int_equal(link_send(dealer, 0, &small), 0);
    another_router(&p); /* the first has taken nothing */
    while (p.side[1].connected < 2)
        loop_once(p.side[1].loop, true);
    assert_int_equal(link_queued_bytes(dealer, 0), 0);
    while (!p.side[0].messages)
        loop_once(p.side[0].loop, true);
    assert_int_equal(p.bulk_seen[0], 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(say_bulk(&p, 1, i), 0);
    assert_int_equal(link_queued_bytes(dealer, 0), 0);
    while (p.bulk_seen[0] < 3)
        loop_once(p.side[0].loop, true);
    assert_true(p.in_order);
    pair_end(&p);
}

/* Said to the one who went: the next one does not get it, though the library has a
 * connection to him already, and nobody has heard of it. */
static void test_bulk_does_not_go_to_another_than_it_was_said_to(void **state)
{
    struct pair p;

    (void)state;
    pair_up(&p);
    another_router(&p);
    usleep(200000); /* by now it has; if not, the test proves less */
    assert_int_equal(say_bulk(&p, 1, 1000), 0);
    for (int i = 0; i < TURNS; i++) {
        loop_once(p.side[0].loop, false);
        usleep(100);
    }
    while (p.side[1].connected < 2)
        loop_once(p.side[1].loop, true);
    assert_int_equal(say_bulk(&p, 1, 0), 0);
    while (!p.bulk_seen[0])
        loop_once(p.side[0].loop, true);
    assert_true(p.in_order);
    pair_end(&p);
}

/* ---- who does not read ---- */

enum { SMALL = 100000 }; /* messages: more than two queues and a pipe hold */

/* While the dealer's loop stands. */
static void say_small(struct pair *p, peer_id dealer, unsigned n)
{
    struct msg small = { .type = MSG_CREDIT };

    while (n--)
        assert_int_equal(link_send(p->side[0].link, dealer, &small), 0);
    assert_true(link_queued_bytes(p->side[0].link, dealer) > 0);
}

static void until_small_seen(struct pair *p, unsigned n)
{
    while (p->small_seen < n) {
        loop_once(p->side[1].loop, false);
        loop_once(p->side[0].loop, false);
    }
}

static void time_is_up(void *arg)
{
    *(bool *)arg = true;
}

/* So long as one peer reads nothing, the ROUTER's other pipes have room: no reason to
 * turn. When it reads again, it gets what waited. */
static void test_who_does_not_read_costs_no_turns(void **state)
{
    struct pair p;
    struct side other;
    bool up = false;
    unsigned turns = 0;

    (void)state;
    pair_up(&p);
    peer_id dealer = p.id[0];
    come(p.ctx, &other, p.endpoint);
    while (p.id[0] == dealer) {
        loop_once(p.side[0].loop, false);
        loop_once(other.loop, false);
    }
    say_small(&p, dealer, SMALL);
    struct loop_timer *t = loop_timer_new(p.side[0].loop, time_is_up, &up);
    loop_timer_arm(t, 500 * NS_PER_MS);
    for (; !up; turns++)
        loop_once(p.side[0].loop, true);
    loop_timer_free(t);
    assert_true(turns < 200);
    until_small_seen(&p, SMALL);
    assert_int_equal(link_queued_bytes(p.side[0].link, dealer), 0);
    leave(&other);
    pair_end(&p);
}

/* What cannot be understood is answered once it can be heard: nothing piles up. */
static void test_garbage_of_who_does_not_read_is_not_answered(void **state)
{
    static const uint8_t too_long[2 * MIB + 1];
    struct msg m = { .type = MSG_ANSWER, .body = span_of(too_long, sizeof(too_long)) };
    struct pair p;

    (void)state;
    pair_up(&p);
    say_small(&p, p.id[0], SMALL);
    garbage_expected = 1;
    assert_int_equal(link_send(p.side[1].link, 0, &m), 0);
    while (garbage_expected)
        loop_once(p.side[0].loop, true);
    say_small(&p, p.id[0], 1);
    until_small_seen(&p, SMALL + 1);
    assert_int_equal(p.errors_seen, 0);
    pair_end(&p);
}

/* However much waits for a peer, a Beat is taken for it; and that we took its bulk it
 * hears when it reads again, or it would never send on. */
static void test_a_full_queue_keeps_back_no_sign_of_life(void **state)
{
    struct msg beat = { .type = MSG_BEAT }, m = { .type = MSG_ERROR };
    static char text[1000];
    struct pair p;

    (void)state;
    memset(text, 'x', sizeof(text));
    m.error.text = span_of(text, sizeof(text));
    pair_up(&p);
    struct link *router = p.side[0].link, *dealer = p.side[1].link;
    while (link_send(router, p.id[0], &m) == 0)
        ;
    assert_int_equal(link_send(router, p.id[0], &beat), 0);
    for (uint32_t i = 0; link_queued_bytes(dealer, 0) == 0; i++)
        assert_int_equal(say_bulk(&p, 1, i), 0);
    while (p.bulk_seen[0] * BULK < WINDOW)
        loop_once(p.side[0].loop, true);
    while (link_queued_bytes(router, p.id[0])) {
        loop_once(p.side[1].loop, false);
        loop_once(p.side[0].loop, false);
    }
    p.beat_seen[1] = false;
    assert_int_equal(link_send(router, p.id[0], &beat), 0);
    while (!p.beat_seen[1])
        loop_once(p.side[1].loop, true);
    assert_int_equal(link_queued_bytes(dealer, 0), 0);
    pair_end(&p);
}

/* It may be said to a peer that what it was to get is not for it; only what the library
 * has already comes before that. */
static void test_what_is_dropped_is_not_sent(void **state)
{
    struct msg m = { .type = MSG_ERROR };
    struct pair p;

    (void)state;
    pair_up(&p);
    struct link *router = p.side[0].link;
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(say_bulk(&p, 0, i), 0);
    size_t waits = link_queued_bytes(router, p.id[0]);
    assert_true(waits >= 10 * BULK);
    link_drop_queued(router, p.id[0]);
    assert_int_equal(link_queued_bytes(router, p.id[0]), 0);
    assert_int_equal(link_send(router, p.id[0], &m), 0);
    while (!p.errors_seen) {
        loop_once(p.side[1].loop, false);
        loop_once(p.side[0].loop, false);
    }
    assert_int_equal(p.bulk_seen[1], 20 - waits / BULK);
    for (uint32_t i = p.bulk_seen[1]; i < 20; i++) /* and the link goes on */
        assert_int_equal(say_bulk(&p, 0, i), 0);
    while (p.bulk_seen[1] < 20) {
        loop_once(p.side[1].loop, false);
        loop_once(p.side[0].loop, false);
    }
    assert_true(p.in_order);
    pair_end(&p);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_is_told_of_before_its_first_message),
        cmocka_unit_test(test_who_comes_when_all_places_are_taken_gets_in_later),
        cmocka_unit_test(test_bulk_waits_here_and_beats_do_not),
        cmocka_unit_test(test_a_new_connection_has_a_new_window),
        cmocka_unit_test(test_bulk_does_not_go_to_another_than_it_was_said_to),
        cmocka_unit_test(test_what_is_dropped_is_not_sent),
        cmocka_unit_test(test_who_does_not_read_costs_no_turns),
        cmocka_unit_test(test_a_full_queue_keeps_back_no_sign_of_life),
        cmocka_unit_test(test_garbage_of_who_does_not_read_is_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
