/* How many a ROUTER has in: at its limit new connections wait outside, until some have
 * left. Without it a process would run out of descriptors, at which libzmq 4.3.4 keeps a
 * core busy (tcp) or ends the process (ipc).
 *
 * The listener itself stays: zmq_unbind would cut off, without a word to either side,
 * whoever came in through it. */
#ifndef PROTO_LINK_DOOR_H
#define PROTO_LINK_DOOR_H

#include "base/loop.h"

struct link_door;
/* Made before the socket is bound to endpoint. Connections that are under way when the
 * limit is reached come in still: leave descriptors for them. */
struct link_door *link_door_new(struct loop *loop, void *zmq, void *socket,
                                const char *endpoint, unsigned connections_max);
void link_door_free(struct link_door *door); /* before the socket; takes NULL */

#endif
