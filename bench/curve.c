/* What ZeroMQ's encryption costs by itself, without any of tidemill: peers, a process
 * each, send to one server over tcp on loopback. bench-curve plain|curve rate BYTES N
 * PEERS THREADS   N messages of BYTES in all, one way bench-curve plain|curve latency
 * BYTES N              N there and back, one after the other THREADS: those of the
 * server's context that do its I/O, and so its encryption. A peer has one. rate:
 * messages/s, and nanoseconds of CPU a message of the server and of the peers. */
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "bench/common.h"

enum { KEY_TEXT = 41, PEERS_MAX = 64 };

static bool curve;
static char server_public[KEY_TEXT], server_secret[KEY_TEXT], endpoint[64];
static int told[2]; /* a pipe: the endpoint, once for each peer */
static uint8_t *data;
static size_t bytes;

static void check(int rc, const char *what)
{
    if (rc < 0)
        die("%s: %s", what, zmq_strerror(zmq_errno()));
}

static void set_int(void *socket, int option, int value)
{
    check(zmq_setsockopt(socket, option, &value, sizeof(value)), "zmq_setsockopt");
}

static void set_key(void *socket, int option, const char *text)
{
    check(zmq_setsockopt(socket, option, text, KEY_TEXT), "zmq_setsockopt");
}

/* The server's end, bound to a free port. */
static void *bound(void *context)
{
    void *socket = zmq_socket(context, ZMQ_ROUTER);
    size_t len = sizeof(endpoint);
    if (curve) {
        set_int(socket, ZMQ_CURVE_SERVER, 1);
        set_key(socket, ZMQ_CURVE_SECRETKEY, server_secret);
    }
    check(zmq_bind(socket, "tcp://127.0.0.1:*"), "zmq_bind");
    check(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &len), "zmq_getsockopt");
    return socket;
}

static void *connected(void)
{
    void *socket = zmq_socket(zmq_ctx_new(), ZMQ_DEALER);
    char public[KEY_TEXT], secret[KEY_TEXT];
    if (curve) {
        check(zmq_curve_keypair(public, secret), "zmq_curve_keypair");
        set_key(socket, ZMQ_CURVE_SERVERKEY, server_public);
        set_key(socket, ZMQ_CURVE_PUBLICKEY, public);
        set_key(socket, ZMQ_CURVE_SECRETKEY, secret);
    }
    if (read(told[0], endpoint, sizeof(endpoint)) != sizeof(endpoint))
        die("no endpoint");
    check(zmq_connect(socket, endpoint), "zmq_connect");
    return socket;
}

/* ---- peers ---- */

/* Says that it is there, waits to be told, sends, and stays until the last was taken. */
static void run_sender(uint64_t n)
{
    void *socket = connected();
    char go;
    check(zmq_send(socket, "", 0, 0), "zmq_send");
    check(zmq_recv(socket, &go, 1, 0), "zmq_recv");
    for (uint64_t i = 0; i < n; i++)
        check(zmq_send(socket, data, bytes, 0), "zmq_send");
    check(zmq_recv(socket, &go, 1, 0), "zmq_recv");
}

static void run_asker(uint64_t n)
{
    void *socket = connected();
    double *took = calloc(n, sizeof(*took));
    for (uint64_t i = 0; i < n; i++) {
        double start = now_s();
        check(zmq_send(socket, data, bytes, 0), "zmq_send");
        check(zmq_recv(socket, data, bytes, 0), "zmq_recv");
        took[i] = now_s() - start;
    }
    emit_latency("curve.latency", took, n, "there and back");
}

static void start(void (*run)(uint64_t n), uint64_t n)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        run(n);
    _exit(getppid() == parent ? 0 : 1);
}

/* ---- the server ---- */

static double cpu_s(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* The bytes of one message; its sender's name into *name. */
static size_t receive(void *socket, zmq_msg_t *name, zmq_msg_t *body)
{
    check(zmq_msg_recv(name, socket, 0), "zmq_msg_recv");
    check(zmq_msg_recv(body, socket, 0), "zmq_msg_recv");
    return zmq_msg_size(body);
}

static void tell_all(void *socket, zmq_msg_t *names, uint64_t peers)
{
    zmq_msg_t name;
    for (uint64_t i = 0; i < peers; i++) {
        zmq_msg_init(&name);
        zmq_msg_copy(&name, &names[i]);
        check(zmq_msg_send(&name, socket, ZMQ_SNDMORE), "zmq_msg_send");
        check(zmq_send(socket, "g", 1, 0), "zmq_send");
    }
}

static void rate(void *socket, uint64_t n, uint64_t peers)
{
    zmq_msg_t names[PEERS_MAX], name, body;
    zmq_msg_init(&name);
    zmq_msg_init(&body);
    for (uint64_t i = 0; i < peers; i++) {
        zmq_msg_init(&names[i]);
        receive(socket, &names[i], &body);
    }
    double began = now_s(), cpu = cpu_s(RUSAGE_SELF);
    tell_all(socket, names, peers);
    for (uint64_t i = 0; i < n; i++)
        if (receive(socket, &name, &body) != bytes)
            die("a message of another size came");
    double took = now_s() - began;
    emit("curve.rate", (double)n / took, "messages/s", "");
    emit("curve.server_cpu", (cpu_s(RUSAGE_SELF) - cpu) * 1e9 / (double)n, "ns/message",
         "");
    tell_all(socket, names, peers);
    for (uint64_t i = 0; i < peers; i++)
        wait(NULL);
    /* With the handshake: some hundred microseconds of some seconds. */
    emit("curve.peer_cpu", cpu_s(RUSAGE_CHILDREN) * 1e9 / (double)n, "ns/message", "");
}

static void echo(void *socket, uint64_t n)
{
    zmq_msg_t name, body;
    zmq_msg_init(&name);
    zmq_msg_init(&body);
    for (uint64_t i = 0; i < n; i++) {
        receive(socket, &name, &body);
        check(zmq_msg_send(&name, socket, ZMQ_SNDMORE), "zmq_msg_send");
        check(zmq_msg_send(&body, socket, 0), "zmq_msg_send");
    }
    wait(NULL);
}

int main(int argc, char **argv)
{
    bool is_rate = argc == 7 && strcmp(argv[2], "rate") == 0;
    if (!is_rate && !(argc == 5 && strcmp(argv[2], "latency") == 0))
        die("usage: bench-curve plain|curve rate BYTES N PEERS THREADS\n"
            "       bench-curve plain|curve latency BYTES N");
    curve = strcmp(argv[1], "curve") == 0;
    bytes = number(argv[3]);
    uint64_t n = number(argv[4]), peers = is_rate ? number(argv[5]) : 1;
    if (bytes == 0 || peers == 0 || peers > PEERS_MAX)
        die("at least a byte, and 1 to %d peers", PEERS_MAX);
    n -= n % peers;
    data = calloc(1, bytes);
    check(zmq_curve_keypair(server_public, server_secret), "zmq_curve_keypair");
    if (pipe(told) < 0)
        die("pipe");
    /* Before there is a context: its threads would not come along. */
    for (uint64_t i = 0; i < peers; i++)
        start(is_rate ? run_sender : run_asker, n / peers);
    void *context = zmq_ctx_new();
    check(zmq_ctx_set(context, ZMQ_IO_THREADS, is_rate ? (int)number(argv[6]) : 1),
          "zmq_ctx_set");
    void *socket = bound(context);
    for (uint64_t i = 0; i < peers; i++)
        if (write(told[1], endpoint, sizeof(endpoint)) != sizeof(endpoint))
            die("pipe");
    if (is_rate)
        rate(socket, n, peers);
    else
        echo(socket, n);
    return 0;
}
