/* Temporaries of a worker that was killed (R8). Where an attempt will make files is noted
 * first, in a journal in the spool directory that is locked while its worker lives. The
 * next worker with the same key (it has the same name at the same coordinator, which may
 * want some of the files published) finds the journals without an owner and removes what
 * they name; only files of the very attempts noted there are touched. Journals of workers
 * whose coordinator went with them are everybody's of this user.
 *
 * Every function but litter_new takes NULL: a node without a journal works, and leaves
 * litter only when it is killed. */
#ifndef WORKER_LITTER_H
#define WORKER_LITTER_H

#include "base/buf.h"
#include "base/err.h"

struct litter;

/* Begins a journal. key: letters and digits, at most 32; NULL = the coordinator ends with
 * the worker. */
int litter_new(const char *spool_dir, const char *key, struct litter **ret,
               struct err *err);
/* keep: our journal stays, for the next worker. */
void litter_free(struct litter *l, bool keep);

/* Notes that an attempt will make a file beside `out`. On disk after litter_flush. */
void litter_note(struct litter *l, uint64_t epoch, uint64_t lease, struct span out);
void litter_flush(struct litter *l);
/* Nothing that was noted so far is under way any more. */
void litter_clear(struct litter *l);
/* So much is noted that it should be cleared, and what is under way noted again. */
bool litter_is_long(const struct litter *l);

/* The file of this task of an earlier attempt is still wanted: it is not swept. Others of
 * the same lease may have been under way when the worker died. */
void litter_keep(struct litter *l, uint64_t epoch, uint64_t lease, uint32_t task);
/* Takes over the journals that nobody holds, and removes what they name. Reads
 * directories: for a thread of its own, while nothing but litter_note, litter_flush and
 * litter_clear is called. False: one with our key is held yet, by a process that is still
 * ending; to be called again. */
bool litter_sweep(struct litter *l);

#endif
