/* What is written behind. The model saves such a group before it is pushed, as it counts
 * as committed by then, and takes back what is not on disk when the coordinator is
 * killed; the start that follows notes how much is left, as store_open.c does. */
#include "tests/sim/check.h"
#include "tests/sim/coord_model.h"
#include "tests/sim/store_model_state.h"

/* ---- a kill ---- */

static void take_back(struct world *w, const struct fx *fx)
{
    struct stored_job *j = NULL;

    if (fx->type == FX_CHUNK)
        j = stored_job(w, fx->chunk.job);
    else if (fx->type == FX_BATCH)
        j = stored_job(w, fx->batch.job);
    else if (fx->type != FX_RUN && fx->type < FX_READ_CHUNK)
        broken(w, "R1: what was told of is lost with the coordinator (effect %d)",
               fx->type);
    if (!j)
        return;
    NOTE(w, "lost", fx->type, j->row.id, j->row.tasks);
    if (fx->type == FX_CHUNK) {
        check_lost_chunk(w, j);
        stored_chunk_pop(j);
    } else {
        check_lost_batch(w, j, &j->batches[j->n_batches - 1].row);
        stored_batch_pop(j);
    }
}

static void take_back_group(struct world *w, const struct fx_group *g)
{
    const struct fx **all = NULL, *fx;
    uint32_t n = 0;

    STAILQ_FOREACH (fx, &g->list, node) {
        all = xrealloc(all, (n + 1) * sizeof(*all));
        all[n++] = fx;
    }
    while (n && !w->failure[0])
        take_back(w, all[--n]);
    free(all);
}

/* The last comes first: each then undoes what is last of its job. */
void store_model_lose(struct world *w)
{
    struct store_model *s = w->store;
    const struct fx_group **all = NULL, *g;
    uint32_t n = 0;

    STAILQ_FOREACH (g, &s->waiting, node) {
        if (!g->behind)
            continue;
        all = xrealloc(all, (n + 1) * sizeof(*all));
        all[n++] = g;
    }
    while (n)
        take_back_group(w, all[--n]);
    free(all);
    s->run_ns = s->run_disk_ns;
}

/* ---- the start ---- */

static void note(struct store_model *s, struct lost_row row)
{
    for (uint32_t i = 0; i < s->n_lost; i++)
        if (s->lost[i].job == row.job && s->lost[i].cursor == row.cursor) {
            s->lost[i] = row;
            return;
        }
    s->lost = xrealloc(s->lost, (s->n_lost + 1) * sizeof(*s->lost));
    s->lost[s->n_lost++] = row;
}

void behind_epoch(struct world *w)
{
    struct store_model *s = w->store;

    for (uint32_t i = 0; w->k.behind && i < s->n_jobs; i++) {
        const struct job_row *j = &s->jobs[i].row;
        if (!j->ended_wall_ns)
            note(s, (struct lost_row){
                        j->id, j->ok + j->failed + j->poison + j->cancelled, s->epoch });
    }
}

void behind_load(struct world *w, struct sched *sched)
{
    const struct store_model *s = w->store;

    for (uint32_t i = 0; i < s->n_lost; i++)
        if (stored_job(w, s->lost[i].job))
            sched_load_lost(sched, s->lost[i].job, s->lost[i].cursor, s->lost[i].epoch);
}
