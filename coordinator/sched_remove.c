/* Removing ended jobs: by command, or when they were kept long enough (R16). A removed
 * job's key stays, so that a late Submit cannot start it again. */
#include "coordinator/sched_state.h"

enum { RUN_SAVED_PER_KEEP = 8 };
#define RUN_SAVED_NS (60 * NS_PER_S)

/* ---- keys of removed jobs: a table with open addressing, 24 bytes a key ---- */

static size_t tomb_slot(const struct sched *s, const uint8_t key[WIRE_KEY_BYTES])
{
    size_t i = crypto_short_hash(key, WIRE_KEY_BYTES) & (s->tombs_cap - 1);

    while (s->tombs[i].job && memcmp(s->tombs[i].key, key, WIRE_KEY_BYTES) != 0)
        i = (i + 1) & (s->tombs_cap - 1);
    return i;
}

static void tombs_grow(struct sched *s)
{
    struct tomb *old = s->tombs;
    size_t n = s->tombs_cap;

    s->tombs_cap = MAX(64, n * 2);
    s->tombs = xcalloc(s->tombs_cap, sizeof(*s->tombs));
    for (size_t i = 0; i < n; i++)
        if (old[i].job)
            s->tombs[tomb_slot(s, old[i].key)] = old[i];
    free(old);
}

void sched_load_removed(struct sched *s, uint64_t job, const uint8_t key[WIRE_KEY_BYTES])
{
    if (s->tombs_n * 4 >= s->tombs_cap * 3)
        tombs_grow(s);
    struct tomb *t = &s->tombs[tomb_slot(s, key)];
    if (!t->job)
        s->tombs_n++;
    t->job = job;
    memcpy(t->key, key, WIRE_KEY_BYTES);
    s->next_job = MAX(s->next_job, job + 1);
}

uint64_t job_removed(const struct sched *s, const uint8_t key[WIRE_KEY_BYTES])
{
    return s->tombs_cap ? s->tombs[tomb_slot(s, key)].job : 0;
}

bool job_id_removed(const struct sched *s, uint64_t job)
{
    for (size_t i = 0; job && i < s->tombs_cap; i++)
        if (s->tombs[i].job == job)
            return true;
    return false;
}

/* ---- removing ---- */

static bool ended(const struct job *j)
{
    return j->row.ended_wall_ns != 0;
}

static void job_remove(struct sched *s, struct job *j)
{
    struct follower *f;
    struct fx *fx = fx_add(s->g, FX_REMOVE);

    fx->remove.job = j->row.id;
    memcpy(fx->remove.key, j->row.key, sizeof(fx->remove.key));
    LIST_FOREACH (f, &j->followers, job_node)
        sched_error(s, f->peer, 9, j->row.id, MSG_FOLLOW, "the job was removed", "");
    sched_load_removed(s, j->row.id, j->row.key);
    sched_free_job(s, j);
}

void sched_remove(struct sched *s, struct peer *p, const struct msg *m)
{
    uint64_t id = m->remove.job;
    struct job *j = sched_job_of(s, p, id);

    if (!j) {
        sched_error(s, p->id, 9, id, MSG_REMOVE, "no such job", "tidemill job ls");
    } else if (!ended(j)) {
        AUTO_FREE char *text =
            xasprintf("job %llu has not ended", (unsigned long long)id);
        AUTO_FREE char *hint =
            xasprintf("tidemill job cancel j%llu", (unsigned long long)id);
        sched_error(s, p->id, 1, id, MSG_REMOVE, text, hint);
    } else {
        job_remove(s, j);
        sched_answer(s, p->id, m->remove.id);
    }
}

/* ---- keeping ---- */

int64_t sched_run_ns(const struct sched *s)
{
    return s->run_loaded_ns + s->now;
}

void sched_load_run(struct sched *s, int64_t ns)
{
    s->run_loaded_ns = s->run_saved_ns = ns;
}

/* Retention counts the time that coordinators ran, so neither a wall clock that jumps nor
 * a coordinator that was off removes anything early. */
void jobs_keep(struct sched *s)
{
    int64_t keep = s->config.keep_ns, now = sched_run_ns(s);
    struct job *j, *tmp;

    if (!keep)
        return;
    if (now - s->run_saved_ns >= MIN(RUN_SAVED_NS, keep / RUN_SAVED_PER_KEEP)) {
        fx_add(s->g, FX_RUN)->run.ns = s->run_saved_ns = now;
        TAILQ_FOREACH_SAFE (j, &s->all, node, tmp)
            if (ended(j) && LIST_EMPTY(&j->followers) &&
                now - j->row.ended_run_ns >= keep)
                job_remove(s, j);
    }
}
