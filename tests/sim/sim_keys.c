#include "tests/sim/sim_keys.h"

#include "tests/sim/coord_model.h"
#include "tests/sim/net.h"

void sim_keys_new(struct world *w)
{
    w->keys = xcalloc(1, sizeof(*w->keys));
}

void sim_keys_free(struct world *w)
{
    free(w->keys);
}

/* The first two bytes say whose it is. */
static void public_of(uint32_t node, uint32_t key, uint8_t ret[KEY_BYTES])
{
    memset(ret, 1, KEY_BYTES);
    ret[0] = (uint8_t)node;
    ret[1] = (uint8_t)key;
}

const char *key_user(const struct world *w, uint32_t node, uint32_t key,
                     char ret[KEY_TEXT])
{
    uint8_t public_key[KEY_BYTES];

    if (!w->k.keyed)
        return "";
    public_of(node, key, public_key);
    key_text(public_key, ret);
    return ret;
}

bool key_was_to_end(const struct world *w, uint32_t node, uint32_t key)
{
    return key < w->keys->next[node];
}

bool key_is_revoked(const struct world *w, uint32_t node, uint32_t key)
{
    return w->k.keyed && w->keys->revoked[node][key];
}

void key_revoke(struct world *w, uint32_t node)
{
    uint32_t key = w->keys->next[node];
    struct msg hello = { .type = MSG_HELLO }, order = { .type = MSG_KEY };
    peer_id operator;

    if (!w->k.keyed || key + 1 == KEYS_EACH || !w->coord->host.alive ||
        host_stopped(&w->coord->host))
        return;
    NOTE(w, "key_revoke", node, key, 0);
    hello.hello = (struct msg_hello){ .version_min = WIRE_VERSION,
                                      .version_max = WIRE_VERSION,
                                      .name = SPAN_LIT("operator") };
    order.key.id = 1;
    order.key.verb = KEY_REVOKE;
    public_of(node, key, order.key.public_key);
    w->keys->next[node]++;
    operator= net_on_host(w);
    w->keys->asked_by[node][key] = operator;
    coord_message(w, operator, & hello);
    coord_message(w, operator, & order);
}

void key_answered(struct world *w, peer_id peer)
{
    for (uint32_t i = 0; i < NODES_MAX; i++)
        for (uint32_t k = 0; k < w->keys->next[i]; k++)
            if (w->keys->asked_by[i][k] == peer && !w->keys->revoked[i][k])
                broken(w,
                       "R1: key %u of node %u is said to be revoked, on disk it is not",
                       k, i);
}

void sim_keys_load(struct world *w, struct sched *s)
{
    for (uint32_t i = 0; w->k.keyed && i < NODES_MAX; i++)
        for (uint32_t k = 0; k < KEYS_EACH; k++) {
            struct key_row row = { .name = SPAN_LIT("node"),
                                   .role = ROLE_WORKER,
                                   .created_wall_ns = 1,
                                   .revoked_wall_ns = w->keys->revoked[i][k] };
            public_of(i, k, row.public_key);
            sched_load_key(s, &row);
        }
}

void key_saved(struct world *w, const struct key_row *row)
{
    w->keys->revoked[row->public_key[0]][row->public_key[1]] = row->revoked_wall_ns != 0;
}
