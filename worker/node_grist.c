#include "worker/node_grist.h"

#include <errno.h>

enum {
    RUN_BODIES = 32,       /* about 1 ms of a mill: a wake-up is little beside it */
    RUN_BYTES = 256 * KIB, /* two such runs fit a mill's ring */
};

/* A run under way; it is freed when the last of its bodies has left it. */
struct grist_run {
    uint64_t id;
    uint32_t n, left;
    struct grist *bodies[RUN_BODIES]; /* NULL: it has left */
    UT_hash_handle hh;
};

/* ---- giving ---- */

/* The first that waits, and what waits right behind it for the same lease. How many at
 * most is such that all mills get some. */
static uint32_t gather(struct node *n, struct grist *ret[RUN_BODIES])
{
    uint32_t most = (n->n_mill_waiting + n->config.procs - 1) / n->config.procs, k = 0;
    size_t bytes = 0;
    struct grist *g;

    TAILQ_FOREACH (g, &n->mill_waiting, waiting_node) {
        bytes += g->bytes.len;
        if (k && (k >= MIN(most, RUN_BODIES) || g->lease != ret[0]->lease || g->fd >= 0 ||
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

void grist_give(struct node *n)
{
    struct grist *list[RUN_BODIES];
    uint32_t k;

    /* Never refused for its size: a body and its input are far below half a ring. */
    while (n->pool && (k = gather(n, list)) > 0 && submit(n, list, k) == 0)
        run_new(n, list, k);
}

static void on_turn(void *arg)
{
    grist_give(arg);
}

/* ---- answers ---- */

static void answer(struct grist *g, enum task_status status, struct span value)
{
    g->status = status;
    g->answered = true;
    buf_clear(&g->value);
    buf_add_span(&g->value, value);
    coro_wake(g->coro);
}

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
    TAILQ_INSERT_TAIL(&n->mill_waiting, g, waiting_node);
    n->n_mill_waiting++;
    /* Whoever else comes to this point before the turn's end goes with it. */
    if (!loop_timer_armed(n->grist_turn))
        loop_timer_arm(n->grist_turn, 0);
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
