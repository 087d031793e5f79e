/* Keys of links: X25519 pairs as text and in files. What coordinators are known to a
 * client is pins.h's; which keys are welcome is the coordinator's database's. */
#ifndef BASE_KEYFILE_H
#define BASE_KEYFILE_H

#include "base/crypto.h"
#include "base/err.h"

enum { KEY_BYTES = X25519_BYTES, KEY_TEXT = CRYPTO_TEXT(X25519_BYTES) };

/* A public key as people see it: 43 characters of base64url. */
void key_text(const uint8_t key[KEY_BYTES], char ret[KEY_TEXT]);
int key_parse(struct span text, uint8_t ret[KEY_BYTES], struct err *err); /* code 2 */

/* In crypto_secret_alloc's memory. */
struct keypair {
    uint8_t public_key[KEY_BYTES];
    uint8_t secret[KEY_BYTES];
};
struct keypair *keypair_new(void); /* a fresh one, whose text begins with no '-' */
struct keypair *keypair_of(const uint8_t secret[KEY_BYTES]);
struct keypair *keypair_copy(const struct keypair *key);
void keypair_free(struct keypair *key); /* takes NULL */

/* A new file for its owner alone, on disk with its name when this returns. One that
 * exists is left as it is (err code 1). The directory is made (mode 0700) if need be. */
int keyfile_write(const char *path, const struct keypair *key, struct err *err);
/* err code 5 when there is none, when it is another user's, or when others may read it:
 * that is looked at each time. Caller keypair_frees *ret. */
int keyfile_read(const char *path, struct keypair **ret, struct err *err);
/* Its name, after a rename, is on disk when this returns. */
int keyfile_sync(const char *path, struct err *err);
bool keyfile_there(const char *path);
/* What such a file says. */
int keyfile_parse(struct span text, struct keypair **ret, struct err *err);

/* The directory a file is in, made (0700) with those above if it is not there. Caller
 * frees. */
char *keyfile_directory(const char *path);
/* $XDG_CONFIG_HOME/tidemill/NAME, else ~/.config/tidemill/NAME. NULL when neither is
 * known. Caller frees. */
char *keyfile_default(const char *name);

#endif
