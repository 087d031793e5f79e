/* Owners: whose jobs are whose, who may see them, and how much each may have. */
#include "coordinator/sched_state.h"

#include <stdarg.h>

struct owner *owner_get(struct sched *s, struct span name)
{
    struct owner *o;

    HASH_FIND(hh, s->owners, name.data, name.len, o);
    if (!o) {
        o = xcalloc(1, sizeof(*o));
        o->name = span_dup(name);
        HASH_ADD_KEYPTR(hh, s->owners, o->name, name.len, o);
    }
    o->refs++;
    return o;
}

/* Who says his name himself is nobody who has a key. */
struct owner *owner_local(struct sched *s, const char *name)
{
    AUTO_FREE char *text = xasprintf(OWNER_LOCAL "%s", name);

    return owner_get(s, span_str(text));
}

bool owner_is_local(struct span name)
{
    struct span local = SPAN_LIT(OWNER_LOCAL);

    return name.len >= local.len && span_eq(span_of(name.data, local.len), local);
}

void owner_put(struct sched *s, struct owner *o)
{
    if (!o || --o->refs)
        return;
    HASH_DEL(s->owners, o);
    free(o->name);
    free(o);
}

bool owner_sees(const struct peer *p, const struct job *j)
{
    return p->rights == ROLE_ADMIN || j->owner == p->owner;
}

struct job *sched_job_of(struct sched *s, const struct peer *p, uint64_t id)
{
    struct job *j = sched_job(s, id);

    return j && owner_sees(p, j) ? j : NULL;
}

void job_stores(struct job *j, uint64_t bytes)
{
    j->row.bytes += bytes;
    j->owner->bytes += bytes;
}

/* ---- quotas ---- */

/* Who operates the cluster has no limits. */
static bool is_limited(const struct peer *p)
{
    return p && p->rights == ROLE_CLIENT;
}

static void refuse(struct sched *s, const struct peer *p, uint64_t job,
                   enum msg_type about, const char *hint, const char *fmt, ...)
    PRINTF_LIKE(6, 7);
static void refuse(struct sched *s, const struct peer *p, uint64_t job,
                   enum msg_type about, const char *hint, const char *fmt, ...)
{
    char text[WIRE_TEXT_MAX];
    va_list args;
    int n = snprintf(text, sizeof(text), "quota of %.200s: ", p->owner->name);

    va_start(args, fmt);
    vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, args);
    va_end(args);
    sched_denied(s, p->id, job, about, text, hint);
}

static bool has_bytes_for(const struct sched *s, const struct owner *o, uint64_t more)
{
    uint64_t max = s->config.quota.stored_bytes;

    return !max || (o->bytes < max && more <= max - o->bytes);
}

static void refuse_bytes(struct sched *s, const struct peer *p, uint64_t job,
                         enum msg_type about)
{
    refuse(s, p, job, about, "make room: tidemill job rm",
           "%llu KiB of inputs and results are stored, %llu KiB may be",
           (unsigned long long)(p->owner->bytes / KIB),
           (unsigned long long)(s->config.quota.stored_bytes / KIB));
}

bool quota_refuses_job(struct sched *s, const struct peer *p, const struct msg_submit *m)
{
    const struct sched_quota *q = &s->config.quota;

    if (!is_limited(p))
        return false;
    if (m->priority > q->priority) {
        refuse(s, p, 0, MSG_SUBMIT, "take a lower --priority",
               "priority %d, and %d is the highest allowed", (int)m->priority,
               (int)q->priority);
        return true;
    }
    if (q->jobs && p->owner->jobs >= q->jobs) {
        refuse(s, p, 0, MSG_SUBMIT, "remove jobs that have ended: tidemill job rm",
               "%u jobs are there, %llu may be", p->owner->jobs,
               (unsigned long long)q->jobs);
        return true;
    }
    if (!has_bytes_for(s, p->owner, m->spec.len + m->name.len)) {
        refuse_bytes(s, p, 0, MSG_SUBMIT);
        return true;
    }
    return false;
}

bool quota_refuses_chunk(struct sched *s, const struct peer *p, const struct job *j,
                         const struct msg *m)
{
    uint64_t bytes =
        m->chunk.n * sizeof(*m->chunk.lens) + m->body.len + m->chunk.node.len;

    if (!is_limited(p) || has_bytes_for(s, p->owner, bytes))
        return false;
    refuse_bytes(s, p, j->row.id, MSG_CHUNK);
    return true;
}

/* What the windows of its jobs let through after they were told: a chunk each, of as many
 * jobs as one submits at a time. */
bool quota_is_over(const struct sched *s, const struct peer *p)
{
    enum { JOBS_MAX = 16 };
    uint64_t max = s->config.quota.tasks;

    return max && is_limited(p) &&
           p->owner->tasks >= max + (uint64_t)WIRE_CHUNK_TASKS_MAX *
                                        MIN(MAX(1u, p->owner->submitting), JOBS_MAX);
}

/* A task weighs more than 4 bytes in a window; one that is open lets in a chunk at least.
 * Once closed it stays so until an eighth is free, lest it opens for each task that is
 * done. */
uint32_t quota_window(struct sched *s, struct job *j, uint32_t window)
{
    enum { TASK_WEIGHT = 4, FREE_SHARE = 8 };
    const struct owner *o = j->owner;
    uint64_t max = s->config.quota.tasks, left;

    if (!max || !is_limited(sched_peer(s, j->client)))
        return window;
    left = o->tasks < max ? max - o->tasks : 0;
    j->over = left <= (j->over ? max / FREE_SHARE : 0);
    if (j->over)
        return 0;
    left = MIN(left, (uint64_t)window) * TASK_WEIGHT / MAX(1u, o->submitting);
    return (uint32_t)MAX(1u, MIN(left, window));
}
