#include "tests/sim/coord_model.h"

#include "tests/sim/check.h"
#include "tests/sim/net.h"
#include "tests/sim/store_model.h"

struct host *coord_host(struct world *w)
{
    return &w->coord->host;
}

/* ---- turns ---- */

static void turn_begin(struct world *w)
{
    struct coord_model *c = w->coord;

    if (c->turn)
        return;
    c->turn = fx_group_new();
    sched_turn_begin(c->sched, w->now_ns, w->now_ns + NS_PER_S * 1000, c->turn);
    flow_turn(w);
    c->pressure = store_model_backlog(w) > w->k.backlog_bytes / 2;
    c->was_full = c->full;
    sched_set_backlog(c->sched, c->pressure ? STORE_BACKLOG_MAX / 2 + 1 : 0, c->full);
    event_post(w, &c->end, between(w, 0, 200 * NS_PER_US));
}

static void send_all(struct world *w, struct fx_group *g, enum fx_type type)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type != type)
            continue;
        check_sent(w, fx->send.peer, &fx->send.msg);
        net_to_peer(w, fx->send.peer, &fx->send.msg);
    }
}

static void tell_queued(void *arg, peer_id peer)
{
    struct world *w = arg;
    sched_peer_queued(w->coord->sched, peer, net_queued_bytes(w, peer));
}

static void committed(struct world *w, struct fx_group *g)
{
    send_all(w, g, FX_SEND);
    turn_begin(w);
    sched_committed(w->coord->sched, g);
}

static bool goes_behind(const struct world *w, const struct fx_group *g)
{
    const struct coord_model *c = w->coord;

    return w->k.behind && !c->waited_for && !c->full && fx_group_may_be_behind(g);
}

static void write_behind(struct world *w, struct fx_group *g)
{
    g->behind = true;
    store_model_save(w, g);
    committed(w, g);
    fx_group_sent(g);
    if (g->saves)
        store_model_push(w, g);
    else
        fx_group_free(g);
}

static void turn_end(void *arg)
{
    struct world *w = arg;
    struct coord_model *c = w->coord;
    struct fx_group *g = c->turn;

    sched_each_peer(c->sched, tell_queued, w);
    flow_before_end(w);
    sched_turn_end(c->sched);
    flow_after_end(w);
    flow_pushed(w, g);
    check_turn(w, c->sched);
    c->turn = NULL;
    send_all(w, g, FX_SEND_NOW);
    if (STAILQ_EMPTY(&g->list)) {
        fx_group_free(g);
    } else if (goes_behind(w, g)) {
        write_behind(w, g);
    } else {
        c->waited_for += !g->only_pages;
        store_model_push(w, g);
    }
    event_post(w, &c->timer, MAX(0, sched_next_ns(c->sched) - w->now_ns));
}

static void on_timer(void *arg)
{
    turn_begin(arg);
}

/* ---- what comes ---- */

void coord_message(struct world *w, peer_id peer, const struct msg *m)
{
    char user[KEY_TEXT];

    NOTE(w, msg_type_name(m->type), HOST_COORD, peer, net_about(m));
    turn_begin(w);
    flow_said(w, peer, m);
    sched_message(w->coord->sched, peer, span_str(net_user_of(w, peer, user)), m);
}

struct gone {
    struct world *w;
    peer_id peer;
};

static void peer_gone(void *arg)
{
    struct gone *g = arg;

    turn_begin(g->w);
    sched_peer_gone(g->w->coord->sched, g->peer);
    free(g);
}

void coord_gone_soon(struct world *w, peer_id peer)
{
    struct gone *g;

    if (!w->coord->host.alive)
        return;
    g = xcalloc(1, sizeof(*g));
    g->w = w;
    g->peer = peer;
    world_after(w, &w->coord->host, between(w, 0, NS_PER_S), peer_gone, g)->drop = free;
}

void coord_committed(struct world *w, struct fx_group *g)
{
    if (!g->behind) {
        w->coord->waited_for -= !g->only_pages;
        committed(w, g);
    } else if (sched_pressed(w->coord->sched)) {
        turn_begin(w);
    }
    fx_group_free(g);
}

void coord_full(struct world *w, bool full)
{
    NOTE(w, "full", full, 0, 0);
    w->coord->full = full;
    turn_begin(w);
}

/* ---- life ---- */

static void restart(void *arg)
{
    coord_start(arg);
}

void coord_new_model(struct world *w)
{
    struct coord_model *c = xcalloc(1, sizeof(*c));

    w->coord = c;
    c->host = (struct host){ .w = w, .kind = HOST_COORD };
    c->end = (struct event){ .fn = turn_end, .arg = w, .host = &c->host };
    c->timer = (struct event){ .fn = on_timer, .arg = w, .host = &c->host };
    c->restart = (struct event){ .fn = restart, .arg = w };
}

void coord_start(struct world *w)
{
    struct coord_model *c = w->coord;
    struct sched_config config = { .silence_ns = w->k.silence_ns,
                                   .abandon_ns = w->k.abandon_ns,
                                   .unpublished_ns = w->k.unpublished_ns,
                                   .keep_ns = w->k.keep_ns,
                                   .lease_ns = w->k.lease_ns,
                                   .open_bytes = w->k.open_bytes,
                                   .recent_bytes = w->k.open_bytes,
                                   .seed = (uint32_t)world_random(w) };

    config.epoch = c->epoch = store_model_epoch(w);
    c->host.alive = true;
    c->host.stopped_until_ns = 0;
    c->full = false;
    c->waited_for = 0;
    flow_restart(w);
    NOTE(w, "coord_start", c->epoch.counter, 0, 0);
    c->sched = sched_new(&config);
    store_model_load(w, c->sched);
    turn_begin(w);
}

static void down(struct world *w)
{
    struct coord_model *c = w->coord;

    host_kill(&c->host);
    fx_group_free(c->turn);
    c->turn = NULL;
    sched_free(c->sched);
    c->sched = NULL;
    store_model_crash(w);
}

void coord_kill(struct world *w, int64_t away_ns)
{
    if (!w->coord->host.alive)
        return;
    NOTE(w, "coord_kill", w->coord->epoch.counter, 0, 0);
    store_model_lose(w);
    down(w);
    net_coord_down(w);
    event_post(w, &w->coord->restart, away_ns);
}

void coord_free_model(struct world *w)
{
    if (w->coord->host.alive)
        down(w);
    event_cancel(w, &w->coord->restart);
    free(w->coord);
}
