/* Where a job runs: --on and --remote of the commands that make one. */
#ifndef CLIENT_WHERE_H
#define CLIENT_WHERE_H

#include "client/cli.h"

struct where {
    struct opt_list on;
    bool remote;
};

/* Rows of a command's option table; off: of its struct where. */
#define WHERE_ON(off)                                                                    \
    {                                                                                    \
        "on", 0, OPT_LIST, (off) + offsetof(struct where, on), "NODE|KEY=VALUE", NULL,   \
            0, 0, NULL,                                                                  \
            "only on this node, or on those with this label; repeatable, all have to "   \
            "hold; each: on every one of them"                                           \
    }
#define WHERE_REMOTE(off)                                                                \
    {                                                                                    \
        "remote", 0, OPT_FLAG, (off) + offsetof(struct where, remote), NULL, NULL, 0, 0, \
            NULL, "look at no path here: the nodes do, and walk directories"             \
    }

bool where_each(const struct where *w);
/* Before anything is opened: -1 with a usage error. recursive: directories are walked. */
int where_check(const struct where *w, bool recursive, struct err *err);

/* The nodes that are meant, once the cluster is open. */
struct where_found {
    char *on;     /* owned; for tm_job_spec.on; NULL = any */
    char **nodes; /* owned; with `each`: its set; else none */
    size_t n;
};
/* spec: source and sink say whether a node needs roots; its `on` is set. -1 with err: no
 * node is connected that is meant by `each`. */
int where_find(const struct where *w, const struct opened *open, struct tm_job_spec *spec,
               struct where_found *ret, struct tm_error *err);
void where_found_fini(struct where_found *f);

#endif
