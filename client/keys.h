/* What `tidemill key` does to files of this host (keys.c) and age identities
 * (identity.c). Each is a row of cmd_key.c's table. */
#ifndef CLIENT_KEYS_H
#define CLIENT_KEYS_H

#include "client/sub.h"

struct key_options {
    struct common common;
    const char *role, *output, *owner, *endpoint;
    int64_t expires_ns, uses;
};

int key_identity(const struct call *call, const char *const *args, size_t n);
int key_recipient(const struct call *call, const char *const *args, size_t n);
int key_gen(const struct call *call, const char *const *args, size_t n);
int key_trust(const struct call *call, const char *const *args, size_t n);
int key_join(const struct call *call, const char *const *args, size_t n);

#endif
