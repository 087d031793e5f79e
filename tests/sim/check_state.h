/* What check.c and check_seen.c share, and nobody else. */
#ifndef SIM_CHECK_STATE_H
#define SIM_CHECK_STATE_H

#include "tests/sim/check.h"

/* A task of a plan, as the store and the followers have told of it. */
struct truth {
    bool recorded, visible;
    uint8_t status;
    uint64_t value; /* hash of the packed value */
    uint64_t epoch, lease;
    uint32_t record; /* which one it is: another where the one before was lost */
    struct {
        uint32_t record; /* 0 = none was lost */
        uint8_t status;
        uint64_t value;
    } lost;           /* the last one, which may be on its way to a follower */
    uint32_t seen[2]; /* which record the follower saw, reading for the first time, and
                         again; 0 = none */
    uint64_t renamed_by;
};

struct given {
    uint64_t id;
    uint32_t plan, first, n; /* place of its tasks in `tasks` */
    peer_id peer;            /* whom it was sent to */
};

struct checker {
    struct truth *truths[JOBS_MAX];
    struct given *given; /* ids grow */
    uint32_t n_given, *tasks, n_tasks;
    uint64_t last_task[JOBS_MAX]; /* seen by a follower in task order, and 1 */
};

uint64_t hash_of(struct span s);
struct plan *plan_of(struct world *w, const struct stored_job *j); /* NULL of NULL */
/* NULL: there is no such task, which is said. */
struct truth *truth_of(struct world *w, const struct plan *p, uint64_t task);
bool input_is(struct world *w, const struct plan *p, uint32_t task, struct span in);
uint64_t records(const struct stored_job *j);
/* R8: a record that is shown has its file, whole, durable and its own. */
void check_file(struct world *w, const struct plan *p, uint32_t task, const char *node);

#endif
