/* tm_open and tm_close: a connection, with a cluster of its own if none is named. */
#include <errno.h>
#include <unistd.h>

#include "client/lib/internal.h"
#include "client/lib/pair.h"

#define CONNECT_NS   (6 * NS_PER_S)
#define RECONNECT_NS (30 * NS_PER_S)

static int start_pair(struct conn *c, const struct tm_open_options *o, struct err *err)
{
    struct pair_options po = {
        .bin_dir = o->bin_dir,
        .state_dir = o->state_dir,
        .roots = o->roots,
        .procs = o->procs,
        .coroutines = o->coroutines,
        .scratch = o->scratch,
        .identity = o->identity,
        .identity_len = o->identity_len,
        .quiet = true,
    };
    if (pair_start(&po, &c->pair, err) < 0)
        return -1;
    c->endpoint = xstrdup(pair_endpoint(c->pair));
    return 0;
}

static char *own_name(void)
{
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    return xasprintf("%s/%ld", host, (long)getpid());
}

static const char *named(const char *option, const char *environment)
{
    const char *value = option ? option : getenv(environment);
    return value && *value ? value : NULL;
}

int tm_open(const struct tm_open_options *opts, struct tm **ret, struct tm_error *terr)
{
    static const struct tm_open_options defaults;
    const struct tm_open_options *o = opts ? opts : &defaults;
    struct err err;
    struct conn *c = xcalloc(1, sizeof(*c));
    conn_init(c);
    c->patience_ns = TM_FOREVER;
    c->name = o->name ? xstrdup(o->name) : own_name();
    c->connect_timeout_ns = o->connect_timeout_ns ? o->connect_timeout_ns : CONNECT_NS;
    c->reconnect_timeout_ns =
        o->reconnect_timeout_ns ? o->reconnect_timeout_ns : RECONNECT_NS;
    int rc = 0;
    if (o->coordinator)
        c->endpoint = xstrdup(o->coordinator);
    else
        rc = start_pair(c, o, &err);
    if (rc == 0)
        rc = keyring_open(c->endpoint, named(o->key_file, "TIDEMILL_KEY"),
                          named(o->known_keys, "TIDEMILL_KNOWN_KEYS"), "client.key",
                          &c->keyring, &err);
    if (rc == 0)
        rc = conn_start(c, &err);
    if (rc < 0) {
        pair_free(c->pair, 0);
        conn_fini(c);
        free(c);
        return error_out(terr, &err);
    }
    *ret = (struct tm *)c;
    return 0;
}

static void free_what_is_left(struct conn *c)
{
    struct tm_job *job;
    while (!LIST_EMPTY(&c->futures))
        future_free_locked(LIST_FIRST(&c->futures));
    while (!LIST_EMPTY(&c->maps))
        map_free_locked(LIST_FIRST(&c->maps));
    while (!LIST_EMPTY(&c->rows))
        rows_free_locked(LIST_FIRST(&c->rows));
    while ((job = TAILQ_FIRST(&c->all)))
        job_forget(job);
    while (!TAILQ_EMPTY(&c->queries))
        query_free(c, TAILQ_FIRST(&c->queries));
}

void tm_close(struct tm *tm)
{
    if (!tm)
        return;
    struct conn *c = conn_of(tm);
    conn_stop(c);
    pair_free(c->pair, 0);
    free_what_is_left(c);
    conn_fini(c);
    free(c);
}

int tm_fd(struct tm *tm)
{
    return conn_of(tm)->event_fd;
}

int tm_process(struct tm *tm, struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct err err;
    pthread_mutex_lock(&c->mu);
    if (c->event_hot) {
        uint64_t posts;
        ssize_t n = read(c->event_fd, &posts, sizeof(posts));
        CHECK(n == sizeof(posts));
        c->event_hot = false;
    }
    int rc = conn_alive(c, &err);
    pthread_mutex_unlock(&c->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

const char *tm_endpoint(const struct tm *tm)
{
    return conn_of(tm)->endpoint;
}

bool tm_warning(struct tm *tm, struct tm_error *ret)
{
    struct conn *c = conn_of(tm);
    *ret = (struct tm_error){ 0 };
    pthread_mutex_lock(&c->mu);
    bool there = c->pair && pair_warning(c->pair, ret->text, sizeof(ret->text));
    pthread_mutex_unlock(&c->mu);
    if (there && !strstr(ret->text, "disk_has_room"))
        snprintf(ret->hint, sizeof(ret->hint),
                 "make room in %.250s; TMPDIR may name a larger disk",
                 pair_state(c->pair));
    return there;
}

bool tm_is_embedded(const struct tm *tm)
{
    return conn_of(tm)->pair != NULL;
}
