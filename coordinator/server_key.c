#include "coordinator/server_key.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "coordinator/store_dir.h"
#include "coordinator/store_note.h"

/* The public key of a file, which is made if it is not there. */
static int make_or_read(const char *state, const char *name, uint8_t ret[KEY_BYTES],
                        struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/%s", state, name);
    struct keypair *key = NULL;
    int rc = 0;

    if (!keyfile_there(path)) {
        key = keypair_new();
        rc = keyfile_write(path, key, err);
    } else {
        rc = keyfile_read(path, &key, err);
    }
    if (rc == 0)
        memcpy(ret, key->public_key, KEY_BYTES);
    keypair_free(key);
    return rc;
}

int server_key_init(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err)
{
    if (dir_make(state, err) < 0 || note_refuse(state, err) < 0)
        return -1;
    return make_or_read(state, SERVER_KEY, ret_public, err);
}

static int hint_init(const char *state, struct err *err)
{
    return err_hint(err, "tidemill-coordinator init --state %s", state);
}

int server_key_rekey(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err)
{
    AUTO_FREE char *now = xasprintf("%s/" SERVER_KEY, state);

    if (note_refuse(state, err) < 0)
        return -1;
    if (!keyfile_there(now)) {
        err_sys(err, 5, "no server key: %s", now);
        return hint_init(state, err);
    }
    return make_or_read(state, SERVER_KEY_NEXT, ret_public, err);
}

/* At every moment there is a server.key. */
static int change_places(const char *state, struct err *err)
{
    AUTO_FREE char *now = xasprintf("%s/" SERVER_KEY, state);
    AUTO_FREE char *next = xasprintf("%s/" SERVER_KEY_NEXT, state);
    AUTO_FREE char *old = xasprintf("%s/" SERVER_KEY_OLD, state);

    if ((unlink(old) < 0 && errno != ENOENT) || link(now, old) < 0)
        return err_sys(err, 1, "cannot keep %s as %s", now, old);
    FAILPOINT("rekey_kept");
    if (rename(next, now) < 0)
        return err_sys(err, 1, "cannot rename %s", next);
    return dir_sync(state, err);
}

int server_key_finish(const char *state, uint8_t ret_public[KEY_BYTES], struct err *err)
{
    AUTO_FREE char *next = xasprintf("%s/" SERVER_KEY_NEXT, state);
    struct keypair *key = NULL;
    int lock, rc;

    if (note_refuse(state, err) < 0)
        return -1;
    if (!keyfile_there(next)) {
        err_sys(err, 1, "no key to change to: %s", next);
        return err_hint(err,
                        "tidemill-coordinator rekey --state %s makes one, which "
                        "clients and workers have to hear of first",
                        state);
    }
    if (keyfile_read(next, &key, err) < 0)
        return -1;
    if (dir_lock(state, &lock, err) < 0) {
        keypair_free(key);
        return -1;
    }
    rc = change_places(state, err);
    memcpy(ret_public, key->public_key, KEY_BYTES);
    keypair_free(key);
    close(lock);
    return rc;
}

int server_keys_load(const char *state, struct server_keys *ret, struct err *err)
{
    AUTO_FREE char *now = xasprintf("%s/" SERVER_KEY, state);
    AUTO_FREE char *next = xasprintf("%s/" SERVER_KEY_NEXT, state);
    struct keypair *later = NULL;

    *ret = (struct server_keys){ .now = NULL };
    if (!keyfile_there(now)) {
        err_sys(err, 5, "no server key: %s", now);
        return hint_init(state, err);
    }
    if (keyfile_read(now, &ret->now, err) < 0)
        return -1;
    ret->has_next = keyfile_there(next);
    if (!ret->has_next)
        return 0;
    if (keyfile_read(next, &later, err) < 0) {
        server_keys_fini(ret);
        return -1;
    }
    memcpy(ret->next, later->public_key, KEY_BYTES);
    keypair_free(later);
    return 0;
}

void server_keys_fini(struct server_keys *k)
{
    keypair_free(k->now);
    k->now = NULL;
}
