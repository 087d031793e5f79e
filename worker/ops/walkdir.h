/* One page of a directory: what a task of a walk does (docs/walk.md). */
#ifndef WORKER_OPS_WALKDIR_H
#define WORKER_OPS_WALKDIR_H

#include "worker/ops/task.h"

/* The entries of in->path behind in->after, in the order of their names as bytes, into
 * mem and *ret: as many as a value holds (proto/page.h). Symbolic links, and whatever is
 * neither file nor directory, are counted only, on the page they fall to or the first.
 * Memory is that of some pages, however many names there are. */
enum task_status walkdir_run(const struct task_env *env, const struct task_input *in,
                             struct buf *mem, struct task_value *ret, struct err *err);

#endif
