#include "proto/keyring.h"

enum { DENIED = 5 };

static int hint_no_pin(const struct keyring *k, struct err *err)
{
    return err_hint(err,
                    "with an invitation: tidemill key join INVITE; or, with its public "
                    "key: tidemill key trust %s KEY",
                    k->endpoint);
}

static int read_pins(struct keyring *k, struct err *err)
{
    if (k->pins_path &&
        pins_read(k->pins_path, k->endpoint, k->pins, &k->n_pins, err) < 0)
        return -1;
    for (size_t i = 0; i < k->n_pins; i++)
        memcpy(k->servers[i], k->pins[i].key, KEY_BYTES);
    if (k->n_pins || link_endpoint_is_loopback(k->endpoint))
        return 0;
    err_set(err, DENIED, "no key of the coordinator %s is known (%s)", k->endpoint,
            k->pins_path ? k->pins_path : "no known_keys: HOME is not set");
    return hint_no_pin(k, err);
}

int keyring_open(const char *endpoint, const char *key_file, const char *pins_file,
                 const char *name, struct keyring *ret, struct err *err)
{
    struct keyring *k = ret;

    *k = (struct keyring){ .endpoint = xstrdup(endpoint) };
    k->key_path = key_file ? xstrdup(key_file) : keyfile_default(name);
    if (pins_file)
        k->pins_path = xstrdup(pins_file);
    else if (k->key_path)
        k->pins_path = pins_beside(k->key_path);
    if (strncmp(endpoint, "tcp://", 6) != 0)
        return 0;
    if (read_pins(k, err) < 0)
        return -1;
    k->encrypted = k->n_pins > 0;
    if (!k->encrypted)
        return 0;
    if (!k->key_path)
        return err_set(err, DENIED, "no key: HOME is not set, and no --key");
    if (keyfile_read(k->key_path, &k->own, err) == 0)
        return 0;
    if (!err->hint[0])
        err_hint(err, "with an invitation: tidemill key join INVITE; or: tidemill key "
                      "gen NAME --role ROLE, which an admin then trusts");
    return -1;
}

void keyring_fini(struct keyring *k)
{
    free(k->endpoint);
    free(k->key_path);
    free(k->pins_path);
    keypair_free(k->own);
    *k = (struct keyring){ 0 };
}

const struct link_curve *keyring_curve(const struct keyring *k, struct link_curve *room)
{
    if (!k->encrypted)
        return NULL;
    *room = (struct link_curve){ .own = k->own,
                                 .servers = (const uint8_t(*)[KEY_BYTES])k->servers,
                                 .n_servers = k->n_pins };
    return room;
}

void keyring_explain(const struct keyring *k, enum link_refusal why, struct err *err)
{
    const struct pin *last = &k->pins[k->n_pins ? k->n_pins - 1 : 0];
    char own[KEY_TEXT] = "", pinned[KEY_TEXT];

    key_text(last->key, pinned);
    switch (why) {
    case LINK_KEY_UNKNOWN:
        key_text(k->own->public_key, own);
        err_set(err, DENIED, "the coordinator %s does not know this key (%s)",
                k->endpoint, k->key_path);
        err_hint(err,
                 "an admin lets it in: tidemill key trust NAME %s --role ROLE; clients "
                 "and workers have endpoints of their own",
                 own);
        break;
    case LINK_SERVER_UNKNOWN:
        err_set(err, DENIED,
                "coordinator key does not match the pinned key: %s has not %.4s...%s "
                "(%s:%u)",
                k->endpoint, pinned, pinned + KEY_TEXT - 3, k->pins_path, last->line);
        err_hint(err,
                 "if it was re-keyed on purpose: tidemill key trust %s KEY. Nothing was "
                 "sent.",
                 k->endpoint);
        break;
    case LINK_IS_PLAIN:
        err_set(err, DENIED, "%s does not encrypt, but has a pinned key (%s:%u)",
                k->endpoint, k->pins_path, last->line);
        err_hint(err, "somebody else may listen there, or it runs with --plain. Nothing "
                      "was sent.");
        break;
    case LINK_IS_ENCRYPTED:
        err_set(err, DENIED, "%s encrypts, and no key of it is known (%s)", k->endpoint,
                k->pins_path ? k->pins_path : "no known_keys: HOME is not set");
        hint_no_pin(k, err);
        break;
    }
}

int keyring_learn(struct keyring *k, struct link *link, struct span next, struct err *err)
{
    uint8_t keys[2][KEY_BYTES];
    size_t n = 1;

    if (!k->encrypted)
        return 0;
    memcpy(keys[0], link_server_key(link), KEY_BYTES);
    if (next.len == KEY_BYTES && memcmp(next.data, keys[0], KEY_BYTES) != 0)
        memcpy(keys[n++], next.data, KEY_BYTES);
    if (n == k->n_pins && memcmp(keys, k->servers, n * KEY_BYTES) == 0)
        return 0; /* as it was read */
    link_set_servers(link, (const uint8_t(*)[KEY_BYTES])keys, n);
    memcpy(k->servers, keys, n * KEY_BYTES);
    k->n_pins = n;
    if (pins_set(k->pins_path, k->endpoint, (const uint8_t(*)[KEY_BYTES])keys, n, err) <
        0)
        return -1;
    return pins_read(k->pins_path, k->endpoint, k->pins, &k->n_pins, err);
}
