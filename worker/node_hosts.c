#include "worker/node_hosts.h"

#include "base/err.h"

struct io_host *host_get(struct io_host **hosts, const char *key, uint32_t places)
{
    struct io_host *h;

    HASH_FIND_STR(*hosts, key, h);
    if (!h) {
        h = xcalloc(1, sizeof(*h));
        snprintf(h->key, sizeof(h->key), "%s", key);
        coro_sem_init(&h->places, places);
        HASH_ADD_STR(*hosts, key, h);
    }
    h->users++;
    return h;
}

static void host_free(struct io_host **hosts, struct io_host *h)
{
    coro_sem_fini(&h->places);
    HASH_DEL(*hosts, h);
    free(h);
}

static bool is_idle(const struct io_host *h, int64_t now_ns)
{
    return !h->users && h->next_ns <= now_ns;
}

void host_put(struct io_host **hosts, struct io_host *h, int64_t now_ns)
{
    h->users--;
    if (is_idle(h, now_ns))
        host_free(hosts, h);
}

int64_t host_turn(struct io_host *h, int64_t now_ns, double rate)
{
    int64_t at = MAX(now_ns, h->next_ns);

    h->next_ns = at + (int64_t)MIN((double)NS_PER_S / rate, 86400.0 * NS_PER_S);
    return at;
}

void hosts_tend(struct io_host **hosts, int64_t now_ns)
{
    struct io_host *h, *tmp;

    HASH_ITER (hh, *hosts, h, tmp)
        if (is_idle(h, now_ns))
            host_free(hosts, h);
}

void hosts_free(struct io_host **hosts)
{
    struct io_host *h, *tmp;

    HASH_ITER (hh, *hosts, h, tmp)
        host_free(hosts, h);
}
