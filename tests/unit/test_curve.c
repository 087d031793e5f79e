/* Encrypted links: whose key is known gets in, and each message says whose it is; who
 * does not get in is told why, soon, and nobody is told so of a server that is only
 * away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/clock.h"
#include "proto/link.h"

enum { HANG_UPS = 12 };
#define TOLD_NS (3 * NS_PER_S) /* the promise: told within this */

struct rig {
    struct loop *loop;
    struct link_ctx *ctx;
    struct zap *zap;
    struct keypair *server, *own;
    struct link *router, *dealer;
    char endpoint[128];
    /* the router's */
    char users[8][KEY_TEXT];
    peer_id peers[8];
    unsigned messages, gone;
    /* the dealer's */
    unsigned answers, refusals;
    size_t answered_bytes;
    enum link_refusal why;
    int64_t since_ns, told_ns;
};

static void router_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct rig *r = arg;

    unsigned at = r->messages++ % ARRAY_LEN(r->users);
    assert_true(user.len < KEY_TEXT);
    memcpy(r->users[at], user.data, user.len);
    r->users[at][user.len] = 0;
    r->peers[at] = peer;
    assert_int_equal(link_send(r->router, peer, m), 0);
}

static void router_gone(void *arg, peer_id peer)
{
    (void)peer;
    ((struct rig *)arg)->gone++;
}

static void dealer_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct rig *r = arg;

    (void)peer;
    assert_int_equal(user.len, 0);
    r->answers++;
    r->answered_bytes += m->body.len;
}

static void dealer_connected(void *arg)
{
    struct rig *r = arg;
    struct msg beat = { .type = MSG_BEAT };
    assert_int_equal(link_send(r->dealer, 0, &beat), 0);
}

static void dealer_refused(void *arg, enum link_refusal why)
{
    struct rig *r = arg;
    r->refusals++;
    r->why = why;
    r->told_ns = clock_mono_ns();
}

static int setup(void **state)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    struct err err = { 0 };

    crypto_init();
    assert_int_equal(loop_new(LOOP_AUTO, &r->loop, &err), 0);
    r->ctx = link_ctx_new(1);
    r->zap = zap_new(r->ctx);
    r->server = keypair_new();
    r->own = keypair_new();
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    link_free(r->dealer);
    link_free(r->router);
    zap_free(r->zap);
    link_ctx_free(r->ctx);
    loop_free(r->loop);
    keypair_free(r->server);
    keypair_free(r->own);
    free(r);
    return 0;
}

static void listen_at(struct rig *r, const char *endpoint, bool encrypted)
{
    static const struct link_events events = { .message = router_message,
                                               .gone = router_gone };
    struct link_curve curve = { .own = r->server, .domain = ZAP_CLIENT };
    struct err err = { 0 };

    assert_int_equal(link_listen(r->ctx, r->loop, endpoint, encrypted ? &curve : NULL,
                                 1000, WIRE_CLIENT_FRAME_MAX, &events, r, &r->router,
                                 &err),
                     0);
    snprintf(r->endpoint, sizeof(r->endpoint), "%s", link_endpoint(r->router));
}

/* servers: what the dealer takes for the server's keys; n 0 = it does not encrypt. */
static void come(struct rig *r, const uint8_t (*servers)[KEY_BYTES], size_t n)
{
    static const struct link_events events = { .message = dealer_message,
                                               .connected = dealer_connected,
                                               .refused = dealer_refused };
    struct link_curve curve = { .own = r->own, .servers = servers, .n_servers = n };
    struct err err = { 0 };

    r->since_ns = clock_mono_ns();
    assert_int_equal(link_connect(r->ctx, r->loop, r->endpoint, n ? &curve : NULL,
                                  WIRE_CLIENT_FRAME_MAX, &events, r, &r->dealer, &err),
                     0);
}

static void come_with_server_key(struct rig *r)
{
    come(r, (const uint8_t(*)[KEY_BYTES])r->server->public_key, 1);
}

static void turn(struct rig *r)
{
    loop_once(r->loop, false);
    usleep(1000);
}

static void until_answered(struct rig *r)
{
    unsigned before = r->answers;
    while (r->answers == before) {
        turn(r);
        if (r->refusals)
            fail_msg("refused: %d", r->why);
    }
}

static void assert_refused(struct rig *r, enum link_refusal why)
{
    while (!r->refusals)
        turn(r);
    assert_int_equal(r->why, why);
    assert_true(r->told_ns - r->since_ns < TOLD_NS);
    assert_int_equal(r->messages, 0);
}

/* ---- who gets in ---- */

static void a_known_key_gets_in_and_each_message_says_whose_it_is(void **state)
{
    struct rig *r = *state;
    struct msg beat = { .type = MSG_BEAT };
    char text[KEY_TEXT];

    key_text(r->own->public_key, text);
    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    come_with_server_key(r);
    until_answered(r);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(link_send(r->dealer, 0, &beat), 0);
        until_answered(r);
    }
    assert_int_equal(r->messages, 4);
    for (unsigned i = 0; i < r->messages; i++) {
        assert_string_equal(r->users[i], text);
        assert_int_equal(r->peers[i], r->peers[0]);
    }
}

/* Frames of as much as either end takes (R17): a link's limit is of what is in them. */
static void frames_of_the_largest_size_come_through_both_ways(void **state)
{
    static uint8_t bytes[2 * WIRE_CLIENT_FRAME_MAX];
    struct rig *r = *state;
    struct msg bulk = { .type = MSG_ANSWER, .body = span_of(bytes, sizeof(bytes)) };

    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    come_with_server_key(r);
    until_answered(r);
    assert_int_equal(link_send(r->dealer, 0, &bulk), 0);
    while (!r->answered_bytes && !r->gone)
        turn(r);
    assert_int_equal(r->gone, 0);
    assert_int_equal(r->answered_bytes, sizeof(bytes));
}

static void of_several_server_keys_the_right_one_is_found(void **state)
{
    struct rig *r = *state;
    uint8_t servers[3][KEY_BYTES];

    crypto_random(servers, sizeof(servers));
    memcpy(servers[2], r->server->public_key, KEY_BYTES);
    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    come(r, (const uint8_t(*)[KEY_BYTES])servers, 3);
    until_answered(r);
    assert_int_equal(r->refusals, 0);
    r->since_ns = clock_mono_ns();
    link_reset(r->dealer); /* which it goes on with */
    until_answered(r);
    assert_true(clock_mono_ns() - r->since_ns < TOLD_NS);
}

/* A routing id is nobody's: who takes over another's is not taken for him. */
static void *named_dealer(struct rig *r, void *zmq, const struct keypair *own,
                          struct span name)
{
    void *s = zmq_socket(zmq, ZMQ_DEALER);
    int linger = 10000;

    zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof(linger));
    if (name.len)
        zmq_setsockopt(s, ZMQ_ROUTING_ID, name.data, name.len);
    zmq_setsockopt(s, ZMQ_CURVE_SERVERKEY, r->server->public_key, KEY_BYTES);
    zmq_setsockopt(s, ZMQ_CURVE_PUBLICKEY, own->public_key, KEY_BYTES);
    zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, own->secret, KEY_BYTES);
    assert_int_equal(zmq_connect(s, r->endpoint), 0);
    return s;
}

static void who_takes_anothers_routing_id_is_not_taken_for_him(void **state)
{
    struct rig *r = *state;
    struct keypair *keys[2] = { keypair_new(), keypair_new() };
    struct msg beat = { .type = MSG_BEAT };
    void *zmq = zmq_ctx_new();
    AUTO_BUF envelope = BUF_INIT;
    char text[KEY_TEXT];

    wire_encode(&beat, &envelope);
    listen_at(r, "tcp://127.0.0.1:0", true);
    for (unsigned i = 0; i < 2; i++) {
        zap_set(r->zap, keys[i]->public_key, BIT(ZAP_CLIENT));
        /* The library drops a second one of a name while the first is there: again. */
        while (r->messages == i) {
            void *s = named_dealer(r, zmq, keys[i], SPAN_LIT("same"));
            zmq_send(s, envelope.data, envelope.len, 0);
            for (int turns = 0; turns < 500 && r->messages == i; turns++)
                turn(r);
            zmq_close(s);
        }
        key_text(keys[i]->public_key, text);
        assert_string_equal(r->users[i], text);
    }
    assert_int_not_equal(r->peers[0], r->peers[1]);
    assert_int_equal(r->gone, 1);
    zmq_ctx_term(zmq);
    keypair_free(keys[0]);
    keypair_free(keys[1]);
}

/* A ROUTER's own names for its peers are a zero and a number that goes up; nobody can
 * know where it begins, or one who takes the next for his name ends the process. */
static void who_guesses_the_next_name_of_a_peer_does_no_harm(void **state)
{
    struct rig *r = *state;
    enum { CLAIMS = 4 };
    struct msg beat = { .type = MSG_BEAT };
    void *zmq = zmq_ctx_new(), *sockets[CLAIMS + 1];
    AUTO_BUF envelope = BUF_INIT;

    wire_encode(&beat, &envelope);
    srand(1);
    uint32_t low = (uint32_t)rand(), high = (uint32_t)rand();
    srand(1);
    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    for (unsigned i = 0; i <= CLAIMS; i++) {
        uint32_t number = htonl((low | high << 31) + i);
        uint8_t name[5] = { 0 };
        memcpy(name + 1, &number, sizeof(number));
        sockets[i] =
            named_dealer(r, zmq, r->own, i < CLAIMS ? span_of(name, 5) : SPAN_NONE);
        zmq_send(sockets[i], envelope.data, envelope.len, 0);
        while (r->messages == i)
            turn(r);
    }
    for (unsigned i = 0; i <= CLAIMS; i++)
        zmq_close(sockets[i]);
    zmq_ctx_term(zmq);
}

static void a_key_that_comes_too_often_waits_and_gets_in(void **state)
{
    struct rig *r = *state;
    enum { OVER = 20 };
    struct msg beat = { .type = MSG_BEAT };
    void *zmq = zmq_ctx_new(), *sockets[ZAP_BURST + OVER];
    int64_t began_ns = clock_mono_ns();
    AUTO_BUF envelope = BUF_INIT;

    wire_encode(&beat, &envelope);
    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    for (unsigned i = 0; i < ARRAY_LEN(sockets); i++) {
        sockets[i] = named_dealer(r, zmq, r->own, SPAN_NONE);
        zmq_send(sockets[i], envelope.data, envelope.len, 0);
    }
    while (r->messages < ARRAY_LEN(sockets))
        turn(r);
    assert_true(clock_mono_ns() - began_ns > (OVER - 2) * ZAP_EACH_NS);
    for (unsigned i = 0; i < ARRAY_LEN(sockets); i++)
        zmq_close(sockets[i]);
    zmq_ctx_term(zmq);
}

/* ---- who does not ---- */

static void an_unknown_key_is_refused(void **state)
{
    struct rig *r = *state;

    listen_at(r, "tcp://127.0.0.1:0", true);
    come_with_server_key(r);
    assert_refused(r, LINK_KEY_UNKNOWN);
}

static void a_key_of_the_other_domain_is_unknown(void **state)
{
    struct rig *r = *state;

    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_WORKER));
    come_with_server_key(r);
    assert_refused(r, LINK_KEY_UNKNOWN);
}

static void a_forgotten_key_is_unknown_and_a_known_one_gets_in_by_itself(void **state)
{
    struct rig *r = *state;

    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    zap_set(r->zap, r->own->public_key, 0);
    come_with_server_key(r);
    assert_refused(r, LINK_KEY_UNKNOWN);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    r->refusals = 0;
    until_answered(r);
}

/* To be told that it has ended; not for ever. */
static void a_key_that_has_ended_gets_in_a_few_times(void **state)
{
    struct rig *r = *state;
    unsigned times = 0;

    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    zap_ends(r->zap, r->own->public_key, clock_wall_ns() + 3600 * NS_PER_S);
    come_with_server_key(r);
    until_answered(r);
    zap_ends(r->zap, r->own->public_key, clock_wall_ns());
    while (!r->refusals) {
        unsigned before = r->answers;
        link_reset(r->dealer);
        while (r->answers == before && !r->refusals)
            turn(r);
        times += r->answers > before;
    }
    assert_int_equal(r->why, LINK_KEY_UNKNOWN);
    assert_int_equal(times, 20);
}

static void a_server_with_another_key_is_refused(void **state)
{
    struct rig *r = *state;
    uint8_t servers[2][KEY_BYTES];

    crypto_random(servers, sizeof(servers));
    listen_at(r, "tcp://127.0.0.1:0", true);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    come(r, (const uint8_t(*)[KEY_BYTES])servers, 2);
    assert_refused(r, LINK_SERVER_UNKNOWN);
}

static void of_many_wrong_keys_it_is_told_soon_too(void **state)
{
    struct rig *r = *state;
    uint8_t servers[PINS_MAX][KEY_BYTES];

    crypto_random(servers, sizeof(servers));
    listen_at(r, "tcp://127.0.0.1:0", true);
    come(r, (const uint8_t(*)[KEY_BYTES])servers, PINS_MAX);
    assert_refused(r, LINK_SERVER_UNKNOWN);
}

static void a_plain_server_is_refused(void **state)
{
    struct rig *r = *state;

    listen_at(r, "tcp://127.0.0.1:0", false);
    come_with_server_key(r);
    assert_refused(r, LINK_IS_PLAIN);
}

static void a_plain_dealer_is_told_that_it_should_encrypt(void **state)
{
    struct rig *r = *state;

    listen_at(r, "tcp://127.0.0.1:0", true);
    come(r, NULL, 0);
    assert_refused(r, LINK_IS_ENCRYPTED);
}

/* ---- a server that is away ---- */

static int hang_up_listener(struct rig *r)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(r->endpoint, sizeof(r->endpoint), "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

/* As a proxy does whose server is being started again. */
static void who_hangs_up_on_everybody_is_not_taken_for_a_stranger(void **state)
{
    struct rig *r = *state;
    char endpoint[128];
    int fd = hang_up_listener(r);

    come_with_server_key(r);
    for (int hung_up = 0; hung_up < HANG_UPS;) {
        int in = accept(fd, NULL, NULL);
        if (in >= 0) {
            close(in);
            hung_up++;
        }
        turn(r);
    }
    close(fd);
    assert_int_equal(r->refusals, 0);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    snprintf(endpoint, sizeof(endpoint), "%s", r->endpoint);
    listen_at(r, endpoint, true);
    until_answered(r);
}

struct proxied {
    int in, out;
};

static int connect_to(const char *endpoint)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void pass_on(int from, int to)
{
    char bytes[4096];
    ssize_t n = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n > 0)
        assert_int_equal(send(to, bytes, (size_t)n, MSG_NOSIGNAL), n);
}

/* Hangs up so often, then lets everybody through: its server is back. */
static void who_comes_back_behind_a_proxy_is_not_taken_for_a_stranger(void **state)
{
    struct rig *r = *state;
    struct proxied through[16];
    char server[128];

    listen_at(r, "tcp://127.0.0.1:0", true);
    snprintf(server, sizeof(server), "%s", r->endpoint);
    zap_set(r->zap, r->own->public_key, BIT(ZAP_CLIENT));
    for (int times = 1; times <= 4; times++) {
        int fd = hang_up_listener(r), left = times;
        size_t n = 0;
        come_with_server_key(r);
        /* And a while longer: a question may be under way. */
        unsigned before = r->answers, more = 300;
        while (r->answers == before || more-- > 0) {
            int in = accept(fd, NULL, NULL);
            if (in >= 0 && left-- > 0)
                close(in);
            else if (in >= 0) {
                assert_true(n < ARRAY_LEN(through));
                through[n++] = (struct proxied){ in, connect_to(server) };
            }
            for (size_t i = 0; i < n; i++) {
                pass_on(through[i].in, through[i].out);
                pass_on(through[i].out, through[i].in);
            }
            turn(r);
            assert_int_equal(r->refusals, 0);
        }
        link_free(r->dealer);
        r->dealer = NULL;
        for (size_t i = 0; i < n; i++) {
            close(through[i].in);
            close(through[i].out);
        }
        close(fd);
    }
}

/* ---- the proof at start ---- */

static void a_socket_that_keeps_strangers_out_is_proved(void **state)
{
    struct rig *r = *state;
    struct err err = { 0 };

    assert_int_equal(zap_prove(r->ctx, r->zap, &err), 0);
}

static void a_socket_that_nobody_watches_is_noticed(void **state)
{
    struct rig *r = *state;
    struct link_ctx *other = link_ctx_new(1);
    struct err err = { 0 };

    assert_int_equal(zap_prove(other, r->zap, &err), -1);
    assert_non_null(strstr(err.text, "do not keep strangers out"));
    link_ctx_free(other);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_known_key_gets_in_and_each_message_says_whose_it_is),
        TEST(frames_of_the_largest_size_come_through_both_ways),
        TEST(of_several_server_keys_the_right_one_is_found),
        TEST(who_takes_anothers_routing_id_is_not_taken_for_him),
        TEST(who_guesses_the_next_name_of_a_peer_does_no_harm),
        TEST(a_key_that_comes_too_often_waits_and_gets_in),
        TEST(an_unknown_key_is_refused),
        TEST(a_key_that_has_ended_gets_in_a_few_times),
        TEST(a_key_of_the_other_domain_is_unknown),
        TEST(a_forgotten_key_is_unknown_and_a_known_one_gets_in_by_itself),
        TEST(a_server_with_another_key_is_refused),
        TEST(of_many_wrong_keys_it_is_told_soon_too),
        TEST(a_plain_server_is_refused),
        TEST(a_plain_dealer_is_told_that_it_should_encrypt),
        TEST(who_hangs_up_on_everybody_is_not_taken_for_a_stranger),
        TEST(who_comes_back_behind_a_proxy_is_not_taken_for_a_stranger),
        TEST(a_socket_that_keeps_strangers_out_is_proved),
        TEST(a_socket_that_nobody_watches_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
