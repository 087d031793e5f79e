/* The two clocks, in nanoseconds. Durations and deadlines use the monotonic one only. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ns(void);
int64_t clock_wall_ns(void); /* since 1970, UTC; for people, never for deadlines */

#endif
