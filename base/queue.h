/* sys/queue.h with the loops that allow removing the element they are at (glibc has
 * none). After BSD's queue(3). */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <sys/queue.h>

#define TAILQ_FOREACH_SAFE(var, head, field, next)                                       \
    for ((var) = TAILQ_FIRST(head); (var) && ((next) = TAILQ_NEXT(var, field), 1);       \
         (var) = (next))
#define LIST_FOREACH_SAFE(var, head, field, next)                                        \
    for ((var) = LIST_FIRST(head); (var) && ((next) = LIST_NEXT(var, field), 1);         \
         (var) = (next))

#define STAILQ_FOREACH_SAFE(var, head, field, next)                                      \
    for ((var) = STAILQ_FIRST(head); (var) && ((next) = STAILQ_NEXT(var, field), 1);     \
         (var) = (next))

#endif
