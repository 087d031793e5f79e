/* Options from one table: flag > environment > file > default, with help made from it. */
#ifndef BASE_OPT_H
#define BASE_OPT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum opt_type {
    OPT_FLAG,     /* bool */
    OPT_STR,      /* const char * */
    OPT_LIST,     /* struct opt_list, repeatable */
    OPT_INT,      /* int64_t, a bare number */
    OPT_DURATION, /* int64_t nanoseconds: 250ms 10s 5m 2h 1d */
    OPT_SIZE,     /* int64_t bytes: 64KiB 10MB 1GiB; "0" allowed */
    OPT_RATE,     /* double, N/s (also /m, /h): per second */
    OPT_CHOICE,   /* const char *, one of `choices` (a|b|c) */
};

struct opt_list {
    const char **items; /* borrowed strings, owned array */
    size_t n;
};

/* One row. `off` is the offset of the field in the target struct. */
struct opt {
    const char *name; /* long name, no dashes */
    char letter;      /* short flag or 0 */
    enum opt_type type;
    size_t off;
    const char *arg;     /* its argument in help: "DIR" */
    const char *dflt;    /* default as typed, NULL = zero */
    int64_t min, max;    /* for INT, DURATION, SIZE; both 0 = any */
    const char *choices; /* for CHOICE */
    const char *help;
};

/* Where options come from besides argv: environment prefix ("TIDEMILL") and files, first
 * wins; both may be NULL. Files: "key = value" lines, '#' comments, [section] ignored; a
 * file that is not there is skipped, a key that no table has is another program's. In the
 * environment the items of a list have white space between them; in a file the key is
 * repeated. A source that names a list replaces what lower ones say. */
struct opt_sources {
    const char *env_prefix;
    const char *const *files; /* NULL-ended */
};

/* Parses argv[1..] against up to four tables (NULL-ended array of tables; each table ends
 * with a row whose name is NULL) into `target`, which is zeroed and goes to opt_fini,
 * also after a failure. Options and arguments may mix; "--" ends options. argv's strings
 * must outlive target. ret_args: the non-option arguments (caller frees the array only).
 * err code 2 with a hint (did you mean) on a bad option. */
int opt_parse(const struct opt *const *tables, const struct opt_sources *sources,
              int argc, char **argv, void *target, const char ***ret_args,
              size_t *ret_nargs, struct err *err);
/* Where a value came from: "--name", "TIDEMILL_NAME", "FILE:LINE" or "default"; valid
 * until opt_fini. row is one of the tables' own. Like all of this for one thread. */
const char *opt_origin(const struct opt *row, const void *target);
/* Frees lists inside target, and the strings that came from elsewhere than argv. */
void opt_fini(const struct opt *const *tables, void *target);
/* Prints a help section of one table to f. */
void opt_help(const struct opt *table, FILE *f);

int duration_parse(const char *s, int64_t *ret_ns);
int size_parse(const char *s, int64_t *ret_bytes);

#endif
