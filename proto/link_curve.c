/* Encryption of a link, and how a DEALER finds out that it will never get in.
 *
 * The library says too little: a server that cannot open our Hello, since it has another
 * key, hangs up, as does one that is being stopped, or a proxy with nobody behind it. So
 * after two hang-ups a second socket asks, without a key and without a word of ours, what
 * is there: only if something encrypted is, the key is the wrong one.
 *
 *     SHAKING --hang-up, again--> ASKING --encrypted: next key--> SHAKING
 *        ^                          | `--no key left------------> refused
 *        '------nobody, not now-----'  `-plain------------------> refused
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

/* ---- what is there ---- */

static void on_answer(void *arg, unsigned event, int value)
{
    struct link *l = arg;

    l->shake.plain = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    l->shake.encrypted = event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL &&
                         value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH;
    loop_timer_arm(l->shake.timer, 0); /* the socket is in use here */
}

static void ask(struct link *l)
{
    struct link_shake *s = &l->shake;

    s->plain = s->encrypted = false;
    s->asking = link_socket_new(l->ctx->zmq, false, l->frame_max);
    s->answers = link_monitor_new(l->loop, l->ctx->zmq, s->asking,
                                  ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                      ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL,
                                  on_answer, l);
    zmq_connect(s->asking, l->endpoint);
    loop_timer_arm(s->timer, ASK_NS);
}

static void asked(struct link *l)
{
    struct link_shake *s = &l->shake;

    link_monitor_free(s->answers);
    link_socket_close_now(s->asking);
    s->asking = NULL;
    s->answers = NULL;
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

/* The server is encrypted, and has not the key it was tried with. */
static void next_key(struct link *l)
{
    struct link_keys *k = l->keys;

    k->at = (k->at + 1) % k->n_servers;
    if (++k->tried >= k->n_servers)
        refused(l, LINK_SERVER_UNKNOWN);
}

static void on_timer(void *arg)
{
    struct link *l = arg;
    struct link_shake *s = &l->shake;
    bool encrypted = s->encrypted, plain = s->plain;

    if (!s->asking) { /* a socket gives up where the protocol was broken */
        link_renew(l);
        return;
    }
    asked(l);
    s->later_ns = loop_now_ns(l->loop) + LATER_NS;
    if (plain)
        refused(l, LINK_IS_PLAIN);
    if (encrypted) {
        next_key(l);
        link_renew(l);
    }
}

static void hung_up(struct link *l)
{
    int64_t now = loop_now_ns(l->loop);

    if (!l->keys || now - l->shake.since_ns > HANG_UP_NS)
        return;
    if (++l->shake.hang_ups < HANG_UPS || l->shake.asking || now < l->shake.later_ns)
        return;
    l->shake.hang_ups = 0;
    ask(l);
}

static void mismatch(struct link *l)
{
    if (++l->shake.mismatches >= HANG_UPS)
        refused(l, l->keys ? LINK_IS_PLAIN : LINK_IS_ENCRYPTED);
}

void link_shook(struct link *l, unsigned event, int value)
{
    struct link_shake *s = &l->shake;

    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        s->since_ns = loop_now_ns(l->loop);
        return;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        s->hang_ups = s->mismatches = 0;
        s->told = false;
        if (l->keys)
            l->keys->tried = 0;
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        hung_up(l); /* the library connects anew */
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        refused(l, LINK_KEY_UNKNOWN);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
            mismatch(l);
        break;
    }
    if (!s->asking)
        loop_timer_arm(s->timer, AGAIN_NS);
}

void link_shake_init(struct link *l)
{
    l->shake.timer = loop_timer_new(l->loop, on_timer, l);
}

void link_shake_fini(struct link *l)
{
    if (l->shake.asking)
        asked(l);
    loop_timer_free(l->shake.timer);
}
