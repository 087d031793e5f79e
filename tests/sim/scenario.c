#include "tests/sim/scenario.h"

#include "tests/sim/check.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_keys.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/store_model.h"

/* All must have come to its end so long after the faults: retries with their back-off
 * (three of at most a minute), then what waits for a file or for a client. */
#define REST_NS (300 * NS_PER_S)
/* And then temporaries of attempts that lost, and of cancelled ones, must be gone. */
#define QUIET_NS (30 * NS_PER_S)

static void draw_knobs(struct world *w)
{
    struct knobs *k = &w->k;

    k->nodes = (uint32_t)between(w, 1, NODES_MAX);
    k->clients = (uint32_t)between(w, 1, CLIENTS_MAX);
    k->jobs = (uint32_t)between(w, 1, 2);
    k->chunks = (uint32_t)between(w, 1, CHUNKS_MAX);
    k->chunk_tasks = (uint32_t)between(w, 1, TASKS_MAX);
    k->shared_disk = chance(w, 300);
    k->keyed = chance(w, 300);
    k->silence_ns = between(w, 2, 10) * NS_PER_S;
    k->abandon_ns = between(w, 10, 60) * NS_PER_S;
    k->unpublished_ns = between(w, 5, 40) * NS_PER_S;
    k->keep_ns = chance(w, 800) ? 0 : between(w, 30, 120) * NS_PER_S;
    k->lease_ns = between(w, 5, 60) * NS_PER_S;
    k->open_bytes = chance(w, 500) ? 64 * MIB : (uint64_t)between(w, 1, 4096);
    k->backlog_bytes = chance(w, 700) ? 64 * MIB : (uint64_t)between(w, 64, 8192);
    k->queue_scale = chance(w, 700) ? 1 : (uint32_t)between(w, 100, 20000);
    k->credit_bytes = chance(w, 500) ? 1024 * KIB : (uint32_t)between(w, 1, 4096);
    k->window_bytes = chance(w, 500) ? 256 * KIB : (uint32_t)between(w, 1, 2048);
    k->faults_ns = between(w, 5, 40) * NS_PER_S;
    k->fault_gap_ns = mostly_short(w, 300 * NS_PER_MS, 10 * NS_PER_S);
    k->dup_per_mille = chance(w, 500) ? 0 : (uint32_t)between(w, 1, 100);
    k->late_per_mille = chance(w, 500) ? 0 : (uint32_t)between(w, 1, 1000);
    k->delay_ns = mostly_short(w, NS_PER_MS, 2 * NS_PER_S);
    k->commit_ns = mostly_short(w, NS_PER_MS, 2 * NS_PER_S);
    k->task_ns = mostly_short(w, NS_PER_MS, 4 * NS_PER_S);
    k->hung_per_mille = chance(w, 800) ? 0 : (uint32_t)between(w, 1, 30);
    k->lost_per_mille = chance(w, 500) ? 0 : (uint32_t)between(w, 1, 100);
    k->not_yet_per_mille = chance(w, 500) ? 0 : (uint32_t)between(w, 1, 500);
    k->bad_per_mille = chance(w, 400) ? 0 : (uint32_t)between(w, 1, 300);
    k->behind = chance(w, 250);
    if (k->behind)
        k->gather_ns = between(w, 10 * NS_PER_MS, 5 * NS_PER_S);
}

/* ---- faults ---- */

static uint32_t any_node(struct world *w)
{
    return (uint32_t)between(w, 0, w->k.nodes - 1);
}

static struct host *any_end(struct world *w)
{
    uint32_t i = (uint32_t)between(w, 0, w->k.nodes + w->k.clients - 1);
    return i < w->k.nodes ? &w->nodes[i].host : &w->clients[i - w->k.nodes].host;
}

static void stop(struct world *w, struct host *h, int64_t most_ns)
{
    if (h->alive && !host_stopped(h))
        h->stopped_until_ns = w->now_ns + mostly_short(w, 10 * NS_PER_MS, most_ns);
}

static void coord_killed(struct world *w)
{
    coord_kill(w, mostly_short(w, 10 * NS_PER_MS, 15 * NS_PER_S));
}

static void coord_stopped(struct world *w)
{
    stop(w, &w->coord->host, 30 * NS_PER_S);
}

static void node_killed(struct world *w)
{
    node_kill(w, any_node(w), false, mostly_short(w, NS_PER_MS, 20 * NS_PER_S));
}

static void node_power(struct world *w)
{
    if (!w->k.shared_disk)
        node_kill(w, any_node(w), true, between(w, NS_PER_S, 20 * NS_PER_S));
}

static void node_killed_at_step(struct world *w)
{
    struct sim_node *n = &w->nodes[any_node(w)];

    if (n->host.alive)
        n->steps_left = (uint32_t)between(w, 1, 8);
}

static void node_stopped(struct world *w)
{
    stop(w, &w->nodes[any_node(w)].host, 3 * w->k.silence_ns);
}

static void node_slow(struct world *w)
{
    w->nodes[any_node(w)].host.slow_until_ns = w->now_ns + between(w, 1, 20) * NS_PER_S;
}

static void node_ended(struct world *w)
{
    node_end(w, any_node(w));
}

static void key_revoked(struct world *w)
{
    key_revoke(w, any_node(w));
}

static void link_broken(struct world *w)
{
    net_break(any_end(w));
}

static void link_half_open(struct world *w)
{
    net_hole(any_end(w), chance(w, 500));
}

static void cut_off(struct world *w)
{
    struct host *h = any_end(w);
    int64_t until = w->now_ns + mostly_short(w, 100 * NS_PER_MS, 30 * NS_PER_S);

    if (!chance(w, 300))
        h->cut_ns[UP] = MAX(h->cut_ns[UP], until);
    if (!chance(w, 300))
        h->cut_ns[DOWN] = MAX(h->cut_ns[DOWN], until);
}

static void client_killed(struct world *w)
{
    client_kill(w, (uint32_t)between(w, 0, w->k.clients - 1),
                mostly_short(w, 10 * NS_PER_MS, 30 * NS_PER_S));
}

static void client_stopped(struct world *w)
{
    stop(w, &w->clients[between(w, 0, w->k.clients - 1)].host, 30 * NS_PER_S);
}

static void store_stalled(struct world *w)
{
    store_model_stall(w, mostly_short(w, 100 * NS_PER_MS, 10 * NS_PER_S));
}

static void store_full(struct world *w)
{
    store_model_fill(w, mostly_short(w, 100 * NS_PER_MS, 10 * NS_PER_S));
}

/* A further action is a function and a row. */
static const struct {
    const char *name;
    uint32_t weight;
    void (*act)(struct world *w);
} faults[] = {
    { "coord_killed", 6, coord_killed },     { "coord_stopped", 2, coord_stopped },
    { "node_killed", 5, node_killed },       { "node_power", 3, node_power },
    { "node_step", 5, node_killed_at_step }, { "node_stopped", 6, node_stopped },
    { "node_slow", 2, node_slow },           { "node_ended", 2, node_ended },
    { "key_revoked", 2, key_revoked },       { "link_broken", 6, link_broken },
    { "link_half_open", 4, link_half_open }, { "cut_off", 5, cut_off },
    { "client_killed", 4, client_killed },   { "client_stopped", 2, client_stopped },
    { "store_stalled", 3, store_stalled },   { "store_full", 1, store_full },
};

static void next_fault(void *arg)
{
    struct world *w = arg;
    uint32_t total = 0, at;
    size_t i = 0;

    if (w->healed)
        return;
    for (size_t k = 0; k < ARRAY_LEN(faults); k++)
        total += faults[k].weight;
    at = (uint32_t)between(w, 0, total - 1);
    while (at >= faults[i].weight)
        at -= faults[i++].weight;
    NOTE(w, faults[i].name, i, 0, 0);
    faults[i].act(w);
    event_post(w, &w->fault, between(w, 0, 2 * w->k.fault_gap_ns));
}

/* No more faults; who is stopped or cut off comes back in its time. */
static void heal(struct world *w)
{
    NOTE(w, "heal", 0, 0, 0);
    w->healed = true;
    for (uint32_t i = 0; i < w->k.nodes; i++) {
        w->nodes[i].steps_left = 0;
        w->nodes[i].host.slow_until_ns = 0;
    }
    store_model_stall(w, 0);
    store_model_fill(w, 0);
}

/* ---- the story ---- */

static void begin(struct world *w)
{
    draw_knobs(w);
    w->net = net_new(w);
    coord_new_model(w);
    store_model_new(w);
    sim_keys_new(w);
    disks_new(w);
    nodes_new(w);
    clients_new(w);
    check_new(w);
    coord_start(w);
    w->fault = (struct event){ .fn = next_fault, .arg = w };
    if (!chance(w, 50)) /* some have no fault at all */
        event_post(w, &w->fault, between(w, 0, 5 * NS_PER_S));
}

static void end(struct world *w)
{
    clients_free(w);
    nodes_free(w);
    coord_free_model(w);
    world_drop_events(w);
    store_model_free(w);
    sim_keys_free(w);
    net_free(w->net);
    disks_free(w);
    check_free(w);
    world_free(w);
}

/* When nobody is stopped or cut off any more. */
static int64_t awake_ns(const struct world *w)
{
    int64_t ns = w->now_ns;

    for (uint32_t i = 0; i < w->k.nodes; i++) {
        const struct host *h = &w->nodes[i].host;
        ns = MAX(ns, MAX(h->stopped_until_ns, MAX(h->cut_ns[UP], h->cut_ns[DOWN])));
    }
    return MAX(ns, w->coord->host.stopped_until_ns);
}

static void run(struct world *w)
{
    int64_t limit;

    world_run(w, w->k.faults_ns);
    heal(w);
    limit = w->now_ns + REST_NS;
    do
        world_run(w, w->now_ns + NS_PER_S);
    while (!w->failure[0] && w->now_ns < limit &&
           !(clients_done(w) && check_jobs_ended(w)));
    if (w->failure[0])
        return;
    if (!clients_done(w) || !check_jobs_ended(w)) {
        if (w->trace && w->coord->sched)
            books_tell(w->coord->sched);
        broken(w, "P2: %s in %d s after the last fault",
               check_jobs_ended(w) ? "a follower has not seen the end of its job"
                                   : "a job has not ended",
               (int)(REST_NS / NS_PER_S));
        return;
    }
    world_run(w, awake_ns(w) + QUIET_NS);
    if (!w->failure[0])
        check_end(w);
}

void scenario_run(uint64_t seed, bool trace, struct outcome *ret)
{
    struct world *w = world_new(seed, trace);

    begin(w);
    run(w);
    *ret = (struct outcome){ w->hash, w->events, w->now_ns, "" };
    memcpy(ret->failure, w->failure, sizeof(ret->failure));
    end(w);
}
