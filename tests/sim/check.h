/* The checker: knows what clients submitted and were told, what followers saw, what the
 * store has, what messages say and what directories hold; nothing of how the scheduler
 * came to it. Each promise that does not hold is told by `broken`. */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "coordinator/sched.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/store_model.h"

void check_new(struct world *w);
void check_free(struct world *w);

/* The coordinator says something, its group being durable if it passed through one. */
void check_sent(struct world *w, peer_id peer, const struct msg *m);
peer_id check_given_to(struct world *w, uint64_t lease); /* 0 = to nobody */
/* A turn has ended: windows are kept, books are right (P4). */
void check_turn(struct world *w, const struct sched *s);
/* The store is about to save. */
void check_batch(struct world *w, struct stored_job *j, const struct batch_row *row);
void check_show(struct world *w, struct stored_job *j, const struct fx *fx);
void check_state(struct world *w, struct stored_job *j, enum job_state to);
void check_removed(struct world *w, struct stored_job *j);
/* The store loses the last chunk, or the last batch, of a job that was written behind. */
void check_lost_chunk(struct world *w, const struct stored_job *j);
void check_lost_batch(struct world *w, const struct stored_job *j,
                      const struct batch_row *row);
/* A submitter, a follower is told that what it was told of is lost. */
void check_told_chunks(struct world *w, struct plan *p, uint64_t epoch, uint32_t chunks);
void check_told_lost(struct world *w, struct plan *p);
/* A node has put a file in place. */
void check_published(struct world *w, uint32_t node, const struct entry *e);
/* A follower was given records, and the end. */
void check_seen(struct world *w, struct plan *p, const struct msg *m);
void check_seen_end(struct world *w, struct plan *p);
/* All is quiet: what must have come true by now. */
void check_end(struct world *w);
bool check_jobs_ended(struct world *w);

/* check_flow.c: time, pressure, credit. */
void flow_new(struct world *w);
void flow_free(struct world *w);
void flow_restart(struct world *w); /* another coordinator begins */
void flow_turn(struct world *w);    /* a turn begins */
void flow_before_end(struct world *w);
void flow_after_end(struct world *w);
void flow_said(struct world *w, peer_id peer, const struct msg *m);
void flow_sent(struct world *w, peer_id peer, const struct msg *m);
/* The lease reported this task while it was its own. */
bool flow_reported(const struct world *w, uint64_t lease, uint32_t task);
/* How often it ended in a retryable error since the coordinator's start. */
uint32_t flow_tries(const struct world *w, const struct plan *p, uint32_t task);
void flow_pushed(struct world *w, const struct fx_group *g);
void flow_resumed(struct world *w, uint64_t job); /* and it is committed */

/* check_books.c: the scheduler's own numbers agree with each other. */
void check_books(struct world *w, const struct sched *s);
void books_tell(const struct sched *s); /* prints how things stand */
/* Does the lease owe this task now, and may this peer speak for it? */
bool books_holds(const struct sched *s, peer_id peer, uint64_t lease, uint64_t task);
/* No other lease owes it too. */
bool books_alone(const struct sched *s, uint64_t lease, uint64_t task);
void check_books_empty(struct world *w, const struct sched *s);

#endif
