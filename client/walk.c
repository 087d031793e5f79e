#include "client/walk.h"

#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

char *walk_absolute(const char *path)
{
    if (path[0] == '/')
        return xstrdup(path);
    AUTO_FREE char *cwd = getcwd(NULL, 0);
    if (!cwd)
        return xstrdup(path); /* the working directory is gone; the open will say so */
    return xasprintf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
}

static int report(walk_fn *fn, void *arg, const FTSENT *e, size_t root_len,
                  const char *error)
{
    const char *below = e->fts_level == FTS_ROOTLEVEL ? "" : e->fts_path + root_len;
    while (*below == '/')
        below++;
    struct walk_entry entry = { e->fts_path, below, 0, error };
    if (!error && e->fts_info == FTS_F)
        entry.size = (uint64_t)e->fts_statp->st_size;
    return fn(arg, &entry);
}

/* What is wrong with an entry that fts could not take; NULL when nothing is. */
static const char *entry_error(const FTSENT *e)
{
    switch (e->fts_info) {
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return strerror(e->fts_errno);
    case FTS_SLNONE:
        return e->fts_level == FTS_ROOTLEVEL ? strerror(ENOENT) : NULL;
    case FTS_DC:
        return "directory is linked into itself";
    case FTS_DEFAULT:
        return e->fts_level == FTS_ROOTLEVEL ? "is not a regular file" : NULL;
    default:
        return NULL;
    }
}

int walk(const char *root, bool recursive, walk_fn *fn, void *arg,
         struct walk_counts *counts)
{
    char *roots[] = { (char *)root, NULL };
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    if (!fts) {
        struct walk_entry entry = { root, "", 0, strerror(errno) };
        return fn(arg, &entry);
    }
    int rc = 0;
    size_t root_len = strlen(root);
    for (FTSENT *e; rc == 0 && (e = fts_read(fts));) {
        const char *error = entry_error(e);
        if (error) {
            rc = report(fn, arg, e, root_len, error);
        } else if (e->fts_info == FTS_F) {
            counts->files++;
            rc = report(fn, arg, e, root_len, NULL);
        } else if (e->fts_info == FTS_D && !recursive) {
            fts_set(fts, e, FTS_SKIP);
            rc = report(fn, arg, e, root_len, "is a directory (-r walks it)");
        } else if (e->fts_info != FTS_D && e->fts_info != FTS_DP) {
            counts->skipped++;
        }
    }
    fts_close(fts);
    return rc;
}
