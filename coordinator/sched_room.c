/* What may come in: the credit of submitters while the store keeps up (R10), and jobs,
 * chunks and leases while the disk has room for what they will write (R13). */
#include "coordinator/sched_state.h"

void sched_set_backlog(struct sched *s, size_t bytes, bool full)
{
    s->pressure = bytes > STORE_BACKLOG_MAX / 2;
    s->overfull = bytes > STORE_BACKLOG_MAX;
    s->full = full;
}

bool sched_pressed(const struct sched *s)
{
    return s->pressure;
}

/* Who sends what nobody has given him credit for begins a new session, in which he is
 * told how much may come; his chunk is said again. */
bool room_for_chunk(struct sched *s, struct peer *p)
{
    if (!s->overfull && !quota_is_over(s, p))
        return true;
    struct msg_error *e = &sched_send_now(s, p->id, MSG_ERROR)->send.msg.error;
    *e = (struct msg_error){ .code = 1, .about = MSG_CHUNK };
    e->text = SPAN_LIT(WIRE_NO_SESSION);
    e->hint = s->overfull
                  ? SPAN_LIT("too much waits for the coordinator's disk: say Hello again")
                  : SPAN_LIT("too many tasks wait: say Hello again");
    sched_peer_leave(s, p);
    return false;
}

/* The second mark: what is out can still be recorded, and then some. The first is above
 * it by as much again, for the chunks that submitters have credit for already. */
void sched_set_room(struct sched *s, uint64_t free_bytes)
{
    uint64_t second =
        HASH_COUNT(s->leases) * (uint64_t)VALUE_MAX_BYTES + s->config.reserve_bytes;

    s->free_bytes = free_bytes;
    s->low = s->config.reserve_bytes && free_bytes < second + s->config.reserve_bytes;
    s->lowest = s->config.reserve_bytes && free_bytes < second;
}

bool sched_low(const struct sched *s)
{
    return s->full || s->low;
}

bool room_to_lease(const struct sched *s)
{
    return !s->pressure && !s->full && !s->lowest;
}

void room_refuse(struct sched *s, peer_id peer, enum msg_type about)
{
    AUTO_FREE char *text = xasprintf("the coordinator's disk is %s: no job is taken",
                                     s->full ? "full" : "nearly full");
    AUTO_FREE char *hint =
        xasprintf("%llu MiB are free there; make room, or remove jobs: tidemill job rm. "
                  "Running work goes on",
                  (unsigned long long)(s->free_bytes / MIB));

    /* At once: behind groups that find no room it would say nothing. Nothing was recorded
     * of what it refuses, so no order is lost (R1). */
    struct msg_error *e = &sched_send_now(s, peer, MSG_ERROR)->send.msg.error;
    *e = (struct msg_error){ .code = 1, .about = about };
    e->text = fx_keep(s->g, span_str(text));
    e->hint = fx_keep(s->g, span_str(hint));
}

void job_client_is(struct sched *s, struct job *j, peer_id client)
{
    s->submitters += (client != 0) - (j->client != 0);
    j->owner->submitting += (client != 0) - (j->client != 0);
    j->client = client;
}

/* All submitters share what may wait for the store; each may send a chunk. */
uint32_t job_credit(struct sched *s, struct job *j)
{
    uint32_t share = SUBMIT_BYTES / MAX(1u, s->submitters), window = 0;

    if (!s->pressure && !sched_low(s))
        window =
            quota_window(s, j, MAX(WIRE_CHUNK_BYTES_MAX, MIN(share, CHUNK_CREDIT_BYTES)));
    j->dry = window == 0;
    s->dry |= j->dry;
    return window;
}

void credit_again(struct sched *s)
{
    struct job *j;

    if (!s->dry || s->pressure || sched_low(s))
        return;
    s->dry = false;
    TAILQ_FOREACH (j, &s->live, live_node)
        if (j->dry && j->client && job_credit(s, j))
            job_accepted(s, j->client, j);
}
