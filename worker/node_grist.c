#include "worker/node_grist.h"

#include <errno.h>

#include "proto/pack.h"
#include "worker/split.h"

enum {
    RUN_BODIES = 32,       /* about 1 ms of a mill: a wake-up is little beside it */
    RUN_BYTES = 256 * KIB, /* of bodies and inputs: a record is half a ring at most */
};
_Static_assert(BODY_IN_MEMORY + INPUT_MAX_BYTES <= RUN_BYTES, "one alone fits");

/* A run under way; it is freed when the last of its bodies has left it. */
struct grist_run {
    uint64_t id;
    uint32_t n, left;
    struct grist *bodies[RUN_BODIES]; /* NULL: it has left */
    UT_hash_handle hh;
};

/* ---- giving ---- */

/* The first that waits, and what waits right behind it for the same lease. */
static uint32_t gather(struct node *n, uint32_t most, struct grist *ret[RUN_BODIES])
{
    uint32_t k = 0;
    size_t bytes = 0;
    struct grist *g;

    TAILQ_FOREACH (g, &n->mill_waiting, waiting_node) {
        bytes += g->bytes.len + g->lease->lens[g->index];
        if (k && (k >= most || g->lease != ret[0]->lease || g->fd >= 0 ||
                  ret[0]->fd >= 0 || bytes > RUN_BYTES))
            break;
        ret[k++] = g;
    }
    return k;
}

static int submit(struct node *n, struct grist *const list[], uint32_t k)
{
    struct node_lease *l = list[0]->lease;
    uint32_t tasks[RUN_BODIES], lens[RUN_BODIES];
    struct span bodies[RUN_BODIES];
    AUTO_BUF inputs = BUF_INIT;

    for (uint32_t i = 0; i < k; i++) {
        tasks[i] = l->tasks[list[i]->index];
        lens[i] = l->lens[list[i]->index];
        bodies[i] = list[i]->bytes;
        buf_add_span(&inputs, lease_input(l, list[i]->index));
    }
    struct procpool_run run = { .id = n->next_run + 1,
                                .spec_id = l->job->id,
                                .epoch = l->attempt_epoch,
                                .lease = l->id,
                                .n = k,
                                .tasks = tasks,
                                .lens = lens,
                                .inputs = buf_span(&inputs),
                                .task_timeout_ns = l->task_timeout_ns,
                                .bodies = list[0]->fd < 0 ? bodies : NULL,
                                .body_fd = list[0]->fd };

    return procpool_submit(n->pool, &run);
}

static void run_new(struct node *n, struct grist *const list[], uint32_t k)
{
    struct grist_run *run = xcalloc(1, sizeof(*run));

    run->id = ++n->next_run;
    run->n = run->left = k;
    for (uint32_t i = 0; i < k; i++) {
        TAILQ_REMOVE(&n->mill_waiting, list[i], waiting_node);
        n->n_mill_waiting--;
        list[i]->run = run;
        list[i]->place = i;
        run->bodies[i] = list[i];
    }
    HASH_ADD(hh, n->grist_runs, id, sizeof(run->id), run);
}

static void answer(struct grist *g, enum task_status status, struct span value)
{
    g->status = status;
    g->answered = true;
    buf_clear(&g->value);
    buf_add_span(&g->value, value);
    coro_wake(g->coro);
}

/* No mill will ever take them: as if one had, and had said so. */
static void refuse(struct node *n, struct grist *const list[], uint32_t k, int why)
{
    bool large = why == E2BIG;
    struct task_value v = { .error = large ? SPAN_LIT("too large for a mill")
                                           : SPAN_LIT("no descriptor for its file") };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    run_new(n, list, k);
    for (uint32_t i = 0; i < k; i++)
        answer(list[i], large ? TASK_FAILED : TASK_RETRYABLE, buf_span(&packed));
}

/* Gives mills as many as they take, each mill about as many as the others. */
static void give(struct node *n)
{
    uint32_t share = (n->n_mill_waiting + n->config.procs - 1) / n->config.procs, k;
    struct grist *list[RUN_BODIES];

    while (n->pool && (k = gather(n, MIN(share, RUN_BODIES), list)) > 0) {
        if (submit(n, list, k) == 0)
            run_new(n, list, k);
        else if (errno != EAGAIN)
            refuse(n, list, k, errno);
        else
            return;
    }
}

void grist_room(struct node *n)
{
    n->grist_last = !n->grist_last;
    if (!n->grist_last)
        give(n);
    node_start_waiting(n);
    split_room(n);
    if (n->grist_last)
        give(n);
}

static void on_turn(void *arg)
{
    give(arg);
}

/* ---- answers ---- */

void grist_result(struct node *n, uint64_t run, uint32_t index, enum task_status status,
                  struct span value)
{
    struct grist_run *r;

    HASH_FIND(hh, n->grist_runs, &run, sizeof(run), r);
    if (r && index < r->n && r->bodies[index])
        answer(r->bodies[index], status, value);
}

static void leave(struct node *n, struct grist *g)
{
    struct grist_run *run = g->run;

    if (!run) {
        TAILQ_REMOVE(&n->mill_waiting, g, waiting_node);
        n->n_mill_waiting--;
        return;
    }
    run->bodies[g->place] = NULL;
    if (--run->left)
        return;
    HASH_DEL(n->grist_runs, run);
    free(run);
}

int grist_pass(struct grist *g)
{
    struct node *n = g->lease->node;
    int rc = 0;

    if (!n->pool) /* the node ends */
        return -1;
    g->coro = coro_current();
    /* Whoever else comes to this point before the turn's end goes with it. Where some
     * wait already, the turn is not over, or the mills are full: then their room counts.
     */
    if (TAILQ_EMPTY(&n->mill_waiting))
        loop_timer_arm(n->grist_turn, 0);
    TAILQ_INSERT_TAIL(&n->mill_waiting, g, waiting_node);
    n->n_mill_waiting++;
    while (!g->answered && rc == 0)
        rc = coro_wait(-1);
    if (!g->answered && g->run && n->pool) {
        /* All of the run: who is cancelled is so with all tasks of his lease. */
        procpool_cancel(n->pool, g->run->id);
        coro_shield(true); /* its file, if any, must be known to be gone */
        while (!g->answered && coro_wait(-1) == 0)
            ;
        coro_shield(false);
    }
    leave(n, g);
    return rc;
}

/* ---- life ---- */

void grist_init(struct node *n)
{
    n->grist_turn = loop_timer_new(n->loop, on_turn, n);
}

void grist_end(struct node *n)
{
    for (struct grist_run *run = n->grist_runs; run; run = run->hh.next)
        for (uint32_t i = 0; i < run->n; i++)
            if (run->bodies[i])
                answer(run->bodies[i], TASK_CANCELLED, SPAN_NONE);
}

void grist_fini(struct node *n)
{
    CHECK(!n->grist_runs && TAILQ_EMPTY(&n->mill_waiting));
    loop_timer_free(n->grist_turn);
}
