/* Results on their way to the record. A batch is kept until the coordinator has answered
 * it, and said again after a reconnect: ids make that harmless. Outputs follow R8: synced
 * before Done, published after Committed, told by Published. */
#include "worker/node_state.h"

#include "base/failpoint.h"
#include "base/log.h"

static const uint32_t *numbers(const struct buf *b)
{
    return (const uint32_t *)b->data;
}

static bool has_files(const struct batch *b)
{
    return b->lease->job->spec.sink == SINK_FILE;
}

/* ---- filling ---- */

static struct batch *batch_of(struct node_lease *l)
{
    struct batch *b = l->filling;

    if (b)
        return b;
    b = xcalloc(1, sizeof(*b));
    b->lease = l;
    b->since_ns = loop_now_ns(l->node->loop);
    l->refs++;
    l->filling = b;
    TAILQ_INSERT_TAIL(&l->node->batches, b, node_entry);
    return b;
}

void batch_free(struct batch *b)
{
    struct node *n = b->lease->node;

    TAILQ_REMOVE(&n->batches, b, node_entry);
    n->unsaid -= b->unsaid;
    if (b->lease->filling == b)
        b->lease->filling = NULL;
    buf_fini(&b->tasks);
    buf_fini(&b->statuses);
    buf_fini(&b->lens);
    buf_fini(&b->indexes);
    buf_fini(&b->values);
    free(b->items);
    lease_unref(b->lease);
    free(b);
    if (n->stopping && TAILQ_EMPTY(&n->batches))
        node_leave(n);
}

static void add(struct batch *b, uint32_t index, enum task_status status,
                struct span value)
{
    buf_add_u32(&b->tasks, b->lease->tasks[index]);
    buf_add_u32(&b->indexes, index);
    buf_add_u32(&b->lens, (uint32_t)value.len);
    buf_add_u8(&b->statuses, (uint8_t)status);
    buf_add_span(&b->values, value);
    b->n++;
}

static void batch_close(struct batch *b);

void batch_add(struct node_lease *l, uint32_t index, enum task_status status,
               struct span value)
{
    struct batch *b = batch_of(l);

    /* A message's body has room for one value beyond this. */
    if (b->n && b->values.len + value.len > BATCH_VALUE_BYTES) {
        batch_close(b);
        b = batch_of(l);
    }
    add(b, index, status, value);
    l->batched[index] = true;
    l->left--;
    if (l->left == 0)
        batch_close(b);
}

void batch_error(struct node_lease *l, uint32_t index, enum task_status status,
                 const char *why)
{
    struct task_value v = { .error = span_str(why) };
    AUTO_BUF packed = BUF_INIT;

    value_pack(&packed, &v);
    node_result(l, index, status, buf_span(&packed));
}

void batch_flush_due(struct node *n, bool all)
{
    int64_t now = loop_now_ns(n->loop);
    struct batch *b, *tmp;

    TAILQ_FOREACH_SAFE (b, &n->batches, node_entry, tmp)
        if (b->state == BATCH_FILLING && (all || now - b->since_ns >= BATCH_NS))
            batch_close(b);
}

/* ---- files, on the thread pool ---- */

/* The outputs of the tasks that `want` says, as items. */
static void items_make(struct batch *b, bool (*want)(const struct batch *b, uint32_t i))
{
    b->items = xcalloc(b->n + 1, sizeof(*b->items));
    b->n_items = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct files_item *item = &b->items[b->n_items];
        uint32_t index = numbers(&b->indexes)[i];
        struct task_input in;
        if (!want(b, i) || input_unpack(lease_input(b->lease, index), &in, NULL) < 0)
            continue;
        item->out = in.out;
        item->attempt = lease_attempt(b->lease, index);
        item->force = b->lease->job->spec.force;
        b->n_items++;
    }
}

static bool is_ok(const struct batch *b, uint32_t i)
{
    return b->statuses.data[i] == TASK_OK;
}

/* Puts the errors of items into their tasks' results. */
static void items_errors(struct batch *b, enum task_status status)
{
    struct buf values = BUF_INIT, lens = BUF_INIT;
    size_t at = 0;

    for (uint32_t i = 0, k = 0; i < b->n; at += numbers(&b->lens)[i++]) {
        struct span value = span_of(b->values.data + at, numbers(&b->lens)[i]);
        size_t before = values.len;
        if (k < b->n_items && b->items[k].attempt.task == numbers(&b->tasks)[i]) {
            struct files_item *item = &b->items[k++];
            if (item->err.code) {
                struct task_value v = { .error = span_str(item->err.text) };
                b->statuses.data[i] = (uint8_t)status;
                value_pack(&values, &v);
                value = SPAN_NONE;
            }
        }
        buf_add_span(&values, value);
        buf_add_u32(&lens, (uint32_t)(values.len - before));
    }
    buf_fini(&b->values);
    buf_fini(&b->lens);
    b->values = values;
    b->lens = lens;
    free(b->items);
    b->items = NULL;
    b->n_items = 0;
}

static bool items_failed(const struct batch *b)
{
    for (uint32_t i = 0; i < b->n_items; i++)
        if (b->items[i].err.code)
            return true;
    return false;
}

/* Runs on a thread, then on the loop; inline when the pool's queue is full. */
static void on_threads(struct batch *b, threadpool_fn *fn, threadpool_fn *done)
{
    if (threadpool_submit(b->lease->node->threads, fn, b, done) == 0)
        return;
    fn(b);
    done(b);
}

/* ---- Done ---- */

/* Behind others that found no room; and none before the session begins, which first has
 * again what the one before may have lost. */
static void send(struct batch *b, const struct msg *m)
{
    struct node *n = b->lease->node;

    n->unsaid -= b->unsaid;
    b->unsaid = n->unsaid || !n->welcomed || link_send(n->link, 0, m) < 0;
    n->unsaid += b->unsaid;
}

bool batch_owed(const struct node_lease *l, const struct batch *but)
{
    const struct node *n = l->node;
    const struct batch *b;

    /* Without a session, what was said in the one before is said again. */
    TAILQ_FOREACH (b, &n->batches, node_entry)
        if (b->lease == l && b != but &&
            (b->state < BATCH_SENT ||
             (b->state == BATCH_SENT && (b->unsaid || !n->welcomed))))
            return true;
    return false;
}

static void send_done(struct batch *b)
{
    struct node_lease *l = b->lease;
    struct msg m = { .type = MSG_DONE, .body = buf_span(&b->values) };
    /* Batches are synced at the same time: the one filled last may be the first to be
     * said, and what is said behind the last Done is stale. */
    bool last = (l->left == 0 || l->given_back) && !batch_owed(l, b);

    m.done = (struct msg_done){
        .lease = l->id,
        .job = l->job->id,
        .epoch = l->epoch,
        .chunk = l->chunk,
        .batch = { b->n, numbers(&b->tasks), b->statuses.data, numbers(&b->lens) },
        .last = last,
        .files = b->files,
    };
    memcpy(m.done.digest, l->digest, sizeof(l->digest));
    b->state = BATCH_SENT;
    log_debug("done", "lease=%llu tasks=%u last=%d", (unsigned long long)l->id, b->n,
              last);
    FAILPOINT("done_send_before");
    send(b, &m);
    FAILPOINT("done_send_after");
}

static void sync_files(void *arg)
{
    struct batch *b = arg;
    FAILPOINT("files_sync_before");
    files_sync(b->lease->node->roots, b->items, b->n_items);
    FAILPOINT("files_sync_after");
}

static void files_synced(void *arg)
{
    struct batch *b = arg;
    struct node *n = b->lease->node;

    for (uint32_t i = 0; i < b->n_items; i++)
        if (b->items[i].err.code)
            files_discard(n->roots, b->items[i].out, &b->items[i].attempt);
    if (items_failed(b))
        items_errors(b, TASK_RETRYABLE);
    free(b->items);
    b->items = NULL;
    send_done(b);
}

static void batch_close(struct batch *b)
{
    struct node_lease *l = b->lease;

    if (l->filling == b)
        l->filling = NULL;
    b->files = has_files(b);
    if (!b->files || l->job->spec.no_sync) {
        send_done(b);
        return;
    }
    b->state = BATCH_SYNCING;
    items_make(b, is_ok);
    if (b->n_items)
        on_threads(b, sync_files, files_synced);
    else
        files_synced(b);
}

static void say_again(struct batch *b)
{
    if (b->state == BATCH_SENT)
        send_done(b);
    else if (b->state == BATCH_SAID)
        batch_say_published(b);
}

void batch_resend(struct node *n)
{
    struct batch *b;

    TAILQ_FOREACH (b, &n->batches, node_entry)
        if (b->state == BATCH_SENT || b->state == BATCH_SAID) {
            n->unsaid += !b->unsaid;
            b->unsaid = true;
        }
    batch_say_unsaid(n);
}

void batch_say_unsaid(struct node *n)
{
    struct batch *b;
    uint32_t left = n->unsaid;

    if (!n->welcomed)
        return;
    n->unsaid = 0;
    TAILQ_FOREACH (b, &n->batches, node_entry) {
        if (!b->unsaid)
            continue;
        b->unsaid = false;
        say_again(b);
        left--;
        if (b->unsaid)
            break;
    }
    n->unsaid += left;
}

/* ---- Committed, Published ---- */

void attempt_discard(struct node_lease *l, uint32_t index)
{
    struct files_attempt attempt = lease_attempt(l, index);
    struct task_input in;

    if (l->job->spec.sink == SINK_FILE &&
        input_unpack(lease_input(l, index), &in, NULL) == 0)
        files_discard(l->node->roots, in.out, &attempt);
}

void batch_discard(struct node_lease *l, uint32_t index, enum task_status status)
{
    if (status != TASK_FAILED && status != TASK_RETRYABLE) /* they left nothing behind */
        attempt_discard(l, index);
}

bool batch_discard_all(struct node *n)
{
    struct node_lease *l;
    struct batch *b;
    bool kept = false;

    for (l = n->leases; l; l = l->hh.next)
        for (uint32_t i = 0; i < l->n; i++)
            if (!l->batched[i])
                attempt_discard(l, i);
    TAILQ_FOREACH (b, &n->batches, node_entry) {
        bool said = b->files && b->state != BATCH_FILLING && b->state != BATCH_SYNCING;
        if (said && !n->config.ephemeral) {
            kept = true; /* it may be recorded already */
            continue;
        }
        for (uint32_t i = 0; i < b->n; i++)
            batch_discard(b->lease, numbers(&b->indexes)[i],
                          (enum task_status)b->statuses.data[i]);
    }
    return kept;
}

void batch_say_published(struct batch *b)
{
    struct node_lease *l = b->lease;
    struct msg m = { .type = MSG_PUBLISHED };
    bool failed = false;

    for (uint32_t i = 0; i < b->n; i++)
        failed |= !is_ok(b, i);
    AUTO_FREE uint32_t *none = xcalloc(b->n + 1, sizeof(*none));
    m.published = (struct msg_published){
        .lease = l->id,
        .job = l->job->id,
        .epoch = l->epoch,
        .batch = { b->n, numbers(&b->tasks), b->statuses.data,
                   failed ? numbers(&b->lens) : none },
    };
    if (failed)
        m.body = buf_span(&b->values);
    b->state = BATCH_SAID;
    FAILPOINT("published_send_before");
    send(b, &m);
    FAILPOINT("published_send_after");
}

static void publish_files(void *arg)
{
    struct batch *b = arg;
    FAILPOINT("files_publish_before");
    files_publish(b->lease->node->roots, b->items, b->n_items,
                  !b->lease->job->spec.no_sync);
    FAILPOINT("files_publish_after");
}

static void files_published(void *arg)
{
    struct batch *b = arg;

    if (items_failed(b))
        items_errors(b, TASK_FAILED);
    free(b->items);
    b->items = NULL;
    batch_say_published(b);
}

static bool contains(const uint32_t *list, uint32_t n, uint32_t task)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == task)
            return true;
    return false;
}

/* Keeps the tasks whose files are to be published; discards the files of the others. */
static void keep_won(struct batch *b, const struct msg_committed *m)
{
    struct buf tasks = BUF_INIT, statuses = BUF_INIT, lens = BUF_INIT, indexes = BUF_INIT,
               values = BUF_INIT;
    size_t at = 0;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < b->n; at += numbers(&b->lens)[i++]) {
        uint32_t task = numbers(&b->tasks)[i], index = numbers(&b->indexes)[i];
        if (!is_ok(b, i))
            continue;
        if (!contains(m->won, m->n_won, task)) {
            batch_discard(b->lease, index, TASK_OK);
            continue;
        }
        buf_add_u32(&tasks, task);
        buf_add_u32(&indexes, index);
        buf_add_u32(&lens, numbers(&b->lens)[i]);
        buf_add_u8(&statuses, TASK_OK);
        buf_add(&values, b->values.data + at, numbers(&b->lens)[i]);
        kept++;
    }
    buf_fini(&b->tasks);
    buf_fini(&b->statuses);
    buf_fini(&b->lens);
    buf_fini(&b->indexes);
    buf_fini(&b->values);
    b->tasks = tasks;
    b->statuses = statuses;
    b->lens = lens;
    b->indexes = indexes;
    b->values = values;
    b->n = kept;
}

static void publish(struct batch *b)
{
    b->state = BATCH_PUBLISHING;
    items_make(b, is_ok);
    on_threads(b, publish_files, files_published);
}

/* The batch an answer is to: Committed names exactly the tasks of one Done or Published.
 */
static struct batch *answered(struct node *n, const struct msg_committed *m)
{
    struct batch *b;

    TAILQ_FOREACH (b, &n->batches, node_entry) {
        if (b->lease->id != m->lease || b->n != m->n_won + m->n_lost || b->n == 0 ||
            (b->state != BATCH_SENT && b->state != BATCH_SAID))
            continue;
        uint32_t first = numbers(&b->tasks)[0];
        if ((m->n_won && m->won[0] == first) || (m->n_lost && m->lost[0] == first))
            return b;
    }
    return NULL;
}

void batch_committed(struct node *n, const struct msg_committed *m)
{
    struct batch *b = answered(n, m);

    if (!b)
        return; /* said twice, answered twice */
    if (b->state == BATCH_SENT && b->files) {
        keep_won(b, m);
        if (b->n) {
            publish(b);
            return;
        }
    }
    batch_free(b);
}

void batch_republish(struct node *n, const struct msg *m)
{
    struct err err = { 0 };
    struct node_job *j = job_of(n, &m->lease, &err);
    struct node_lease *l;
    struct batch *b;

    if (!j) {
        log_error("publish_refused", "why=\"%s\"", err.text);
        return;
    }
    TAILQ_FOREACH (b, &n->batches, node_entry)
        if (b->lease->id == m->lease.lease && m->lease.n_ranges &&
            contains(numbers(&b->tasks), b->n, m->lease.ranges[0].first))
            return; /* it is known here, and on its way */
    l = lease_new(n, j, m);
    l->epoch.counter = m->lease.attempt_epoch;
    lease_note(l);
    litter_flush(n->litter);
    for (uint32_t i = 0; i < l->n && !n->sweeping; i++)
        litter_keep(n->litter, l->attempt_epoch, l->id, l->tasks[i]);
    b = batch_of(l);
    b->files = true;
    l->filling = NULL;
    for (uint32_t i = 0; i < l->n; i++) {
        add(b, i, TASK_OK, SPAN_NONE);
        l->batched[i] = true;
    }
    lease_remove(l);
    lease_unref(l);
    publish(b);
}
