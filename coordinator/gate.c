#include "coordinator/gate.h"

#include <stdlib.h>
#include <string.h>

#include "coordinator/server_key.h"

struct gate {
    struct zap *zap;
    struct server_keys keys;
    struct link_curve curves[ZAP_DOMAIN_COUNT];
    char *endpoints[2]; /* by ROLE_CLIENT, ROLE_WORKER */
    struct sched_server server;
};

int gate_new(struct link_ctx *ctx, const char *state_dir, struct gate **ret,
             struct err *err)
{
    struct gate *g = xcalloc(1, sizeof(*g));

    g->zap = zap_new(ctx);
    if (server_keys_load(state_dir, &g->keys, err) < 0 ||
        zap_prove(ctx, g->zap, err) < 0) {
        gate_free(g);
        return -1;
    }
    for (unsigned d = 0; d < ZAP_DOMAIN_COUNT; d++)
        g->curves[d] = (struct link_curve){ .own = g->keys.now, .domain = d };
    memcpy(g->server.public_key, g->keys.now->public_key, KEY_BYTES);
    g->server.has_next = g->keys.has_next;
    memcpy(g->server.next_key, g->keys.next, KEY_BYTES);
    *ret = g;
    return 0;
}

void gate_free(struct gate *g)
{
    if (!g)
        return;
    zap_free(g->zap);
    server_keys_fini(&g->keys);
    free(g->endpoints[ROLE_CLIENT]);
    free(g->endpoints[ROLE_WORKER]);
    free(g);
}

void gate_key(struct gate *g, const struct key_row *row)
{
    enum peer_role role = row->role == ROLE_INVITE ? row->grants : row->role;

    if (!g)
        return;
    zap_set(g->zap, row->public_key, BIT(role == ROLE_WORKER ? ZAP_WORKER : ZAP_CLIENT));
    zap_ends(g->zap, row->public_key,
             row->revoked_wall_ns ? row->revoked_wall_ns : row->not_after_wall_ns);
}

const struct link_curve *gate_curve(const struct gate *g, enum door_kind kind)
{
    if (kind == DOOR_PLAIN)
        return NULL;
    return &g->curves[kind == DOOR_WORKERS ? ZAP_WORKER : ZAP_CLIENT];
}

void gate_bound(struct gate *g, enum door_kind kind, const char *endpoint,
                const char *advertise)
{
    enum peer_role role = kind == DOOR_WORKERS ? ROLE_WORKER : ROLE_CLIENT;

    if (kind == DOOR_PLAIN || g->endpoints[role])
        return;
    g->endpoints[role] = door_advertised(endpoint, advertise);
    g->server.endpoint[role] = g->endpoints[role];
}

const struct sched_server *gate_server(const struct gate *g)
{
    return &g->server;
}
