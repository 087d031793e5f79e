/* The mill's side of the process pool: takes runs of tasks from the work ring, runs them
 * one after another and puts the results into the done ring. One thread, no malloc and no
 * system call per task. It ends when the pool's process does, however that ended. */
#ifndef WORKER_MILLWORK_H
#define WORKER_MILLWORK_H

#include "worker/ops/task.h"

/* What is done with a task: task_run, or a test's own. */
typedef enum task_status mill_task_fn(const struct task_env *env,
                                      const struct task_work *work, struct buf *mem,
                                      struct task_value *ret);

/* To be called first: closes what was inherited by accident, ignores what a terminal
 * sends (the parent decides), writes no core, dies with its parent. */
void millwork_enter(void);
/* Serves until the parent is gone; never returns. env's `cancelled` is set by itself. */
_Noreturn void millwork_loop(mill_task_fn *fn, const struct task_env *env);

#endif
