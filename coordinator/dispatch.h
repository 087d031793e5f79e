/* The message table: which role may say what, and who answers. Pure. */
#ifndef COORDINATOR_DISPATCH_H
#define COORDINATOR_DISPATCH_H

#include "coordinator/sched.h"

struct peer;

/* Begins the peer's session. */
void dispatch_welcome(struct sched *s, struct peer *p);
/* Any whole message proves its sender's life (R9). Who has not said Hello, or may not say
 * this, gets Error. */
void dispatch_message(struct sched *s, peer_id peer, const struct msg *m);

#endif
