/* Who gets in by the encrypted endpoints, and what those are told of this coordinator:
 * its keys, and where it is reached. */
#ifndef COORDINATOR_GATE_H
#define COORDINATOR_GATE_H

#include "coordinator/doors.h"
#include "coordinator/sched.h"

struct gate;

/* Reads the keys of the state, and proves that who is unknown does not get in. */
int gate_new(struct link_ctx *ctx, const char *state_dir, struct gate **ret,
             struct err *err);
void gate_free(struct gate *g); /* after the links; takes NULL */
/* A key as the database has it from now on. One that may do nothing any more gets in a
 * few times, to be told so. NULL: nothing is encrypted. */
void gate_key(struct gate *g, const struct key_row *row);
/* For an endpoint of that kind; NULL for a plain one. Borrows. */
const struct link_curve *gate_curve(const struct gate *g, enum door_kind kind);
/* One of that kind can be reached there. */
void gate_bound(struct gate *g, enum door_kind kind, const char *endpoint,
                const char *advertise);
const struct sched_server *gate_server(const struct gate *g);

#endif
