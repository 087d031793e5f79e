/* Whose keys the coordinator lets come: rows of cmd_key.c's table that ask it. */
#ifndef CLIENT_ADMIT_H
#define CLIENT_ADMIT_H

#include "client/sub.h"

/* As struct sub's run, with key_options. admit_trust opens the cluster itself: its
 * subcommand has another meaning, which needs none. */
int admit_trust(const struct call *call, const char *const *args, size_t n);
int admit_revoke(const struct call *call, const char *const *args, size_t n);
int admit_list(const struct call *call, const char *const *args, size_t n);
int admit_invite(const struct call *call, const char *const *args, size_t n);

#endif
