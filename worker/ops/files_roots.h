/* What the files of files.h share: the roots, and what lies under them. */
#ifndef WORKER_OPS_FILES_ROOTS_H
#define WORKER_OPS_FILES_ROOTS_H

#include "worker/ops/files.h"

struct dirs_durable;

struct root {
    char *dir; /* absolute, no link in it, without a slash at its end: "" is "/" */
    bool read_only;
};
struct files_roots {
    struct root *list;
    size_t n;
    struct dirs_durable *durable;
};

/* Where an absolute path without links lies ("" is "/"); NULL = outside. */
const struct root *roots_of(const struct files_roots *r, const char *path);
int roots_outside(struct err *err); /* says so: -1 */
/* A NUL-ended copy of a path that may be used; NULL with err. Caller frees. */
char *roots_path(struct span path, struct err *err);
/* No part of it is "", "." or "..": what lies where it says, if no link is on the way. */
bool roots_plain(const char *path);

#endif
