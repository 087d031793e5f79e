/* One seed's story: what it draws, which faults come when, and how it ends. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "tests/sim/world.h"

struct outcome {
    uint64_t hash, events;
    int64_t virtual_ns;
    char failure[512];
};

void scenario_run(uint64_t seed, bool trace, struct outcome *ret);

#endif
