/* A node: the session with the coordinator, its leases, and the pools that do the work.
 * One thread: the loop's. */
#ifndef WORKER_NODE_H
#define WORKER_NODE_H

#include "base/loop.h"
#include "proto/keyring.h"

struct node_config {
    const char *join;        /* endpoint */
    struct keyring *keyring; /* of that endpoint; outlives the node */
    const char *name;
    uint32_t procs, coroutines, threads; /* all at least 1, coroutines may be 0 */
    const char *const *roots;            /* NULL-ended "DIR[:ro]" */
    int identity_fd;        /* age identities, read by the mills; -1 = none */
    struct span recipients; /* of these identities, '\n' between: said in Hello (R18) */
    struct span labels;     /* K=V, '\n' between (proto/select.h) */
    const char *spool_dir;  /* for fetched bodies that are too large for memory */
    bool ephemeral;         /* its coordinator ends with it: nothing is left for later */
};

struct node;

int node_new(struct loop *loop, const struct node_config *config, struct node **ret_node,
             struct err *err);
/* Gives back what is leased; the loop is stopped when that is said. */
void node_stop(struct node *node);
/* Why the node cannot go on, or NULL. */
const struct err *node_failure(const struct node *node);
void node_free(struct node *node); /* takes NULL */

#endif
