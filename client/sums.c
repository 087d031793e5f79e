#include "client/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "client/cli.h"
#include "client/manifest.h"

/* Files that the command has open besides: a socket, its libraries' and its inputs. */
enum { FILES_BESIDE = 64 };

/* Of one node, or of all. */
struct of_node {
    char *node, *dir;
    FILE *files[TM_ALGO_COUNT];
    char *temps[TM_ALGO_COUNT]; /* their names until they are published */
    struct of_node *next;
};

struct sums {
    char *dir;
    bool force, by_node;
    struct of_node *list; /* the one used last in front */
};

struct sums *sums_new(const char *dir, bool force, bool by_node)
{
    struct sums *s = xcalloc(1, sizeof(*s));

    s->dir = xstrdup(dir);
    s->force = force;
    s->by_node = by_node;
    return s;
}

static void of_node_free(struct of_node *o)
{
    for (int a = 0; a < TM_ALGO_COUNT; a++) {
        if (o->files[a])
            fclose(o->files[a]);
        if (o->temps[a])
            unlink(o->temps[a]);
        free(o->temps[a]);
    }
    free(o->node);
    free(o->dir);
    free(o);
}

void sums_free(struct sums *s)
{
    struct of_node *o;

    if (!s)
        return;
    while ((o = s->list)) {
        s->list = o->next;
        of_node_free(o);
    }
    free(s->dir);
    free(s);
}

/* A node's name as that of a directory: unsafe bytes are percent-escaped, no "." or "..".
 */
static char *dir_of(const struct sums *s, const char *node)
{
    AUTO_BUF name = BUF_INIT;

    if (!s->by_node)
        return xstrdup(s->dir);
    for (const char *c = node; *c; c++) {
        bool safe = (uint8_t)*c > ' ' && (uint8_t)*c != 0x7f && *c != '/' && *c != '%' &&
                    !(c == node && *c == '.');
        if (safe)
            buf_add_u8(&name, (uint8_t)*c);
        else
            buf_printf(&name, "%%%02X", (uint8_t)*c);
    }
    return xasprintf("%s/%s", s->dir, buf_str(&name));
}

static struct of_node *of(struct sums *s, struct span node)
{
    struct of_node **at, *o;

    for (at = &s->list; (o = *at); at = &o->next)
        if (!s->by_node || span_eq(span_str(o->node), node))
            break;
    if (o) {
        *at = o->next;
    } else {
        o = xcalloc(1, sizeof(*o));
        o->node = s->by_node ? span_dup(node) : xstrdup("");
        o->dir = dir_of(s, o->node);
    }
    o->next = s->list;
    s->list = o;
    return o;
}

static char *path_of(const struct of_node *o, int algo)
{
    return xasprintf("%s/%s", o->dir, manifest_file_name((enum algo)algo));
}

static int fail(struct tm_error *err, const char *hint, const char *fmt, ...)
{
    va_list args;

    err->code = EXIT_ERROR;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    snprintf(err->hint, sizeof(err->hint), "%s", hint);
    return -1;
}

static int cannot_write(struct tm_error *err, const char *what)
{
    return fail(err, "", "cannot write %s: %s", what, strerror(errno));
}

static int must_be_new(const struct sums *s, const struct of_node *o, int algo,
                       struct tm_error *err)
{
    AUTO_FREE char *path = path_of(o, algo);

    if (s->force || access(path, F_OK) < 0)
        return 0;
    return fail(err, "--force replaces it", "%s exists already", path);
}

int sums_check(const struct sums *s, const char *node, uint32_t algos,
               struct tm_error *err)
{
    AUTO_FREE char *dir = dir_of(s, node);
    struct of_node o = { .dir = dir };

    if (strlen(dir) - strlen(s->dir) > NAME_MAX + 1)
        return fail(err, "--json names the nodes too",
                    "the name of node %.80s... is too long for a directory", node);
    for (int a = 0; a < TM_ALGO_COUNT; a++)
        if ((algos & TM_BIT(a)) && must_be_new(s, &o, a, err) < 0)
            return -1;
    return 0;
}

int sums_room(size_t files, struct tm_error *err)
{
    struct rlimit rl;

    CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
    if (files + FILES_BESIDE <= rl.rlim_cur)
        return 0;
    return fail(err, "fewer nodes or algorithms at a time, or a higher ulimit -n",
                "%zu manifests would be open at once, and %llu files may be", files,
                (unsigned long long)rl.rlim_cur);
}

static int dir_make(const struct sums *s, const struct of_node *o, struct tm_error *err)
{
    if (mkdir(s->dir, 0777) < 0 && errno != EEXIST)
        return cannot_write(err, s->dir);
    if (s->by_node && mkdir(o->dir, 0777) < 0 && errno != EEXIST)
        return cannot_write(err, o->dir);
    return 0;
}

/* Under a name of its own until it is whole: what is there is not touched. */
static int open_one(const struct sums *s, struct of_node *o, enum tm_algo algo,
                    struct tm_error *err)
{
    AUTO_FREE char *temp =
        xasprintf("%s/.%s.tm-XXXXXX", o->dir, manifest_file_name((enum algo)algo));
    mode_t mask = umask(0);
    int fd;

    umask(mask);
    if (must_be_new(s, o, algo, err) < 0 || dir_make(s, o, err) < 0)
        return -1;
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return cannot_write(err, o->dir);
    fchmod(fd, 0666 & ~mask);
    o->files[algo] = fdopen(fd, "w");
    o->temps[algo] = STEAL(temp);
    return 0;
}

FILE *sums_file(struct sums *s, struct span node, enum tm_algo algo, struct tm_error *err)
{
    struct of_node *o = of(s, node);

    if (!o->files[algo] && open_one(s, o, algo, err) < 0)
        return NULL;
    return o->files[algo];
}

static int dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Its name is given when its bytes are on disk. */
static int publish_one(const struct sums *s, struct of_node *o, int algo,
                       struct tm_error *err)
{
    AUTO_FREE char *path = path_of(o, algo);
    bool whole = fflush(o->files[algo]) == 0 && fsync(fileno(o->files[algo])) == 0;
    int rc;

    if (fclose(o->files[algo]) != 0)
        whole = false;
    o->files[algo] = NULL;
    if (!whole)
        return cannot_write(err, path);
    rc = s->force ? rename(o->temps[algo], path) : link(o->temps[algo], path);
    if (rc < 0 || (!s->force && unlink(o->temps[algo]) < 0) || dir_sync(o->dir) < 0)
        return cannot_write(err, path);
    free(o->temps[algo]);
    o->temps[algo] = NULL;
    return 0;
}

int sums_publish(struct sums *s, struct tm_error *err)
{
    for (struct of_node *o = s->list; o; o = o->next)
        for (int a = 0; a < TM_ALGO_COUNT; a++)
            if (o->files[a] && publish_one(s, o, a, err) < 0)
                return -1;
    return s->by_node && s->list && dir_sync(s->dir) < 0 ? cannot_write(err, s->dir) : 0;
}
