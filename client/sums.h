/* Manifests that are being written to a directory: each under a name of its own until it
 * is whole and on disk; of a job for each node a directory of its own. */
#ifndef CLIENT_SUMS_H
#define CLIENT_SUMS_H

#include <stdio.h>

#include "base/buf.h"
#include "client/tidemill.h"

struct sums;

/* dir: where they go; force: replace those that exist; by_node: to DIR/NODE. Borrows
 * nothing. */
struct sums *sums_new(const char *dir, bool force, bool by_node);
void sums_free(struct sums *s); /* those not published leave nothing; takes NULL */
/* -1: one of these algorithms' is there already, or none can be of that name. node:
 * whose, with by_node, else NULL. */
int sums_check(const struct sums *s, const char *node, uint32_t algos,
               struct tm_error *err);
/* -1: the process may not have that many manifests open at once. */
int sums_room(size_t files, struct tm_error *err);
/* The manifest of an algorithm, and a node with by_node, to be written to. NULL with err.
 */
FILE *sums_file(struct sums *s, struct span node, enum tm_algo algo,
                struct tm_error *err);
/* All of them get their names. */
int sums_publish(struct sums *s, struct tm_error *err);

#endif
