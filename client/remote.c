#include "client/remote.h"

#include "base/clock.h"
#include "client/walk.h"

#define WAIT_NS (20 * NS_PER_MS) /* then results of the run are printed */

struct remote {
    struct feed *feed;
    struct tm_job *walk;
    uint64_t asked, answered; /* pages */
    uint64_t skipped;
};

/* Without all that its walk finds, the job is none. */
static int cancelled(struct remote *r)
{
    struct run *run = r->feed->run;

    run->stop = EXIT_CANCELLED;
    run_withdraw(run);
    cli_note("j%llu: cancelled, as its walk was",
             (unsigned long long)tm_job_id(run->job));
    return -1;
}

static int over(struct remote *r, const struct tm_error *err)
{
    struct run *run = r->feed->run;

    if (err->code == EXIT_CANCELLED)
        return cancelled(r);
    run->stop = cli_tm_error(err);
    run_withdraw(run);
    return -1;
}

/* Submitted, followed: 0, TM_AGAIN, -1. */
static int begin(struct remote *r, const struct tm_job_spec *spec, struct tm_error *err)
{
    int rc = tm_submit(r->feed->run->open.tm, spec, &r->walk, err);

    return rc ? rc : tm_follow(r->walk, 0, TM_INPUTS, err);
}

struct remote *remote_new(struct feed *feed)
{
    struct run *run = feed->run;
    const struct common *c = cli_common_now();
    AUTO_FREE char *name =
        xasprintf("walk of j%llu", (unsigned long long)tm_job_id(run->job));
    struct tm_job_spec spec = { .command = "walk",
                                .source = TM_SOURCE_DIR,
                                .on = run->found.on,
                                .name = name,
                                .priority = (int32_t)c->priority,
                                .retries = c->retries ? (int32_t)c->retries : -1 };
    struct remote *r = xcalloc(1, sizeof(*r));
    struct tm_error err = { 0 };
    int rc;

    r->feed = feed;
    while ((rc = begin(r, &spec, &err)) == TM_AGAIN) /* a signal came */
        if (run_pause(run, 0) < 0)
            break;
    if (rc == 0)
        return r;
    if (rc < 0)
        over(r, &err);
    remote_free(r);
    return NULL;
}

/* ---- asking ---- */

/* A page of a directory is to be read: by the node, NULL = by any. -1: the run is over.
 */
static int ask(struct remote *r, struct tm_input *in)
{
    struct tm_error err = { 0 };
    int rc;

    while ((rc = tm_try_add(r->walk, in, &err)) == TM_AGAIN)
        if (run_pause(r->feed->run, WAIT_NS) < 0)
            return -1;
    r->asked += rc == 0;
    if (rc < 0 && err.code == TM_TOO_LARGE) {
        run_refuse(r->feed->run, in->shown, err.text);
        return r->feed->run->stop ? -1 : 0;
    }
    return rc < 0 ? over(r, &err) : 0;
}

int remote_add(struct remote *r, const char *path)
{
    struct run *run = r->feed->run;
    AUTO_FREE char *abs = walk_absolute(path);
    size_t n = 0;

    do { /* with each: every node reads its own */
        struct tm_input in = { .path = abs,
                               .shown = path,
                               .size = strlen(path),
                               .named = true,
                               .node = run->found.n ? run->found.nodes[n] : NULL };
        if (ask(r, &in) < 0)
            return -1;
    } while (++n < run->found.n);
    return 0;
}

/* ---- what is found ---- */

static char *join(struct tm_bytes dir, struct tm_bytes name)
{
    bool slash = dir.len && dir.data[dir.len - 1] == '/';

    return xasprintf("%.*s%s%.*s", (int)dir.len, (const char *)dir.data, slash ? "" : "/",
                     (int)name.len, (const char *)name.data);
}

/* A regular file: an input of the run, as if the client had found it. */
static int on_file(struct remote *r, const struct tm_result *dir, const char *abs,
                   const char *shown, uint64_t size)
{
    AUTO_FREE char *root = span_dup(span_of(shown, MIN(dir->size_hint, strlen(shown))));
    const char *below = shown + strlen(root);

    while (*below == '/')
        below++;
    return r->feed->input(r->feed->arg, shown, abs, root, below, size);
}

static int on_entry(struct remote *r, const struct tm_result *dir,
                    const struct tm_entry *e, const char *node)
{
    AUTO_FREE char *abs = join(dir->path, e->name);
    AUTO_FREE char *shown = join(dir->shown, e->name);
    struct tm_input in = {
        .path = abs, .shown = shown, .size = dir->size_hint, .node = node
    };

    return e->is_dir ? ask(r, &in) : on_file(r, dir, abs, shown, e->size);
}

static int go_on(struct remote *r, const struct tm_result *dir, struct tm_bytes last,
                 const char *node)
{
    struct tm_error err = { TM_ERROR, "a node's page of a directory has no names", "" };
    struct tm_input in = { .path = (const char *)dir->path.data,
                           .path_len = dir->path.len,
                           .shown = (const char *)dir->shown.data,
                           .shown_len = dir->shown.len,
                           .after = (const char *)last.data,
                           .after_len = last.len,
                           .size = dir->size_hint,
                           .named = dir->size_hint == dir->shown.len,
                           .node = node };

    return last.len ? ask(r, &in) : over(r, &err);
}

static int on_page(struct remote *r, const struct tm_result *dir, const char *node)
{
    struct tm_error err = { 0 };
    struct tm_entry e = { 0 };
    size_t pos = 0;
    int rc;

    r->skipped += dir->skipped;
    while ((rc = tm_entry_next(dir->body, &pos, &e, &err)) == 1)
        if (on_entry(r, dir, &e, node) < 0)
            return -1;
    if (rc < 0)
        return over(r, &err);
    return dir->more ? go_on(r, dir, e.name, node) : 0;
}

static int on_result(struct remote *r, const struct tm_result *dir)
{
    struct run *run = r->feed->run;
    AUTO_FREE char *node =
        run->found.n ? span_dup(span_of(dir->node.data, dir->node.len)) : NULL;
    AUTO_FREE char *shown = span_dup(span_of(dir->shown.data, dir->shown.len));
    AUTO_FREE char *why = span_dup(span_of(dir->error.data, dir->error.len));
    int rc = 0;

    if (dir->status == TM_TASK_CANCELLED)
        return cancelled(r);
    run->only = node; /* with each: what is there is hashed there */
    if (dir->status != TM_OK) {
        run_refuse(run, shown, *why ? why : tm_status_name(dir->status));
        rc = run->stop ? -1 : 0;
    } else if (dir->is_file) {
        AUTO_FREE char *abs = span_dup(span_of(dir->path.data, dir->path.len));
        rc = on_file(r, dir, abs, shown, dir->bytes);
    } else {
        rc = on_page(r, dir, node);
    }
    run->only = NULL;
    return rc;
}

int remote_finish(struct remote *r)
{
    struct run *run = r->feed->run;
    struct tm_error err = { 0 };
    struct tm_result dir;
    int rc = 0;

    while (rc == 0 && r->answered < r->asked) {
        if (tm_flush(r->walk, &err) < 0)
            return over(r, &err);
        rc = tm_next(r->walk, &dir, WAIT_NS, &err);
        if (rc == TM_AGAIN) {
            rc = run_pause(run, 0);
            continue;
        }
        if (rc <= 0)
            return rc < 0 ? over(r, &err) : cancelled(r);
        r->answered++;
        rc = on_result(r, &dir);
    }
    if (r->skipped && cli_common_now()->verbose)
        cli_note("%llu entries skipped: neither files nor directories",
                 (unsigned long long)r->skipped);
    return rc;
}

/* ---- its end ---- */

void remote_free(struct remote *r)
{
    struct tm_error err = { 0 };
    struct run *run;

    if (!r)
        return;
    run = r->feed->run;
    if (r->walk && r->answered == r->asked) {
        if (tm_seal(r->walk, &err) == 0)
            while (tm_sync(r->walk, TM_FOREVER, &err) == TM_AGAIN && !run_interrupted())
                ;
    } else if (r->walk) {
        run_order(run, tm_cancel, tm_job_id(r->walk), &err);
        if (run->stop == TM_UNPLACEABLE) /* said of the job itself, some of it done */
            run_withdraw(run);
    }
    if (r->walk)
        run_order(run, tm_remove, tm_job_id(r->walk), &err);
    tm_job_free(r->walk);
    free(r);
}
