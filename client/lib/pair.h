/* A coordinator and a worker of our own: the embedded cluster, or what `up` runs. Both
 * are started at the same time, or in turn where only the bind tells the port; they end
 * when this process does, even by -9, because their lifelines end then. */
#ifndef CLIENT_LIB_PAIR_H
#define CLIENT_LIB_PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct pair;
struct pair_options {
    const char *bin_dir;      /* or NULL */
    const char *listen;       /* NULL: a socket in a private directory */
    const char *state_dir;    /* NULL: private, nothing is kept */
    const char *const *roots; /* NULL-ended; NULL = "/" */
    uint32_t procs, coroutines;
    const char *scratch; /* a file to be removed at the end; NULL = none */
    const void *identity;
    size_t identity_len;
    bool quiet; /* their stderr is kept for messages, not shown */
};
/* Waits until the coordinator listens. Caller pair_frees *ret. */
int pair_start(const struct pair_options *opts, struct pair **ret, struct err *err);
const char *pair_endpoint(const struct pair *p); /* as bound; owned by p */
/* -1 when one of the two has ended: err says which and why. */
int pair_check(struct pair *p, struct err *err);
/* The last of what a quiet coordinator said of its disk since the last call; false:
 * nothing. */
bool pair_warning(struct pair *p, char *text, size_t size);
const char *pair_state(const struct pair *p); /* the state directory; owned by p */
/* Ends both, waits, removes what was private, frees. signo: sent first, or 0. NULL ok. */
void pair_free(struct pair *p, int signo);

#endif
