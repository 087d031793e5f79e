/* Results set aside in a temporary file, to be printed in the order of their tasks: of a
 * job that runs, the coordinator has no such order to give yet. */
#ifndef CLIENT_KEPT_H
#define CLIENT_KEPT_H

#include "base/buf.h"
#include "client/tidemill.h"

struct kept;

/* NULL: no temporary file could be made, errno says why. */
struct kept *kept_new(void);
/* Keeps what is printed of a result; its input is not. */
void kept_add(struct kept *k, const struct tm_result *r);
/* Gives them all, by task. -1: the temporary file failed, errno says why. */
int kept_each(struct kept *k, void (*fn)(void *arg, const struct tm_result *r),
              void *arg);
void kept_free(struct kept *k); /* takes NULL */

#endif
