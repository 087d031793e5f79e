/* The inputs of a command: what the user named, walked where asked for, or listed in a
 * file. Gives each to a callback; knows nothing of ops. */
#ifndef CLIENT_FEED_H
#define CLIENT_FEED_H

#include "client/run.h"

struct feed {
    struct run *run;
    const char *const *paths;
    size_t n;
    const char *scratch; /* where standard input goes, the only input then; else NULL */
    bool recursive;
    bool sizes;             /* large files are to be shared by the mills of a node */
    bool remote;            /* no path is looked at here: nodes walk (remote.h) */
    const char *files_from; /* a file, "-" = standard input; NULL = none */
    bool null_ended;        /* names in it end with NUL, not newline */
    /* One input: shown as the user wrote it (or below what he wrote); abs: its absolute
     * path; root and below: as in walk.h. Non-zero ends the feeding. */
    int (*input)(void *arg, const char *shown, const char *abs, const char *root,
                 const char *below, uint64_t size);
    void *arg;
    struct remote *walk; /* feed_all's own */
};

/* All of it, for run_job; arg: struct feed. -1: the run is over. Errors of single inputs
 * are told through run_refuse. */
int feed_all(void *arg);
/* A new private file, empty, in tmpdir(). Caller removes it and frees the path; for a
 * private cluster it goes to tm_open_options.scratch too. */
int feed_scratch(const char *what, char **ret_path, struct err *err);
/* Is "-" what the command is to read? -1: it is, but cannot be: it stands alone, and is
 * gone with this process (R17). */
int feed_is_stdin(const char *const *args, size_t n, const char *files_from,
                  struct err *err);
/* Each line (or NUL-ended name) of a list; fn returning non-zero ends it. */
int feed_list(struct run *run, const char *path, bool null_ended,
              int (*fn)(void *arg, const char *item, size_t len, size_t line), void *arg,
              struct err *err);

#endif
