#include "worker/node_hosts.h"

#include "base/err.h"

/* The farthest turn a task is sent back with: it comes, and is sent back once more. */
#define RATE_BACK_MAX_NS  (3600 * NS_PER_S)
#define PLACE_BACK_MAX_NS (10 * NS_PER_S)

struct io_host *host_get(struct io_host **hosts, const char *key, uint32_t places)
{
    struct io_host *h;

    HASH_FIND_STR(*hosts, key, h);
    if (!h) {
        h = xcalloc(1, sizeof(*h));
        snprintf(h->key, sizeof(h->key), "%s", key);
        coro_sem_init(&h->places, places);
        h->n_places = places;
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
    return !h->users && h->next_ns <= now_ns && h->promised_ns <= now_ns;
}

void host_put(struct io_host **hosts, struct io_host *h, int64_t now_ns)
{
    h->users--;
    if (is_idle(h, now_ns))
        host_free(hosts, h);
}

static int64_t rate_ns(double rate)
{
    return (int64_t)MIN((double)NS_PER_S / rate, 86400.0 * NS_PER_S);
}

int64_t host_turn(struct io_host *h, int64_t now_ns, double rate)
{
    int64_t at = MAX(now_ns, h->next_ns);

    h->next_ns = at + rate_ns(rate);
    return at;
}

/* How soon a place comes free after another: as long as nobody leaves, the mean of those
 * who did says too little. */
static int64_t place_ns(const struct io_host *h, int64_t now_ns)
{
    return h->places.free ? 0 : MAX(h->held_ns, now_ns - h->moved_ns) / h->n_places;
}

static uint32_t send_back(struct io_host *h, int64_t now_ns, int64_t at, double rate)
{
    int64_t apart = MAX(place_ns(h, now_ns), rate > 0 ? rate_ns(rate) : 0);
    /* A rate is known for good; how fast the server will be is not. */
    int64_t most = rate > 0 ? RATE_BACK_MAX_NS : PLACE_BACK_MAX_NS;

    if (h->promised_ns + apart - now_ns > most)
        h->promised_ns = 0; /* another round over the same time */
    h->promised_ns = MAX(at, h->promised_ns + apart);
    return (uint32_t)(MAX(NS_PER_S, MIN(h->promised_ns - now_ns, most)) / NS_PER_S);
}

uint32_t host_later_s(struct io_host *h, int64_t now_ns, double rate, bool has_place)
{
    int64_t at = MAX(now_ns, h->next_ns);

    if (!has_place && !h->places.free)
        at = MAX(at, now_ns + place_ns(h, now_ns) * (h->waiting + 1));
    return at - now_ns <= HOST_WAIT_NS ? 0 : send_back(h, now_ns, at, rate);
}

uint32_t host_send_back(struct io_host *h, int64_t now_ns, double rate)
{
    int64_t at = MAX(h->next_ns, now_ns + place_ns(h, now_ns));

    return send_back(h, now_ns, at, rate);
}

void host_entered(struct io_host *h, int64_t now_ns)
{
    h->moved_ns = now_ns;
}

void host_left(struct io_host *h, int64_t now_ns, int64_t since_ns)
{
    int64_t held = now_ns - since_ns;

    /* To come too early costs a message, too late leaves places idle. */
    h->held_ns =
        h->held_ns && held > h->held_ns ? h->held_ns + (held - h->held_ns) / 4 : held;
    h->moved_ns = now_ns;
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
