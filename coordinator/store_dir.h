/* The state directory as such: made, locked, removed. No SQL here. */
#ifndef COORDINATOR_STORE_DIR_H
#define COORDINATOR_STORE_DIR_H

#include <stdbool.h>
#include "base/err.h"

/* Makes the directory (mode 0700) and those above it, each on disk when this returns. */
int dir_make(const char *dir, struct err *err);
/* Keeps every other coordinator out until *ret_fd is closed. */
int dir_lock(const char *dir, int *ret_fd, struct err *err);
/* The names in it are on disk when this returns. */
int dir_sync(const char *dir, struct err *err);
/* Deletes the database, its log, segments, the reserve and the keys. */
void dir_clear(const char *dir);
/* Deletes the state's files and, when it is empty then, the directory. */
void dir_remove(const char *dir);

#endif
