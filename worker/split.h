/* Large files, each shared by the mills of this node: a task that encrypts or decrypts a
 * large file is run as parts (ops/part.h), one after another given to whichever mill has
 * room, and their results are gathered to the one that the lease waits for.
 *
 *   HEAD --shared--> RANGES --the last is done--> its result
 *     |                 `--one failed, or cancelled--> ENDING --none under way--> ditto
 *     `--not to be shared, or failed--> ditto
 *
 * The ranges of one attempt have one key, and none is run twice: a mill that dies on its
 * range ends the attempt (R19), and the status says whose fault that was (R12). The
 * loop's thread only. */
#ifndef WORKER_SPLIT_H
#define WORKER_SPLIT_H

#include "worker/node_state.h"

/* Says in l->split which tasks of a new lease will be run as parts. */
void split_mark(struct node_lease *l);
/* Begins with those; the others are the caller's. */
void split_start(struct node_lease *l);
/* A result of a part; false: it is none. */
bool split_result(struct node *n, uint64_t run, enum task_status status,
                  struct span value);
void split_room(struct node *n); /* a mill takes runs again */
/* The lease no longer counts: its parts end soon, and their tasks as cancelled. */
void split_revoke(struct node_lease *l);
/* The lease of the task that `run` is a part of; 0: of none. */
uint64_t split_lease(const struct node *n, uint64_t run);
/* Calls fn with the lease of each task of which no part is with the pool. */
void split_each_waiting(struct node *n, void (*fn)(void *arg, struct node_lease *l),
                        void *arg);
void split_free_all(struct node *n);

#endif
