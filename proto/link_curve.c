/* Encryption of a link, and how a DEALER finds out that it will never get in.
 *
 * The library says too little: a server that cannot open our Hello, since it has another
 * key, hangs up, as does one that is being stopped, or a proxy with nobody behind it. So
 * after two hang-ups it is asked what is there (link_ask.c); a key is the wrong one when
 * the server hangs up on it again after that. The next key has two tries.
 *
 *     SHAKING --two hang-ups--> ASKING --encrypted--> SHAKING --hang-up--> next key
 *      ^  ^                        `---plain--------> SHAKING --hang-up--> refused
 *      |  '-nobody, or got in-------'                    no key left ----> refused
 *      '------------------------- got in, from anywhere
 */
#include "proto/link_state.h"

enum { HANG_UPS = 2 };
#define AGAIN_NS (50 * NS_PER_MS)  /* before another socket: nobody is hammered */
#define LATER_NS (500 * NS_PER_MS) /* between two questions */
#define ASK_NS   (1 * NS_PER_S)    /* how long an answer is waited for */
/* Later than this it is the time limit of the handshake: whoever is there is slow. */
#define HANG_UP_NS (2 * NS_PER_S)

struct link_keys *link_keys_new(const struct link_curve *curve)
{
    struct link_keys *k;

    if (!curve)
        return NULL;
    CHECK(curve->n_servers <= PINS_MAX);
    k = xcalloc(1, sizeof(*k));
    k->own = keypair_copy(curve->own);
    k->domain = curve->domain;
    k->n_servers = curve->n_servers;
    if (k->n_servers)
        memcpy(k->servers, curve->servers, k->n_servers * KEY_BYTES);
    return k;
}

void link_keys_free(struct link_keys *k)
{
    if (!k)
        return;
    keypair_free(k->own);
    free(k);
}

/* An encrypted frame is so much longer: the name of its command, a nonce, flags and the
 * code that authenticates it. The library holds its limit against that. */
enum { CURVE_FRAME_MORE = 8 + 8 + 1 + 16 };

void *link_socket_of(const struct link *l)
{
    const struct link_keys *k = l->keys;
    void *socket = link_socket_new(l->ctx->zmq, l->router,
                                   l->frame_max + (k ? CURVE_FRAME_MORE : 0));

    if (k && l->router)
        link_socket_serve(socket, k->own, k->domain);
    else if (k)
        link_socket_use(socket, k->own, k->servers[k->at]);
    return socket;
}

const uint8_t *link_server_key(const struct link *l)
{
    return l->keys->servers[l->keys->at];
}

void link_set_servers(struct link *l, const uint8_t (*servers)[KEY_BYTES], size_t n)
{
    struct link_keys *k = l->keys;

    CHECK(n > 0 && n <= PINS_MAX);
    memcpy(k->servers, servers, n * KEY_BYTES);
    k->n_servers = n;
    k->at = k->tried = 0;
}

/* ---- what comes of it ---- */

static void refused(struct link *l, enum link_refusal why)
{
    if (l->shake.told)
        return;
    l->shake.told = true;
    if (l->ev->refused)
        l->ev->refused(l->arg, why);
}

/* The other side is there, and hung up on us all the same. */
static void not_for_us(struct link *l)
{
    struct link_keys *k = l->keys;

    if (l->shake.there == LINK_PLAIN) {
        refused(l, LINK_IS_PLAIN);
    } else if (!k) {
        refused(l, LINK_IS_ENCRYPTED);
    } else {
        k->at = (k->at + 1) % k->n_servers;
        if (++k->tried >= k->n_servers)
            refused(l, LINK_SERVER_UNKNOWN);
        loop_timer_arm(l->shake.timer, 0);
    }
    l->shake.hang_ups = 0;
}

static void on_answer(void *arg, enum link_there there)
{
    struct link *l = arg;
    struct link_shake *s = &l->shake;
    /* A plain link that finds a plain one has only to try again. */
    bool news = there != LINK_NOBODY && !(there == LINK_PLAIN && !l->keys);

    s->there = news ? there : LINK_NOBODY;
    s->hang_ups =
        news ? HANG_UPS - 1 : 0; /* once more, now that he is known to be there */
    s->later_ns = loop_now_ns(l->loop) + LATER_NS;
    loop_timer_arm(s->timer, 0); /* the question is in use here */
}

static void hung_up(struct link *l)
{
    struct link_shake *s = &l->shake;
    int64_t now = loop_now_ns(l->loop);

    if (now - s->since_ns > HANG_UP_NS || ++s->hang_ups < HANG_UPS || s->asking)
        return;
    if (s->there != LINK_NOBODY) {
        not_for_us(l);
    } else if (now >= s->later_ns) {
        s->asking = link_ask_new(l->loop, l->endpoint, on_answer, l);
        s->later_ns = now + LATER_NS;
        if (s->asking)
            loop_timer_arm(s->timer, ASK_NS);
    }
}

static void asked(struct link *l)
{
    link_ask_free(l->shake.asking);
    l->shake.asking = NULL;
}

static void on_timer(void *arg)
{
    struct link *l = arg;

    bool answered = l->shake.asking != NULL;

    asked(l);
    if (answered && !l->shake.broken)
        return;
    l->shake.broken = false;
    link_renew(l);
}

static void got_in(struct link *l)
{
    struct link_shake *s = &l->shake;

    asked(l); /* whatever the answer would be */
    loop_timer_stop(s->timer);
    s->hang_ups = s->mismatches = 0;
    s->broken = false;
    s->there = LINK_NOBODY;
    s->told = false;
    if (l->keys)
        l->keys->tried = 0;
}

void link_shook(struct link *l, unsigned event, int value)
{
    struct link_shake *s = &l->shake;

    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        s->since_ns = loop_now_ns(l->loop);
        return;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        got_in(l);
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        hung_up(l); /* the library connects anew */
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        refused(l, LINK_KEY_UNKNOWN);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH &&
            ++s->mismatches >= HANG_UPS)
            refused(l, l->keys ? LINK_IS_PLAIN : LINK_IS_ENCRYPTED);
        break;
    }
    s->broken = true; /* the library tries no more */
    if (!s->asking)
        loop_timer_arm(s->timer, AGAIN_NS);
}

void link_shake_init(struct link *l)
{
    l->shake.timer = loop_timer_new(l->loop, on_timer, l);
}

void link_shake_fini(struct link *l)
{
    asked(l);
    loop_timer_free(l->shake.timer);
}
