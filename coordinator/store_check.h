/* The full check of a state directory (R6): `tidemill-coordinator check`. */
#ifndef COORDINATOR_STORE_CHECK_H
#define COORDINATOR_STORE_CHECK_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct check_totals {
    uint64_t jobs, chunks, tasks, records, findings;
};
/* Reads all of it, writes one line to out for everything that is not as it must be.
 * Refuses while a coordinator uses the directory. Changes nothing in the database. */
int store_check(const char *dir, FILE *out, struct check_totals *ret, struct err *err);
/* The same by who holds the directory's lock, whatever notes are in it. */
int store_check_locked(const char *dir, FILE *out, struct check_totals *ret,
                       struct err *err);

#endif
