/* What a seed chooses before anything runs: sizes, limits and how often things fail. */
#ifndef SIM_KNOBS_H
#define SIM_KNOBS_H

#include <stdbool.h>
#include <stdint.h>

enum { NODES_MAX = 5, CLIENTS_MAX = 3, JOBS_MAX = 4, CHUNKS_MAX = 8, TASKS_MAX = 24 };

struct knobs {
    uint32_t nodes, clients, jobs; /* jobs: of each client, at most JOBS_MAX in all */
    uint32_t chunks, chunk_tasks;  /* at most, of a job and of a chunk */
    bool operates;                 /* jobs are paused, nodes drained */
    bool shared_disk;              /* all nodes write to one file system */
    bool keyed;                    /* nodes have keys, which are revoked */
    bool behind;                   /* groups are written behind, as --durability none */
    int64_t gather_ns;             /* and so long after they were told of */
    int64_t silence_ns, abandon_ns, unpublished_ns, keep_ns, lease_ns;
    uint64_t open_bytes, backlog_bytes; /* the coordinator's windows */
    uint32_t queue_scale; /* what waits for a peer looks so many times as large */
    uint32_t credit_bytes;
    uint32_t window_bytes; /* bulk in flight of a connection, each way */
    int64_t faults_ns;     /* faults until then, then all is well */
    int64_t fault_gap_ns;  /* mean time between two */
    uint32_t dup_per_mille, late_per_mille;
    int64_t delay_ns;           /* of a message, usually at most */
    int64_t commit_ns;          /* of a transaction, usually at most */
    int64_t task_ns;            /* of a task, usually at most */
    uint32_t hung_per_mille;    /* tasks that do not go on */
    uint32_t lost_per_mille;    /* tasks taken by the infrastructure */
    uint32_t not_yet_per_mille; /* fetches whose server is not to be asked yet */
    uint32_t bad_per_mille;     /* tasks that fail, are flaky or kill their mill */
};

#endif
