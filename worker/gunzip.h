/* A compressed body as a stream, in bounded memory. libcurl's own decoder takes a stream
 * that ends early for a whole one, and keeps what it decoded while it is paused. The only
 * user of zlib. */
#ifndef WORKER_GUNZIP_H
#define WORKER_GUNZIP_H

#include "base/buf.h"
#include "base/err.h"

struct gunzip;

struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *g); /* takes NULL */
/* Decodes; gives what comes out in pieces of at most 64 KiB. -1 and err: not gzip, or
 * damaged; -2: sink said -1, and why. */
int gunzip_pass(struct gunzip *g, struct span in,
                int (*sink)(void *arg, struct span out, struct err *err), void *arg,
                struct err *err);
/* Is what came whole? Nothing at all is. */
bool gunzip_ended(const struct gunzip *g);

#endif
