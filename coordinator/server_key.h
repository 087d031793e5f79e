/* The coordinator's own keys, in its state directory: server.key is the one its links
 * have; server-next.key, when there is one, is what they will have once clients and
 * workers were told; server-old.key is what they had. */
#ifndef COORDINATOR_SERVER_KEY_H
#define COORDINATOR_SERVER_KEY_H

#include "base/keyfile.h"

#define SERVER_KEY      "server.key"
#define SERVER_KEY_NEXT "server-next.key"
#define SERVER_KEY_OLD  "server-old.key"

/* Makes the directory and server.key. One that is there stays, and is the answer. */
int server_key_init(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err);
/* Makes server-next.key, as server_key_init does. A coordinator that runs announces it
 * from its next start on. */
int server_key_rekey(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err);
/* server-next.key becomes server.key, while no coordinator runs. What was interrupted is
 * finished by another call. */
int server_key_finish(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err);

struct server_keys {
    struct keypair *now; /* owned */
    uint8_t next[KEY_BYTES];
    bool has_next;
};
/* err code 5 with a hint when there is none. */
int server_keys_load(const char *state, struct server_keys *ret, struct err *err);
void server_keys_fini(struct server_keys *k);

#endif
