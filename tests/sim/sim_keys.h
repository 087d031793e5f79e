/* Keys of nodes: each node has a few, and its processes come with one of them. One is
 * revoked while it is in use; the next process of its node has the next one. */
#ifndef SIM_KEYS_H
#define SIM_KEYS_H

#include "base/keyfile.h"
#include "coordinator/sched.h"
#include "tests/sim/world.h"

enum { KEYS_EACH = 4 };

struct sim_keys {
    uint32_t next[NODES_MAX];           /* with which the next process comes */
    bool revoked[NODES_MAX][KEYS_EACH]; /* as the store has it */
    peer_id asked_by[NODES_MAX][KEYS_EACH];
};

void sim_keys_new(struct world *w);
void sim_keys_free(struct world *w);
/* What the link knows a node by that has this key; "" = this world has no keys. */
const char *key_user(const struct world *w, uint32_t node, uint32_t key,
                     char ret[KEY_TEXT]);
/* The operator revokes the key of a node's next process; it has another one then. */
void key_revoke(struct world *w, uint32_t node);
bool key_was_to_end(const struct world *w, uint32_t node, uint32_t key); /* asked to */
bool key_is_revoked(const struct world *w, uint32_t node, uint32_t key);
/* An Answer is sent: a revocation that it acknowledges is on disk (R1). */
void key_answered(struct world *w, peer_id peer);
/* The store's part. */
void sim_keys_load(struct world *w, struct sched *s);
void key_saved(struct world *w, const struct key_row *row);

#endif
