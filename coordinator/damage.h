/* What the store read for the scheduler, and the disk did not give back as it was
 * written. */
#ifndef COORDINATOR_DAMAGE_H
#define COORDINATOR_DAMAGE_H

#include "coordinator/fx.h"

/* One line each of a group that has come back. The scheduler makes an error of it for
 * those tasks or that follower, and all else goes on. */
void damage_tell(const struct fx_group *g);

#endif
