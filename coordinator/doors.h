/* Where a coordinator listens: which of its endpoints are encrypted and for whom, and
 * what is said of them to those who are invited. */
#ifndef COORDINATOR_DOORS_H
#define COORDINATOR_DOORS_H

#include "proto/link.h"

enum { DOORS_MAX = 8 };
/* Who may come in: with a key for clients or for workers; or, plain, whoever reaches it.
 */
enum door_kind { DOOR_PLAIN, DOOR_CLIENTS, DOOR_WORKERS };

struct door {
    const char *endpoint; /* as it was asked for */
    enum door_kind kind;
};
struct doors {
    struct door door[DOORS_MAX];
    size_t n;
    bool encrypted; /* any of them */
};

/* listen: ipc, tcp for clients; workers: tcp for workers. plain: tcp is not encrypted,
 * and on loopback. err code 2. Borrows the endpoints. */
int doors_plan(const char *const *listen, size_t n_listen, const char *const *workers,
               size_t n_workers, bool plain, struct doors *ret, struct err *err);
/* How others reach what is bound: host instead of its own (NULL: the same, or this
 * host's name where it is bound to all of its addresses). Caller frees. */
char *door_advertised(const char *bound, const char *host);

#endif
