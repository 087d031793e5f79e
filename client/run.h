/* One job from the command line: opened, submitted, fed and drained at the same time, so
 * that neither side waits for the other; then the summary and the exit code. */
#ifndef CLIENT_RUN_H
#define CLIENT_RUN_H

#include "client/cli.h"
#include "client/present.h"
#include "client/where.h"

struct seen; /* inputs that an earlier run of the same command had accepted */

struct run {
    struct opened open;
    struct tm_job *job;
    struct present present;
    unsigned follow_flags;
    bool private_only; /* a stream: in a private cluster, whatever else there is */
    const struct where *where; /* which nodes; NULL = any */
    struct where_found found;
    const char *only; /* inputs that are added now are for this node; NULL = as found */
    bool detach, draining, over; /* over: the job ended before its inputs did */
    bool submitted;              /* the job is this command's */
    bool dry;                    /* --dry-run: there is no job */
    /* Instead of present_result, when set. */
    void (*on_result)(void *arg, const struct tm_result *r);
    void (*on_end)(void *arg); /* before the cluster is closed; may be NULL */
    void *arg;
    /* The inputs come from bytes that the key has, so in the same order every time: the
     * first so many of them are tasks already, equal or not. */
    bool counted;
    uint64_t skip;
    uint8_t key[16];         /* see run_key */
    uint64_t added, refused; /* refused: inputs that never became tasks */
    struct seen *seen;
    struct progress *progress;
    int stop;            /* exit code, once the run was interrupted; else 0 */
    int64_t leave_by_ns; /* on the way out: nobody is waited for any longer */
};

/* What makes "the same command again" under --state: the directory it is called in, its
 * words, and what else there is. */
void run_key(struct run *run, const struct cli_args *call, struct span more);
/* All of a job: opens and submits (spec->present comes from run->present), lets feed add
 * the inputs, seals, prints what comes, says the summary, closes everything. The exit
 * code; errors were printed. */
int run_job(struct run *run, struct tm_open_options *open, struct tm_job_spec *spec,
            int (*feed)(void *arg), void *arg);
/* For feed: adds one input; prints results meanwhile. -1: the run is over. */
int run_add(struct run *run, const struct tm_input *in);
/* Until a descriptor of inputs is readable; prints results meanwhile. -1: the run is
 * over. */
int run_await(struct run *run, int fd);
/* Prints what is there, else waits at most so long for it. -1: the run is over. */
int run_pause(struct run *run, int64_t timeout_ns);
/* Ends the run with an error of its own: -1. */
int run_over(struct run *run, const char *why);
/* An input that cannot become a task: printed, counted. */
void run_refuse(struct run *run, const char *name, const char *why);
/* The end of a job that was attached to: prints what comes, says the summary, closes
 * everything. The exit code. */
int run_end(struct run *run);
/* From now on Ctrl-C and SIGTERM interrupt calls to tm instead of ending the process. */
void run_catch_interrupts(struct tm *tm);
/* tm_cancel or tm_remove on the way out: 0, -1, TM_AGAIN when nobody answered in time, of
 * which there are 10 s in all from the first such wait on. */
int run_order(struct run *run, int (*order)(struct tm *, uint64_t, struct tm_error *),
              uint64_t job, struct tm_error *err);
/* Its job shall not begin, since its inputs cannot be found. */
void run_withdraw(struct run *run);
bool run_interrupted(void);

#endif
