/* Commands that have subcommands (job, node): a table says their names, arguments and
 * options; what is common to all is done here. */
#ifndef CLIENT_SUB_H
#define CLIENT_SUB_H

#include "client/cli.h"

struct call {
    struct tm *tm;
    const struct sub *sub;
    const void *options; /* the command's, parsed */
    bool json;
};

struct sub {
    const char *name, *args, *summary;
    const char *takes; /* the command's own options it knows: "|wait|timeout|"; or NULL */
    size_t min, max;   /* arguments */
    int (*run)(const struct call *call, const char *const *args, size_t n);
    const void *how; /* the command's own business, or sub_alone */
};

/* Such a subcommand needs no cluster: call->tm is NULL. */
extern const char sub_alone[];

/* Parses, opens the cluster and runs what argv names; the exit code. subs ends with a
 * NULL name; own: the command's options or NULL; options: the target, zeroed. */
int sub_run(const char *command, const struct sub *subs, const struct opt *own,
            void *options, int argc, char **argv);

/* A row a line, below a heading, or with --json an object: all that the question `what`
 * is answered with; the exit code. */
int sub_table(const struct call *call, const char *what, const char *heading,
              void (*line)(const struct tm_rows *rows));

#endif
