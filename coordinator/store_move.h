/* A state directory moves, whole, to another place: `tidemill-coordinator move` (R5). */
#ifndef COORDINATOR_STORE_MOVE_H
#define COORDINATOR_STORE_MOVE_H

#include "coordinator/store_check.h"

/* Copies the state in old to the directory to, which is made or empty, checks the copy as
 * store_check does, its findings to out, and marks old so that nothing starts on it
 * again. At every moment at most one of the two can be used. What was interrupted is
 * finished by a call with the same two directories. When it fails before old is marked,
 * old is as it was, and of the copy nothing is left. */
int store_move(const char *old, const char *to, FILE *out, struct check_totals *ret,
               struct err *err);

#endif
