/* The ground under the real worker code: loop, thread pool, process pool and fetching
 * coroutines on virtual time, each with the interface of the header it stands for. */
#ifndef SIM_GROUND_H
#define SIM_GROUND_H

#include "base/buf.h"
#include "base/loop.h"
#include "proto/wire.h"
#include "tests/sim/world.h"

struct loop {
    struct host *host;
    bool stopped; /* loop_stop was called */
};

/* How a task will go; stands in its input. */
enum fate {
    FATE_OK,
    FATE_FAILS,  /* permanently */
    FATE_FLAKY,  /* fails retryably, half of the time */
    FATE_RETRY,  /* fails retryably, always */
    FATE_POISON, /* kills its mill, always */
    FATE_CRASHY, /* kills its mill, sometimes */
    FATE_COUNT
};

/* One attempt: its status, its packed value in ret_value, what its output holds. */
struct work {
    struct world *w;
    uint32_t node;
    uint64_t epoch, lease;
    uint32_t task;
    struct span input;
    bool file; /* the job's sink */
    enum task_status status;
    struct buf value;
};
/* Its output, if any, comes into being; work_end makes it whole. */
void work_begin(struct work *k);
void work_end(struct work *k);
int64_t work_ns(struct world *w, uint32_t node);
void sim_random(void *out, size_t len); /* crypto_random of the node */

#endif
