/* Nodes: the real worker/node.c and node_batch.c, in processes that are started, stopped,
 * killed and started again. */
#ifndef SIM_NODE_H
#define SIM_NODE_H

#include "base/buf.h"
#include "tests/sim/ground.h"
#include "tests/sim/world.h"

struct node;

struct sim_node {
    struct host host;
    struct loop loop;
    struct node *node;
    uint32_t life;       /* counts its processes */
    uint32_t key;        /* with which this one came */
    uint32_t steps_left; /* killed after so many steps on its disk; 0 = not */
    char name[16], root[4];
    struct event restart;
};

void nodes_new(struct world *w);
void nodes_free(struct world *w);
void node_start(struct world *w, uint32_t i);
/* kill -9, or with power a power cut; starts again after a while. */
void node_kill(struct world *w, uint32_t i, bool power, int64_t away_ns);
void node_end(struct world *w, uint32_t i); /* as by SIGTERM; starts again */
/* The loop was stopped: the process ends. */
void node_exits(struct host *h);
/* A step on its disk; false: it does not live to do it. */
bool node_disk_step(struct world *w, uint32_t i);
/* What a task's output or value says of its input. */
uint64_t sim_content(struct span input);

#endif
