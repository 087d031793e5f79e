/* What a client or a worker needs to reach an endpoint: its own key, and the
 * coordinator's as known_keys has them. And the line that says why it cannot. */
#ifndef PROTO_KEYRING_H
#define PROTO_KEYRING_H

#include "proto/link.h"

struct keyring {
    bool encrypted;                        /* else all below but the paths is empty */
    char *endpoint, *key_path, *pins_path; /* owned; paths NULL: neither named nor HOME */
    struct keypair *own;
    struct pin pins[PINS_MAX];
    uint8_t servers[PINS_MAX][KEY_BYTES];
    size_t n_pins;
};

/* key_file, pins_file: NULL = the user's own, of that name: "client.key". ipc is plain,
 * as is tcp on loopback when no key is pinned for it; every other tcp is encrypted, or
 * err code 5 with a hint. *ret goes to keyring_fini also after a failure. */
int keyring_open(const char *endpoint, const char *key_file, const char *pins_file,
                 const char *name, struct keyring *ret, struct err *err);
void keyring_fini(struct keyring *k);
/* For link_connect; borrows. NULL when it is plain. */
const struct link_curve *keyring_curve(const struct keyring *k, struct link_curve *room);
/* Words for what link_events.refused said; code 5. */
void keyring_explain(const struct keyring *k, enum link_refusal why, struct err *err);
/* A Welcome came by the link, from a server that will have the key next (32 bytes, or
 * empty): known_keys, the keyring and the link know it from now on, beside the key the
 * server has, and no others. When the file cannot be written the process still does. */
int keyring_learn(struct keyring *k, struct link *link, struct span next,
                  struct err *err);

#endif
