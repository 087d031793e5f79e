/* Who may connect to an encrypted ROUTER (ZeroMQ's RFC 27): a table of public keys, asked
 * by the library at each handshake and answered by a thread of its own. A key that comes
 * more often than ZAP_BURST times at once, or each ZAP_EACH_NS after that, has to wait:
 * it gets no answer, so that the handshake's time goes by and is tried again. Which key
 * may say what is not decided here. */
#ifndef PROTO_ZAP_H
#define PROTO_ZAP_H

#include "base/keyfile.h"

/* An endpoint's kind; a key is known in one of them, or in both. */
enum zap_domain { ZAP_CLIENT, ZAP_WORKER, ZAP_DOMAIN_COUNT };

enum { ZAP_BURST = 100 };
#define ZAP_EACH_NS (100 * NS_PER_MS)

struct link_ctx;
struct zap;

/* Before the context's first encrypted socket is bound: those refuse everybody while
 * nobody answers. */
struct zap *zap_new(struct link_ctx *ctx);
void zap_free(struct zap *zap); /* after the sockets it answered for; takes NULL */
/* Any thread. domains: BIT(enum zap_domain)...; 0 = the key is unknown from now on. Who
 * is connected stays so. */
void zap_set(struct zap *zap, const uint8_t key[KEY_BYTES], unsigned domains);
/* A known key ends at this time (0 = never): from then on it gets in a few times more, to
 * be told so, and is unknown after that. */
void zap_ends(struct zap *zap, const uint8_t key[KEY_BYTES], int64_t wall_ns);
/* "client", "worker" */
const char *zap_domain_name(enum zap_domain domain);
/* Proves, over sockets of its own that have the options of all others, that a key which
 * was never told of gets no connection, and a known one does, in each domain. Waits up to
 * 8 s for each. */
int zap_prove(struct link_ctx *ctx, struct zap *zap, struct err *err);

#endif
