/* The least that one durable task can cost when it passes client, coordinator, node and
 * mill: the same four processes and the same hand-overs, with nothing in them.
 *     bench-floor DIR N [nosync]
 * A task goes client -ZeroMQ-> coordinator, fdatasync, -ZeroMQ-> node -eventfd-> mill,
 * and the same way back with a second fdatasync: two ZeroMQ round trips, one ring round
 * trip, two fdatasyncs. The mill hashes, so that the way carries a digest that can be
 * checked. */
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <zmq.h>

#include "bench/common.h"

enum {
    RECORD = 4096
}; /* bytes appended before an fdatasync: the least a file system has */

struct ring {
    uint8_t data[PAYLOAD], digest[DIGEST];
};

static char client_endpoint[256], node_endpoint[256];
static int work_fd, done_fd, log_fd = -1;
static struct ring *ring;

static pid_t start(void (*run)(void))
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    run();
    _exit(0);
}

static void wait_on(int fd)
{
    eventfd_t value;
    if (eventfd_read(fd, &value) < 0)
        die("eventfd");
}

static void run_mill(void)
{
    for (;;) {
        wait_on(work_fd);
        sha256(ring->data, PAYLOAD, ring->digest);
        eventfd_write(done_fd, 1);
    }
}

static void *connected(void *context, int type, const char *endpoint)
{
    void *socket = zmq_socket(context, type);
    if (zmq_connect(socket, endpoint) < 0)
        die("connecting: %s", zmq_strerror(zmq_errno()));
    return socket;
}

static void run_node(void)
{
    void *socket = connected(zmq_ctx_new(), ZMQ_DEALER, node_endpoint);
    zmq_send(socket, "hello", 5, 0);
    for (;;) {
        if (zmq_recv(socket, ring->data, PAYLOAD, 0) < 0)
            continue;
        eventfd_write(work_fd, 1);
        wait_on(done_fd);
        zmq_send(socket, ring->digest, DIGEST, 0);
    }
}

static void make_durable(void)
{
    static uint8_t record[RECORD];
    if (log_fd < 0)
        return;
    if (write(log_fd, record, RECORD) != RECORD || fdatasync(log_fd) < 0)
        die("writing the log");
}

/* One message of a peer: its name into *name, its bytes into data. */
static size_t receive(void *socket, zmq_msg_t *name, void *data, size_t cap)
{
    zmq_msg_init(name);
    if (zmq_msg_recv(name, socket, 0) < 0)
        die("receiving");
    int n = zmq_recv(socket, data, cap, 0);
    return n < 0 ? 0 : (size_t)n;
}

static void *bound(void *context, const char *endpoint)
{
    void *socket = zmq_socket(context, ZMQ_ROUTER);
    if (zmq_bind(socket, endpoint) < 0)
        die("binding: %s", zmq_strerror(zmq_errno()));
    return socket;
}

static void run_coordinator(void)
{
    uint8_t data[PAYLOAD];
    zmq_msg_t client, node, again;
    void *context = zmq_ctx_new();
    void *clients = bound(context, client_endpoint),
         *nodes = bound(context, node_endpoint);
    receive(nodes, &node, data, sizeof(data));
    for (;;) {
        receive(clients, &client, data, sizeof(data));
        make_durable();
        zmq_msg_init(&again);
        zmq_msg_copy(&again, &node);
        zmq_msg_send(&again, nodes, ZMQ_SNDMORE);
        zmq_send(nodes, data, PAYLOAD, 0);
        receive(nodes, &again, data, sizeof(data));
        zmq_msg_close(&again);
        make_durable();
        zmq_msg_send(&client, clients, ZMQ_SNDMORE);
        zmq_send(clients, data, DIGEST, 0);
    }
}

static void measure(uint64_t n, const char *name)
{
    void *socket = connected(zmq_ctx_new(), ZMQ_DEALER, client_endpoint);
    double *took = calloc(n, sizeof(*took));
    uint8_t data[PAYLOAD], digest[DIGEST], want[DIGEST];
    for (uint64_t i = 0; i < n; i++) {
        payload(data, i);
        double start = now_s();
        if (zmq_send(socket, data, PAYLOAD, 0) < 0 ||
            zmq_recv(socket, digest, DIGEST, 0) != DIGEST)
            die("the answer is missing");
        took[i] = now_s() - start;
        sha256(data, PAYLOAD, want);
        if (memcmp(want, digest, DIGEST) != 0)
            die("the digest is wrong");
    }
    emit_latency(name, took, n, "2 ZeroMQ round trips, 1 eventfd round trip");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: bench-floor DIR N [nosync]");
    char log_path[256];
    snprintf(client_endpoint, sizeof(client_endpoint), "ipc://%s/client", argv[1]);
    snprintf(node_endpoint, sizeof(node_endpoint), "ipc://%s/node", argv[1]);
    snprintf(log_path, sizeof(log_path), "%s/log", argv[1]);
    if (argc == 3 &&
        (log_fd = open(log_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600)) < 0)
        die("cannot open %s", log_path);
    ring = mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    work_fd = eventfd(0, 0);
    done_fd = eventfd(0, 0);
    if (ring == MAP_FAILED || work_fd < 0 || done_fd < 0)
        die("no ring");
    pid_t pids[] = { start(run_coordinator), start(run_node), start(run_mill) };
    measure(number(argv[2]), log_fd < 0 ? "latency.floor_nosync" : "latency.floor");
    for (size_t i = 0; i < sizeof(pids) / sizeof(*pids); i++)
        kill(pids[i], SIGKILL);
    unlink(log_path);
    return 0;
}
