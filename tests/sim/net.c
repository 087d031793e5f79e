#include "tests/sim/net.h"

#include "tests/sim/coord_model.h"
#include "tests/sim/sim_keys.h"
#include "tests/sim/sim_node.h"

enum { WAITING_MAX = 256, CONNS_MAX = 65536 };

/* One direction of a connection: its messages come one after another. */
struct way {
    struct conn *conn;
    bool dir;
    STAILQ_HEAD(, packet) packets;
    STAILQ_HEAD(, packet) held; /* in the sender's queue, for the window (R10) */
    size_t in_flight, held_bulk;
    struct event ev; /* the first of them comes; posted while there is one */
    int64_t last_ns; /* when the newest comes */
    int64_t ends_ns; /* what comes later is lost */
    bool hole;       /* lost from now on */
};

/* One TCP connection with the coordinator. */
struct conn {
    struct world *w;
    peer_id id;
    struct host *host;
    struct link *link; /* NULL: the end has dropped it */
    struct way way[2];
    int64_t held_ns; /* nothing goes up before: a late rest of an old connection */
    size_t queued;   /* bytes on their way down */
    uint32_t key;    /* a node's, with which its process came */
};

struct packet {
    STAILQ_ENTRY(packet) node;
    int64_t at_ns;
    size_t env_len, body_len;
    bool urgent; /* waits behind nothing that waits at its sender */
    uint8_t bytes[];
};

struct waiting {
    STAILQ_ENTRY(waiting) node;
    struct packet *packet;
};

struct link {
    struct host *host;
    const struct link_events *ev;
    void *arg;
    struct conn *conn; /* NULL = not connected */
    STAILQ_HEAD(, waiting) waiting;
    uint32_t n_waiting;
    struct event connect, told;
};

struct network {
    struct conn **conns; /* by id, from 1 */
    size_t n, cap;
    struct buf scratch;
    struct arena arena;
};

struct network *net_new(struct world *w)
{
    struct network *n = xcalloc(1, sizeof(*n));
    (void)w;
    arena_init(&n->arena, 0);
    return n;
}

static void way_clear(void *arg)
{
    struct way *y = arg;
    struct packet *p;

    STAILQ_CONCAT(&y->packets, &y->held);
    y->in_flight = y->held_bulk = 0;
    while ((p = STAILQ_FIRST(&y->packets))) {
        STAILQ_REMOVE_HEAD(&y->packets, node);
        if (y->dir == DOWN)
            y->conn->queued -= p->env_len + p->body_len;
        free(p);
    }
}

void net_free(struct network *n)
{
    for (size_t i = 1; i <= n->n; i++) {
        way_clear(&n->conns[i]->way[UP]);
        way_clear(&n->conns[i]->way[DOWN]);
        free(n->conns[i]);
    }
    free(n->conns);
    buf_fini(&n->scratch);
    arena_fini(&n->arena);
    free(n);
}

static void way_arrives(void *arg);

/* link: NULL when nobody reads what comes on it. */
static struct conn *conn_new(struct world *w, struct host *h, struct link *l)
{
    struct network *net = w->net;
    struct conn *c = xcalloc(1, sizeof(*c));

    if (net->n + 1 >= net->cap) {
        net->cap = net->cap ? net->cap * 2 : 32;
        net->conns = xrealloc(net->conns, net->cap * sizeof(struct conn *));
    }
    CHECK(net->n < CONNS_MAX);
    c->id = ++net->n;
    c->link = l;
    c->host = h;
    c->w = w;
    for (int dir = UP; dir <= DOWN; dir++) {
        struct way *y = &c->way[dir];
        *y = (struct way){ .conn = c, .dir = dir, .ends_ns = INT64_MAX };
        STAILQ_INIT(&y->packets);
        STAILQ_INIT(&y->held);
        y->ev = (struct event){ .fn = way_arrives, .drop = way_clear, .arg = y };
        y->ev.host = dir == UP ? coord_host(c->w) : h;
    }
    if (h->kind == HOST_NODE)
        c->key = w->nodes[h->index].key;
    net->conns[c->id] = c;
    return c;
}

static struct conn *conn_of(struct world *w, peer_id id)
{
    return id && id <= w->net->n ? w->net->conns[id] : NULL;
}

/* ---- packets ---- */

uint64_t net_about(const struct msg *m)
{
    switch (m->type) {
    case MSG_LEASE:
        return m->lease.lease;
    case MSG_DONE:
        return m->done.lease;
    case MSG_COMMITTED:
        return m->committed.lease;
    case MSG_PUBLISHED:
        return m->published.lease;
    case MSG_REVOKE:
        return m->revoke.lease;
    case MSG_ACCEPTED:
        return m->accepted.job;
    case MSG_RESULTS:
        return m->results.job;
    default:
        return 0;
    }
}

static void deliver(struct way *y, const struct packet *p)
{
    struct world *w = y->conn->w;
    struct link *l = y->conn->link;
    struct err err = { 0 };
    struct msg m;

    arena_reset(&w->net->arena);
    if (wire_decode(span_of(p->bytes, p->env_len),
                    span_of(p->bytes + p->env_len, p->body_len), &w->net->arena, &m,
                    &err) < 0) {
        broken(w, "wire: a message does not decode: %s", err.text);
    } else if (y->dir == UP) {
        coord_message(w, y->conn->id, &m);
    } else {
        if (l->told.place) { /* before the first message of its connection */
            event_cancel(w, &l->told);
            l->ev->connected(l->arg);
        }
        NOTE(w, msg_type_name(m.type), l->host->kind, l->host->index, net_about(&m));
        l->ev->message(l->arg, 0, SPAN_NONE, &m);
    }
}

static void way_arrived(struct way *y, const struct packet *p);

static void way_arrives(void *arg)
{
    struct way *y = arg;
    struct conn *c = y->conn;
    struct world *w = c->w;
    struct packet *p = STAILQ_FIRST(&y->packets);
    bool lost = w->now_ns >= y->ends_ns || y->hole || (y->dir == DOWN && !c->link);
    int64_t wait = y->dir == UP ? c->held_ns : 0;

    if (c->link)
        wait = MAX(wait, c->link->host->cut_ns[y->dir]);
    if (!lost && wait > w->now_ns) {
        event_post(w, &y->ev, wait - w->now_ns);
        return;
    }
    STAILQ_REMOVE_HEAD(&y->packets, node);
    if (y->dir == DOWN)
        c->queued -= p->env_len + p->body_len;
    if (!STAILQ_EMPTY(&y->packets))
        event_post(w, &y->ev, STAILQ_FIRST(&y->packets)->at_ns - w->now_ns);
    if (!lost) {
        way_arrived(y, p);
        deliver(y, p);
    }
    free(p);
}

static struct packet *packet_new(struct world *w, const struct msg *m)
{
    struct buf *env = &w->net->scratch;
    struct packet *p;

    buf_clear(env);
    wire_encode(m, env);
    p = xmalloc(sizeof(*p) + env->len + m->body.len);
    *p = (struct packet){ .env_len = env->len, .body_len = m->body.len };
    p->urgent = m->type == MSG_BEAT;
    memcpy(p->bytes, env->data, env->len);
    if (m->body.len)
        memcpy(p->bytes + env->len, m->body.data, m->body.len);
    return p;
}

static void packet_leaves(struct packet *p, struct way *y)
{
    struct world *w = y->conn->w;

    p->at_ns = w->now_ns + mostly_short(w, 50 * NS_PER_US, w->k.delay_ns);
    p->at_ns = y->last_ns = MAX(p->at_ns, y->last_ns + 1);
    y->in_flight += p->body_len;
    STAILQ_INSERT_TAIL(&y->packets, p, node);
    if (!y->ev.place)
        event_post(w, &y->ev, p->at_ns - w->now_ns);
}

static void packet_go(struct packet *p, struct conn *c, bool dir)
{
    struct way *y = &c->way[dir];
    bool full = p->body_len && y->in_flight >= c->w->k.window_bytes;

    if (dir == DOWN)
        c->queued += p->env_len + p->body_len;
    if (p->urgent || (!full && STAILQ_EMPTY(&y->held))) {
        packet_leaves(p, y);
        return;
    }
    STAILQ_INSERT_TAIL(&y->held, p, node);
    y->held_bulk += p->body_len;
}

/* It was taken: what waited for that goes. */
static void way_arrived(struct way *y, const struct packet *p)
{
    struct packet *next;

    y->in_flight -= p->body_len;
    while ((next = STAILQ_FIRST(&y->held)) &&
           !(next->body_len && y->in_flight >= y->conn->w->k.window_bytes)) {
        STAILQ_REMOVE_HEAD(&y->held, node);
        y->held_bulk -= next->body_len;
        packet_leaves(next, y);
    }
}

/* Ids and cursors make these safe to repeat. A Lease is never said twice by anybody. */
static bool repeatable(enum msg_type type)
{
    return type != MSG_CREDIT && type != MSG_HELLO && type != MSG_FOLLOW &&
           type != MSG_LEASE;
}

static void packet_twice(struct world *w, bool dir, struct conn *c, const struct msg *m)
{
    if (!w->healed && repeatable(m->type) && chance(w, w->k.dup_per_mille))
        packet_go(packet_new(w, m), c, dir);
}

/* ---- the coordinator's side ---- */

int net_to_peer(struct world *w, peer_id peer, const struct msg *m)
{
    struct conn *c = conn_of(w, peer);

    if (!c || !c->link || c->way[DOWN].ends_ns <= w->now_ns) {
        coord_gone_soon(w, peer);
        return -1;
    }
    packet_go(packet_new(w, m), c, DOWN);
    packet_twice(w, DOWN, c, m);
    return 0;
}

struct host *net_host_of(struct world *w, peer_id peer)
{
    struct conn *c = conn_of(w, peer);
    return c ? c->host : NULL;
}

peer_id net_on_host(struct world *w)
{
    return conn_new(w, coord_host(w), NULL)->id;
}

const char *net_user_of(struct world *w, peer_id peer, char ret[KEY_TEXT])
{
    struct conn *c = conn_of(w, peer);
    bool node = c && c->host->kind == HOST_NODE;
    return node ? key_user(w, c->host->index, c->key, ret) : "";
}

bool net_was_to_end(struct world *w, peer_id peer)
{
    struct conn *c = conn_of(w, peer);
    return w->k.keyed && c && c->host->kind == HOST_NODE &&
           key_was_to_end(w, c->host->index, c->key);
}

bool net_is_revoked(struct world *w, peer_id peer)
{
    struct conn *c = conn_of(w, peer);
    return c && c->host->kind == HOST_NODE && key_is_revoked(w, c->host->index, c->key);
}

size_t net_queued_bytes(struct world *w, peer_id peer)
{
    struct conn *c = conn_of(w, peer);
    return c ? c->queued * w->k.queue_scale : 0;
}

/* ---- the ends ---- */

static void told_connected(void *arg)
{
    struct link *l = arg;
    l->ev->connected(l->arg);
}

/* The end is told before it may say something on it, or only a little later. */
static void link_up(void *arg)
{
    struct link *l = arg;
    struct world *w = l->host->w;
    struct waiting *x;

    if (!coord_host(w)->alive) {
        event_post(w, &l->connect, between(w, 100 * NS_PER_MS, NS_PER_S));
        return;
    }
    l->conn = conn_new(w, l->host, l);
    NOTE(w, "connected", l->host->kind, l->host->index, l->conn->id);
    while ((x = STAILQ_FIRST(&l->waiting))) {
        STAILQ_REMOVE_HEAD(&l->waiting, node);
        if (x->packet->body_len) /* bulk is for the connection it was said on */
            free(x->packet);
        else
            packet_go(x->packet, l->conn, UP);
        free(x);
    }
    l->n_waiting = 0;
    if (l->ev->connected)
        event_post(w, &l->told, chance(w, 500) ? 0 : between(w, 0, 5 * NS_PER_MS));
}

static void waiting_drop(struct link *l)
{
    struct waiting *x;

    while ((x = STAILQ_FIRST(&l->waiting))) {
        STAILQ_REMOVE_HEAD(&l->waiting, node);
        free(x->packet);
        free(x);
    }
    l->n_waiting = 0;
}

struct link_ctx *link_ctx_new(int io_threads)
{
    (void)io_threads;
    return NULL;
}

void link_ctx_free(struct link_ctx *ctx)
{
    (void)ctx;
}

struct host *loop_host(struct loop *loop); /* ground.c */

int link_connect(struct link_ctx *ctx, struct loop *loop, const char *endpoint,
                 const struct link_curve *curve, uint32_t frame_max_bytes,
                 const struct link_events *ev, void *arg, struct link **ret_link,
                 struct err *err)
{
    struct link *l = xcalloc(1, sizeof(*l));

    (void)ctx, (void)endpoint, (void)curve, (void)frame_max_bytes, (void)err;
    l->host = loop_host(loop);
    l->ev = ev;
    l->arg = arg;
    STAILQ_INIT(&l->waiting);
    l->connect = (struct event){ .fn = link_up, .arg = l };
    l->told = (struct event){ .fn = told_connected, .arg = l, .host = l->host };
    l->host->link = l;
    event_post(l->host->w, &l->connect, NS_PER_MS);
    *ret_link = l;
    return 0;
}

/* The end drops its connection. What it had sent may still come, even much later. */
static void let_go(struct link *l)
{
    struct world *w = l->host->w;
    struct conn *c = l->conn;

    for (size_t i = 1; i <= w->net->n; i++) /* broken ones point here too */
        if (w->net->conns[i]->link == l)
            w->net->conns[i]->link = NULL;
    l->conn = NULL;
    event_cancel(w, &l->told);
    if (!c)
        return;
    c->way[DOWN].ends_ns = w->now_ns;
    if (chance(w, 500))
        c->way[UP].ends_ns =
            MIN(c->way[UP].ends_ns, w->now_ns + between(w, 0, NS_PER_MS));
    else if (chance(w, w->k.late_per_mille) && !w->healed)
        c->held_ns = w->now_ns + between(w, 0, 20 * NS_PER_S);
    if (chance(w, 500))
        coord_gone_soon(w, c->id);
}

const uint8_t *link_server_key(const struct link *l)
{
    (void)l;
    return NULL; /* nothing is encrypted here */
}

void link_set_servers(struct link *l, const uint8_t (*servers)[KEY_BYTES], size_t n)
{
    (void)l, (void)servers, (void)n;
}

void link_reset(struct link *l)
{
    struct world *w = l->host->w;

    let_go(l);
    waiting_drop(l);
    event_post(w, &l->connect, between(w, NS_PER_MS, 200 * NS_PER_MS));
}

int link_send(struct link *l, peer_id peer, const struct msg *m)
{
    struct world *w = l->host->w;
    struct waiting *x;

    (void)peer;
    if (l->host->dying)
        return -1;
    /* Only real ends do without room; the modelled client has little to say. */
    if (l->conn && l->host->kind == HOST_NODE && m->body.len &&
        l->conn->way[UP].held_bulk > 4 * (size_t)w->k.window_bytes)
        return -1;
    if (l->conn && l->told.place && m->body.len)
        return 0; /* as what was said before the connection: it goes no further */
    if (l->conn) {
        packet_go(packet_new(w, m), l->conn, UP);
        packet_twice(w, UP, l->conn, m);
        return 0;
    }
    if (l->n_waiting >= WAITING_MAX)
        return -1;
    x = xcalloc(1, sizeof(*x));
    x->packet = packet_new(w, m);
    STAILQ_INSERT_TAIL(&l->waiting, x, node);
    l->n_waiting++;
    return 0;
}

size_t link_queued_bytes(const struct link *l, peer_id peer)
{
    (void)l, (void)peer;
    return 0;
}

void link_free(struct link *l)
{
    if (!l)
        return;
    let_go(l);
    waiting_drop(l);
    event_cancel(l->host->w, &l->connect);
    l->host->link = NULL;
    free(l);
}

/* ---- faults ---- */

/* Bulk dies with its connection, the rest is for the next one. */
static void held_stay(struct link *l, struct way *y)
{
    struct packet *p;

    while ((p = STAILQ_FIRST(&y->held))) {
        STAILQ_REMOVE_HEAD(&y->held, node);
        y->held_bulk -= p->body_len;
        if (p->body_len) {
            free(p);
            continue;
        }
        struct waiting *x = xcalloc(1, sizeof(*x));
        x->packet = p;
        STAILQ_INSERT_TAIL(&l->waiting, x, node);
        l->n_waiting++;
    }
}

/* Breaks under the end's feet: it connects again by itself and knows nothing of it. */
static void conn_break(struct conn *c)
{
    struct link *l = c->link;
    struct world *w = l->host->w;

    for (int dir = UP; dir <= DOWN; dir++)
        c->way[dir].ends_ns =
            MIN(c->way[dir].ends_ns, w->now_ns + between(w, 0, 20 * NS_PER_MS));
    l->conn = NULL;
    held_stay(l, &c->way[UP]);
    /* What is on its way down still comes until then: the link stays known to it. */
    event_post(w, &l->connect, between(w, 20 * NS_PER_MS, 2 * NS_PER_S));
    if (chance(w, 500))
        coord_gone_soon(w, c->id);
}

void net_break(struct host *h)
{
    if (h->link && h->link->conn)
        conn_break(h->link->conn);
}

void net_hole(struct host *h, bool dir)
{
    if (h->link && h->link->conn)
        h->link->conn->way[dir].hole = true;
}

void net_coord_down(struct world *w)
{
    for (size_t i = 1; i <= w->net->n; i++) {
        struct conn *c = w->net->conns[i];
        if (c->link && c->link->conn == c)
            conn_break(c);
        c->way[UP].ends_ns = MIN(c->way[UP].ends_ns, w->now_ns);
    }
}
