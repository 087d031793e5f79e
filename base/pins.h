/* known_keys: which public key the coordinator at an endpoint has. A line is
 * "ENDPOINT KEY"; several for one endpoint are all believed, as while it is re-keyed. */
#ifndef BASE_PINS_H
#define BASE_PINS_H

#include "base/keyfile.h"

enum { PINS_MAX = 16 }; /* of one endpoint */

struct pin {
    uint8_t key[KEY_BYTES];
    unsigned line; /* from 1 */
};

/* Those of an endpoint, in the file's order; none when there is no such file. err code 5
 * when others than its owner may write it, or that is neither this user nor root. */
int pins_read(const char *path, const char *endpoint, struct pin ret[PINS_MAX],
              size_t *ret_n, struct err *err);
/* From now on the endpoint has these n keys and no others; the rest of the file stays as
 * it is, and the file is not touched when it says so already. On disk when this returns.
 */
int pins_set(const char *path, const char *endpoint, const uint8_t (*keys)[KEY_BYTES],
             size_t n, struct err *err);
/* One more, unless it is there. */
int pins_add(const char *path, const char *endpoint, const uint8_t key[KEY_BYTES],
             struct err *err);
/* known_keys in the directory of a key file. Caller frees. */
char *pins_beside(const char *key_path);
/* What a file says of an endpoint; *ret_n at most PINS_MAX. Lines that are malformed, or
 * too many, are an err that names the first of them. */
int pins_parse(struct span text, const char *endpoint, struct pin ret[PINS_MAX],
               size_t *ret_n, struct err *err);

#endif
