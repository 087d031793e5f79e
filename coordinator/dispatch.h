/* The message table: which role may say what, and who answers. Each message is also held
 * against its sender's key, which may have been revoked. Pure. */
#ifndef COORDINATOR_DISPATCH_H
#define COORDINATOR_DISPATCH_H

#include "coordinator/sched.h"

struct peer;

/* Begins the peer's session. */
void dispatch_welcome(struct sched *s, struct peer *p);
/* Any whole message proves its sender's life (R9). Who has not said Hello, or may not say
 * this, gets Error. user: see sched_message. */
void dispatch_message(struct sched *s, peer_id peer, struct span user,
                      const struct msg *m);
bool dispatch_may(enum peer_role role, enum msg_type type);
/* Tells the peer that its role may not say this. */
void dispatch_deny(struct sched *s, struct peer *p, enum msg_type type);

#endif
