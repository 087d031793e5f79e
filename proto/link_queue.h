/* Messages of a link that wait for one peer, as frames (with link.c). */
#ifndef PROTO_LINK_QUEUE_H
#define PROTO_LINK_QUEUE_H

#include <sys/queue.h>
#include <zmq.h>

#include "proto/wire.h"

struct link_out {
    STAILQ_ENTRY(link_out) queue_node;
    size_t bytes, bulk; /* bulk: of its body */
    unsigned n;
    zmq_msg_t frames[];
};

struct link_queue {
    STAILQ_HEAD(, link_out) list;
    size_t bytes; /* of all */
};

void link_queue_init(struct link_queue *q);
void link_queue_add(struct link_queue *q, const struct msg *m, bool at_head);
void link_queue_pop(struct link_queue *q); /* the first: it was sent */
void link_queue_clear(struct link_queue *q, bool bulk_only);

#endif
