/* One simulated world: virtual time, events in order, chance, a hash of all that
 * happened, and the first promise that was broken. Everything comes from one seed. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

#include "base/err.h"
#include "tests/sim/knobs.h"

struct world;
struct host;
typedef void event_fn(void *arg);

/* Something that will happen. Owned by whoever embeds it, or by the world (world_after).
 * An event of a host waits while the host is stopped, and dies with it. */
struct event {
    int64_t at_ns;
    uint64_t seq;        /* of two at one time the one posted first comes first */
    event_fn *fn, *drop; /* drop: instead of fn, when it dies with its host; or NULL */
    void *arg;
    struct host *host; /* NULL = the world's own */
    size_t place;      /* in the heap, from 1; 0 = not posted */
    bool owned;        /* freed after it happened */
};

enum host_kind { HOST_COORD, HOST_NODE, HOST_CLIENT };

/* A process that can be stopped, cut off and killed. */
struct host {
    struct world *w;
    enum host_kind kind;
    uint32_t index;
    bool alive;
    bool dying; /* killed in the middle of something: it says nothing any more */
    int64_t stopped_until_ns; /* SIGSTOP until then */
    int64_t cut_ns[2];        /* nothing of it passes until then: up, down */
    int64_t slow_until_ns;    /* its work takes ten times as long until then */
    struct link *link;        /* its connection, or NULL */
};

enum { UP, DOWN }; /* towards the coordinator, and back */

struct world {
    uint64_t seed, random, hash;
    int64_t now_ns;
    bool trace, healed; /* healed: no faults any more */
    struct knobs k;
    struct event **heap; /* from 1 */
    size_t n, cap;
    uint64_t next_seq, events;
    struct network *net;
    struct coord_model *coord;
    struct store_model *store;
    struct sim_keys *keys;
    struct disk *disks;
    struct sim_node *nodes;
    struct sim_client *clients;
    struct checker *check;
    struct flow *flow;
    struct event fault; /* the next one */
    char failure[512];  /* the first broken promise; empty = none */
};

/* The world that runs; the ground under the worker has no other way to it. */
extern struct world *the_world;

struct world *world_new(uint64_t seed, bool trace);
void world_drop_events(struct world *w);
void world_free(struct world *w);
/* Runs until until_ns or a failure. */
void world_run(struct world *w, int64_t until_ns);

void event_post(struct world *w, struct event *e, int64_t delay_ns);
void event_cancel(struct world *w, struct event *e);
struct event *world_after(struct world *w, struct host *h, int64_t delay_ns, event_fn *fn,
                          void *arg);
/* All its events die. */
void host_kill(struct host *h);
bool host_stopped(const struct host *h);

uint64_t world_random(struct world *w);
bool chance(struct world *w, uint32_t per_mille);
int64_t between(struct world *w, int64_t lo, int64_t hi); /* both included */
/* Mostly near lo, seldom near hi. */
int64_t mostly_short(struct world *w, int64_t lo, int64_t hi);

/* Says what happens, with three numbers: into the hash, and shown when tracing. */
#define NOTE(w, what, a, b, c)                                                           \
    world_note(w, what, #a, (uint64_t)(a), #b, (uint64_t)(b), #c, (uint64_t)(c))
void world_note(struct world *w, const char *what, const char *a_name, uint64_t a,
                const char *b_name, uint64_t b, const char *c_name, uint64_t c);
/* A promise is broken. The first counts. */
void broken(struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
uint64_t mix64(uint64_t z);

#endif
