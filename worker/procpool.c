#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "worker/procpool_state.h"
#include "worker/ops/part.h"

static void on_share(void *arg)
{
    run_share(arg);
}

int procpool_new(struct loop *loop, const struct procpool_config *config,
                 const struct procpool_events *ev, void *arg, struct procpool **ret_pool,
                 struct err *err)
{
    struct procpool *pool =
        xcalloc(1, sizeof(*pool) + config->procs * sizeof(struct mill));
    size_t n_roots = 0;

    pool->loop = loop;
    pool->config = *config;
    pool->ev = ev;
    pool->arg = arg;
    pool->program = config->program ? xstrdup(config->program) : NULL;
    while (config->roots && config->roots[n_roots])
        n_roots++;
    pool->roots = xcalloc(n_roots + 1, sizeof(*pool->roots));
    for (size_t i = 0; i < n_roots; i++)
        pool->roots[i] = xstrdup(config->roots[i]);
    TAILQ_INIT(&pool->runs);
    TAILQ_INIT(&pool->homeless);
    pool->watch = loop_timer_new(loop, mill_on_watch, pool);
    pool->share = loop_timer_new(loop, on_share, pool);
    for (; pool->n < config->procs; pool->n++)
        if (mill_init(pool, &pool->mills[pool->n], err) < 0) {
            procpool_free(pool);
            return -1;
        }
    *ret_pool = pool;
    return 0;
}

static void spec_free(struct procpool *pool, struct pool_spec *spec)
{
    HASH_DEL(pool->specs, spec);
    buf_fini(&spec->packed);
    free(spec);
}

void procpool_free(struct procpool *pool)
{
    struct pool_spec *spec, *stmp;
    struct run *run;

    if (!pool)
        return;
    for (uint32_t i = 0; i < pool->n; i++)
        if (pool->mills[i].proc.pid)
            millproc_kill(&pool->mills[i].proc);
    for (uint32_t i = 0; i < pool->n; i++)
        mill_fini(&pool->mills[i]);
    while ((run = TAILQ_FIRST(&pool->runs)))
        run_free(pool, run);
    HASH_ITER (hh, pool->specs, spec, stmp)
        spec_free(pool, spec);
    loop_timer_free(pool->watch);
    loop_timer_free(pool->share);
    for (char **r = pool->roots; *r; r++)
        free(*r);
    free(pool->roots);
    free(pool->program);
    free(pool);
}

void procpool_spec(struct procpool *pool, uint64_t spec_id, struct span packed)
{
    struct pool_spec *spec;

    HASH_FIND(hh, pool->specs, &spec_id, sizeof(spec_id), spec);
    if (spec)
        return;
    spec = xcalloc(1, sizeof(*spec));
    spec->id = spec_id;
    buf_add_span(&spec->packed, packed);
    HASH_ADD(hh, pool->specs, id, sizeof(spec->id), spec);
}

void procpool_forget_spec(struct procpool *pool, uint64_t spec_id)
{
    struct pool_spec *spec;

    HASH_FIND(hh, pool->specs, &spec_id, sizeof(spec_id), spec);
    if (spec)
        spec_free(pool, spec);
}

/* Bytes that follow the inputs in the record. */
static size_t body_bytes(const struct procpool_run *from)
{
    size_t bytes = from->part ? sizeof(*from->part) : 0;

    for (uint32_t i = 0; from->bodies && i < from->n; i++)
        bytes += from->bodies[i].len;
    return bytes;
}

static void copy_body(const struct procpool_run *from, const struct mill_run *to)
{
    uint8_t *at = to->body;

    if (from->part)
        memcpy(at, from->part, sizeof(*from->part));
    for (uint32_t i = 0; from->bodies && i < from->n; i++) {
        to->body_lens[i] = (uint32_t)from->bodies[i].len;
        if (from->bodies[i].len) /* else it may be NULL */
            memcpy(at, from->bodies[i].data, from->bodies[i].len);
        at += from->bodies[i].len;
    }
}

static struct run *run_new(struct procpool *pool, const struct procpool_run *from,
                           size_t body_len, size_t bytes)
{
    struct run *run = xcalloc(1, sizeof(*run));
    struct mill_run_head *head = xmalloc(bytes); /* all of it is written below */

    *head = (struct mill_run_head){
        .kind = MILL_RUN,
        .n = from->n,
        .inputs_len = (uint32_t)from->inputs.len,
        .body = from->part           ? MILL_BODY_PART
                : from->body_fd >= 0 ? MILL_BODY_FD
                : from->bodies       ? MILL_BODY_BYTES
                                     : MILL_BODY_NONE,
        .body_len = (uint32_t)body_len,
        .epoch = from->epoch,
        .lease = from->lease,
    };
    run->id = from->id;
    run->spec_id = from->spec_id;
    run->left = from->n;
    run->timeout_ns = from->task_timeout_ns;
    run->body_fd = -1;
    run->head = head;
    run->parts = mill_run_parts(head);
    CHECK(run->parts.bytes == bytes);
    memset(run->parts.done_bits, 0, (from->n + 31) / 32 * sizeof(uint32_t));
    memcpy(run->parts.tasks, from->tasks, from->n * sizeof(uint32_t));
    memcpy(run->parts.lens, from->lens, from->n * sizeof(uint32_t));
    memcpy(run->parts.inputs, from->inputs.data, from->inputs.len);
    copy_body(from, &run->parts);
    for (uint32_t i = 0; from->skip && i < from->n; i++)
        if (from->skip[i]) {
            run->parts.done_bits[i / 32] |= BIT(i % 32);
            run->left--;
        }
    TAILQ_INSERT_TAIL(&pool->runs, run, pool_node);
    return run;
}

int procpool_submit(struct procpool *pool, const struct procpool_run *from)
{
    size_t body_len = body_bytes(from);
    size_t bytes = sizeof(struct mill_run_head) + (from->n + 31) / 32 * 4 +
                   from->n * (from->bodies ? 12 : 8) + from->inputs.len + body_len;
    struct run *run;
    int fd = -1;

    if (bytes > PROCPOOL_RING_BYTES / 2 - 64) {
        errno = E2BIG;
        return -1;
    }
    if (!TAILQ_EMPTY(&pool->homeless) || !run_has_place(pool)) {
        pool->room_wanted = true; /* and nothing was copied */
        errno = EAGAIN;
        return -1;
    }
    if (from->body_fd >= 0 && (fd = fcntl(from->body_fd, F_DUPFD_CLOEXEC, 0)) < 0)
        return -1;
    run = run_new(pool, from, body_len, bytes);
    run->body_fd = fd;
    if (run_place(pool, run)) {
        run_share(pool);
        return 0;
    }
    run_free(pool, run);
    pool->room_wanted = true;
    errno = EAGAIN;
    return -1;
}

static struct run *uncancelled(const struct procpool *pool, uint64_t id)
{
    struct run *run;

    TAILQ_FOREACH (run, &pool->runs, pool_node)
        if (run->id == id && !run->cancelled)
            break;
    return run;
}

void procpool_cancel(struct procpool *pool, uint64_t id)
{
    struct run *run;

    /* From the start each time: who is told of an end may change the list. */
    while ((run = uncancelled(pool, id))) {
        run->cancelled = true;
        if (run->mill)
            atomic_store(&run->mill->proc.shm->control.cancelled[run->head->place], true);
        else
            run_abandon(pool, run, TASK_CANCELLED, "cancelled");
    }
}

void procpool_each_moving(struct procpool *pool, void (*fn)(void *arg, uint64_t run),
                          void *arg)
{
    struct run *run;

    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        uint64_t moved = m->proc.pid ? atomic_load(&m->proc.shm->control.moved) : 0;
        if (m->proc.pid && moved == m->moved)
            continue;
        m->moved = moved;
        TAILQ_FOREACH (run, &m->runs, run_node)
            fn(arg, run->id);
    }
    TAILQ_FOREACH (run, &pool->homeless, run_node)
        fn(arg, run->id);
}

uint32_t procpool_busy(const struct procpool *pool)
{
    uint32_t busy = 0;

    for (uint32_t i = 0; i < pool->n; i++)
        busy += pool->mills[i].n_runs > 0;
    return busy;
}
