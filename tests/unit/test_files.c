/* Outputs' directories: made inside of the roots only, and durable before it is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/ops/dirs.h"
#include "worker/ops/files.h"

static char dir[64], root[80];
static struct files_roots *roots;

/* ---- fsync, watched ---- */

static char synced[32][256]; /* below dir, of the directories synced */
static unsigned n_synced;
static const char *broken; /* its sync fails */

int fsync(int fd)
{
    AUTO_FREE char *real = dirs_real(fd);
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        const char *below = real + strlen(dir);
        assert_true(n_synced < ARRAY_LEN(synced));
        snprintf(synced[n_synced++], sizeof(synced[0]), "%s", below);
        if (broken && strcmp(below, broken) == 0) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(SYS_fsync, fd);
}

static bool was_synced(const char *below)
{
    unsigned times = 0;

    for (unsigned i = 0; i < n_synced; i++)
        times += strcmp(synced[i], below) == 0;
    assert_true(times <= 1);
    return times == 1;
}

/* ---- outputs ---- */

static int create(const char *below, struct err *err)
{
    AUTO_FREE char *out = xasprintf("%s/%s", root, below);
    struct files_attempt at = { 1, 2, 3 };
    int fd, rc = files_create(roots, span_str(out), &at, false, &fd, err);

    if (rc == 0)
        close(fd);
    return rc;
}

/* Made and published; its error's code. */
static int make(const char *below, bool sync)
{
    AUTO_FREE char *out = xasprintf("%s/%s", root, below);
    struct files_item item = { .out = span_str(out), .attempt = { 1, 2, 3 } };

    assert_int_equal(create(below, &item.err), 0);
    n_synced = 0;
    files_publish(roots, &item, 1, sync);
    if (item.err.code)
        assert_non_null(strstr(item.err.text, "cannot be made durable"));
    return item.err.code;
}

static bool exists(const char *below)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, below);
    struct stat st;

    return lstat(path, &st) == 0;
}

static void run(const char *command)
{
    AUTO_FREE char *line = xasprintf("cd %s && %s", dir, command);
    assert_int_equal(system(line), 0);
}

static void no_directory_is_made_outside_of_the_roots(void **state)
{
    struct err err = { 0 };

    (void)state;
    run("mkdir outside && ln -s ../outside/gone root/link");
    assert_int_equal(create("missing/../../outside/new/f", &err), -1);
    assert_int_equal(create("missing/../../root/../outside/new/f", &err), -1);
    assert_int_equal(create("link/new/f", &err), -1);
    assert_int_equal(create("../outside/new/f", &err), -1);
    assert_false(exists("outside/new"));
    assert_false(exists("outside/gone"));
    assert_int_equal(create("missing2/../f", &err), -1);
    assert_non_null(strstr(err.text, "'..' behind a directory that does not exist"));
}

static void names_with_dots_are_followed_where_they_exist(void **state)
{
    (void)state;
    run("mkdir root/here");
    assert_int_equal(make("here/.././there/./deep//f", true), 0);
    assert_true(exists("root/there/deep/f"));
}

static void new_directories_are_durable_once(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(make("a/b/one", true), 0);
        assert_true(was_synced("/root/a/b") && was_synced("/root/a") &&
                    was_synced("/root"));
        assert_int_equal(n_synced, 3); /* the root itself was there before */
        assert_int_equal(make("a/b/two", true), 0);
        assert_true(was_synced("/root/a/b"));
        assert_int_equal(n_synced, 1);
        run("rm -r root/a"); /* others of its name, perhaps of its number, come */
    }
    assert_int_equal(make("a/b/three", false), 0);
    assert_int_equal(n_synced, 0);
    run("rm -r root/a");
}

static void a_directory_that_cannot_be_synced_is_an_error(void **state)
{
    static const char *const dirs[] = { "/root/c/d", "/root/c", "/root" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        broken = dirs[i];
        assert_int_equal(make("c/d/one", true), 1);
        assert_int_equal(make("c/d/two", true), 1); /* and is not forgotten */
        broken = NULL;
        assert_int_equal(make("c/d/three", true), 0);
        run("rm -r root/c");
    }
}

static void an_error_is_of_its_directory_s_files(void **state)
{
    static const char *const names[] = { "e/1", "f/1", "f/2", "g/1" };
    struct files_item items[4] = { 0 };
    char out[4][128];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        snprintf(out[i], sizeof(out[i]), "%s/%s", root, names[i]);
        items[i].out = span_str(out[i]);
        items[i].attempt = (struct files_attempt){ 1, 2, 3 };
        assert_int_equal(create(names[i], NULL), 0);
    }
    broken = "/root/f";
    files_publish(roots, items, 4, true);
    broken = NULL;
    assert_int_equal(items[0].err.code, 0);
    assert_int_equal(items[1].err.code, 1);
    assert_int_equal(items[2].err.code, 1);
    assert_int_equal(items[3].err.code, 0);
}

static int set_up(void **state)
{
    const char *specs[] = { root };

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tm-files.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(root, sizeof(root), "%s/root", dir);
    assert_int_equal(mkdir(root, 0700), 0);
    return files_roots_new(specs, 1, &roots, NULL);
}

static int tear_down(void **state)
{
    AUTO_FREE char *command = xasprintf("rm -rf %s", dir);

    (void)state;
    files_roots_free(roots);
    return system(command);
}

/* ---- sources ---- */

static void name_of(const char *from, const char *to, int rc)
{
    AUTO_FREE char *name = xasprintf("%s/src/%s", root, from);

    assert_int_equal(rc, 0);
    assert_int_equal(symlink(to, name), 0);
}

/* A source is the same file by whatever name, and never one outside. */
static void sources_by_every_name(void **state)
{
    AUTO_FREE char *outside = xasprintf("%s/secret", dir);
    AUTO_FREE char *inside = xasprintf("%s/src/a/b/inside", root);
    static const struct {
        const char *below, *words; /* NULL: it opens */
    } cases[] = {
        { "a/b/inside", NULL },
        { "a//b/./inside", NULL },
        { "a/../a/b/inside", NULL },
        { "link", NULL },
        { "dirlink/inside", NULL },
        { "a/.hidden", NULL },
        { "a/..odd", NULL },
        { "outlink", "outside of the worker's roots" },
        { "../../secret", "outside of the worker's roots" },
        { "updir/secret", "outside of the worker's roots" },
        { "a/b", "Is a directory" },
        { "a/fifo", "not a regular file" },
        { "loop", "symbolic links" },
        { "a/b/inside/", "Not a directory" },
        { "a/none", "No such file" },
    };

    (void)state;
    AUTO_FREE char *made = xasprintf("mkdir %s/src && cd %s/src && mkdir -p a/b && echo "
                                     "x | tee ../../secret a/b/inside a/.hidden "
                                     "a/..odd >../out && mkfifo a/fifo",
                                     root, root);
    name_of("link", "a/b/inside", system(made));
    name_of("dirlink", "a/b", 0);
    name_of("outlink", outside, 0);
    name_of("updir", "../..", 0);
    name_of("loop", "loop", 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *path = xasprintf("%s/src/%s", root, cases[i].below);
        struct err err = { 0 };
        struct stat st;
        int fd, rc = files_open(roots, span_str(path), &fd, &st, &err);
        if ((rc == 0) != !cases[i].words || (rc < 0 && !strstr(err.text, cases[i].words)))
            fail_msg("%s: %d %s", cases[i].below, rc, err.text);
        if (rc < 0)
            continue;
        assert_int_equal(st.st_size, 2);
        close(fd);
    }
    AUTO_FREE char *through = xasprintf("%s/entry", dir);
    struct stat st;
    int fd;
    assert_int_equal(symlink(inside, through), 0); /* from outside, to a root */
    assert_int_equal(files_open(roots, span_str(through), &fd, &st, NULL), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_directory_is_made_outside_of_the_roots),
        cmocka_unit_test(names_with_dots_are_followed_where_they_exist),
        cmocka_unit_test(new_directories_are_durable_once),
        cmocka_unit_test(a_directory_that_cannot_be_synced_is_an_error),
        cmocka_unit_test(an_error_is_of_its_directory_s_files),
        cmocka_unit_test(sources_by_every_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
