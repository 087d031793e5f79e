/* The peer gearmand at its best: its binary protocol spoken directly, with many requests
 * under way on both sides; libgearman has one at a time. Nothing is stored.
 *     bench-gearman PORT worker BATCH
 *     bench-gearman PORT rate N WINDOW
 * A packet is 4 bytes of magic, type, length (big-endian), then arguments, all but the
 * last ended by a NUL. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "bench/common.h"

enum packet_type {
    CAN_DO = 1,
    PRE_SLEEP = 4,
    NOOP = 6,
    SUBMIT_JOB = 7,
    JOB_CREATED = 8,
    GRAB_JOB = 9,
    NO_JOB = 10,
    JOB_ASSIGN = 11,
    WORK_COMPLETE = 13,
};
enum { HEADER = 12, BUFFER = 1 << 20 };
static const char function[] = "sha";

struct peer {
    int fd;
    uint8_t in[BUFFER], out[BUFFER];
    size_t head, tail, out_len;
};
struct packet {
    uint32_t type, len;
    uint8_t *data; /* valid until the next receive() that reads */
};

static void dial(struct peer *p, uint16_t port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    int on = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(p->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        die("cannot reach gearmand");
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void flush(struct peer *p)
{
    for (size_t at = 0; at < p->out_len;) {
        ssize_t n = write(p->fd, p->out + at, p->out_len - at);
        if (n < 0)
            die("writing to gearmand");
        at += (size_t)n;
    }
    p->out_len = 0;
}

/* A packet of one or two pieces, written at the next flush. */
static void send_packet(struct peer *p, enum packet_type type, const void *a,
                        size_t a_len, const void *b, size_t b_len)
{
    uint32_t head[] = { htonl(type), htonl((uint32_t)(a_len + b_len)) };
    if (p->out_len + HEADER + a_len + b_len > BUFFER)
        flush(p);
    uint8_t *to = p->out + p->out_len;
    memcpy(to, "\0REQ", 4);
    memcpy(to + 4, head, sizeof(head));
    if (a_len)
        memcpy(to + HEADER, a, a_len);
    if (b_len)
        memcpy(to + HEADER + a_len, b, b_len);
    p->out_len += HEADER + a_len + b_len;
}

static int whole(const struct peer *p, struct packet *ret)
{
    uint32_t head[2];
    if (p->tail - p->head < HEADER)
        return 0;
    memcpy(head, p->in + p->head + 4, sizeof(head));
    ret->type = ntohl(head[0]);
    ret->len = ntohl(head[1]);
    ret->data = (uint8_t *)p->in + p->head + HEADER;
    return p->tail - p->head >= HEADER + ret->len;
}

static void receive(struct peer *p, struct packet *ret)
{
    while (!whole(p, ret)) {
        memmove(p->in, p->in + p->head, p->tail - p->head);
        p->tail -= p->head;
        p->head = 0;
        ssize_t n = read(p->fd, p->in + p->tail, BUFFER - p->tail);
        if (n <= 0)
            die("gearmand went away");
        p->tail += (size_t)n;
    }
    p->head += HEADER + ret->len;
}

/* The bytes behind the n-th NUL. */
static uint8_t *argument(const struct packet *k, int n)
{
    uint8_t *at = k->data;
    for (int i = 0; i < n; i++)
        at += strlen((char *)at) + 1;
    return at;
}

static void assign(struct peer *p, const struct packet *k)
{
    uint8_t digest[DIGEST], *data = argument(k, 2);
    sha256(data, (size_t)(k->data + k->len - data), digest);
    send_packet(p, WORK_COMPLETE, k->data, strlen((char *)k->data) + 1, digest, DIGEST);
}

/* Asks for `batch` jobs at once, answers all of them at once; sleeps when there was none.
 */
static void work(struct peer *p, uint64_t batch)
{
    struct packet k;
    send_packet(p, CAN_DO, function, strlen(function), NULL, 0);
    for (;;) {
        for (uint64_t i = 0; i < batch; i++)
            send_packet(p, GRAB_JOB, NULL, 0, NULL, 0);
        flush(p);
        uint64_t got = 0;
        for (uint64_t answers = 0; answers < batch;) {
            receive(p, &k);
            answers += k.type == JOB_ASSIGN || k.type == NO_JOB;
            if (k.type != JOB_ASSIGN)
                continue;
            assign(p, &k);
            got++;
        }
        if (got > 0)
            continue;
        send_packet(p, PRE_SLEEP, NULL, 0, NULL, 0);
        flush(p);
        do
            receive(p, &k);
        while (k.type != NOOP);
    }
}

/* Function, an empty unique id, the payload. */
static void submit(struct peer *p, uint64_t i)
{
    uint8_t data[PAYLOAD];
    payload(data, i);
    send_packet(p, SUBMIT_JOB, "sha\0", sizeof(function) + 1, data, PAYLOAD);
}

static void rate(struct peer *p, uint64_t n, uint64_t window)
{
    uint8_t sum[DIGEST] = { 0 };
    uint64_t sent = 0, done = 0;
    struct packet k;
    double start = now_s();
    while (done < n) {
        if (sent - done <= window / 2) { /* half the window at once: writes stay large */
            while (sent < n && sent - done < window)
                submit(p, sent++);
            flush(p);
        }
        do {
            receive(p, &k);
            if (k.type != WORK_COMPLETE)
                continue;
            digest_xor(sum, argument(&k, 1));
            done++;
        } while (done < n && whole(p, &k));
    }
    double took = now_s() - start;
    check_xor(sum, 0, n);
    emit("tasks.gearmand", (double)n / took, "tasks/s", "raw protocol, nothing stored");
}

int main(int argc, char **argv)
{
    static struct peer peer;
    if (argc < 4)
        die("usage: bench-gearman PORT worker BATCH | PORT rate N WINDOW");
    dial(&peer, (uint16_t)number(argv[1]));
    if (strcmp(argv[2], "worker") == 0)
        work(&peer, number(argv[3]));
    else if (strcmp(argv[2], "rate") == 0 && argc > 4)
        rate(&peer, number(argv[3]), number(argv[4]));
    else
        die("unknown mode: %s", argv[2]);
    return 0;
}
