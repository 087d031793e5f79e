#include "tests/sim/disk.h"

#include "tests/sim/check.h"
#include "tests/sim/sim_node.h"
#include "worker/node_state.h"

struct files_roots {
    struct world *w;
    uint32_t node;
};

void disks_new(struct world *w)
{
    w->disks = xcalloc(NODES_MAX, sizeof(*w->disks));
    for (int i = 0; i < NODES_MAX; i++)
        LIST_INIT(&w->disks[i].entries);
}

static void entry_free(struct entry *e)
{
    LIST_REMOVE(e, node);
    free(e);
}

void disks_free(struct world *w)
{
    struct entry *e;

    for (int i = 0; i < NODES_MAX; i++)
        while ((e = LIST_FIRST(&w->disks[i].entries)))
            entry_free(e);
    free(w->disks);
}

struct disk *disk_of(struct world *w, uint32_t node)
{
    return &w->disks[w->k.shared_disk ? 0 : node];
}

static struct entry *find_temp(const struct disk *d, const char *out,
                               const struct files_attempt *at)
{
    struct entry *e;

    LIST_FOREACH (e, &d->entries, node)
        if (e->temp && !e->removed && e->attempt.epoch == at->epoch &&
            e->attempt.lease == at->lease && e->attempt.task == at->task &&
            strcmp(e->out, out) == 0)
            return e;
    return NULL;
}

const struct entry *disk_target(const struct disk *d, const char *out)
{
    struct entry *e;

    LIST_FOREACH (e, &d->entries, node)
        if (!e->temp && !e->removed && strcmp(e->out, out) == 0)
            return e;
    return NULL;
}

void disk_create(struct disk *d, const char *out, const struct files_attempt *at,
                 uint32_t maker, uint32_t life)
{
    struct entry *e = find_temp(d, out, at);

    if (e) /* of this same attempt, by a mill that died */
        entry_free(e);
    e = xcalloc(1, sizeof(*e));
    snprintf(e->out, sizeof(e->out), "%s", out);
    e->temp = true;
    e->attempt = *at;
    e->maker = maker;
    e->life = life;
    LIST_INSERT_HEAD(&d->entries, e, node);
}

bool disk_write(struct disk *d, const char *out, const struct files_attempt *at,
                uint64_t content)
{
    struct entry *e = find_temp(d, out, at);

    if (!e)
        return false;
    e->content = content;
    e->whole = true;
    return true;
}

void disk_power_cut(struct world *w, struct disk *d)
{
    struct entry *e, *next;

    for (e = LIST_FIRST(&d->entries); e; e = next) {
        next = LIST_NEXT(e, node);
        if (e->removed && chance(w, 500))
            e->removed = false; /* its removal is lost */
        if (e->removed || (!e->synced && e->temp && chance(w, 500))) {
            entry_free(e);
            continue;
        }
        if (!e->synced && chance(w, 700))
            e->whole = false;
        if (e->renamed && chance(w, 500))
            e->temp = true; /* its renaming is lost */
        e->renamed = false;
        e->synced = true; /* as far as it goes: what is there stays */
    }
}

/* ---- worker/ops/files.h ---- */

int files_roots_new(const char *const *specs, size_t n, struct files_roots **ret,
                    struct err *err)
{
    struct files_roots *r = xcalloc(1, sizeof(*r));

    (void)err;
    CHECK(n == 1); /* "/" and the node's letter */
    r->w = the_world;
    r->node = (uint32_t)(specs[0][1] - 'a');
    *ret = r;
    return 0;
}

void files_roots_free(struct files_roots *roots)
{
    free(roots);
}

/* One step of the node's on its disk; false: it was killed before it. */
static bool step(const struct files_roots *r)
{
    return node_disk_step(r->w, r->node);
}

static struct entry *temp_in(struct disk *d, struct span out,
                             const struct files_attempt *at)
{
    char name[OUT_MAX];

    snprintf(name, sizeof(name), "%.*s", (int)out.len, (const char *)out.data);
    return find_temp(d, name, at);
}

static struct entry *temp_of(const struct files_roots *r, struct span out,
                             const struct files_attempt *at)
{
    return temp_in(disk_of(r->w, r->node), out, at);
}

static void entry_remove(struct entry *e)
{
    if (e->synced)
        e->removed = true;
    else
        entry_free(e);
}

void disk_discard(struct world *w, uint32_t node, struct span out,
                  const struct files_attempt *at)
{
    struct entry *e = temp_in(disk_of(w, node), out, at);

    if (!e || !node_disk_step(w, node))
        return;
    NOTE(w, "discard", node, at->lease, at->task);
    entry_remove(e);
}

void files_discard(const struct files_roots *r, struct span out,
                   const struct files_attempt *at)
{
    disk_discard(r->w, r->node, out, at);
}

int files_mode(const struct files_roots *r, struct span out,
               const struct files_attempt *at, mode_t mode, struct err *err)
{
    (void)mode;
    if (step(r) && !temp_of(r, out, at))
        return err_set(err, 1, "its temporary file is gone");
    return 0;
}

void files_sync(const struct files_roots *r, struct files_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct entry *e = temp_of(r, items[i].out, &items[i].attempt);
        if (!step(r))
            return;
        if (e)
            e->synced = true;
        else
            err_set(&items[i].err, 1, "its temporary file is gone");
    }
}

static void publish_one(const struct files_roots *r, struct files_item *item)
{
    struct disk *d = disk_of(r->w, r->node);
    struct entry *e = temp_of(r, item->out, &item->attempt);
    char name[OUT_MAX];
    struct entry *old;

    snprintf(name, sizeof(name), "%.*s", (int)item->out.len,
             (const char *)item->out.data);
    old = (struct entry *)disk_target(d, name);
    if (!e) {
        if (!old)
            err_set(&item->err, 1, "cannot be put in place: it is gone");
        return; /* put there by this attempt already */
    }
    if (old && !item->force) {
        err_set(&item->err, 1, "output exists (--force replaces it)");
        entry_remove(e);
        return;
    }
    if (old)
        entry_free(old);
    e->temp = false;
    e->renamed = true;
    d->renames++;
    NOTE(r->w, "rename", r->node, item->attempt.lease, item->attempt.task);
    check_published(r->w, r->node, e);
}

void files_publish(const struct files_roots *r, struct files_item *items, size_t n,
                   bool sync)
{
    struct disk *d = disk_of(r->w, r->node);
    struct entry *e, *next;

    for (size_t i = 0; i < n; i++) {
        if (!step(r))
            return;
        publish_one(r, &items[i]);
    }
    if (!sync || !step(r))
        return;
    for (e = LIST_FIRST(&d->entries); e; e = next) {
        next = LIST_NEXT(e, node);
        e->renamed = false;
        if (e->removed)
            entry_free(e);
    }
}

/* No journal on these disks: what a killed node leaves is counted by the checker. */
void journal_open(struct node *n)
{
    (void)n;
}

void lease_note(const struct node_lease *l)
{
    (void)l;
}

void journal_tend(struct node *n)
{
    (void)n;
}
