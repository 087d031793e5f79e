#include "proto/link_queue.h"

/* Sent frames are as small as the strictest receiver wants them (R17). */
enum { LINK_SEND_FRAME = WIRE_CLIENT_FRAME_MAX };

static void frame_of(zmq_msg_t *frame, const void *data, size_t len)
{
    CHECK(zmq_msg_init_size(frame, len) == 0);
    if (len)
        memcpy(zmq_msg_data(frame), data, len);
}

static struct link_out *out_new(const struct msg *m)
{
    unsigned n = 1 + (unsigned)((m->body.len + LINK_SEND_FRAME - 1) / LINK_SEND_FRAME);
    struct link_out *o = xmalloc(sizeof(*o) + n * sizeof(zmq_msg_t));
    AUTO_BUF envelope = BUF_INIT;

    wire_encode(m, &envelope);
    o->n = n;
    o->bulk = m->body.len;
    o->bytes = envelope.len + m->body.len;
    frame_of(&o->frames[0], envelope.data, envelope.len);
    for (unsigned i = 1; i < n; i++) {
        size_t at = (size_t)(i - 1) * LINK_SEND_FRAME;
        frame_of(&o->frames[i], m->body.data + at,
                 MIN(LINK_SEND_FRAME, m->body.len - at));
    }
    return o;
}

static void out_free(struct link_out *o)
{
    for (unsigned i = 0; i < o->n; i++)
        zmq_msg_close(&o->frames[i]);
    free(o);
}

void link_queue_init(struct link_queue *q)
{
    STAILQ_INIT(&q->list);
    q->bytes = 0;
}

void link_queue_add(struct link_queue *q, const struct msg *m, bool at_head)
{
    struct link_out *o = out_new(m);

    if (at_head)
        STAILQ_INSERT_HEAD(&q->list, o, queue_node);
    else
        STAILQ_INSERT_TAIL(&q->list, o, queue_node);
    q->bytes += o->bytes;
}

void link_queue_pop(struct link_queue *q)
{
    struct link_out *o = STAILQ_FIRST(&q->list);

    STAILQ_REMOVE_HEAD(&q->list, queue_node);
    q->bytes -= o->bytes;
    out_free(o);
}

void link_queue_clear(struct link_queue *q, bool bulk_only)
{
    struct link_queue kept;
    struct link_out *o;

    link_queue_init(&kept);
    while ((o = STAILQ_FIRST(&q->list))) {
        if (!bulk_only || o->bulk) {
            link_queue_pop(q);
            continue;
        }
        STAILQ_REMOVE_HEAD(&q->list, queue_node);
        STAILQ_INSERT_TAIL(&kept.list, o, queue_node);
        kept.bytes += o->bytes;
    }
    STAILQ_INIT(&q->list);
    STAILQ_CONCAT(&q->list, &kept.list);
    q->bytes = kept.bytes;
}
