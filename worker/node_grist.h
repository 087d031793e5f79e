/* Fetched bodies on their way through a mill, several in one run: a run for each would
 * cost a wake-up each way, which for a body of some KiB is more than its digest. For
 * node_io.c; what other files of the node call is in node_state.h. */
#ifndef WORKER_NODE_GRIST_H
#define WORKER_NODE_GRIST_H

#include "worker/node_state.h"

/* One body. */
struct grist {
    struct node_lease *lease; /* borrowed, as the body's bytes and descriptor */
    uint32_t index;           /* of its task in the lease */
    struct span bytes;
    int fd; /* it is in this file; -1 = it is in `bytes` */
    /* The answer, once grist_pass has returned 0: */
    enum task_status status;
    struct buf value; /* owned: the caller's */
    /* node_grist.c's own. */
    bool answered;
    struct grist_run *run; /* NULL: it waits in node->mill_waiting */
    uint32_t place;        /* in the run */
    struct coro_task *coro;
    TAILQ_ENTRY(grist) waiting_node;
};

void grist_init(struct node *n);
/* The node ends, and no mill answers any more: those who wait for one are told so. */
void grist_end(struct node *n);
void grist_fini(struct node *n);

/* Has a mill run the job's stages over the body; the coroutine waits. -1 when it was
 * cancelled: then what the mill may have made of the task is gone, too. */
int grist_pass(struct grist *g);

#endif
