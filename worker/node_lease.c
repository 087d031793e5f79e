/* Leases and the jobs they are of, as a node keeps them. */
#include "worker/node_state.h"

struct node_lease *lease_find(struct node *n, uint64_t id)
{
    struct node_lease *l = n->found;

    /* Results come by the thousand for one lease: most are spared the hash. */
    if (l && l->id == id)
        return l;
    HASH_FIND(hh, n->leases, &id, sizeof(id), l);
    n->found = l;
    return l;
}

void lease_remove(struct node_lease *l)
{
    HASH_DEL(l->node->leases, l);
    if (l->node->found == l)
        l->node->found = NULL;
}

static void job_forget(struct node *n, struct node_job *j)
{
    HASH_DEL(n->jobs, j);
    if (n->pool)
        procpool_forget_spec(n->pool, j->id);
    free(j->bytes);
    free(j);
}

void lease_unref(struct node_lease *l)
{
    if (--l->refs)
        return;
    if (--l->job->leases == 0 && l->job->old)
        job_forget(l->node, l->job);
    free(l->tasks);
    free(l->ranges);
    free(l->batched);
    free(l->split);
    free(l->body);
    free(l);
}

struct span lease_input(const struct node_lease *l, uint32_t index)
{
    return span_of(l->body + l->offsets[index], l->lens[index]);
}

struct files_attempt lease_attempt(const struct node_lease *l, uint32_t index)
{
    return (struct files_attempt){ l->attempt_epoch, l->id, l->tasks[index] };
}

struct node_lease *lease_new(struct node *n, struct node_job *job, const struct msg *m)
{
    const struct msg_lease *w = &m->lease;
    struct node_lease *l = xcalloc(1, sizeof(*l));
    uint32_t at = 0;

    l->id = w->lease;
    l->node = n;
    l->job = job;
    job->leases++;
    l->epoch = n->epoch;
    l->attempt_epoch = n->place ^ (w->publish ? w->attempt_epoch : n->epoch.counter);
    l->chunk = w->chunk;
    l->n = l->left = w->n_lens;
    l->refs = 1;
    l->task_timeout_ns = w->task_timeout_ns;
    memcpy(l->digest, w->digest, sizeof(l->digest));
    l->batched = xcalloc(l->n + 1, sizeof(bool));
    l->tasks = xcalloc(l->n + 1, 3 * sizeof(uint32_t));
    l->lens = l->tasks + l->n;
    l->offsets = l->lens + l->n;
    l->n_ranges = w->n_ranges;
    l->ranges = xcalloc(l->n_ranges + 1, sizeof(*l->ranges));
    memcpy(l->ranges, w->ranges, l->n_ranges * sizeof(*l->ranges));
    for (uint32_t r = 0; r < w->n_ranges; r++)
        for (uint32_t i = 0; i < w->ranges[r].count; i++)
            l->tasks[at++] = w->ranges[r].first + i;
    memcpy(l->lens, w->lens, l->n * sizeof(uint32_t));
    for (uint32_t i = 0; i < l->n; i++)
        l->offsets[i + 1] = l->offsets[i] + l->lens[i];
    l->body = (uint8_t *)span_dup(m->body); /* which may be NULL: inputs of 0 bytes */
    HASH_ADD(hh, n->leases, id, sizeof(l->id), l);
    return l;
}

struct node_job *job_of(struct node *n, const struct msg_lease *m, struct err *err)
{
    struct node_job *j;

    HASH_FIND(hh, n->jobs, &m->job, sizeof(m->job), j);
    if (j) {
        j->old = j->old && m->spec.len == 0;
        return j;
    }
    if (m->spec.len == 0) {
        err_set(err, 1, "lease of job %llu without its spec", (unsigned long long)m->job);
        return NULL;
    }
    j = xcalloc(1, sizeof(*j));
    j->id = m->job;
    j->bytes = xmalloc(m->spec.len);
    memcpy(j->bytes, m->spec.data, m->spec.len);
    if (spec_unpack(span_of(j->bytes, m->spec.len), &j->spec, err) < 0) {
        free(j->bytes);
        free(j);
        return NULL;
    }
    HASH_ADD(hh, n->jobs, id, sizeof(j->id), j);
    procpool_spec(n->pool, j->id, m->spec);
    return j;
}

void jobs_forget(struct node *n, uint64_t job)
{
    struct node_job *j, *tmp;

    HASH_ITER (hh, n->jobs, j, tmp) {
        if (job && j->id != job)
            continue;
        j->old = true;
        if (j->leases == 0)
            job_forget(n, j);
    }
}
