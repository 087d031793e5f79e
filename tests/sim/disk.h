/* A file system of names: worker/ops/files.h for the node. Data and renames that were not
 * synced are at the mercy of a power cut; a killed process loses nothing. */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include "tests/sim/world.h"
#include "worker/ops/files.h"

enum { OUT_MAX = 40 };

struct entry {
    LIST_ENTRY(entry) node;
    char out[OUT_MAX];            /* the target's name */
    bool temp;                    /* it is a temporary of this attempt, beside it */
    struct files_attempt attempt; /* that wrote it */
    uint64_t content;             /* what it says of its input */
    bool whole;                   /* written to its end */
    bool synced;                  /* its data */
    bool renamed;                 /* and the directory not synced since */
    bool removed;                 /* likewise: a power cut may bring it back */
    uint32_t life;                /* of the node that made it */
    uint32_t maker;
};

struct disk {
    LIST_HEAD(, entry) entries;
    uint32_t renames; /* in all */
};

void disks_new(struct world *w);
void disks_free(struct world *w);
struct disk *disk_of(struct world *w, uint32_t node);
/* The mill's part: makes the temporary, then writes it to its end. */
void disk_create(struct disk *d, const char *out, const struct files_attempt *at,
                 uint32_t maker, uint32_t life);
/* False: there is no such temporary. */
bool disk_write(struct disk *d, const char *out, const struct files_attempt *at,
                uint64_t content);
void disk_discard(struct world *w, uint32_t node, struct span out,
                  const struct files_attempt *at);
const struct entry *disk_target(const struct disk *d, const char *out);
void disk_power_cut(struct world *w, struct disk *d);

#endif
