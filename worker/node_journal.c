/* The node's journal of temporaries: what is under way is noted, what an earlier worker
 * left is swept. */
#include "worker/node_state.h"

#include "base/checksum.h"
#include "base/log.h"

/* While a process of our name is still ending. */
#define SWEEP_AGAIN_NS (2 * NS_PER_S)

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
    n->sweep_ns = loop_now_ns(n->loop) + SWEEP_AGAIN_NS;
}

/* Only when the coordinator has said all that it wants published (R8): that may be much,
 * and as the link takes it. */
static void sweep_due(struct node *n)
{
    if (n->sweeping || n->swept || !n->litter || !n->told_all)
        return;
    if (loop_now_ns(n->loop) >= n->sweep_ns)
        n->sweeping = threadpool_submit(n->threads, sweep, n, swept) == 0;
}

void journal_tend(struct node *n)
{
    renew(n);
    sweep_due(n);
}
