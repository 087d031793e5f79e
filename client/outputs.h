/* Where the outputs of encrypt and decrypt go; of fetch too, no two to one place. */
#ifndef CLIENT_OUTPUTS_H
#define CLIENT_OUTPUTS_H

#include "client/feed.h"

struct output_name;
struct outputs {
    struct run *run;
    const char *dir;  /* -o; NULL = beside the input */
    const char *file; /* --output: of the only input; NULL = by name */
    bool add_age;     /* encrypt adds .age, decrypt takes it off */
    bool used;        /* --output was given to an input */
    struct output_name *names;
};

/* feed.input of encrypt and decrypt; arg: struct outputs. */
int outputs_add(void *arg, const char *shown, const char *abs, const char *root,
                const char *below, uint64_t size);
/* False: another input goes to this path already. */
bool outputs_claim(struct outputs *o, const char *path);
void outputs_fini(struct outputs *o);
/* Runs worker --stream OP with args (NULL-ended) on this process's standard input and
 * output; the exit code. identity: an identity file's bytes, or empty. */
int stream_run(const char *op, const char *const *args, struct span identity);

#endif
