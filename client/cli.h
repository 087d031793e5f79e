/* What the commands share: common options, errors as the contract has them, opening the
 * cluster. Printing of results is present.h's, running a job is run.h's. */
#ifndef CLIENT_CLI_H
#define CLIENT_CLI_H

#include "base/buf.h"
#include "base/opt.h"
#include "client/tidemill.h"

/* Exit codes beside enum tm_code. */
enum {
    EXIT_OK = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 2,
    EXIT_SOME_FAILED = 3,
    EXIT_MISMATCH = 4,
    EXIT_STILL_RUNNING = 7,
    EXIT_CANCELLED = 8,
    EXIT_NOTHING = 9,
};

struct common {
    const char *coordinator, *key, *known_keys, *state, *progress, *name, *color;
    bool detach, json, quiet, verbose, help, dry_run, no_input;
    int64_t procs, priority, retries, task_timeout_ns, deadline_ns;
};
extern const struct opt cli_common[]; /* rows for struct common at offset 0 of a target */

struct command {
    const char *name, *args, *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; the exit code */
    bool can_dry_run;
};
extern const struct command commands[]; /* ends with a NULL name */

/* A command as it was called: its arguments, and all words before options were taken out.
 */
struct cli_args {
    const char *const *args;
    size_t n;
    int argc;
    char **argv;
};
/* Parses argv into options (struct common first, own second table or NULL), zeroed by the
 * caller, and gives them to fn, which returns the exit code; they are gone after it. */
int cli_call(const char *name, const struct opt *own, int argc, char **argv,
             void *options, int (*fn)(void *options, const struct cli_args *call));
/* Parses only, for a command with subcommands (sub.h), which its help lists. Returns 0;
 * else the exit code is in *ret_code (also for --help, which is printed). */
struct sub;
int cli_parse_subs(const struct command *cmd, const struct sub *subs,
                   const struct opt *own, int argc, char **argv, void *target,
                   const char ***ret_args, size_t *ret_n, int *ret_code);
const struct command *cli_command(const char *name);

/* Prints an error of the command itself (text, hint; JSON when asked for) and returns its
 * exit code. */
int cli_error(const struct err *err);
int cli_tm_error(const struct tm_error *err);
/* One input's failure: "tidemill: NAME: why" on stderr. name: bytes. */
void cli_input_error(const void *name, size_t len, const char *why);
void cli_note(const char *fmt, ...) PRINTF_LIKE(1, 2); /* stderr, unless -q */
const struct common *cli_common_now(void);             /* of the last cli_parse */

struct err cli_err_of(const struct tm_error *err);
/* Finds the coordinator; NULL endpoint = embedded. */
struct opened {
    struct tm *tm;
    char *endpoint, *origin; /* owned; endpoint NULL = embedded */
};
int cli_open(struct tm_open_options *opts, struct opened *ret, struct tm_error *err);
/* A private cluster wherever a coordinator may be: for streams, which are read and
 * written here (R17). Nothing of it is kept. */
int cli_open_private(struct tm_open_options *opts, struct opened *ret,
                     struct tm_error *err);
/* As cli_open, but a coordinator is needed: `what` cannot be done without one. */
int cli_open_cluster(const char *what, struct opened *ret, struct tm_error *err);
void cli_close(struct opened *o);

/* "j41" and "41" -> 41; -1. */
int cli_job_id(const char *text, uint64_t *ret);
/* A selector (job id, last, 1-3, all) to ids, ascending. 1-3 and all mean, of the jobs
 * there are, those that `which` says; a job that is named is meant however it is. Caller
 * frees *ret. err code 9 when nothing matches. */
enum select_which { SELECT_ANY, SELECT_RUNNING, SELECT_ENDED, SELECT_FAILED };
int cli_select(struct tm *tm, const char *selector, enum select_which which,
               uint64_t **ret, size_t *ret_n, struct tm_error *err);
/* The whole text of a file or, for "-", of standard input. */
int cli_read_file(const char *path, size_t max, struct buf *out, struct err *err);
/* "1,234,567" */
const char *cli_count(uint64_t n, char text[32]);

#endif
