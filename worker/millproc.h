/* One mill as the pool sees it: a child process, the memory shared with it and its
 * descriptors. Knows no tasks. Loop's thread only. */
#ifndef WORKER_MILLPROC_H
#define WORKER_MILLPROC_H

#include <sys/types.h>
#include "base/err.h"
#include "worker/millshm.h"

struct millproc {
    pid_t pid;            /* 0 = not running */
    int pidfd;            /* readable when it has ended */
    int work_fd, done_fd; /* eventfds: it is to look; we are to look */
    int socket;
    struct mill_shm *shm;
    struct ring work, done;
};

/* Starts `program` (NULL = this one) with the arguments `--mill`, a `--root` for each of
 * roots, and `--identities` when identity_fd is not -1. The process must go on to
 * millwork_enter. */
int millproc_start(struct millproc *p, const char *program, const char *const *roots,
                   int identity_fd, struct err *err);
/* Rings it, if it may be asleep on what was pushed to work or released in done. */
void millproc_wake_work(struct millproc *p);
void millproc_wake_room(struct millproc *p);
/* Passes a copy of fd for the run that is pushed next; -1 with errno when not now. */
int millproc_send_fd(struct millproc *p, int fd);
/* SIGKILL; its end is noticed through pidfd. */
void millproc_kill(struct millproc *p);

/* How a mill ended. */
struct millproc_end {
    bool own;      /* of its own fault, R12 */
    bool killed;   /* SIGKILL: by somebody, or by the kernel for want of memory */
    char text[64]; /* "SIGSEGV", "exit status 1" */
};
/* Reaps it if it has ended (wait: waits for that) and says how; *p's memory, with what is
 * left in the done ring, stays until millproc_close. */
bool millproc_reap(struct millproc *p, bool wait, struct millproc_end *ret);
/* Gives memory and descriptors back; the process must have been reaped. */
void millproc_close(struct millproc *p);

#endif
