/* What a task runs with, for tests of tasks and their parts: a root that is a new
 * directory, an age identity and its recipient. Included once by a test program, after
 * cmocka.h. */
#ifndef TESTS_UNIT_ROOTS_RIG_H
#define TESTS_UNIT_ROOTS_RIG_H

#include <stdlib.h>

#include "base/crypto.h"
#include "worker/ops/age.h"
#include "worker/ops/task.h"

static char dir[64];
static struct files_roots *roots;
static struct age_identities *ids;
static char recipient[AGEKEY_TEXT];

static inline int rig_set_up(void **state)
{
    char text[AGEKEY_TEXT];
    uint8_t secret[AGEKEY_BYTES], public_key[AGEKEY_BYTES];
    const char *specs[] = { dir };

    (void)state;
    crypto_init();
    snprintf(dir, sizeof(dir), "/tmp/tm-rig.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(files_roots_new(specs, 1, &roots, NULL), 0);
    agekey_identity_new(secret);
    agekey_public(secret, public_key);
    agekey_recipient_text(public_key, recipient);
    agekey_identity_text(secret, text);
    return age_identities_new(span_str(text), &ids, NULL);
}

static inline int rig_tear_down(void **state)
{
    AUTO_FREE char *command = xasprintf("rm -rf %s", dir);

    (void)state;
    files_roots_free(roots);
    age_identities_free(ids);
    return system(command);
}

#endif
