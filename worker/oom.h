/* What the kernel says of processes that it killed for want of memory. */
#ifndef WORKER_OOM_H
#define WORKER_OOM_H

#include <stdint.h>

/* How many, of the whole host, since boot; 0 when it does not say. */
uint64_t oom_kills(void);

#endif
