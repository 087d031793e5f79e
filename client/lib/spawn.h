/* Programs of tidemill as children of this process: where they are, how they start, how
 * they end. A child is a process group of its own, so that Ctrl-C reaches only us. */
#ifndef CLIENT_LIB_SPAWN_H
#define CLIENT_LIB_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/err.h"

struct child {
    const char *program; /* static; as in messages */
    pid_t pid;           /* 0: not running */
    int status;          /* of waitpid, when it has ended */
    int lifeline;        /* write end; closing it ends the child. -1: none */
};
#define CHILD_NONE ((struct child){ .lifeline = -1 })

/* The program's path: bin_dir, TIDEMILL_BIN_DIR, beside this executable, beside this
 * library, PATH. bin_dir may be NULL. Caller frees *ret. */
int spawn_find(const char *bin_dir, const char *program, char **ret, struct err *err);

/* Argument vectors that own their strings; NULL-ended. */
struct args {
    char **items;
    size_t n;
};
void args_add(struct args *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void args_fini(struct args *a);

/* Starts path with args, "--lifeline-fd N" appended. The n_fds descriptors of fds stay
 * open in the child under their own numbers. log_fd: its stderr, -1 = ours. */
struct spawn_fds {
    const int *fds;
    size_t n;
    int log_fd;
};
int spawn_start(const char *program, const char *path, struct args *args,
                const struct spawn_fds *fds, struct child *ret, struct err *err);
/* True when it still runs; else status is filled. Does not wait. */
bool spawn_running(struct child *c);
/* "exit status 3", "killed by signal 9". Into buf. */
const char *spawn_ending(const struct child *c, char *buf, size_t size);
/* Closes the lifeline, after sending signo if it is not 0. Does not wait. */
void spawn_let_go(struct child *c, int signo);
/* The same, and waits until it has ended: SIGKILL after 10 s. */
void spawn_end(struct child *c);

#endif
