/* The network: proto/link.h for nodes and clients, on virtual time. A connection keeps
 * its messages in order, as TCP does, and may delay, hold or break; what was on its way
 * when it broke may be lost or come late, beside the connection that replaces it. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include "base/keyfile.h"
#include "proto/link.h"
#include "tests/sim/world.h"

struct network *net_new(struct world *w);
void net_free(struct network *n);

/* The coordinator's side. -1: the peer cannot be reached. */
int net_to_peer(struct world *w, peer_id peer, const struct msg *m);
size_t net_queued_bytes(struct world *w, peer_id peer);
/* The coordinator is gone: every connection breaks. Links connect again when it is back.
 */
void net_coord_down(struct world *w);

/* Whose end of a connection this is; NULL = there was none of that number. */
struct host *net_host_of(struct world *w, peer_id peer);

/* A connection from the coordinator's own host, for what is answered to nobody. */
peer_id net_on_host(struct world *w);
/* Who the sender is by the key of its connection; "" = it has none. */
const char *net_user_of(struct world *w, peer_id peer, char ret[KEY_TEXT]);
bool net_was_to_end(struct world *w, peer_id peer); /* that key: it was to be revoked */
bool net_is_revoked(struct world *w, peer_id peer); /* it is, as the store has it */

uint64_t net_about(const struct msg *m); /* the lease or job, for traces */

/* Faults of a host's connection. */
void net_break(struct host *h);          /* as by a reset: the end does not notice */
void net_hole(struct host *h, bool dir); /* one way is lost from now on, half-open */

#endif
