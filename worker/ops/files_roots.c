#include "worker/ops/files_roots.h"

#include <errno.h>
#include <sys/stat.h>

#include "worker/ops/dirs.h"

static int root_add(struct files_roots *r, const char *spec, struct err *err)
{
    AUTO_FREE char *dir = xstrdup(spec);
    size_t len = strlen(dir);
    bool ro = len > 3 && strcmp(dir + len - 3, ":ro") == 0;
    struct stat st;
    char *real;

    if (ro)
        dir[len - 3] = 0;
    real = realpath(dir, NULL);
    if (!real)
        return err_sys(err, 2, "--root %s", dir);
    if (stat(real, &st) < 0 || !S_ISDIR(st.st_mode)) {
        free(real);
        return err_set(err, 2, "--root %s: not a directory", dir);
    }
    if (strcmp(real, "/") == 0)
        real[0] = 0;
    r->list = xrealloc(r->list, (r->n + 1) * sizeof(*r->list));
    r->list[r->n++] = (struct root){ real, ro };
    return 0;
}

int files_roots_new(const char *const *specs, size_t n, struct files_roots **ret,
                    struct err *err)
{
    struct files_roots *r = xcalloc(1, sizeof(*r));

    r->durable = dirs_durable_new();
    for (size_t i = 0; i < n; i++)
        if (root_add(r, specs[i], err) < 0) {
            files_roots_free(r);
            return -1;
        }
    *ret = r;
    return 0;
}

void files_roots_free(struct files_roots *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->list[i].dir);
    free(r->list);
    dirs_durable_free(r->durable);
    free(r);
}

/* The longest root counts, so that a :ro below a writable one is obeyed. */
const struct root *roots_of(const struct files_roots *r, const char *path)
{
    const struct root *best = NULL;

    for (size_t i = 0; i < r->n; i++) {
        size_t len = strlen(r->list[i].dir);
        if (strncmp(path, r->list[i].dir, len) == 0 &&
            (path[len] == '/' || path[len] == 0) && (!best || len > strlen(best->dir)))
            best = &r->list[i];
    }
    return best;
}

int roots_outside(struct err *err)
{
    err_set(err, 5, "outside of the worker's roots");
    return err_hint(err, "start the worker with a --root that holds it");
}

char *roots_path(struct span path, struct err *err)
{
    if (path.len == 0 || path.data[0] != '/' || memchr(path.data, 0, path.len)) {
        err_set(err, 1, "not an absolute path");
        return NULL;
    }
    return span_dup(path);
}

bool roots_plain(const char *path)
{
    for (const char *part = path, *end; *part; part = end) {
        end = strchrnul(++part, '/');
        size_t len = (size_t)(end - part);
        if (len == 0 || (len <= 2 && strncmp(part, "..", len) == 0))
            return false;
    }
    return true;
}
