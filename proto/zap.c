#include "proto/zap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>
#include <uthash.h>
#include <zmq.h>

#include "base/clock.h"
#include "proto/link_state.h"

/* The frames of a request, and of an answer (RFC 27). */
enum {
    ASK_WHO, /* of the ROUTER that is asked */
    ASK_EMPTY,
    ASK_VERSION,
    ASK_ID,
    ASK_DOMAIN,
    ASK_ADDRESS,
    ASK_ROUTING_ID,
    ASK_MECHANISM,
    ASK_CREDENTIALS,
    ASK_COUNT,
    FRAME_MAX = 256,
    PROOF_TRIES = 4,
    LATE_MAX = 20, /* times that a key which has ended is told so */
};
#define PROOF_NS (2 * NS_PER_S)

struct known {
    uint8_t key[KEY_BYTES];
    unsigned domains;
    int64_t due_ns;  /* when its next handshake is, if it keeps to ZAP_EACH_NS */
    int64_t ends_ns; /* by the wall clock; 0 = never */
    unsigned late;   /* handshakes after that */
    UT_hash_handle hh;
};

struct zap {
    void *replies;    /* ROUTER: the thread's */
    void *stop, *end; /* a PAIR and the thread's end of it */
    pthread_t thread;
    pthread_mutex_t mu;
    struct known *table; /* under mu */
};

static const char *const domain_names[] = {
    [ZAP_CLIENT] = "client", [ZAP_WORKER] = "worker"
};

const char *zap_domain_name(enum zap_domain domain)
{
    return domain_names[domain];
}

/* ---- the table ---- */

void zap_set(struct zap *zap, const uint8_t key[KEY_BYTES], unsigned domains)
{
    struct known *k;

    pthread_mutex_lock(&zap->mu);
    HASH_FIND(hh, zap->table, key, KEY_BYTES, k);
    if (!k && domains) {
        k = xcalloc(1, sizeof(*k));
        memcpy(k->key, key, KEY_BYTES);
        HASH_ADD(hh, zap->table, key, KEY_BYTES, k);
    }
    if (k && !domains) {
        HASH_DEL(zap->table, k);
        free(k);
    } else if (k) {
        k->domains = domains;
    }
    pthread_mutex_unlock(&zap->mu);
}

void zap_ends(struct zap *zap, const uint8_t key[KEY_BYTES], int64_t wall_ns)
{
    struct known *k;

    pthread_mutex_lock(&zap->mu);
    HASH_FIND(hh, zap->table, key, KEY_BYTES, k);
    if (k)
        k->ends_ns = wall_ns;
    pthread_mutex_unlock(&zap->mu);
}

enum verdict { UNKNOWN, KNOWN, TOO_OFTEN };

static enum verdict judge(struct known *k, struct span domain)
{
    int64_t now = clock_mono_ns();
    bool in = false;

    for (unsigned d = 0; d < ZAP_DOMAIN_COUNT; d++)
        in |= (k->domains & BIT(d)) && span_eq(domain, span_str(domain_names[d]));
    if (!in || (k->ends_ns && clock_wall_ns() >= k->ends_ns && k->late++ >= LATE_MAX))
        return UNKNOWN;
    k->due_ns = MAX(k->due_ns, now - ZAP_BURST * ZAP_EACH_NS);
    if (k->due_ns > now)
        return TOO_OFTEN;
    k->due_ns += ZAP_EACH_NS;
    return KNOWN;
}

static enum verdict look_up(struct zap *zap, struct span domain, struct span key)
{
    enum verdict verdict = UNKNOWN;
    struct known *k;

    if (key.len != KEY_BYTES)
        return UNKNOWN;
    pthread_mutex_lock(&zap->mu);
    HASH_FIND(hh, zap->table, key.data, KEY_BYTES, k);
    if (k)
        verdict = judge(k, domain);
    pthread_mutex_unlock(&zap->mu);
    return verdict;
}

/* ---- the thread ---- */

struct request {
    uint8_t bytes[ASK_COUNT][FRAME_MAX];
    struct span frames[ASK_COUNT];
    bool whole; /* as many frames as there have to be, none too long */
};

static void take(void *socket, struct request *r)
{
    int more = 1, n = 0;
    size_t len = sizeof(more);

    for (int i = 0; i < ASK_COUNT; i++)
        r->frames[i] = SPAN_NONE;
    r->whole = true;
    for (; more; n++) {
        uint8_t rest[FRAME_MAX];
        uint8_t *to = n < ASK_COUNT ? r->bytes[n] : rest;
        int got = zmq_recv(socket, to, FRAME_MAX, 0);
        if (got < 0 || got > FRAME_MAX)
            r->whole = false;
        if (n < ASK_COUNT)
            r->frames[n] = span_of(to, (size_t)MAX(0, MIN(got, FRAME_MAX)));
        if (got < 0 || zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len) < 0)
            break;
    }
    r->whole = r->whole && n == ASK_COUNT;
}

static void send_frame(void *socket, struct span frame, int flags)
{
    while (zmq_send(socket, frame.data, frame.len, flags) < 0 && errno == EINTR)
        ;
}

/* 200 or 400: with 300 a client of 4.3.4 neither comes in nor tries again. */
static void answer(struct zap *zap, const struct request *r)
{
    char user[KEY_TEXT] = "";
    enum verdict verdict = UNKNOWN;

    if (r->whole && span_eq(r->frames[ASK_VERSION], SPAN_LIT("1.0")) &&
        span_eq(r->frames[ASK_MECHANISM], SPAN_LIT("CURVE")))
        verdict = look_up(zap, r->frames[ASK_DOMAIN], r->frames[ASK_CREDENTIALS]);
    if (verdict == TOO_OFTEN)
        return;
    if (verdict == KNOWN)
        key_text(r->frames[ASK_CREDENTIALS].data, user);
    send_frame(zap->replies, r->frames[ASK_WHO], ZMQ_SNDMORE);
    send_frame(zap->replies, SPAN_NONE, ZMQ_SNDMORE);
    send_frame(zap->replies, SPAN_LIT("1.0"), ZMQ_SNDMORE);
    send_frame(zap->replies, r->frames[ASK_ID], ZMQ_SNDMORE);
    send_frame(zap->replies, verdict == KNOWN ? SPAN_LIT("200") : SPAN_LIT("400"),
               ZMQ_SNDMORE);
    send_frame(zap->replies, verdict == KNOWN ? SPAN_LIT("OK") : SPAN_LIT("unknown key"),
               ZMQ_SNDMORE);
    send_frame(zap->replies, span_str(user), ZMQ_SNDMORE); /* User-Id */
    send_frame(zap->replies, SPAN_NONE, 0);
}

static void *thread_main(void *arg)
{
    struct zap *zap = arg;
    zmq_pollitem_t on[] = { { .socket = zap->replies, .events = ZMQ_POLLIN },
                            { .socket = zap->end, .events = ZMQ_POLLIN } };
    struct request r;

    for (;;) {
        if (zmq_poll(on, ARRAY_LEN(on), -1) < 0)
            continue; /* a signal */
        if (on[1].revents)
            return NULL;
        if (on[0].revents) {
            take(zap->replies, &r);
            answer(zap, &r);
        }
    }
}

/* ---- life ---- */

static void *inner_socket(void *zmq, int type)
{
    void *s = zmq_socket(zmq, type);
    int zero = 0;

    CHECK(s);
    zmq_setsockopt(s, ZMQ_LINGER, &zero, sizeof(zero));
    return s;
}

struct zap *zap_new(struct link_ctx *ctx)
{
    static atomic_uint serial;
    struct zap *zap = xcalloc(1, sizeof(*zap));
    char address[64];
    sigset_t all, before;

    snprintf(address, sizeof(address), "inproc://zap-end-%u",
             atomic_fetch_add(&serial, 1));
    pthread_mutex_init(&zap->mu, NULL);
    zap->replies = inner_socket(ctx->zmq, ZMQ_ROUTER);
    zap->stop = inner_socket(ctx->zmq, ZMQ_PAIR);
    zap->end = inner_socket(ctx->zmq, ZMQ_PAIR);
    CHECK(zmq_bind(zap->replies, "inproc://zeromq.zap.01") == 0);
    CHECK(zmq_bind(zap->stop, address) == 0 && zmq_connect(zap->end, address) == 0);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    CHECK(pthread_create(&zap->thread, NULL, thread_main, zap) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return zap;
}

void zap_free(struct zap *zap)
{
    struct known *k, *tmp;

    if (!zap)
        return;
    send_frame(zap->stop, SPAN_NONE, 0);
    pthread_join(zap->thread, NULL);
    zmq_close(zap->replies);
    zmq_close(zap->stop);
    zmq_close(zap->end);
    HASH_ITER (hh, zap->table, k, tmp) {
        HASH_DEL(zap->table, k);
        free(k);
    }
    pthread_mutex_destroy(&zap->mu);
    free(zap);
}

/* ---- the proof ---- */

struct proof {
    void *router, *dealer, *events;
    char address[64];
};

static void proof_end(struct proof *p)
{
    zmq_close(p->events);
    link_socket_close_now(p->dealer);
    link_socket_close_now(p->router);
}

/* A name in the abstract space needs no directory and no port. */
static int proof_begin(struct link_ctx *ctx, enum zap_domain domain,
                       const struct keypair *server, const struct keypair *own,
                       struct proof *p, struct err *err)
{
    uint64_t name[2];
    char watched[64];

    crypto_random(name, sizeof(name));
    snprintf(p->address, sizeof(p->address), "ipc://@tidemill-%016llx%016llx",
             (unsigned long long)name[0], (unsigned long long)name[1]);
    snprintf(watched, sizeof(watched), "inproc://proof-%016llx",
             (unsigned long long)name[0]);
    p->router = link_socket_new(ctx->zmq, true, WIRE_CLIENT_FRAME_MAX);
    p->dealer = link_socket_new(ctx->zmq, false, WIRE_CLIENT_FRAME_MAX);
    link_socket_serve(p->router, server, domain);
    link_socket_use(p->dealer, own, server->public_key);
    CHECK(zmq_socket_monitor(p->dealer, watched,
                             ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                                 ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) == 0);
    p->events = inner_socket(ctx->zmq, ZMQ_PAIR);
    CHECK(zmq_connect(p->events, watched) == 0);
    if (zmq_bind(p->router, p->address) == 0 && zmq_connect(p->dealer, p->address) == 0)
        return 0;
    err_set(err, 1, "the proof of encryption cannot be made: %s", zmq_strerror(errno));
    proof_end(p);
    return -1;
}

/* How the handshake ended: an event, or 0 when it did not. */
static uint16_t proof_event(struct proof *p)
{
    zmq_pollitem_t on = { .socket = p->events, .events = ZMQ_POLLIN };
    int64_t until_ns = clock_mono_ns() + PROOF_NS;
    uint8_t frame[FRAME_MAX];
    uint16_t event = 0;

    while (!event && clock_mono_ns() < until_ns) {
        long left_ms = (long)((until_ns - clock_mono_ns()) / NS_PER_MS) + 1;
        if (zmq_poll(&on, 1, left_ms) <= 0)
            continue;
        if (zmq_recv(p->events, frame, sizeof(frame), ZMQ_DONTWAIT) >= 2)
            memcpy(&event, frame, sizeof(event));
        zmq_recv(p->events, frame, sizeof(frame), ZMQ_DONTWAIT); /* the address */
    }
    return event;
}

enum outcome { NO_ANSWER, REFUSED, LET_IN, LET_IN_UNNAMED };

/* What the ROUTER learns of who sends: its User-Id is this key. */
static enum outcome proof_named(struct proof *p, const uint8_t key[KEY_BYTES])
{
    zmq_pollitem_t on = { .socket = p->router, .events = ZMQ_POLLIN };
    char text[KEY_TEXT];
    zmq_msg_t rid, payload;
    enum outcome named = LET_IN_UNNAMED;

    key_text(key, text);
    send_frame(p->dealer, SPAN_LIT("x"), 0);
    if (zmq_poll(&on, 1, PROOF_NS / NS_PER_MS) <= 0)
        return NO_ANSWER;
    zmq_msg_init(&rid);
    zmq_msg_init(&payload);
    if (zmq_msg_recv(&rid, p->router, ZMQ_DONTWAIT) >= 0 &&
        zmq_msg_recv(&payload, p->router, ZMQ_DONTWAIT) >= 0) {
        const char *user = zmq_msg_gets(&payload, "User-Id");
        if (user && strcmp(user, text) == 0)
            named = LET_IN;
    }
    zmq_msg_close(&rid);
    zmq_msg_close(&payload);
    return named;
}

static int prove_once(struct link_ctx *ctx, struct zap *zap, enum zap_domain domain,
                      const struct keypair *server, unsigned domains, enum outcome *ret,
                      struct err *err)
{
    struct keypair *own = keypair_new();
    struct proof p;

    zap_set(zap, own->public_key, domains); /* it may be asked for at once */
    int rc = proof_begin(ctx, domain, server, own, &p, err);
    if (rc == 0) {
        uint16_t event = proof_event(&p);
        *ret = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ? REFUSED : NO_ANSWER;
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            *ret = proof_named(&p, own->public_key);
        proof_end(&p);
    }
    zap_set(zap, own->public_key, 0);
    keypair_free(own);
    return rc;
}

static int prove(struct link_ctx *ctx, struct zap *zap, enum zap_domain domain,
                 const struct keypair *server, bool known, struct err *err)
{
    /* The other domain's keys are unknown in this one. */
    unsigned others = (BIT(ZAP_DOMAIN_COUNT) - 1) & ~BIT(domain);
    enum outcome got = NO_ANSWER;

    /* A process that is held in the middle of it finds its time gone by. */
    for (int i = 0; i < PROOF_TRIES && got == NO_ANSWER; i++)
        if (prove_once(ctx, zap, domain, server, known ? BIT(domain) : others, &got,
                       err) < 0)
            return -1;
    if (got == (known ? LET_IN : REFUSED))
        return 0;
    if (known)
        return err_set(err, 1, "a known key %s",
                       got == LET_IN_UNNAMED ? "comes without its name"
                                             : "is not let in");
    return err_set(err, 1, "a key that nobody knows is %s",
                   got == NO_ANSWER ? "not answered" : "let in");
}

int zap_prove(struct link_ctx *ctx, struct zap *zap, struct err *err)
{
    struct keypair *server = keypair_new();
    int rc = 0;

    for (unsigned d = 0; rc == 0 && d < ZAP_DOMAIN_COUNT; d++) {
        rc = prove(ctx, zap, (enum zap_domain)d, server, false, err);
        if (rc == 0)
            rc = prove(ctx, zap, (enum zap_domain)d, server, true, err);
        if (rc < 0)
            err_prefix(err, "%s links do not keep strangers out", domain_names[d]);
    }
    keypair_free(server);
    return rc;
}
