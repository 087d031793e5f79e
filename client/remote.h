/* Directories walked by the nodes (--remote -r): a job of its own whose tasks are
 * directories and whose results are what lies in them (docs/walk.md). */
#ifndef CLIENT_REMOTE_H
#define CLIENT_REMOTE_H

#include "client/feed.h"

struct remote;

/* Submits the walk for a run that is open. NULL: the run is over. */
struct remote *remote_new(struct feed *feed);
/* What the user named: walked, and given to feed->input as it is found. Non-zero ends the
 * feeding. */
int remote_add(struct remote *r, const char *path);
/* The rest of it: until all directories were read. */
int remote_finish(struct remote *r);
/* Ends the walk and removes its job. Takes NULL. */
void remote_free(struct remote *r);

#endif
