/* What the clients will ask for: drawn from the seed. */
#include "proto/pack.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim_client.h"

void plan_out(const struct plan *p, uint32_t task, char *to)
{
    snprintf(to, OUT_MAX, "/d/%u-%u", p->index, task);
}

static uint8_t version_of(const struct plan *p, uint32_t task)
{
    uint32_t seq = 0;

    while (seq + 1 < p->n_chunks && task >= p->first[seq + 1])
        seq++;
    return p->version[seq];
}

/* Everything about an input follows from its number: said again, it is the same; but what
 * was lost. */
void plan_input(struct world *w, const struct plan *p, uint32_t task, struct buf *out)
{
    uint64_t z = mix64(w->seed * 1000003 + p->index * 1009 + task +
                       ((uint64_t)version_of(p, task) << 40));
    struct task_input in = { .size = FATE_OK };
    uint8_t data[48];
    char name[OUT_MAX];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(mix64(z + i));
    if (z % 1000 < w->k.bad_per_mille)
        in.size = 1 + (z >> 32) % (FATE_COUNT - 1);
    else
        in.size = FATE_COUNT; /* 0 would be left out */
    if (p->io)
        in.url = span_of(data, 4 + z % 40);
    else
        in.data = span_of(data, 4 + z % 40);
    in.has_data = !p->io;
    if (p->file) {
        plan_out(p, task, name);
        in.out = span_str(name);
    }
    input_pack(out, &in);
}

/* Nodes with an even number have the label par=0, the others par=1 (sim_node.c). */
static bool is_meant(const struct plan *p, uint32_t node)
{
    if (!p->on[0])
        return true;
    if (p->on[0] == 'n')
        return (uint32_t)(p->on[1] - '0') == node;
    return (uint32_t)(p->on[4] - '0') == node % 2;
}

bool plan_allows(const struct plan *p, uint32_t chunk, uint32_t node)
{
    return is_meant(p, node) && (p->node[chunk] < 0 || (uint32_t)p->node[chunk] == node);
}

/* Where it runs. What is fetched may need node 0, which alone always fetches. */
static void draw_where(struct world *w, struct plan *p)
{
    uint32_t nodes = p->io ? 1 : w->k.nodes;
    bool chunks = chance(w, 250);

    memset(p->node, -1, sizeof(p->node));
    if (chance(w, 200))
        snprintf(p->on, sizeof(p->on), "n%u", (unsigned)between(w, 0, nodes - 1));
    else if (chance(w, 200))
        snprintf(p->on, sizeof(p->on), "par=%u", (unsigned)between(w, 0, nodes - 1) % 2);
    for (uint32_t i = 0; chunks && i < p->n_chunks; i++) {
        int8_t node = (int8_t)between(w, -1, nodes - 1);
        if (node >= 0 && is_meant(p, (uint32_t)node))
            p->node[i] = node;
    }
}

static void plan_draw(struct world *w, struct plan *p)
{
    struct job_spec spec = { .command = SPAN_LIT("map") };

    for (size_t i = 0; i < sizeof(p->key); i++)
        p->key[i] = (uint8_t)world_random(w);
    p->n_chunks = (uint32_t)between(w, chance(w, 50) ? 0 : 1, w->k.chunks);
    for (uint32_t i = 0; i < p->n_chunks; i++)
        p->first[i + 1] = p->first[i] + (uint32_t)between(w, 1, w->k.chunk_tasks);
    p->file = chance(w, 500);
    p->io = chance(w, 250);
    p->force = chance(w, 200);
    p->task_order = chance(w, 400);
    p->inputs = chance(w, 400);
    p->failed_only = chance(w, 150);
    p->slow = chance(w, 100);
    p->abandons = chance(w, 60);
    p->removes = chance(w, 200);
    p->start_ns = between(w, 0, w->k.faults_ns / 2);
    if (chance(w, 250))
        p->cancel_ns = between(w, 0, w->k.faults_ns);
    p->retries = (uint32_t)between(w, 0, 3);
    p->priority = (int32_t)between(w, -1, 1);
    draw_where(w, p);
    spec.on = span_str(p->on);
    spec.source = p->io ? SOURCE_URL : SOURCE_BYTES;
    spec.sink = p->file ? SINK_FILE : SINK_NONE;
    spec.force = p->force;
    spec_pack(&p->spec, &spec);
}

void clients_new(struct world *w)
{
    uint32_t index = 0;
    bool abandons = false;

    w->clients = xcalloc(CLIENTS_MAX, sizeof(*w->clients));
    for (uint32_t i = 0; i < w->k.clients; i++) {
        struct sim_client *c = &w->clients[i];
        c->host = (struct host){ .w = w, .kind = HOST_CLIENT, .index = i };
        snprintf(c->name, sizeof(c->name), "c%u", i);
        for (uint32_t j = 0; j < w->k.jobs && index < JOBS_MAX; j++) {
            struct plan *p = xcalloc(1, sizeof(*p));
            p->index = index++;
            p->client = i;
            plan_draw(w, p);
            abandons |= p->abandons;
            c->plans[c->n_plans++] = p;
        }
        client_kill(w, i, between(w, 1, 3 * NS_PER_S)); /* so it begins */
    }
    w->k.operates = !abandons && chance(w, 400); /* somebody must undo it at the end */
}

struct plan *plan_at(struct world *w, uint32_t index)
{
    for (uint32_t i = 0; i < w->k.clients; i++)
        for (uint32_t j = 0; j < w->clients[i].n_plans; j++)
            if (w->clients[i].plans[j]->index == index)
                return w->clients[i].plans[j];
    return NULL;
}

struct plan *plan_by_key(struct world *w, const uint8_t *key)
{
    struct plan *p;

    for (uint32_t i = 0; (p = plan_at(w, i)); i++)
        if (memcmp(p->key, key, sizeof(p->key)) == 0)
            return p;
    return NULL;
}

struct plan *plan_by_job(struct world *w, uint64_t job)
{
    struct plan *p;

    for (uint32_t i = 0; (p = plan_at(w, i)); i++)
        if (p->job == job)
            return p;
    return NULL;
}

bool clients_done(struct world *w)
{
    struct plan *p;

    for (uint32_t i = 0; (p = plan_at(w, i)); i++)
        if (!p->ended && !w->clients[p->client].gone)
            return false;
    return true;
}
