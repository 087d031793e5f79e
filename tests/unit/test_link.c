/* A link: a connection is told of before the first message that comes in on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "proto/link.h"

enum { ROUNDS = 20, TURNS = 1000 };

struct side {
    struct loop *loop;
    struct link *link;
    unsigned connected, messages;
    bool early; /* a message came before the connection */
};

static void echo(void *arg, peer_id peer, const struct msg *m)
{
    struct side *s = arg;
    s->messages++;
    assert_int_equal(link_send(s->link, peer, m), 0);
}

static void take(void *arg, peer_id peer, const struct msg *m)
{
    struct side *s = arg;
    (void)peer, (void)m;
    s->messages++;
    s->early |= !s->connected;
}

static void garbage(void *arg, peer_id peer, const char *why)
{
    (void)arg, (void)peer;
    fail_msg("garbage: %s", why);
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
        assert_int_equal(link_connect(ctx, s->loop, endpoint, WIRE_CLIENT_FRAME_MAX,
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

    assert_int_equal(link_listen(ctx, router.loop, endpoint, WIRE_CLIENT_FRAME_MAX,
                                 &router_events, &router, &router.link, &err),
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

static void test_a_connection_is_told_of_before_its_first_message(void **state)
{
    char dir[] = "/tmp/tidemill-link.XXXXXX", endpoint[80], path[64];
    struct link_ctx *ctx = link_ctx_new(1);

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
    for (int i = 0; i < ROUNDS; i++)
        round_trip(ctx, endpoint);
    link_ctx_free(ctx);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_is_told_of_before_its_first_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
