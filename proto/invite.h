/* An invitation as text: where the coordinator is, which key it has, and a key that lets
 * its bearer enrol his own. One line: "tidemill-invite:" and base64url of
 *
 *     ENDPOINT '\n' server's public key (32 bytes) token's secret key (32 bytes)
 */
#ifndef PROTO_INVITE_H
#define PROTO_INVITE_H

#include "base/keyfile.h"

enum {
    INVITE_ENDPOINT_MAX = 256,
    INVITE_TEXT = 16 + CRYPTO_TEXT(INVITE_ENDPOINT_MAX + 1 + 2 * KEY_BYTES)
};

struct invite {
    char endpoint[INVITE_ENDPOINT_MAX]; /* tcp://HOST:PORT */
    uint8_t server[KEY_BYTES];
    struct keypair *token; /* owned */
};

/* Does the text begin as an invitation does? */
bool invite_is(const char *text);
/* err code 2; it says nothing of the text, which is a secret. *ret goes to invite_fini.
 * White space around it does no harm. */
int invite_parse(struct span text, struct invite *ret, struct err *err);
void invite_fini(struct invite *i);
/* ret: memory of crypto_secret_alloc. -1: the endpoint is too long. */
int invite_text(const char *endpoint, const uint8_t server[KEY_BYTES],
                const struct keypair *token, char ret[INVITE_TEXT], struct err *err);
/* INVITE, or @FILE: one in a file. */
int invite_read(const char *word, struct invite *ret, struct err *err);

#endif
