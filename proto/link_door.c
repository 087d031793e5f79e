#include "proto/link_door.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "base/log.h"
#include "base/macros.h"
#include "proto/link_socket.h"

struct link_door {
    char *endpoint;
    char *path, *aside; /* of an ipc endpoint: its socket, and where that is when shut */
    unsigned max, connections;
    bool shut;
    int fd; /* the listener; the library's */
    struct link_monitor *monitor;
};

/* A listener that drops what is sent to it is one whose packets were lost: who connects
 * sends again, for minutes. (What comes in on connections it has made is not touched.) */
static int drop_packets(int fd, bool drop)
{
    static struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    static const struct sock_fprog program = { 1, &nothing };
    int unused = 0;

    return drop ? setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program))
                : setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused));
}

static void set(struct link_door *d, bool shut)
{
    int rc = d->path ? rename(shut ? d->path : d->aside, shut ? d->aside : d->path)
                     : drop_packets(d->fd, shut);

    if (rc < 0) {
        log_warn("door", "endpoint=%s shut=%d why=\"%s\"", d->endpoint, shut,
                 strerror(errno));
        return;
    }
    d->shut = shut;
    log_warn(shut ? "full" : "room_again", "endpoint=%s connections=%u max=%u",
             d->endpoint, d->connections, d->max);
}

/* A few have to leave first, lest each who goes opens and shuts the door. */
static bool has_room(const struct link_door *d)
{
    return d->connections <= d->max - (d->max + 7) / 8;
}

static void on_event(void *arg, unsigned event, int value)
{
    struct link_door *d = arg;

    switch (event) {
    case ZMQ_EVENT_LISTENING:
        d->fd = value;
        break;
    case ZMQ_EVENT_ACCEPTED:
        if (++d->connections >= d->max && !d->shut)
            set(d, true);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (d->connections > 0)
            d->connections--;
        if (d->shut && has_room(d))
            set(d, false);
        break;
    case ZMQ_EVENT_ACCEPT_FAILED:
        log_warn("accept", "endpoint=%s why=\"%s\"", d->endpoint, strerror(value));
        break;
    }
}

struct link_door *link_door_new(struct loop *loop, void *zmq, void *socket,
                                const char *endpoint, unsigned connections_max)
{
    struct link_door *d = xcalloc(1, sizeof(*d));

    CHECK(connections_max > 0);
    d->endpoint = xstrdup(endpoint);
    d->max = connections_max;
    d->fd = -1;
    if (strncmp(endpoint, "ipc://", 6) == 0) {
        d->path = xstrdup(endpoint + 6);
        d->aside = xmalloc(strlen(d->path) + sizeof(".full"));
        sprintf(d->aside, "%s.full", d->path);
    }
    d->monitor = link_monitor_new(loop, zmq, socket,
                                  ZMQ_EVENT_LISTENING | ZMQ_EVENT_ACCEPTED |
                                      ZMQ_EVENT_ACCEPT_FAILED | ZMQ_EVENT_DISCONNECTED,
                                  on_event, d);
    return d;
}

void link_door_free(struct link_door *d)
{
    if (!d)
        return;
    if (d->shut && d->aside)
        unlink(d->aside);
    link_monitor_free(d->monitor);
    free(d->endpoint);
    free(d->path);
    free(d->aside);
    free(d);
}
