/* Results of an input sequence, in its order. The store keeps the order (R14), so the
 * only memory here is the window of inputs drawn ahead, which are in chunks, and the
 * credit of results. */
#include "client/lib/internal.h"

enum {
    AHEAD_MAX = 8 * WIRE_CHUNK_TASKS_MAX, /* inputs drawn and not given back yet */
    DRAW_MAX = 1024, /* at once, while a result is there: a slow source delays none */
};

struct tm_map {
    LIST_ENTRY(tm_map) node;
    struct tm_job *job;
    tm_input_fn *next;
    void *arg;
    uint64_t drawn, given;
    struct tm_input input; /* what next gave */
    bool waits;            /* it found no room yet */
    bool drained;          /* the sequence has ended, the job is sealed */
    bool over;             /* the job's end was read */
    struct err failed;
};

int tm_map(struct tm *tm, const struct tm_job_spec *spec, tm_input_fn *next, void *arg,
           struct tm_map **ret, struct tm_error *terr)
{
    struct conn *c = conn_of(tm);
    struct tm_job *job = NULL;
    struct err err;
    pthread_mutex_lock(&c->mu);
    int rc = conn_alive(c, &err);
    if (rc == 0)
        rc = job_new(c, spec, &job, &err);
    if (rc == 0)
        rc = results_follow(job, 0, TM_TASK_ORDER | TM_INPUTS, &err);
    if (rc == 0) {
        struct tm_map *map = xcalloc(1, sizeof(*map));
        map->job = job;
        map->next = next;
        map->arg = arg;
        LIST_INSERT_HEAD(&c->maps, map, node);
        *ret = map;
    }
    pthread_mutex_unlock(&c->mu);
    return rc == 0 ? 0 : error_out(terr, &err);
}

/* The map is over: what is not recorded yet is cancelled. */
static int fail(struct tm_map *map, const struct err *why)
{
    uint64_t id = tm_job_id(map->job);
    map->failed = *why;
    if (map->failed.code == 0)
        map->failed.code = TM_ERROR;
    if (id != 0)
        tm_cancel((struct tm *)map->job->conn, id, NULL);
    return -1;
}

static bool room(struct tm_map *map)
{
    struct conn *c = map->job->conn;
    if (map->drained || map->drawn - map->given >= AHEAD_MAX)
        return false;
    pthread_mutex_lock(&c->mu);
    bool room = chunk_room(map->job);
    pthread_mutex_unlock(&c->mu);
    return room;
}

/* Draws one input, unless one waits, and adds it; seals after the last. 0, TM_AGAIN (the
 * input waits), -1. */
static int draw(struct tm_map *map)
{
    struct tm_error terr;
    struct err err;
    int rc = 1;
    if (!map->waits) {
        map->input = (struct tm_input){ 0 };
        rc = map->next(map->arg, &map->input);
    }
    if (rc < 0) {
        err_set(&err, TM_ERROR, "the input sequence failed after %llu inputs",
                (unsigned long long)map->drawn);
        return fail(map, &err);
    }
    map->drained = rc == 0;
    rc = rc == 0 ? tm_seal(map->job, &terr) : tm_try_add(map->job, &map->input, &terr);
    map->waits = rc == TM_AGAIN;
    if (rc == 0 && !map->drained)
        map->drawn++;
    if (rc != -1)
        return rc;
    err_set(&err, terr.code, "%s", terr.text);
    err_hint(&err, "%s", terr.hint);
    return fail(map, &err);
}

/* Draws while there is room; stops early when a result can be given. */
static int fill(struct tm_map *map)
{
    struct conn *c = map->job->conn;
    unsigned n = 0;
    while (room(map)) {
        int rc = draw(map);
        if (rc != 0)
            return rc == TM_AGAIN ? 0 : -1;
        if (++n % DRAW_MAX != 0)
            continue;
        pthread_mutex_lock(&c->mu);
        bool there = results_waiting(map->job);
        pthread_mutex_unlock(&c->mu);
        if (there)
            return 0;
    }
    return 0;
}

/* Waits for a result or for room: 0, TM_AGAIN, -1. */
static int await(struct tm_map *map, struct waiter *w)
{
    struct conn *c = map->job->conn;
    struct tm_job *job = map->job;
    struct err err;
    bool may_draw = !map->drained && map->drawn - map->given < AHEAD_MAX;
    int rc = 0;
    pthread_mutex_lock(&c->mu);
    chunk_close(job); /* what was drawn shall not wait for what is not */
    conn_kick(c);
    while (rc == 0 && !results_waiting(job) && !(may_draw && chunk_room(job))) {
        rc = job_check(job, &err);
        if (rc == 0)
            rc = conn_wait(c, w);
    }
    pthread_mutex_unlock(&c->mu);
    return rc == -1 ? fail(map, &err) : rc;
}

int tm_map_next(struct tm_map *map, struct tm_result *ret, int64_t timeout_ns,
                struct tm_error *terr)
{
    struct waiter w = conn_waiter(timeout_ns);
    int rc = TM_AGAIN;
    while (!map->failed.code) {
        if (!map->over && fill(map) < 0)
            break;
        rc = tm_next(map->job, ret, 0, terr);
        if (rc == 1)
            map->given++;
        if (rc == 0)
            map->over = true;
        if (rc != TM_AGAIN)
            return rc;
        rc = await(map, &w);
        if (rc == TM_AGAIN)
            return rc;
    }
    return error_out(terr, &map->failed);
}

struct tm_job *tm_map_job(struct tm_map *map)
{
    return map->job;
}

void map_free_locked(struct tm_map *map)
{
    LIST_REMOVE(map, node);
    struct tm_job *job = map->job;
    bool lives = !map->failed.code && !job->heard.ended &&
                 job->conn->state != CONN_DEAD && !job->failed.code;
    free(map);
    if (lives && job->id != 0)
        query_cancel_unheard(job->conn, job->id);
    if (lives && job->id == 0 && job->on_asked)
        job->unwanted = true; /* its Accepted cancels it */
    else
        job_forget(job);
}

void tm_map_free(struct tm_map *map)
{
    if (!map)
        return;
    struct conn *c = map->job->conn;
    pthread_mutex_lock(&c->mu);
    map_free_locked(map);
    pthread_mutex_unlock(&c->mu);
}
