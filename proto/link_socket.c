#include "proto/link_socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "base/crypto.h"

enum {
    LINK_HWM = 1000, /* messages; a backstop: credit is the flow control */
    /* The header of 4.3.4 keeps it among its drafts; Debian's library has it. */
    LINK_ZAP_ENFORCE_DOMAIN = 93,
};

/* ---- options ---- */

static void set_int(void *socket, int option, int value)
{
    CHECK(zmq_setsockopt(socket, option, &value, sizeof(value)) == 0);
}

void *link_socket_new(void *zmq, bool router, int64_t frame_max_bytes)
{
    /* A ROUTER of 4.3.4 numbers its peers from rand(), and ends the process when one of
     * them has taken a number for its own name. Nobody else calls srand. */
    if (router)
        srand(crypto_random_u32());
    void *s = zmq_socket(zmq, router ? ZMQ_ROUTER : ZMQ_DEALER);

    CHECK(s);
    zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &frame_max_bytes, sizeof(frame_max_bytes));
    set_int(s, ZMQ_LINGER, 1000);
    set_int(s, ZMQ_SNDHWM, LINK_HWM);
    set_int(s, ZMQ_RCVHWM, LINK_HWM);
    set_int(s, ZMQ_HANDSHAKE_IVL, 3000);
    set_int(s, ZMQ_HEARTBEAT_IVL, 2000);
    set_int(s, ZMQ_HEARTBEAT_TIMEOUT, 10000);
    set_int(s, ZMQ_HEARTBEAT_TTL, 20000); /* above 65 s it would overflow in 4.3.4 */
    set_int(s, ZMQ_TCP_MAXRT, 20000);
    set_int(s, ZMQ_TCP_KEEPALIVE, 1);
    set_int(s, ZMQ_TCP_KEEPALIVE_IDLE, 10);
    set_int(s, ZMQ_TCP_KEEPALIVE_INTVL, 5);
    set_int(s, ZMQ_IPV6, 1);
    if (router) {
        set_int(s, ZMQ_ROUTER_MANDATORY, 1);
        set_int(s, ZMQ_BACKLOG, 1024);
    } else {
        set_int(s, ZMQ_IMMEDIATE, 1); /* nothing queues for who is not there */
        set_int(s, ZMQ_RECONNECT_IVL, 10);
        set_int(s, ZMQ_RECONNECT_IVL_MAX, 2000);
    }
    return s;
}

void link_socket_serve(void *socket, const struct keypair *own, enum zap_domain domain)
{
    const char *name = zap_domain_name(domain);

    set_int(socket, ZMQ_CURVE_SERVER, 1);
    CHECK(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own->secret, KEY_BYTES) == 0);
    CHECK(zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, name, strlen(name)) == 0);
    /* Without it a socket whose questions nobody answers lets everybody in. */
    set_int(socket, LINK_ZAP_ENFORCE_DOMAIN, 1);
}

void link_socket_use(void *socket, const struct keypair *own,
                     const uint8_t server[KEY_BYTES])
{
    CHECK(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server, KEY_BYTES) == 0);
    CHECK(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own->public_key, KEY_BYTES) == 0);
    CHECK(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own->secret, KEY_BYTES) == 0);
}

void link_socket_close_now(void *socket)
{
    set_int(socket, ZMQ_LINGER, 0);
    zmq_close(socket);
}

/* ---- monitor ---- */

struct link_monitor {
    void *watched, *events; /* sockets; events: a PAIR that gets what happens */
    struct loop_hook *hook;
    struct loop_io *io;
    bool untold; /* something may have happened */
    link_monitor_fn *fn;
    void *arg;
};

bool link_monitor_waits(struct link_monitor *m)
{
    int events = 0;
    size_t len = sizeof(events);

    if (zmq_getsockopt(m->events, ZMQ_EVENTS, &events, &len) < 0 || (events & ZMQ_POLLIN))
        m->untold = true; /* ZMQ_FD may not say it again */
    return m->untold;
}

/* ZMQ_FD tells once what came after all was received; only link_monitor_waits asks
 * besides, and remembers. */
static bool before_wait(void *arg)
{
    struct link_monitor *m = arg;
    return m->untold;
}

/* An event is two frames: its number (u16) and value, then an address. */
void link_monitor_tell(struct link_monitor *m)
{
    uint8_t number[16], address[512];

    while (zmq_recv(m->events, number, sizeof(number), ZMQ_DONTWAIT) >= 0) {
        uint16_t event;
        int32_t value;
        memcpy(&event, number, sizeof(event));
        memcpy(&value, number + sizeof(event), sizeof(value));
        zmq_recv(m->events, address, sizeof(address), ZMQ_DONTWAIT);
        m->fn(m->arg, event, value);
    }
    m->untold = errno == EINTR;
}

static void after_wait(void *arg)
{
    struct link_monitor *m = arg;
    if (m->untold)
        link_monitor_tell(m);
}

static void on_fd(void *arg, int events)
{
    struct link_monitor *m = arg;
    (void)events;
    m->untold = true; /* after_wait, which comes next, does the work */
}

struct link_monitor *link_monitor_new(struct loop *loop, void *zmq, void *socket,
                                      unsigned events, link_monitor_fn *fn, void *arg)
{
    static atomic_uint serial; /* an address is one socket's for good */
    struct link_monitor *m = xcalloc(1, sizeof(*m));
    char address[64];
    int fd;
    size_t len = sizeof(fd);

    snprintf(address, sizeof(address), "inproc://monitor-%u",
             atomic_fetch_add(&serial, 1));
    *m = (struct link_monitor){ .watched = socket, .untold = true, .fn = fn, .arg = arg };
    CHECK(zmq_socket_monitor(socket, address, (int)events) == 0);
    m->events = zmq_socket(zmq, ZMQ_PAIR);
    CHECK(m->events && zmq_connect(m->events, address) == 0);
    CHECK(zmq_getsockopt(m->events, ZMQ_FD, &fd, &len) == 0);
    m->io = loop_io_new(loop, fd, LOOP_READ | LOOP_FIRST, on_fd, m);
    m->hook = loop_hook_new(loop, before_wait, after_wait, m);
    return m;
}

void link_monitor_free(struct link_monitor *m)
{
    if (!m)
        return;
    zmq_socket_monitor(m->watched, NULL, 0);
    loop_hook_free(m->hook);
    loop_io_free(m->io);
    zmq_close(m->events);
    free(m);
}
