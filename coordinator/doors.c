#include "coordinator/doors.h"

#include <string.h>
#include <unistd.h>

static bool is_tcp(const char *endpoint)
{
    return strncmp(endpoint, "tcp://", 6) == 0;
}

static int add(struct doors *d, const char *endpoint, enum door_kind kind,
               struct err *err)
{
    if (d->n == DOORS_MAX)
        return err_set(err, 2, "at most %d endpoints to listen on", DOORS_MAX);
    if (link_endpoint_check(endpoint, kind != DOOR_PLAIN, err) < 0)
        return -1;
    d->door[d->n++] = (struct door){ endpoint, kind };
    d->encrypted |= kind != DOOR_PLAIN;
    return 0;
}

int doors_plan(const char *const *listen, size_t n_listen, const char *const *workers,
               size_t n_workers, bool plain, struct doors *ret, struct err *err)
{
    *ret = (struct doors){ .n = 0 };
    for (size_t i = 0; i < n_listen; i++) {
        bool encrypted = is_tcp(listen[i]) && !plain;
        if (add(ret, listen[i], encrypted ? DOOR_CLIENTS : DOOR_PLAIN, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < n_workers; i++) {
        if (!is_tcp(workers[i])) {
            err_set(err, 2, "--listen-workers %s: a tcp endpoint is wanted", workers[i]);
            return err_hint(err, "workers on this host may use an ipc one of --listen");
        }
        if (add(ret, workers[i], plain ? DOOR_PLAIN : DOOR_WORKERS, err) < 0)
            return -1;
    }
    return 0;
}

static bool is_any(const char *host, size_t len)
{
    static const char *const names[] = { "*", "0.0.0.0", "[::]" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (len == strlen(names[i]) && memcmp(host, names[i], len) == 0)
            return true;
    return false;
}

char *door_advertised(const char *bound, const char *host)
{
    const char *own = bound + strlen("tcp://"), *colon = strrchr(bound, ':');
    char name[256] = "localhost";

    if (!is_tcp(bound) || colon < own || (!host && !is_any(own, (size_t)(colon - own))))
        return xstrdup(bound);
    if (!host) {
        gethostname(name, sizeof(name) - 1);
        host = name;
    }
    /* An IPv6 address has brackets here. */
    bool bare = strchr(host, ':') && host[0] != '[';
    return xasprintf("tcp://%s%s%s%s", bare ? "[" : "", host, bare ? "]" : "", colon);
}
