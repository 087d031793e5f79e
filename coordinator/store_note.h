/* What a move leaves beside the databases, so that a state is never used twice (R5):
 * moved-to in the old directory for ever, moving-from in the new one until it is whole.
 * Each says when, and the other directory's path. */
#ifndef COORDINATOR_STORE_NOTE_H
#define COORDINATOR_STORE_NOTE_H

#include <stdbool.h>
#include "base/err.h"

#define NOTE_MOVED_TO    "moved-to"
#define NOTE_MOVING_FROM "moving-from"

struct note {
    bool there;
    char when[24]; /* UTC; empty, as path is, where the note cannot be understood */
    char *path;    /* owned */
};

/* A note that is not there is no failure; one that cannot be understood is there. */
int note_read(const char *dir, const char *name, struct note *ret, struct err *err);
void note_fini(struct note *n);
/* Whole and on disk when this returns, with the time as it is now. */
int note_write(const char *dir, const char *name, const char *path, struct err *err);
/* Gone from the disk when this returns. */
int note_remove(const char *dir, const char *name, struct err *err);

/* Fails where a note says that this directory is not, or not yet, a state to be used. */
int note_refuse(const char *dir, struct err *err);

#endif
