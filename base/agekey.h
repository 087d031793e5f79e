/* age's X25519 keys as text: Bech32 (BIP 173, without its limit of length) with the
 * prefixes "age" and "AGE-SECRET-KEY-". Format: C2SP age.md. Secrets are not copied but
 * to where the caller says. */
#ifndef BASE_AGEKEY_H
#define BASE_AGEKEY_H

#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"

enum { AGEKEY_BYTES = 32, AGEKEY_TEXT = 80 }; /* text: enough for either kind and a NUL */

int agekey_recipient_parse(struct span text, uint8_t ret_public[AGEKEY_BYTES],
                           struct err *err);
void agekey_recipient_text(const uint8_t public_key[AGEKEY_BYTES], char ret[AGEKEY_TEXT]);

/* A fresh secret key. */
void agekey_identity_new(uint8_t ret_secret[AGEKEY_BYTES]);
int agekey_identity_parse(struct span text, uint8_t ret_secret[AGEKEY_BYTES],
                          struct err *err);
void agekey_identity_text(const uint8_t secret[AGEKEY_BYTES], char ret[AGEKEY_TEXT]);
void agekey_public(const uint8_t secret[AGEKEY_BYTES], uint8_t ret_public[AGEKEY_BYTES]);

/* Calls fn for each identity of an identity file's text ('#' comments, blank lines). -1
 * with err naming the line when one is malformed, or when there is none at all, or when
 * fn returned -1. */
int agekey_identities_each(struct span text,
                           int (*fn)(void *arg, const uint8_t secret[AGEKEY_BYTES]),
                           void *arg, struct err *err);

#endif
