/* A fetched body that is kept as it comes: digested and written in one pass, piece by
 * piece, into its attempt's temporary file (files.h). Blocking; any thread, one at a
 * time.
 *
 *   body_new -> body_pass... -> body_end or body_discard -> body_free */
#ifndef WORKER_OPS_BODY_H
#define WORKER_OPS_BODY_H

#include "proto/pack.h"
#include "proto/wire.h"
#include "worker/ops/files.h"

struct body_work {
    const struct files_roots *roots; /* borrowed, as all of it */
    const struct job_spec *spec;
    struct span out; /* where it goes, with SINK_FILE */
    struct files_attempt attempt;
    mode_t mode;
};

struct body;

/* Says whether what the spec wants of a body can be had in this way: nothing is made of
 * its bytes, and they go to a file or nowhere. */
bool body_can(const struct job_spec *spec);

struct body *body_new(const struct body_work *work);
/* TASK_OK, or what the task ends as, with err. */
enum task_status body_pass(struct body *b, struct span bytes, struct err *err);
/* Nothing more comes. After TASK_OK *ret says what was kept, in memory of the body, and
 * the bytes lie whole in the temporary, not synced and not published. */
enum task_status body_end(struct body *b, struct task_value *ret, struct err *err);
/* Leaves no temporary behind. */
void body_discard(struct body *b);
void body_free(struct body *b); /* takes NULL */

#endif
