/* The coordinator's shell: sockets, store and clock around the scheduler. Brings what
 * happened to the scheduler and carries its effects out; decides nothing. */
#ifndef COORDINATOR_COORD_H
#define COORDINATOR_COORD_H

#include "base/loop.h"
#include "coordinator/doors.h"
#include "coordinator/sched.h"
#include "coordinator/store.h"

struct coord_config {
    struct doors doors;
    const char *advertise;    /* the host that invitations name; NULL = as bound */
    int io_threads;           /* of the links; 0 = 1, or 2 where one is encrypted */
    unsigned connections_max; /* at each endpoint */
    const char *state_dir;
    enum durability durability;
    bool ephemeral; /* nothing of the state is left at the end */
    int64_t silence_ns;
    uint64_t reserve_bytes; /* that stay free on its disk (R13); 0 = none */
    int64_t keep_ns;        /* how long ended jobs are kept; 0 = until they are removed */
    struct sched_quota quota;
};

struct coord;

int coord_new(struct loop *loop, const struct coord_config *config,
              struct coord **ret_coord, struct err *err);
/* The endpoint i as bound. */
const char *coord_endpoint(const struct coord *c, size_t i);
/* No more leases; the loop is stopped when those that are out have come back, or after
 * 5 s. */
void coord_drain(struct coord *c);
/* Ends everything cleanly. -1: the store failed, or has no room for what was told of
 * already (--durability none). */
int coord_close(struct coord *c, struct err *err);

#endif
