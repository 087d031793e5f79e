/* What a link's sockets are: their options, what endpoints are allowed, and when a
 * connection is there. Messages are link.c's. */
#ifndef PROTO_LINK_SOCKET_H
#define PROTO_LINK_SOCKET_H

#include "base/macros.h"
#include "proto/link.h"

/* A ROUTER or DEALER with every option set (never NULL). zmq: the library's context. */
void *link_socket_new(void *zmq, bool router, int64_t frame_max_bytes);
/* Encrypted: a ROUTER whose peers ZAP is asked about, a DEALER that knows whom it meets.
 */
void link_socket_serve(void *socket, const struct keypair *own, enum zap_domain domain);
void link_socket_use(void *socket, const struct keypair *own,
                     const uint8_t server[KEY_BYTES]);
void link_socket_close_now(void *socket); /* what waits in it is dropped */

/* Calls fn on the loop's thread for each of `events` (of ZMQ_EVENT_*) that happens to the
 * socket. Freed before the socket is closed. */
struct link_monitor;
/* value: the descriptor, or the errno of a failure. */
typedef void link_monitor_fn(void *arg, unsigned event, int value);
struct link_monitor *link_monitor_new(struct loop *loop, void *zmq, void *socket,
                                      unsigned events, link_monitor_fn *fn, void *arg);
/* Calls fn now for what has happened already. libzmq says that a connection is
 * made before it hands over the first message that came in on it. */
void link_monitor_tell(struct link_monitor *monitor);
/* Has something happened that was not told yet? Then it is told before the loop waits. */
bool link_monitor_waits(struct link_monitor *monitor);
void link_monitor_free(struct link_monitor *monitor); /* takes NULL */

/* Of an IPv4 address libzmq says tcp://[::ffff:127.0.0.1]:PORT; this makes it
 * tcp://127.0.0.1:PORT. */
void link_endpoint_unmap(char *endpoint, size_t size);
/* A socket file that somebody answers on must not be taken away from him. */
bool link_somebody_listens(const char *path);

#endif
