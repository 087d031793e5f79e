#include "worker/split.h"

#include "base/crypto.h"
#include "worker/ops/part.h"

/* Chunks of one range, 16 MiB: some 10 ms of work, so that mills which are faster, or
 * begin earlier, take more of them, against 20 us to open both files. */
enum { RANGE_CHUNKS = 256 };

enum split_state { SPLIT_HEAD, SPLIT_RANGES, SPLIT_ENDING };

struct split {
    struct node_lease *lease; /* borrowed: it stands until its last result */
    uint32_t index;
    enum split_state state;
    bool shared;        /* there is a temporary that its head has left */
    struct part part;   /* the chunks not given out yet */
    uint32_t under_way; /* parts with the pool */
    uint64_t out_bytes, used_us;
    enum task_status status; /* with value: how it ends */
    struct buf value;
    TAILQ_ENTRY(split) split_node;
};

/* A part with the pool. */
struct split_part {
    uint64_t run;
    struct split *split;
    UT_hash_handle hh;
};

/* ---- which ---- */

static bool may_split(const struct node *n, const struct job_spec *s)
{
    /* A digest takes its bytes one after another, and reading them twice is no gain: what
     * has one is a single pass. So is armor, whose lines have no place of their own. */
    return n->config.procs > 1 && s->source == SOURCE_PATH && s->sink == SINK_FILE &&
           s->transform != TRANSFORM_NONE && !s->algos && !s->out_algos &&
           !(s->transform == TRANSFORM_ENCRYPT && s->armor);
}

void split_mark(struct node_lease *l)
{
    struct task_input in;

    if (!may_split(l->node, &l->job->spec))
        return;
    for (uint32_t i = 0; i < l->n; i++) {
        if (input_unpack(lease_input(l, i), &in, NULL) < 0 || in.size < PART_FILE_MIN)
            continue;
        if (!l->split)
            l->split = xcalloc(l->n, sizeof(bool));
        l->split[i] = true;
        l->n_split++;
    }
}

/* ---- giving out ---- */

/* False: no mill takes it now. */
static bool give_part(struct split *s, const struct part *part)
{
    struct node_lease *l = s->lease;
    struct node *n = l->node;
    struct procpool_run run = { .id = n->next_run + 1,
                                .spec_id = l->job->id,
                                .epoch = l->attempt_epoch,
                                .lease = l->id,
                                .n = 1,
                                .tasks = &l->tasks[s->index],
                                .lens = &l->lens[s->index],
                                .inputs = lease_input(l, s->index),
                                .task_timeout_ns = l->task_timeout_ns,
                                .body_fd = -1,
                                .part = part };
    struct split_part *p;

    if (procpool_submit(n->pool, &run) < 0)
        return false; /* never for its size: an input is far below half a ring */
    n->next_run++;
    p = xcalloc(1, sizeof(*p));
    p->run = run.id;
    p->split = s;
    HASH_ADD(hh, n->split_parts, run, sizeof(p->run), p);
    s->under_way++;
    return true;
}

static bool has_more(const struct split *s)
{
    return s->state == SPLIT_HEAD ? !s->under_way : s->state == SPLIT_RANGES && s->part.n;
}

static bool give_next(struct split *s)
{
    struct part part = s->part;
    bool given;

    if (s->state == SPLIT_RANGES)
        part.n = MIN(part.n, RANGE_CHUNKS);
    given = give_part(s, &part);
    if (given && s->state == SPLIT_RANGES) {
        s->part.first += part.n;
        s->part.n -= part.n;
    }
    crypto_zero(&part, sizeof(part));
    return given;
}

/* All places of the mills, or half of them while others wait for one. */
static uint32_t places(const struct node *n)
{
    bool alone = TAILQ_EMPTY(&n->waiting) && TAILQ_EMPTY(&n->mill_waiting);

    return n->config.procs * (alone ? PROCPOOL_AHEAD : 1);
}

void split_room(struct node *n)
{
    struct split *s;

    /* The oldest first: it is done, and its file closed, before another one begins. */
    TAILQ_FOREACH (s, &n->splits, split_node)
        while (has_more(s))
            if (HASH_COUNT(n->split_parts) >= places(n) || !give_next(s))
                return;
}

void split_start(struct node_lease *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        if (!l->split || !l->split[i])
            continue;
        struct split *s = xcalloc(1, sizeof(*s));
        s->lease = l;
        s->index = i;
        s->part.kind = PART_HEAD;
        TAILQ_INSERT_TAIL(&l->node->splits, s, split_node);
    }
    split_room(l->node);
}

/* ---- gathering ---- */

static void split_free(struct split *s)
{
    TAILQ_REMOVE(&s->lease->node->splits, s, split_node);
    crypto_zero(&s->part, sizeof(s->part));
    buf_fini(&s->value);
    free(s);
}

/* From now on it only waits for its parts, which are told to end. */
static void end_with(struct split *s, enum task_status status, struct span value)
{
    struct node *n = s->lease->node;
    struct split_part *p, *tmp;

    s->state = SPLIT_ENDING;
    s->status = status;
    buf_clear(&s->value);
    buf_add_span(&s->value, value);
    s->under_way++; /* some end while they are told, which must not end it here */
    HASH_ITER (hh, n->split_parts, p, tmp)
        if (p->split == s)
            procpool_cancel(n->pool, p->run);
    s->under_way--;
}

static void end_with_error(struct split *s, enum task_status status, const char *why)
{
    struct task_value v = { .error = span_str(why) };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    end_with(s, status, buf_span(&packed));
}

/* All ranges are written: the result of the whole. */
static void end_whole(struct split *s)
{
    struct task_value v = { .bytes = s->part.source.size, .out_bytes = s->out_bytes };
    struct files_attempt attempt = lease_attempt(s->lease, s->index);
    AUTO_BUF packed = BUF_INIT;
    struct err err = { 0 };
    struct task_input in;

    CHECK(input_unpack(lease_input(s->lease, s->index), &in, NULL) == 0);
    if (files_mode(s->lease->node->roots, in.out, &attempt, s->part.mode, &err) < 0) {
        end_with_error(s, TASK_RETRYABLE, err.text);
        return;
    }
    v.output = in.out;
    value_pack(&packed, &v);
    end_with(s, TASK_OK, buf_span(&packed));
}

static void take_head(struct split *s, const struct task_value *v, struct span value)
{
    if (!v->has_body) {
        end_with(s, TASK_OK, value); /* the mill has done the whole task */
        return;
    }
    CHECK(v->body.len == sizeof(s->part)); /* part_answer_ok */
    memcpy(&s->part, v->body.data, sizeof(s->part));
    s->shared = true;
    s->out_bytes = s->part.seal ? s->part.header : 0;
    s->state = SPLIT_RANGES;
}

/* The time limit is that of one process: what all parts took together counts, and the
 * pool ends a part that takes all of it alone. */
static void take_range(struct split *s, const struct task_value *v)
{
    int64_t limit = s->lease->task_timeout_ns;
    char why[64];

    s->out_bytes += v->out_bytes;
    s->used_us += v->elapsed_us;
    if (limit && s->used_us > (uint64_t)limit / 1000) {
        snprintf(why, sizeof(why), "over its time limit of %lld ms",
                 (long long)(limit / NS_PER_MS));
        end_with_error(s, TASK_POISON, why);
    } else if (!s->part.n && !s->under_way) {
        end_whole(s);
    }
}

static void settle(struct split *s)
{
    struct node_lease *l = s->lease;
    enum task_status status = s->status;
    struct buf value = s->value;
    uint32_t index = s->index;

    if (s->state != SPLIT_ENDING || s->under_way)
        return;
    if (s->shared && status != TASK_OK)
        attempt_discard(l, index);
    s->value = (struct buf)BUF_INIT;
    split_free(s);
    node_result(l, index, status, buf_span(&value));
    buf_fini(&value);
}

static void take_part(struct node *n, struct split_part *p, enum task_status status,
                      struct span value)
{
    struct task_value v = { 0 };
    struct split *s = p->split;

    HASH_DEL(n->split_parts, p);
    free(p);
    s->under_way--;
    if (status == TASK_OK)
        CHECK(value_unpack(value, &v, NULL) == 0); /* part_answer_ok */
    if (s->state != SPLIT_ENDING) {
        if (status != TASK_OK)
            end_with(s, status, value);
        else if (s->state == SPLIT_HEAD)
            take_head(s, &v, value);
        else
            take_range(s, &v);
    }
    settle(s);
    split_room(n);
}

bool split_result(struct node *n, uint64_t run, enum task_status status,
                  struct span value)
{
    struct split_part *p;

    HASH_FIND(hh, n->split_parts, &run, sizeof(run), p);
    if (p)
        take_part(n, p, status, value);
    return p != NULL;
}

/* ---- life ---- */

void split_revoke(struct node_lease *l)
{
    struct split *s, *tmp;

    TAILQ_FOREACH_SAFE (s, &l->node->splits, split_node, tmp) {
        if (s->lease != l || s->state == SPLIT_ENDING)
            continue;
        end_with_error(s, TASK_CANCELLED, "cancelled");
        settle(s);
    }
}

uint64_t split_lease(const struct node *n, uint64_t run)
{
    struct split_part *p;

    HASH_FIND(hh, n->split_parts, &run, sizeof(run), p);
    return p ? p->split->lease->id : 0;
}

void split_each_waiting(struct node *n, void (*fn)(void *arg, struct node_lease *l),
                        void *arg)
{
    struct split *s;

    TAILQ_FOREACH (s, &n->splits, split_node)
        if (!s->under_way)
            fn(arg, s->lease);
}

void split_free_all(struct node *n)
{
    struct split_part *p, *ptmp;
    struct split *s;

    HASH_ITER (hh, n->split_parts, p, ptmp) {
        HASH_DEL(n->split_parts, p);
        free(p);
    }
    while ((s = TAILQ_FIRST(&n->splits)))
        split_free(s);
}
