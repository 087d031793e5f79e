/* --dry-run: what a command would do, an input a line, without a cluster. */
#ifndef CLIENT_DRY_H
#define CLIENT_DRY_H

#include "client/run.h"

/* run_job with --dry-run: the inputs that feed adds are printed; the exit code. */
int dry_run(struct run *run, int (*feed)(void *arg), void *arg);
/* Of run_add. */
void dry_add(const struct run *run, const struct tm_input *in);
/* "INPUT", or "INPUT -> OUTPUT" where one is written; with --json an object. */
void dry_print(struct span input, struct span output);

#endif
