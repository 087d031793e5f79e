/* Directories of outputs: made below one that was looked at, and made durable with all
 * that leads to them. Blocking calls; any thread. */
#ifndef WORKER_OPS_DIRS_H
#define WORKER_OPS_DIRS_H

#include "base/err.h"

/* Where an open descriptor really is, all links resolved; NULL = it cannot be said.
 * Caller frees. */
char *dirs_real(int fd);

/* Makes the directories `rest` below `real`, which exists and has no link in its name.
 * No link is followed and nothing outside of it is touched: "..", whose meaning nobody
 * can know where nothing is yet, is refused. */
int dirs_make(const char *real, const char *rest, struct err *err);

/* Directories whose names are known to be on disk. */
struct dirs_durable;
struct dirs_durable *dirs_durable_new(void);
void dirs_durable_free(struct dirs_durable *d); /* takes NULL */
/* Syncs the names in a directory, and its own name in its parent, and that one's,
 * `levels` upwards: whoever made them may have been killed since. What is known to be
 * durable upwards is not synced again. -1 with errno. */
int dirs_sync(struct dirs_durable *d, int fd, unsigned levels);

#endif
