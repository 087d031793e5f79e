/* The commands, each in a file of its own (cmd_*.c): argv[0] is the command's name; the
 * exit code comes back. */
#ifndef CLIENT_CMD_H
#define CLIENT_CMD_H

#include "client/where.h"

int cmd_hash(int argc, char **argv);
int cmd_encrypt(int argc, char **argv);
int cmd_decrypt(int argc, char **argv);
int cmd_fetch(int argc, char **argv);
int cmd_job(int argc, char **argv);
int cmd_results(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_node(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_key(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_help(int argc, char **argv);

/* job retry, in cmd_retry.c: of an ended job, what failed so (class; NULL = in any way)
 * runs again as a new job, whose id is printed. The exit code. */
int retry_job(struct tm *tm, uint64_t id, const char *class);

/* hash -c, in cmd_check.c. */
struct check_options {
    const char *manifest;
    bool status, ignore_missing;
    int algo; /* of GNU lines; -1 = by their length */
    const struct where *where;
};
int check_run(const struct check_options *o);

#endif
