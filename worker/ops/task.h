/* One task, from source through stages to sink, in one pass over the bytes: what a mill
 * does. Blocking; knows no loop, socket or lease. Opens files only through files.h. */
#ifndef WORKER_OPS_TASK_H
#define WORKER_OPS_TASK_H

#include <stdatomic.h>
#include "proto/pack.h"
#include "proto/wire.h"
#include "worker/ops/age_header.h"
#include "worker/ops/files.h"

/* What stays the same for all tasks of a process. */
struct task_env {
    const struct files_roots *roots;         /* borrowed */
    const struct age_identities *identities; /* borrowed; may be NULL */
    const atomic_bool *cancelled; /* looked at every block read; NULL = never */
    _Atomic uint64_t *moved; /* counts blocks read, here alone; NULL = nobody looks */
};

struct part;

struct task_work {
    const struct job_spec *spec;
    const struct task_input *in;
    struct files_attempt attempt; /* names the temporary output */
    /* A fetched body: bytes, or a file read from offset 0. Else the input is the source.
     */
    bool has_body;
    struct span body;
    int body_fd; /* -1 = none; not closed here */
    /* A part of it only (part.h); NULL = all of it. */
    const struct part *part;
};

/* Runs it. Fills *ret and returns its status (TASK_OK, TASK_FAILED, TASK_RETRYABLE or
 * TASK_CANCELLED); what *ret points to is in `mem`, which is cleared first. With
 * SINK_FILE and TASK_OK the bytes lie whole in the attempt's temporary file, not synced
 * and not published; after any other status no temporary is left, but for that of a
 * range, in which others are at work. */
enum task_status task_run(const struct task_env *env, const struct task_work *work,
                          struct buf *mem, struct task_value *ret);

/* Memory for the kernel to copy from and to, at the beginning of a page: 16 bytes behind
 * it, where malloc puts what is large, Linux on AMD copies at a third of the speed. */
uint8_t *task_pages(size_t len);
/* What an errno of reading or writing means: worth another try, or not. */
enum task_status task_status_of(int error);
/* Says that there is progress. Nobody else writes it: no locked instruction is needed. */
static inline void task_moved(const struct task_env *env)
{
    uint64_t n = atomic_load_explicit(env->moved, memory_order_relaxed);
    atomic_store_explicit(env->moved, n + 1, memory_order_relaxed);
}
/* Once a block: says that there is progress, asks whether it is wanted. */
bool task_cancelled(const struct task_env *env);

#endif
