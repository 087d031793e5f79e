/* Records that were committed a moment ago stay in memory while a follower of their job,
 * in commit order, has yet to be sent them: it had no credit, or its link no room. Read
 * back from the disk they cost the store's thread as much again as to write them. All
 * jobs together have so much of it at most (P4); what goes first is the oldest. */
#include "coordinator/sched_state.h"

/* What a row costs beside its arrays and values: five blobs and what is here. */
enum { ROW_BYTES = 512, EACH_BYTES = 13 };

struct recent {
    struct {
        uint64_t job, cursor;
    } at; /* the key: no padding */
    struct job *job;
    struct batch_row row; /* holds its blobs */
    struct blob *node;    /* what row.node points to */
    size_t bytes;
    TAILQ_ENTRY(recent) node_all, node_job; /* in order of age, of cursor */
    UT_hash_handle hh;
};

static void drop(struct sched *s, struct recent *r)
{
    HASH_DEL(s->recent, r);
    TAILQ_REMOVE(&s->recents, r, node_all);
    TAILQ_REMOVE(&r->job->recents, r, node_job);
    s->recent_bytes -= r->bytes;
    blob_unref(r->row.tasks);
    blob_unref(r->row.statuses);
    blob_unref(r->row.attempts);
    blob_unref(r->row.lens);
    blob_unref(r->row.values);
    blob_unref(r->node);
    free(r);
}

void recent_add(struct sched *s, struct job *j, const struct batch_row *b)
{
    struct recent *r = xcalloc(1, sizeof(*r));

    r->at.job = b->job;
    r->at.cursor = b->cursor;
    r->job = j;
    r->row = *b;
    blob_ref(b->tasks);
    blob_ref(b->statuses);
    blob_ref(b->attempts);
    blob_ref(b->lens);
    blob_ref(b->values);
    r->node = blob_new(b->node); /* the group that it is in ends before */
    r->row.node = blob_span(r->node);
    r->bytes = ROW_BYTES + b->n * (size_t)EACH_BYTES + b->values->len;
    HASH_ADD(hh, s->recent, at, sizeof(r->at), r);
    TAILQ_INSERT_TAIL(&s->recents, r, node_all);
    TAILQ_INSERT_TAIL(&j->recents, r, node_job);
    s->recent_bytes += r->bytes;
    while (s->recent_bytes > s->config.recent_bytes)
        drop(s, TAILQ_FIRST(&s->recents));
}

const struct batch_row *recent_at(struct sched *s, const struct job *j, uint64_t cursor)
{
    struct recent *r, key = { .at = { j->row.id, cursor } };

    HASH_FIND(hh, s->recent, &key.at, sizeof(key.at), r);
    return r ? &r->row : NULL;
}

void recent_passed(struct sched *s, struct job *j, uint64_t cursor)
{
    struct recent *r;

    while ((r = TAILQ_FIRST(&j->recents)) && r->at.cursor < cursor)
        drop(s, r);
}
