#include "coordinator/coord.h"

#include "base/clock.h"
#include "base/crypto.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "coordinator/damage.h"
#include "coordinator/gate.h"
#include "coordinator/sched.h"

/* The reserve file is this part of what is to stay free: it holds a log and the pages
 * that a deletion writes. */
enum { RESERVE_SHARE = 4 };
#define DRAIN_NS (5 * NS_PER_S)
#define LOOK_NS  (200 * NS_PER_MS) /* between two looks at the free space */

struct listener {
    struct coord *coord;
    struct link *link;
    unsigned index;
};

struct coord {
    struct loop *loop;
    struct coord_config config;
    struct link_ctx *ctx;
    struct gate *gate; /* NULL: nothing is encrypted */
    struct listener listeners[DOORS_MAX];
    size_t n_listeners;
    struct store *store;
    struct sched *sched;
    struct fx_group *turn;             /* NULL between turns */
    STAILQ_HEAD(, fx_group) committed; /* what they send leaves at the end of the turn */
    struct loop_timer *timer;
    struct loop_hook *hook;
    int64_t drain_ns; /* when it began; 0 = not */
    int64_t look_ns;  /* when to look at the free space again */
    bool full, low;
    unsigned waited_for; /* groups that the store has, and what comes next waits for */
    int64_t denied_ns;   /* when `denied` was 0 */
    unsigned denied;
    struct err failure;
};

/* A link numbers its own peers; the scheduler knows them by both numbers in one. */
static peer_id outer_id(const struct listener *l, peer_id inner)
{
    return inner * DOORS_MAX + l->index;
}
static struct link *peer_link(struct coord *c, peer_id id)
{
    return c->listeners[id % DOORS_MAX].link;
}
static peer_id inner_id(peer_id id)
{
    return id / DOORS_MAX;
}

/* ---- turns ---- */

static void look_for_room(struct coord *c)
{
    if (loop_now_ns(c->loop) < c->look_ns)
        return;
    c->look_ns = loop_now_ns(c->loop) + LOOK_NS;
    uint64_t room = store_room_bytes(c->store);
    /* What was told of and is yet to be written has its place there. */
    if (c->config.durability == DURABILITY_NONE)
        room -= MIN(room, store_backlog_bytes(c->store));
    sched_set_room(c->sched, room);
    if (sched_low(c->sched) == c->low)
        return;
    c->low = sched_low(c->sched);
    if (c->low)
        log_warn("disk_low", "free_mib=%llu effect=\"no job and no input is taken\"",
                 (unsigned long long)(room / MIB));
    else
        log_info("disk_has_room", "free_mib=%llu", (unsigned long long)(room / MIB));
}

static void turn_begin(struct coord *c)
{
    size_t backlog = store_backlog_bytes(c->store);

    if (c->turn)
        return;
    c->turn = fx_group_new();
    sched_turn_begin(c->sched, loop_now_ns(c->loop), clock_wall_ns(), c->turn);
    sched_set_backlog(c->sched, backlog, c->full);
    look_for_room(c);
}

/* Each kind of message has its own, so that a campaign reaches all of them. */
static void fail_at_send(enum msg_type type)
{
    switch (type) {
    case MSG_WELCOME:
        FAILPOINT("coord_send_welcome");
        break;
    case MSG_ACCEPTED:
        FAILPOINT("coord_send_accepted");
        break;
    case MSG_LEASE:
        FAILPOINT("coord_send_lease");
        break;
    case MSG_COMMITTED:
        FAILPOINT("coord_send_committed");
        break;
    case MSG_RESULTS:
        FAILPOINT("coord_send_results");
        break;
    default:
        break;
    }
}

/* The peer is gone, or reads so little that even small messages fill its queue. What
 * comes next would come without this one: it begins a new session, in which all is said
 * anew. */
static void unsent(struct coord *c, const struct fx *fx)
{
    size_t queued =
        link_queued_bytes(peer_link(c, fx->send.peer), inner_id(fx->send.peer));

    if (queued)
        log_warn("not_sent", "peer=%llu message=%s queued=%zu",
                 (unsigned long long)fx->send.peer, msg_type_name(fx->send.msg.type),
                 queued);
    if (!c->store) /* the last answers of all */
        return;
    turn_begin(c);
    if (queued)
        sched_peer_unsent(c->sched, fx->send.peer);
    else
        sched_peer_gone(c->sched, fx->send.peer);
}

/* A line for each message that was refused to its sender; one that goes on and on cannot
 * fill the log. */
static void tell_denied(struct coord *c, const struct fx *fx)
{
    enum { LINES_MAX = 50 }; /* a second */
    const struct msg_error *e = &fx->send.msg.error;

    if (loop_now_ns(c->loop) - c->denied_ns >= NS_PER_S) {
        c->denied_ns = loop_now_ns(c->loop);
        if (c->denied > LINES_MAX)
            log_warn("denied_more", "messages=%u", c->denied - LINES_MAX);
        c->denied = 0;
    }
    if (++c->denied > LINES_MAX)
        return;
    AUTO_FREE char *key = span_dup(sched_key_name(c->sched, fx->send.peer));
    log_warn("denied", "peer=%llu key=\"%s\" message=%s why=\"%.*s\"",
             (unsigned long long)fx->send.peer, key, msg_type_name(e->about),
             (int)e->text.len, (const char *)e->text.data);
}

/* Those messages whose types are in the set. */
static void send_all(struct coord *c, struct fx_group *g, enum fx_type type,
                     uint32_t types)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node) {
        if (fx->type != type || !(types & BIT(fx->send.msg.type)))
            continue;
        fail_at_send(fx->send.msg.type);
        if (fx->send.msg.type == MSG_ERROR && fx->send.msg.error.code == 5)
            tell_denied(c, fx);
        struct link *link = peer_link(c, fx->send.peer);
        if (fx->send.instead)
            link_drop_queued(link, inner_id(fx->send.peer));
        if (link_send(link, inner_id(fx->send.peer), &fx->send.msg) < 0)
            unsent(c, fx);
    }
}

static void send_committed(struct coord *c, uint32_t types)
{
    struct fx_group *g;

    STAILQ_FOREACH (g, &c->committed, node)
        send_all(c, g, FX_SEND, types);
}

/* What somebody waits for leaves before what is only good to know: leases before answers
 * to clients, and records before the node hears that they are on disk. So to one peer
 * what no commit stands behind may come before what was said earlier, as it does when the
 * commit takes longer; else all goes in the order it was said in (a Welcome before
 * leases). */
static void send_turn(struct coord *c, struct fx_group *turn)
{
    const uint32_t first =
        BIT(MSG_WELCOME) | BIT(MSG_BEAT) | BIT(MSG_LEASE) | BIT(MSG_REVOKE);
    const uint32_t last = BIT(MSG_COMMITTED);
    bool answers = !STAILQ_EMPTY(&c->committed);

    _Static_assert(MSG_TYPE_COUNT <= 32, "sets of message types have 32 bits");
    if (turn)
        send_all(c, turn, FX_SEND_NOW, first);
    if (answers)
        FAILPOINT("coord_answer_before");
    send_committed(c, ~last);
    if (turn)
        send_all(c, turn, FX_SEND_NOW, ~first);
    send_committed(c, last);
    if (answers)
        FAILPOINT("coord_answer_after");
}

/* What has been sent goes to the store if it is written behind; else it is done. */
static void push_behind(struct coord *c)
{
    struct fx_group *g;

    while ((g = STAILQ_FIRST(&c->committed))) {
        STAILQ_REMOVE_HEAD(&c->committed, node);
        if (g->behind && g->saves) {
            fx_group_sent(g);
            store_push(c->store, g);
        } else {
            fx_group_free(g);
        }
    }
}

static void tell_queued(void *arg, peer_id peer)
{
    struct coord *c = arg;
    sched_peer_queued(c->sched, peer,
                      link_queued_bytes(peer_link(c, peer), inner_id(peer)));
}

static void committed(struct coord *c, struct fx_group *g)
{
    turn_begin(c);
    sched_committed(c->sched, g);
    STAILQ_INSERT_TAIL(&c->committed, g, node);
}

/* Written behind, with --durability none: a group that may be lost counts as committed
 * at once, and goes to the store when its messages have left. So nobody waits for the
 * store, which takes many such groups together. Not while others are waited for: the
 * order of groups is what is promised (R1), and what is lost is only the last of them;
 * nor while the disk is full, where to wait is what keeps the rest out (R13). */
static bool goes_behind(const struct coord *c, const struct fx_group *g)
{
    return c->config.durability == DURABILITY_NONE && c->waited_for == 0 && !c->full &&
           fx_group_may_be_behind(g);
}

static void push(struct coord *c, struct fx_group *g)
{
    c->waited_for += !g->only_pages;
    store_push(c->store, g);
}

static void hand_over(struct coord *c, struct fx_group *g)
{
    struct fx_group *pages = NULL;

    g->behind = g->waits && goes_behind(c, g);
    if (!g->behind)
        pages = fx_group_split_pages(g);
    if (!g->waits) {
        fx_group_free(g);
    } else if (g->behind) {
        committed(c, g);
    } else {
        push(c, g);
    }
    if (pages)
        push(c, pages);
}

static void turn_end_one(struct coord *c)
{
    struct fx_group *g = c->turn;

    sched_each_peer(c->sched, tell_queued, c);
    sched_turn_end(c->sched);
    c->turn = NULL;
    send_turn(c, g);
    push_behind(c);
    hand_over(c, g);
}

/* Ends the turn, if one was begun, and what follows from it without a commit. */
static bool turn_end(void *arg)
{
    enum { AT_ONCE = 4 }; /* an input, and the lease of it; the rest after new messages */
    struct coord *c = arg;

    if (!c->turn)
        return false;
    for (int i = 0; c->turn && i < AT_ONCE; i++)
        turn_end_one(c);
    loop_timer_arm(c->timer, MAX(0, sched_next_ns(c->sched) - loop_now_ns(c->loop)));
    if (c->drain_ns &&
        (sched_drain(c->sched) || loop_now_ns(c->loop) - c->drain_ns > DRAIN_NS))
        loop_stop(c->loop);
    /* The links are asked after this, if they were sent through. */
    return c->turn != NULL;
}

static void on_timer(void *arg)
{
    turn_begin(arg);
}

static void after_wait(void *arg)
{
    (void)arg;
}

/* ---- what happens ---- */

static void on_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct listener *l = arg;

    /* To the scheduler a message of nobody is one of this host's: not from elsewhere,
     * whatever its link says. */
    if (!user.len && l->coord->config.doors.door[l->index].kind != DOOR_PLAIN)
        return;
    turn_begin(l->coord);
    sched_message(l->coord->sched, outer_id(l, peer), user, m);
}

static void on_garbage(void *arg, peer_id peer, const char *why)
{
    struct listener *l = arg;
    log_warn("garbage", "peer=%llu why=\"%s\"", (unsigned long long)outer_id(l, peer),
             why);
}

static void on_gone(void *arg, peer_id peer)
{
    struct listener *l = arg;

    turn_begin(l->coord);
    sched_peer_gone(l->coord->sched, outer_id(l, peer));
}

static const struct link_events link_events = { .message = on_message,
                                                .garbage = on_garbage,
                                                .gone = on_gone };

/* Before the answers leave: who was told that his key is known comes at once. */
static void let_in(struct coord *c, const struct fx_group *g)
{
    const struct fx *fx;

    if (!c->gate)
        return;
    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == FX_KEY)
            gate_key(c->gate, &fx->key);
}

static void on_committed(void *arg, struct fx_group *g)
{
    struct coord *c = arg;

    if (g->behind) { /* all of it is done, but for those who wait for room */
        fx_group_free(g);
        if (sched_pressed(c->sched))
            turn_begin(c);
        return;
    }
    c->waited_for -= !g->only_pages;
    damage_tell(g);
    let_in(c, g);
    committed(c, g);
}

static void on_failed(void *arg, const struct err *err)
{
    struct coord *c = arg;

    c->failure = *err;
    if (!c->failure.code)
        c->failure.code = 1;
    loop_stop(c->loop);
}

static void on_full(void *arg, bool full, const struct err *err)
{
    struct coord *c = arg;

    c->full = full;
    if (full)
        log_error("disk_full", "why=\"%s\" effect=\"no job and no input is taken\"",
                  err->text);
    else
        log_info("disk_has_room", "effect=\"what waited is on disk\"");
    turn_begin(c);
}

static const struct store_events store_events = { on_committed, on_failed, on_full };

/* ---- life ---- */

static struct sched *sched_of(void *coord)
{
    return ((struct coord *)coord)->sched;
}
static void load_job(void *arg, const struct job_row *row)
{
    sched_load_job(sched_of(arg), row);
}
static void load_chunk(void *arg, const struct chunk_row *row, uint32_t recorded)
{
    sched_load_chunk(sched_of(arg), row, recorded);
}
static void load_pending(void *arg, const struct batch_row *row)
{
    sched_load_pending(sched_of(arg), row);
}

static void load_lost(void *arg, uint64_t job, uint64_t cursor, uint64_t epoch)
{
    struct coord *c = arg;

    sched_load_lost(c->sched, job, cursor, epoch);
    if (epoch == store_epoch(c->store).counter)
        log_warn("killed_before_saving",
                 "job=%llu records=%llu effect=\"what was told of beyond them is lost\"",
                 (unsigned long long)job, (unsigned long long)cursor);
}

static void load_removed(void *arg, uint64_t job, const uint8_t key[WIRE_KEY_BYTES])
{
    sched_load_removed(sched_of(arg), job, key);
}
static void load_run(void *arg, int64_t ns)
{
    sched_load_run(sched_of(arg), ns);
}
static void load_node(void *arg, struct span name)
{
    sched_load_node(sched_of(arg), name);
}

static void load_key(void *arg, const struct key_row *row)
{
    gate_key(((struct coord *)arg)->gate, row);
    sched_load_key(sched_of(arg), row);
}

static int load(struct coord *c, struct err *err)
{
    static const struct store_load_events ev = { load_job,  load_chunk,   load_pending,
                                                 load_lost, load_removed, load_run,
                                                 load_node, load_key };
    struct sched_config config = { .epoch = store_epoch(c->store),
                                   .silence_ns = c->config.silence_ns,
                                   .keep_ns = c->config.keep_ns,
                                   .reserve_bytes = c->config.reserve_bytes,
                                   .quota = c->config.quota,
                                   .seed = crypto_random_u32() };
    uint64_t next_row = 1;

    c->sched = sched_new(&config);
    if (store_load(c->store, &ev, c, &next_row, err) < 0)
        return -1;
    sched_loaded(c->sched, next_row);
    store_reserve(c->store,
                  c->config.ephemeral ? 0 : c->config.reserve_bytes / RESERVE_SHARE);
    return 0;
}

static int open_gate(struct coord *c, struct err *err)
{
    if (!c->config.doors.encrypted)
        return 0;
    return gate_new(c->ctx, c->config.state_dir, &c->gate, err);
}

static int listen_at(struct coord *c, size_t i, struct err *err)
{
    static const char *const whom[] = { "this-host", "clients", "workers" };
    const struct door *door = &c->config.doors.door[i];
    /* A stranger may have a frame's memory reserved before he is known (R17). */
    uint32_t frame_max =
        door->kind == DOOR_CLIENTS ? WIRE_CLIENT_FRAME_MAX : WIRE_WORKER_FRAME_MAX;
    struct listener *l = &c->listeners[i];

    l->coord = c;
    l->index = (unsigned)i;
    if (link_listen(c->ctx, c->loop, door->endpoint, gate_curve(c->gate, door->kind),
                    c->config.connections_max, frame_max, &link_events, l, &l->link,
                    err) < 0)
        return -1;
    c->n_listeners++;
    log_info("listening", "endpoint=%s for=%s", link_endpoint(l->link), whom[door->kind]);
    gate_bound(c->gate, door->kind, link_endpoint(l->link), c->config.advertise);
    return 0;
}

static int listen_all(struct coord *c, struct err *err)
{
    for (size_t i = 0; i < c->config.doors.n; i++)
        if (listen_at(c, i, err) < 0)
            return -1;
    if (c->gate)
        sched_set_server(c->sched, gate_server(c->gate));
    return 0;
}

int coord_new(struct loop *loop, const struct coord_config *config,
              struct coord **ret_coord, struct err *err)
{
    struct coord *c = xcalloc(1, sizeof(*c));

    c->loop = loop;
    c->config = *config;
    STAILQ_INIT(&c->committed);
    int io_threads = config->io_threads;
    if (!io_threads) /* encryption is done in them */
        io_threads = config->doors.encrypted ? 2 : 1;
    c->ctx = link_ctx_new(io_threads);
    c->timer = loop_timer_new(loop, on_timer, c);
    if (store_open(config->state_dir, config->durability, &c->store, err) < 0 ||
        open_gate(c, err) < 0 || load(c, err) < 0 ||
        store_start(c->store, loop, &store_events, c, err) < 0 ||
        listen_all(c, err) < 0) {
        struct err later;
        coord_close(c, &later);
        return -1;
    }
    c->hook = loop_hook_new(loop, turn_end, after_wait, c); /* before the links' */
    turn_begin(c);
    *ret_coord = c;
    return 0;
}

const char *coord_endpoint(const struct coord *c, size_t i)
{
    return link_endpoint(c->listeners[i].link);
}

void coord_drain(struct coord *c)
{
    if (!c->drain_ns)
        c->drain_ns = loop_now_ns(c->loop);
    sched_drain(c->sched);
    turn_begin(c);
}

/* What is written behind reaches the store with the rest. Where that finds no room now,
 * nothing of it was acknowledged, unless it had been told of before. */
static void close_store(struct coord *c)
{
    struct err before = c->failure;

    send_turn(c, NULL);
    push_behind(c);
    if (c->turn)
        push(c, c->turn);
    c->turn = NULL;
    /* It delivers what it still commits. */
    bool saved = store_close(c->store, c->config.ephemeral);
    c->store = NULL;
    if (saved || c->config.ephemeral)
        c->failure = before;
    else
        err_prefix(&c->failure, "what was told of last is not saved");
}

int coord_close(struct coord *c, struct err *err)
{
    int rc = 0;

    loop_hook_free(c->hook);
    loop_timer_free(c->timer);
    close_store(c);
    if (c->failure.code) {
        *err = c->failure;
        rc = -1;
    }
    send_turn(c, NULL);
    push_behind(c);
    fx_group_free(c->turn);
    for (size_t i = 0; i < c->n_listeners; i++)
        link_free(c->listeners[i].link);
    sched_free(c->sched);
    gate_free(c->gate);
    link_ctx_free(c->ctx);
    free(c);
    return rc;
}
