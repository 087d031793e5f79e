#include "tests/sim/worker_names.h"

#include "tests/sim/sim_node.h"

#include "tests/sim/disk.h"
#include "tests/sim/sim_keys.h"
#include "worker/node.h"

static void restart(void *arg)
{
    struct sim_node *n = arg;
    node_start(n->host.w, n->host.index);
}

void nodes_new(struct world *w)
{
    w->nodes = xcalloc(NODES_MAX, sizeof(*w->nodes));
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        struct sim_node *n = &w->nodes[i];
        n->host = (struct host){ .w = w, .kind = HOST_NODE, .index = i };
        n->restart = (struct event){ .fn = restart, .arg = n };
        snprintf(n->name, sizeof(n->name), "n%u", i);
        snprintf(n->root, sizeof(n->root), "/%c", 'a' + (int)i);
        event_post(w, &n->restart, between(w, 0, 2 * NS_PER_S));
    }
}

void node_start(struct world *w, uint32_t i)
{
    struct sim_node *n = &w->nodes[i];
    const char *roots[] = { n->root, NULL };
    static struct keyring plain;
    const char *label = i % 2 ? "par=1" : "par=0";
    struct node_config config = { .join = "sim",
                                  .keyring = &plain,
                                  .name = n->name,
                                  .procs = (uint32_t)between(w, 1, 3),
                                  .coroutines = (uint32_t)between(w, 0, 8),
                                  .threads = 1,
                                  .roots = roots,
                                  .identity_fd = -1,
                                  .labels = span_str(label),
                                  .spool_dir = "/" };
    struct err err = { 0 };

    n->life++;
    n->key = w->keys->next[i];
    n->steps_left = 0;
    n->host.dying = false;
    n->host.alive = true;
    n->host.stopped_until_ns = 0;
    n->loop = (struct loop){ .host = &n->host };
    if (i == 0)
        config.coroutines = MAX(1u, config.coroutines); /* somebody can fetch */
    NOTE(w, "node_start", i, n->life, config.procs);
    CHECK(node_new(&n->loop, &config, &n->node, &err) == 0);
}

static void gone(struct world *w, uint32_t i, int64_t away_ns)
{
    struct sim_node *n = &w->nodes[i];

    host_kill(&n->host);
    node_free(n->node);
    n->node = NULL;
    event_post(w, &n->restart, away_ns);
}

void node_kill(struct world *w, uint32_t i, bool power, int64_t away_ns)
{
    struct sim_node *n = &w->nodes[i];

    if (!n->host.alive)
        return;
    NOTE(w, "node_kill", i, n->life, power);
    gone(w, i, away_ns);
    if (power)
        disk_power_cut(w, disk_of(w, i));
}

void node_end(struct world *w, uint32_t i)
{
    struct sim_node *n = &w->nodes[i];

    if (n->host.alive && !n->loop.stopped && !host_stopped(&n->host))
        node_stop(n->node);
}

static void exits(void *arg)
{
    struct sim_node *n = arg;
    struct world *w = n->host.w;
    const struct err *why;

    if (!n->host.alive)
        return;
    why = node_failure(n->node);
    NOTE(w, "node_exit", n->host.index, n->life, why != NULL);
    if (w->trace && why)
        printf("             why: %s\n", why->text);
    node_free(n->node);
    n->node = NULL;
    host_kill(&n->host);
    event_post(w, &n->restart, between(w, NS_PER_S, 3 * NS_PER_S));
}

void node_exits(struct host *h)
{
    world_after(h->w, h, 0, exits, &h->w->nodes[h->index]);
}

static void dies(void *arg)
{
    struct sim_node *n = arg;

    if (n->host.dying)
        node_kill(n->host.w, n->host.index, false,
                  between(n->host.w, NS_PER_S, 20 * NS_PER_S));
}

bool node_disk_step(struct world *w, uint32_t i)
{
    struct sim_node *n = &w->nodes[i];

    if (n->host.dying)
        return false;
    if (n->steps_left && --n->steps_left == 0) {
        n->host.dying = true;
        world_after(w, NULL, 0, dies, n);
        return false;
    }
    return true;
}

void nodes_free(struct world *w)
{
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        host_kill(&w->nodes[i].host);
        node_free(w->nodes[i].node);
        event_cancel(w, &w->nodes[i].restart);
    }
    free(w->nodes);
}
