/* The coordinator: the real scheduler and dispatch in a shell like coord.c's, with turns,
 * groups and the store model; killed and loaded again. */
#ifndef SIM_COORD_MODEL_H
#define SIM_COORD_MODEL_H

#include "coordinator/sched.h"
#include "tests/sim/world.h"

struct coord_model {
    struct host host;
    struct sched *sched;   /* NULL = it is down */
    struct fx_group *turn; /* NULL between turns */
    struct event end, timer, restart;
    struct epoch epoch;
    bool full;
    bool pressure, was_full; /* as this turn was told */
    unsigned waited_for;     /* groups that the store has */
};

void coord_new_model(struct world *w);
void coord_free_model(struct world *w);
struct host *coord_host(struct world *w);
void coord_start(struct world *w);
void coord_kill(struct world *w, int64_t away_ns);

/* What comes to it. */
void coord_message(struct world *w, peer_id peer, const struct msg *m);
void coord_gone_soon(struct world *w, peer_id peer);
void coord_committed(struct world *w, struct fx_group *g); /* takes it */
void coord_full(struct world *w, bool full);

#endif
