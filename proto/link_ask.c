/* What is at a tcp endpoint: who speaks ZMTP says in his greeting whether he encrypts. It
 * is asked over a bare socket, without a key and without a word of ours: the library does
 * not tell a server that hangs up for our key from one that hangs up on everybody. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/link_state.h"

enum {
    GREETING_HEAD = 32, /* signature, version, mechanism: of 64 bytes in all */
    MECHANISM_AT = 12,
};

struct link_ask {
    struct loop_io *io;
    int fd;
    bool said;
    uint8_t greeting[GREETING_HEAD];
    size_t got;
    link_ask_fn *fn;
    void *arg;
};

/* Up to the major version: the other side says the rest of its own greeting then. */
static const uint8_t hello[] = { 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3 };

static bool mechanism_is(const struct link_ask *a, const char *name)
{
    return strncmp((const char *)a->greeting + MECHANISM_AT, name,
                   GREETING_HEAD - MECHANISM_AT) == 0;
}

static void answered(struct link_ask *a)
{
    enum link_there there = LINK_NOBODY;

    loop_io_set(a->io, 0);
    if (a->got == GREETING_HEAD && a->greeting[0] == 0xff)
        there = mechanism_is(a, "CURVE")  ? LINK_ENCRYPTED
                : mechanism_is(a, "NULL") ? LINK_PLAIN
                                          : LINK_NOBODY;
    a->fn(a->arg, there);
}

static void on_ready(void *arg, int events)
{
    struct link_ask *a = arg;
    ssize_t n;

    (void)events;
    if (!a->said) {
        a->said = send(a->fd, hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello);
        if (a->said)
            loop_io_set(a->io, LOOP_READ);
        else
            answered(a); /* not connected */
        return;
    }
    n = recv(a->fd, a->greeting + a->got, GREETING_HEAD - a->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    a->got += n > 0 ? (size_t)n : 0;
    if (n <= 0 || a->got == GREETING_HEAD)
        answered(a);
}

/* A name is looked up while the loop stands; the library has just done so too. */
static int connecting(const char *endpoint)
{
    const struct addrinfo like = { .ai_socktype = SOCK_STREAM };
    const char *colon = strrchr(endpoint, ':'), *from = endpoint + strlen("tcp://");
    struct addrinfo *at = NULL;
    int fd = -1;

    if (strncmp(endpoint, "tcp://", 6) != 0 || colon < from)
        return -1;
    size_t len = (size_t)(colon - from);
    bool brackets = len >= 2 && from[0] == '[' && from[len - 1] == ']';
    AUTO_FREE char *host = span_dup(span_of(from + brackets, len - 2 * brackets));
    if (getaddrinfo(host, colon + 1, &like, &at) != 0)
        return -1;
    fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) < 0 && errno != EINPROGRESS) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(at);
    return fd;
}

struct link_ask *link_ask_new(struct loop *loop, const char *endpoint, link_ask_fn *fn,
                              void *arg)
{
    struct link_ask *a;
    int fd = connecting(endpoint);

    if (fd < 0)
        return NULL;
    a = xcalloc(1, sizeof(*a));
    *a = (struct link_ask){ .fd = fd, .fn = fn, .arg = arg };
    a->io = loop_io_new(loop, fd, LOOP_WRITE, on_ready, a);
    return a;
}

void link_ask_free(struct link_ask *a)
{
    if (!a)
        return;
    loop_io_free(a->io);
    close(a->fd);
    free(a);
}
