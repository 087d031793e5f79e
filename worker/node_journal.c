/* The node's journal of temporaries: what is under way is noted, what an earlier worker
 * left is swept. */
#include "worker/node_state.h"

#include "base/checksum.h"
#include "base/log.h"

/* Publish leases of a coordinator come right after its Welcome, or after one page of its
 * store was read. */
#define SWEEP_AFTER_NS (2 * NS_PER_S)

void journal_open(struct node *n)
{
    struct span parts[] = { span_str(n->config.join), SPAN_LIT("\0"),
                            span_str(n->config.name) };
    uint8_t digest[WIRE_DIGEST_BYTES];
    struct err err = { 0 };
    char key[17];

    checksum(parts, ARRAY_LEN(parts), digest);
    memcpy(&n->place, digest, sizeof(n->place));
    for (size_t i = 0; i < 8; i++)
        snprintf(key + 2 * i, 3, "%02x", digest[i]);
    if (litter_new(n->config.spool_dir, n->config.ephemeral ? NULL : key, &n->litter,
                   &err) < 0)
        log_warn("no_journal", "why=\"%s\"", err.text);
}

/* Where it will make files is known before it makes one. */
void lease_note(const struct node_lease *l)
{
    struct task_input in;

    if (l->job->spec.sink != SINK_FILE)
        return;
    for (uint32_t i = 0; i < l->n; i++)
        if (input_unpack(lease_input(l, i), &in, NULL) == 0)
            litter_note(l->node->litter, l->attempt_epoch, l->id, in.out);
}

/* The journal names what is under way, and little else. */
static void renew(struct node *n)
{
    bool idle = !n->leases && TAILQ_EMPTY(&n->batches);
    struct node_lease *l;
    struct batch *b;

    if (!idle && !litter_is_long(n->litter))
        return;
    litter_clear(n->litter);
    for (l = n->leases; l; l = l->hh.next)
        lease_note(l);
    TAILQ_FOREACH (b, &n->batches, node_entry)
        lease_note(b->lease);
    litter_flush(n->litter);
}

static void sweep(void *arg)
{
    struct node *n = arg;
    n->sweep_again = !litter_sweep(n->litter);
}

static void swept(void *arg)
{
    struct node *n = arg;
    n->sweeping = false;
    n->swept = !n->sweep_again;
    n->sweep_ns = loop_now_ns(n->loop) + SWEEP_AFTER_NS;
}

/* A while after it was welcomed: what the coordinator wants published it has said. */
static void sweep_due(struct node *n)
{
    int64_t now = loop_now_ns(n->loop);

    if (n->sweeping || n->swept || !n->litter || !n->welcomed_ns)
        return;
    if (now - n->welcomed_ns >= SWEEP_AFTER_NS && now >= n->sweep_ns)
        n->sweeping = threadpool_submit(n->threads, sweep, n, swept) == 0;
}

void journal_tend(struct node *n)
{
    renew(n);
    sweep_due(n);
}
