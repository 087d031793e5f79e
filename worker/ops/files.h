/* Sources and outputs on disk: inside the node's roots only, outputs through temporary
 * files (R8). Blocking calls; any thread. Paths are absolute bytes without NUL.
 *
 *   files_create -> write -> close -> files_sync (a group) -> Done ... Committed ->
 *   files_publish (a group) -> Published */
#ifndef WORKER_OPS_FILES_H
#define WORKER_OPS_FILES_H

#include <stdbool.h>
#include <sys/stat.h>
#include "base/buf.h"
#include "base/err.h"

struct files_roots; /* the directories a node may read and, unless :ro, write */

/* specs: "DIR" or "DIR:ro", n may be 0 (no file at all then). err code 2. */
int files_roots_new(const char *const *specs, size_t n, struct files_roots **ret,
                    struct err *err);
void files_roots_free(struct files_roots *roots); /* takes NULL */

/* One attempt at one task: (epoch, lease) is unique for ever, so a stale attempt's file
 * is never taken for another's (R4, R8). */
struct files_attempt {
    uint64_t epoch; /* counter, and whose it is */
    uint64_t lease;
    uint32_t task;
};

/* Opens a regular file for reading, and says what it is. Symbolic links are followed, but
 * where they lead must lie under a root too. err says why, in words for the user, without
 * the path. */
int files_open(const struct files_roots *roots, struct span path, int *ret_fd,
               struct stat *ret_st, struct err *err);
/* Opens a directory for reading its names. named: the user named it, so a symbolic link
 * is followed, and a regular file is no error: *ret_fd is -1 then, *ret_st says what it
 * is. What is opened lies under a root, wherever links on the way lead. */
int files_open_dir(const struct files_roots *roots, struct span path, bool named,
                   int *ret_fd, struct stat *ret_st, struct err *err);
/* Makes the output's temporary ".NAME.tm-EPOCH-LEASE-TASK" (NAME cut where too long) in
 * its directory, which is made with its parents when missing. Its mode is 0600 until all
 * is written, so that it can be opened once more. An output that exists is an error now
 * already unless force. */
int files_create(const struct files_roots *roots, struct span out,
                 const struct files_attempt *attempt, bool force, int *ret_fd,
                 struct err *err);
/* Opens an attempt's temporary once more, for writing. */
int files_reopen(const struct files_roots *roots, struct span out,
                 const struct files_attempt *attempt, int *ret_fd, struct err *err);
/* Gives a temporary that is written the mode of its output. */
int files_mode(const struct files_roots *roots, struct span out,
               const struct files_attempt *attempt, mode_t mode, struct err *err);
/* Removes an attempt's temporary, if there is one. */
void files_discard(const struct files_roots *roots, struct span out,
                   const struct files_attempt *attempt);

struct files_item {
    struct span out;
    struct files_attempt attempt;
    bool force;
    struct err err; /* out: of this item; code 0 = it went well */
};
/* Makes n temporaries durable, as one group: data of all is started, then waited for;
 * from a few dozen on one file system by one syncfs. Failures go to the items. */
void files_sync(const struct files_roots *roots, struct files_item *items, size_t n);
/* Renames n temporaries to their names (RENAME_NOREPLACE unless force) and syncs each
 * directory once, with the new ones that lead to it. Failures go to the items. Done
 * before by this same attempt counts as done. The error for an output that exists:
 * "output exists (--force replaces it)"; its temporary is removed. */
void files_publish(const struct files_roots *roots, struct files_item *items, size_t n,
                   bool sync);

#endif
