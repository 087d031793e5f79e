#include "tests/sim/sim_client.h"

#include "base/checksum.h"
#include "tests/sim/check.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/store_model.h"

#define TICK_NS    (250 * NS_PER_MS)
#define BEAT_NS    (2 * NS_PER_S)
#define SILENCE_NS (10 * NS_PER_S)

/* ---- the session ---- */

static void say_hello(struct sim_client *c)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = ROLE_CLIENT,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .epoch = c->epoch,
                                  .name = span_str(c->name) };
    memcpy(m.hello.nonce, &c->life, sizeof(c->life)); /* another one each life */
    m.hello.nonce[sizeof(c->life)] = (uint8_t)(c->host.index + 1);
    c->greeted_ns = c->host.w->now_ns;
    link_send(c->link, 0, &m);
}

static void plan_session_lost(struct plan *p)
{
    p->asked = p->accepted = p->seal_sent = p->follow_sent = p->cancel_sent = false;
    p->sent = 0;
    p->credit_due = 0;
}

static void session_lost(struct sim_client *c)
{
    c->up = c->forget = false;
    for (uint32_t i = 0; i < c->n_plans; i++)
        plan_session_lost(c->plans[i]);
}

static void start_over(struct sim_client *c)
{
    session_lost(c);
    link_reset(c->link);
    say_hello(c);
}

/* ---- what it says ---- */

static void send_submit(struct sim_client *c, struct plan *p)
{
    struct msg m = { .type = MSG_SUBMIT };

    m.submit = (struct msg_submit){ .spec = buf_span(&p->spec),
                                    .name = span_str("job"),
                                    .priority = p->priority,
                                    .retries = p->retries };
    memcpy(m.submit.key, p->key, sizeof(p->key));
    p->asked = true;
    link_send(c->link, 0, &m);
}

static void send_chunk(struct sim_client *c, struct plan *p, uint32_t seq)
{
    uint32_t n = p->first[seq + 1] - p->first[seq], lens[TASKS_MAX];
    struct msg m = { .type = MSG_CHUNK };
    AUTO_BUF body = BUF_INIT;
    char node[8] = "";

    if (p->node[seq] >= 0)
        snprintf(node, sizeof(node), "n%d", p->node[seq]);
    for (uint32_t i = 0; i < n; i++) {
        size_t before = body.len;
        plan_input(c->host.w, p, p->first[seq] + i, &body);
        lens[i] = (uint32_t)(body.len - before);
    }
    m.body = buf_span(&body);
    m.chunk = (struct msg_chunk){
        .job = p->job, .seq = seq, .n = n, .lens = lens, .node = span_str(node)
    };
    struct span parts[] = { span_of(lens, n * sizeof(*lens)), m.body, span_str(node) };
    checksum(parts, ARRAY_LEN(parts), m.chunk.digest);
    p->sent = seq + 1;
    link_send(c->link, 0, &m);
}

static void send_seal(struct sim_client *c, struct plan *p)
{
    struct msg m = { .type = MSG_SEAL };

    m.seal = (struct msg_seal){ p->job, p->n_chunks, p->first[p->n_chunks] };
    p->seal_sent = true;
    link_send(c->link, 0, &m);
}

static void send_follow(struct sim_client *c, struct plan *p)
{
    struct msg m = { .type = MSG_FOLLOW };

    m.follow = (struct msg_follow){ .job = p->job,
                                    .cursor = p->cursor,
                                    .credit_bytes = c->host.w->k.credit_bytes,
                                    .task_order = p->task_order,
                                    .inputs = p->inputs,
                                    .failed_only = p->failed_only,
                                    .epoch_counter = p->cursor_epoch };
    p->follow_sent = true;
    p->credit_due = 0;
    NOTE(c->host.w, "follow", p->job, p->cursor, p->failed_only + 2 * p->task_order);
    link_send(c->link, 0, &m);
}

static void send_credit(struct sim_client *c, struct plan *p)
{
    struct msg m = { .type = MSG_CREDIT };

    m.credit = (struct msg_credit){ p->job, (uint32_t)p->credit_due };
    p->credit_due = 0;
    link_send(c->link, 0, &m);
}

static void send_cancel(struct sim_client *c, struct plan *p)
{
    struct msg m = { .type = MSG_CANCEL };

    m.cancel.job = p->job;
    p->cancel_sent = true;
    NOTE(c->host.w, "cancel", p->job, p->index, 0);
    link_send(c->link, 0, &m);
}

/* Until it is told that there is no such job. */
static void send_remove(struct sim_client *c, struct plan *p)
{
    struct world *w = c->host.w;
    struct msg m = { .type = MSG_REMOVE };

    if (p->removed || p->next_chunk_ns > w->now_ns)
        return;
    m.remove.job = p->job;
    p->remove_sent = true;
    p->next_chunk_ns = w->now_ns + 3 * NS_PER_S;
    link_send(c->link, 0, &m);
}

static void send_pause(struct sim_client *c, uint64_t job, bool resume)
{
    struct msg m = { .type = MSG_PAUSE };

    NOTE(c->host.w, "pause", job, resume, 0);
    m.pause = (struct msg_pause){ .job = job, .resume = resume, .id = 1 };
    link_send(c->link, 0, &m);
}

static void send_drain(struct sim_client *c, uint32_t node, bool undo)
{
    struct msg m = { .type = MSG_DRAIN };

    NOTE(c->host.w, "drain", node, undo, 0);
    m.drain = (struct msg_drain){ .node = span_str(c->host.w->nodes[node].name),
                                  .undo = undo,
                                  .id = 2 };
    link_send(c->link, 0, &m);
}

/* Now and then a job is paused or a node drained; in the end all of it is undone. */
static void operate(struct sim_client *c)
{
    struct world *w = c->host.w;
    uint32_t i = (uint32_t)between(w, 0, c->n_plans);

    if (!c->up || !w->k.operates || c->operate_ns > w->now_ns)
        return;
    c->operate_ns = w->now_ns + between(w, 1, 8) * NS_PER_S;
    if (!w->healed) {
        if (i < c->n_plans && c->plans[i]->job)
            send_pause(c, c->plans[i]->job, chance(w, 500));
        else
            send_drain(c, (uint32_t)between(w, 0, w->k.nodes - 1), chance(w, 500));
        return;
    }
    for (i = 0; i < c->n_plans; i++)
        if (c->plans[i]->job)
            send_pause(c, c->plans[i]->job, true);
    for (i = 0; i < w->k.nodes; i++)
        send_drain(c, i, true);
}

static void pump_chunks(struct sim_client *c, struct plan *p)
{
    struct world *w = c->host.w;

    while (p->sent < p->n_chunks && p->next_chunk_ns <= w->now_ns && p->window &&
           (p->sent == p->acked || p->window > 2048 * (p->sent - p->acked))) {
        if (p->abandons && p->sent + 1 == p->n_chunks) {
            client_kill(w, c->host.index, 0);
            return;
        }
        send_chunk(c, p, p->sent);
        p->next_chunk_ns = w->now_ns + (p->slow ? between(w, NS_PER_S, 12 * NS_PER_S)
                                                : mostly_short(w, 0, 4 * NS_PER_S));
    }
    if (p->sent == p->n_chunks && !p->seal_sent)
        send_seal(c, p);
}

static void pump(struct sim_client *c)
{
    struct world *w = c->host.w;

    for (uint32_t i = 0; i < c->n_plans && c->up && !c->forget && c->host.alive; i++) {
        struct plan *p = c->plans[i];
        if (p->job && p->removes && (p->ended || chance(w, 20)))
            send_remove(c, p); /* now and then too early: it is refused */
        if (p->removed && p->remove_sent && p->ended && !p->asked)
            send_submit(c, p); /* as a client would that was away: it is refused */
        if (p->start_ns > w->now_ns || p->ended)
            continue;
        if (!p->accepted) {
            if (!p->asked)
                send_submit(c, p);
            continue;
        }
        if (!p->follow_sent)
            send_follow(c, p);
        else if (p->credit_due >= (int64_t)w->k.credit_bytes / 4)
            send_credit(c, p);
        if (p->cancel_ns && p->cancel_ns <= w->now_ns && !p->cancel_sent)
            send_cancel(c, p);
        if (!p->seal_acked && p->heard <= JOB_SEALED)
            pump_chunks(c, p);
    }
}

/* ---- what it hears ---- */

static void on_welcome(struct sim_client *c, const struct msg *m)
{
    const struct epoch *e = &m->welcome.epoch;

    if (c->up)
        return;
    if (c->epoch_known && (e->counter < c->epoch.counter ||
                           (e->counter == c->epoch.counter &&
                            memcmp(e->nonce, c->epoch.nonce, sizeof(e->nonce)) != 0))) {
        broken(c->host.w, "R5: Welcome with an epoch that is not later");
        return;
    }
    c->epoch = *e;
    c->epoch_known = c->up = true;
    c->beat_ns = c->host.w->now_ns;
}

/* As it says in docs/store.md: this program ends in an error. Another one may go on, with
 * other inputs than were lost; or nobody will, and the job is cancelled. */
static void chunks_lost(struct sim_client *c, struct plan *p, uint32_t chunks)
{
    struct world *w = c->host.w;

    NOTE(w, "chunks_lost", p->job, p->acked, chunks);
    if (chance(w, 300) && !p->cancel_ns)
        p->cancel_ns = w->now_ns;
    for (uint32_t i = chunks; i < p->n_chunks; i++)
        p->version[i]++;
}

static void on_accepted(struct sim_client *c, const struct msg *m)
{
    const struct msg_accepted *a = &m->accepted;
    struct world *w = c->host.w;
    struct plan *p = plan_by_key(w, a->key);

    if (!p || p->client != c->host.index || (!p->asked && !p->accepted))
        return;
    if (!p->accepted) {
        p->accepted = true;
        p->up_ns = w->now_ns;
        p->sent = a->chunks;
        p->next_chunk_ns = w->now_ns;
    }
    if (p->job && p->job != a->job) {
        broken(w, "P1: job %llu was accepted, now it is job %llu",
               (unsigned long long)p->job, (unsigned long long)a->job);
        return;
    }
    check_told_chunks(w, p, c->epoch.counter, a->chunks);
    if (a->chunks < p->acked)
        chunks_lost(c, p, a->chunks);
    p->job = a->job;
    p->acked = a->chunks;
    p->sent =
        MAX(p->sent, p->acked); /* on an earlier connection, taken after this Submit */
    p->window = a->credit_bytes;
    p->seal_acked = p->seal_acked || a->sealed;
    p->heard = MAX(p->heard, a->state);
    if (a->state == JOB_CANCELLED && p->cancel_sent)
        p->cancel_acked = true;
}

static void plan_ended(struct sim_client *c, struct plan *p)
{
    struct world *w = c->host.w;

    NOTE(w, "end_seen", p->job, p->reading, p->heard);
    check_seen_end(w, p);
    if (p->reading || (!p->hurt && !chance(w, 300))) {
        p->ended = true;
        return;
    }
    p->reading++; /* and once more, in another order: it must be the same */
    p->cursor = p->cursor_epoch = 0;
    p->follow_sent = false;
    c->forget = true; /* in a session of its own, as another program would */
    event_post(w, &c->tick, 0);
    p->task_order = chance(w, 500);
    p->failed_only = chance(w, 200);
    p->inputs = chance(w, 500);
}

static void on_results(struct sim_client *c, const struct msg *m)
{
    const struct msg_results *r = &m->results;
    struct world *w = c->host.w;
    struct plan *p = plan_by_job(w, r->job);

    if (!p || p->client != c->host.index || !p->follow_sent || p->ended || c->forget ||
        r->cursor < p->cursor)
        return;
    if (r->cursor > p->cursor && !p->failed_only) {
        broken(w, "P5: results of job %llu go on at %llu, not where they stopped (%llu)",
               (unsigned long long)r->job, (unsigned long long)r->cursor,
               (unsigned long long)p->cursor);
        return;
    }
    NOTE(w, "seen", r->job, r->cursor, r->next_cursor);
    check_seen(w, p, m);
    p->cursor = r->next_cursor;
    p->cursor_epoch = c->epoch.counter;
    p->credit_due += (int64_t)m->body.len + 16 * (int64_t)r->batch.n;
    p->heard = MAX(p->heard, r->state);
    if (r->end)
        plan_ended(c, p);
}

static bool text_has(struct span text, const char *word)
{
    return memmem(text.data, text.len, word, strlen(word)) != NULL;
}

/* Does it ask for nodes that may be away? Not each node fetches. */
static bool asks_for_node(const struct plan *p)
{
    return p->on[0] || p->io;
}

static bool asks_for_nodes(const struct sim_client *c)
{
    for (uint32_t i = 0; i < c->n_plans; i++)
        if (asks_for_node(c->plans[i]))
            return true;
    return false;
}

static void on_error(struct sim_client *c, const struct msg *m)
{
    const struct msg_error *e = &m->error;
    struct world *w = c->host.w;
    struct plan *p = e->job ? plan_by_job(w, e->job) : NULL;
    bool over = p && (p->heard > JOB_SEALED || p->cancel_sent || p->ended);

    if (w->trace)
        printf("             error: %.*s\n", (int)e->text.len,
               (const char *)e->text.data);
    if (e->about == MSG_REMOVE || e->about == MSG_PAUSE || e->about == MSG_DRAIN)
        return; /* said again, or of what is gone */
    if (text_has(e->text, "removed")) {
        for (uint32_t i = 0; i < c->n_plans; i++) /* Submit's error names no job */
            c->plans[i]->ended = c->plans[i]->ended || c->plans[i]->removed;
        return;
    }
    if (p && e->about == MSG_FOLLOW && text_has(e->text, "has lost results")) {
        NOTE(w, "results_lost", p->job, p->cursor, p->cursor_epoch);
        if (c->forget)
            return; /* the same again */
        check_told_lost(w, p);
        p->cursor = p->cursor_epoch = 0; /* as the hint says, by another program */
        c->forget = true;
        event_post(w, &c->tick, 0);
        return;
    }
    if (e->code == 9 && (!p || p->removed)) {
        if (p)
            p->ended = true; /* its results are gone with it */
        return;
    }
    if (span_eq(e->text, SPAN_LIT(WIRE_NO_SESSION))) {
        c->forget = true;
        event_post(w, &c->tick, 0);
    } else if (e->code == 10 && e->about == MSG_FOLLOW && p && asks_for_node(p)) {
        return; /* advice: it may come yet */
    } else if (store_model_was_full(w) || (e->code == 10 && asks_for_nodes(c))) {
        /* Nothing was taken: its user tries again later. */
        client_kill(w, c->host.index, between(w, NS_PER_S, 5 * NS_PER_S));
    } else if (!over || text_has(e->text, "cursor")) {
        broken(w, "P5: a client is refused: %.*s (about %s)", (int)e->text.len,
               (const char *)e->text.data, msg_type_name(e->about));
    }
}

static void on_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct sim_client *c = arg;

    (void)peer, (void)user;
    c->heard_ns = c->host.w->now_ns;
    if (m->type == MSG_WELCOME)
        on_welcome(c, m);
    else if (m->type == MSG_ERROR)
        on_error(c, m);
    else if (c->up && m->type == MSG_ACCEPTED)
        on_accepted(c, m);
    else if (c->up && m->type == MSG_RESULTS)
        on_results(c, m);
    if (c->host.alive)
        pump(c);
}

static void on_connected(void *arg)
{
    struct sim_client *c = arg;

    if (c->up) {
        session_lost(c);
        say_hello(c);
    }
}

static const struct link_events link_events = { .message = on_message,
                                                .connected = on_connected };

/* ---- time ---- */

static void on_tick(void *arg)
{
    struct sim_client *c = arg;
    struct world *w = c->host.w;
    struct msg beat = { .type = MSG_BEAT };

    event_post(w, &c->tick, TICK_NS);
    if (c->forget || (c->up && w->now_ns - c->heard_ns > SILENCE_NS) ||
        (!c->up && w->now_ns - c->greeted_ns > BEAT_NS)) {
        start_over(c);
        return;
    }
    if (c->up && w->now_ns - c->beat_ns > BEAT_NS) {
        c->beat_ns = w->now_ns;
        link_send(c->link, 0, &beat);
    }
    operate(c);
    pump(c);
}

static void start(void *arg)
{
    struct sim_client *c = arg;
    struct world *w = c->host.w;
    struct err err = { 0 };

    c->host.alive = true;
    c->host.stopped_until_ns = 0;
    c->loop = (struct loop){ .host = &c->host };
    c->up = c->forget = false;
    c->epoch_known = false;
    c->epoch = (struct epoch){ 0 };
    c->heard_ns = w->now_ns;
    c->life++;
    NOTE(w, "client_start", c->host.index, 0, 0);
    CHECK(link_connect(NULL, &c->loop, "sim", NULL, WIRE_CLIENT_FRAME_MAX, &link_events,
                       c, &c->link, &err) == 0);
    c->tick = (struct event){ .fn = on_tick, .arg = c, .host = &c->host };
    event_post(w, &c->tick, TICK_NS);
    say_hello(c);
}

/* The link is freed by the next event: it may be the one that is being delivered. */
static void link_gone(void *arg)
{
    link_free(arg);
}

void client_kill(struct world *w, uint32_t i, int64_t away_ns)
{
    struct sim_client *c = &w->clients[i];

    if (c->gone || c->restart.place)
        return;
    NOTE(w, "client_kill", i, away_ns, 0);
    host_kill(&c->host);
    c->up = false;
    if (c->link)
        world_after(w, NULL, 0, link_gone, c->link)->drop = link_gone;
    c->link = NULL;
    for (uint32_t p = 0; p < c->n_plans; p++)
        plan_session_lost(c->plans[p]);
    c->gone = away_ns == 0;
    c->restart = (struct event){ .fn = start, .arg = c };
    if (away_ns)
        event_post(w, &c->restart, away_ns);
}

void clients_free(struct world *w)
{
    for (uint32_t i = 0; i < w->k.clients; i++) {
        struct sim_client *c = &w->clients[i];
        host_kill(&c->host);
        event_cancel(w, &c->restart);
        link_free(c->link);
        for (uint32_t p = 0; p < c->n_plans; p++) {
            buf_fini(&c->plans[p]->spec);
            free(c->plans[p]);
        }
    }
    free(w->clients);
}
