/* Walks what the user named and gives each regular file to a callback, in the order in
 * which find shows it. Knows nothing of jobs. A name is bytes; it may hold newlines. */
#ifndef CLIENT_WALK_H
#define CLIENT_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct walk_entry {
    const char *shown; /* as the user gave it, or below what he gave */
    const char *below; /* the part below the named directory; "" for a named file */
    uint64_t size;     /* bytes, as the walk saw it; may be 0 without WALK_SIZES */
    const char *error; /* why this entry cannot be taken; NULL = it can */
};

struct walk_counts {
    uint64_t files, skipped; /* skipped: neither a regular file nor a directory */
};

/* Returning other than 0 ends the walk with that value. */
typedef int walk_fn(void *arg, const struct walk_entry *entry);

enum walk_flags {
    WALK_RECURSIVE = BIT(0),
    WALK_SIZES = BIT(1), /* a system call more for each file */
};

/* root: followed when it is a symbolic link; links found below are not. A directory
 * without WALK_RECURSIVE is an entry with the error "is a directory (-r walks it)".
 * Missing and unreadable things are entries with an error, the walk goes on. */
int walk(const char *root, unsigned flags, walk_fn *fn, void *arg,
         struct walk_counts *counts);

/* path made absolute with the working directory in front; no link is resolved.
 * Caller frees. */
char *walk_absolute(const char *path);

#endif
