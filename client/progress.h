/* What a person sees on standard error while a job runs: a bar on a terminal, else a line
 * each 10 s; JSON lines for programs; nothing when not wanted. */
#ifndef CLIENT_PROGRESS_H
#define CLIENT_PROGRESS_H

#include "client/cli.h"

struct progress;

struct progress *progress_new(const struct common *c, const char *command);
/* The next progress_show shows something, however short the job. p may be NULL. */
void progress_at_once(struct progress *p);
/* Called often; shows at most what is due. p may be NULL. */
void progress_show(struct progress *p, const struct tm_job *job, bool ended);
/* Takes the bar away, so that a line can be printed. p may be NULL. */
void progress_clear(struct progress *p);
void progress_free(struct progress *p); /* takes NULL */

#endif
