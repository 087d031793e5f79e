/* Where the outputs of encrypt and decrypt go; of fetch too, no two to one place. */
#ifndef CLIENT_OUTPUTS_H
#define CLIENT_OUTPUTS_H

#include "client/digests.h"
#include "client/feed.h"

struct outputs {
    struct run *run;
    const char *dir;  /* -o; NULL = beside the input */
    const char *file; /* --output: of the only input; NULL = by name */
    bool add_age;     /* encrypt adds .age, decrypt takes it off */
    bool used;        /* --output was given to an input */
    /* Without it no output replaces another, whoever made it: the worker sees to that,
     * and nothing is kept here. */
    bool force;
    struct digests claimed; /* the outputs' paths */
};

/* Can encrypt or decrypt be called so? 1 = as a stream, 0 = with files, -1 = no. */
int outputs_usage(const struct cli_args *call, const char *files_from, const char *output,
                  bool recursive, struct err *err);
/* feed.input of encrypt and decrypt; arg: struct outputs. */
int outputs_add(void *arg, const char *shown, const char *abs, const char *root,
                const char *below, uint64_t size);
/* False: with force, another input goes to this path already. */
bool outputs_claim(struct outputs *o, const char *path);
void outputs_fini(struct outputs *o);
/* Runs worker --stream OP with args (NULL-ended) on this process's standard input and
 * output; the exit code. identity: an identity file's bytes, or empty. */
int stream_run(const char *op, const char *const *args, struct span identity);

#endif
