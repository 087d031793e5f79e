/* A directory read page by page: every name once, in order, whatever it is called, within
 * the roots only, no link followed but one that was named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/page.h"
#include "tests/unit/roots_rig.h"

static void make(const char *below, mode_t kind)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, below);

    if (kind == S_IFDIR)
        assert_int_equal(mkdir(path, 0755), 0);
    else if (kind == S_IFIFO)
        assert_int_equal(mkfifo(path, 0600), 0);
    else
        close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
}

static enum task_status page(const char *below, struct span after, bool named,
                             struct buf *mem, struct task_value *v)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, below);
    struct job_spec spec = { .source = SOURCE_DIR };
    struct task_input in = { .path = span_str(path), .after = after, .named = named };
    struct task_env env = { .roots = roots };
    struct task_work work = { .spec = &spec, .in = &in, .body_fd = -1 };

    return task_run(&env, &work, mem, v);
}

/* The whole directory; returns how many pages it took. *ret: "f NAME SIZE\0"... */
static unsigned walk_all(const char *below, struct buf *ret, uint64_t *ret_skipped)
{
    AUTO_BUF after = BUF_INIT;
    struct task_value v = { .more = true };
    unsigned pages = 0;

    *ret_skipped = 0;
    while (v.more) {
        AUTO_BUF mem = BUF_INIT;
        struct page_entry e;
        size_t pos = 0;
        assert_int_equal(page(below, buf_span(&after), true, &mem, &v), TASK_OK);
        assert_true(v.has_body && v.body.len <= VALUE_MAX_BYTES - 4 * KIB);
        pages++;
        *ret_skipped += v.skipped;
        while (page_next(v.body, &pos, &e, NULL) == 1) {
            if (after.len) /* names grow, across pages too */
                assert_true(memcmp(after.data, e.name.data, MIN(after.len, e.name.len)) <=
                            0);
            buf_printf(ret, "%c ", e.kind);
            buf_add_span(ret, e.name);
            buf_printf(ret, " %llu\n", (unsigned long long)e.size);
            buf_clear(&after);
            buf_add_span(&after, e.name);
        }
        assert_int_equal(pos, v.body.len);
    }
    return pages;
}

static void all_names_come_once_and_in_order(void **state)
{
    static const char expected[] =
        "f \x01 0\nd a 0\nf a\nb 0\nf \xc3\xa4 0\nd \xff 0\nf \xff\xfe 3\n";
    AUTO_FREE char *target = xasprintf("%s/odd/a", dir);
    AUTO_FREE char *link = xasprintf("%s/odd/link", dir);
    AUTO_BUF got = BUF_INIT;
    uint64_t skipped;

    (void)state;
    make("odd", S_IFDIR);
    make("odd/a", S_IFDIR);
    make("odd/\xff", S_IFDIR);
    make("odd/\x01", S_IFREG);
    make("odd/a\nb", S_IFREG);
    make("odd/\xc3\xa4", S_IFREG);
    make("odd/\xff\xfe", S_IFREG);
    make("odd/fifo", S_IFIFO);
    assert_int_equal(symlink(target, link), 0);
    AUTO_FREE char *file = xasprintf("%s/odd/\xff\xfe", dir);
    assert_int_equal(truncate(file, 3), 0);
    assert_int_equal(walk_all("odd", &got, &skipped), 1);
    assert_string_equal(buf_str(&got), expected);
    assert_int_equal(skipped, 2);
    make("empty", S_IFDIR);
    buf_clear(&got);
    assert_int_equal(walk_all("empty", &got, &skipped), 1);
    assert_int_equal(got.len, 0);
}

/* More than is kept ahead, in the order of their numbers. */
static void a_large_directory_takes_many_pages(void **state)
{
    enum { N = 24000, LONG = 200 };
    AUTO_BUF got = BUF_INIT, expected = BUF_INIT;
    uint64_t skipped;

    (void)state;
    make("large", S_IFDIR);
    for (int i = 0; i < N; i++) {
        /* 7 is prime to N: made in another order than that of the names */
        AUTO_FREE char *name = xasprintf("large/%06d%0*d", i * 7 % N, LONG, 0);
        make(name, S_IFREG);
    }
    for (int i = 0; i < N; i++)
        buf_printf(&expected, "f %06d%0*d 0\n", i, LONG, 0);
    assert_true(walk_all("large", &got, &skipped) >= 18);
    assert_true(span_eq(buf_span(&got), buf_span(&expected)));
}

/* What is gone when the next page is asked for does not disturb it. */
static void a_page_goes_on_behind_a_name_that_is_gone(void **state)
{
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;
    struct page_entry e;
    size_t pos = 0;

    (void)state;
    make("gone", S_IFDIR);
    make("gone/a", S_IFREG);
    make("gone/c", S_IFREG);
    assert_int_equal(page("gone", SPAN_LIT("b"), false, &mem, &v), TASK_OK);
    assert_false(v.more);
    assert_int_equal(page_next(v.body, &pos, &e, NULL), 1);
    assert_true(span_eq(e.name, SPAN_LIT("c")));
    assert_int_equal(page_next(v.body, &pos, &e, NULL), 0);
}

/* What comes while a directory is read comes too, when its page is still to be made. */
static void a_directory_that_changes_is_read_anew(void **state)
{
    enum { N = 3000, LONG = 200 };
    static const struct timespec long_ago[2] = { { 1, 0 }, { 1, 0 } };
    AUTO_FREE char *path = xasprintf("%s/changing", dir);
    AUTO_BUF mem = BUF_INIT, after = BUF_INIT;
    struct task_value v;
    struct page_entry e;
    bool seen = false;

    (void)state;
    make("changing", S_IFDIR);
    for (int i = 0; i < N; i++) {
        AUTO_FREE char *name = xasprintf("changing/%06d%0*d", i, LONG, 0);
        make(name, S_IFREG);
    }
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    for (v.more = true; v.more;) {
        size_t pos = 0;
        buf_clear(&mem);
        assert_int_equal(page("changing", buf_span(&after), false, &mem, &v), TASK_OK);
        while (page_next(v.body, &pos, &e, NULL) == 1)
            seen |= span_eq(e.name, SPAN_LIT("zzz"));
        if (!after.len)
            make("changing/zzz", S_IFREG);
        buf_clear(&after);
        buf_add_span(&after, e.name);
    }
    assert_true(seen);
}

static void what_is_no_directory_of_the_roots_is_said(void **state)
{
    static const struct {
        const char *below;
        bool named;
        enum task_status status;
        const char *error;
    } t[] = {
        { "missing", true, TASK_FAILED, "No such file or directory" },
        { "..", true, TASK_FAILED, "outside of the worker's roots" },
        { "out", true, TASK_FAILED, "outside of the worker's roots" },
        { "out", false, TASK_FAILED, "is no directory any more" },
        { "in", false, TASK_FAILED, "is no directory any more" },
        { "pipe", true, TASK_FAILED, "is not a regular file" },
        { "file", false, TASK_FAILED, "is no directory any more" },
    };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;

    (void)state;
    AUTO_FREE char *out = xasprintf("%s/out", dir);
    AUTO_FREE char *in = xasprintf("%s/in", dir);
    assert_int_equal(symlink("/etc", out), 0);
    assert_int_equal(symlink("inner", in), 0);
    make("inner", S_IFDIR);
    make("pipe", S_IFIFO);
    make("file", S_IFREG);
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(page(t[i].below, SPAN_NONE, t[i].named, &mem, &v), t[i].status);
        assert_true(span_eq(v.error, span_str(t[i].error)));
    }
    assert_int_equal(page("in", SPAN_NONE, true, &mem, &v), TASK_OK);
    assert_true(v.has_body && !v.is_file);
    assert_int_equal(page("file", SPAN_NONE, true, &mem, &v), TASK_OK);
    assert_true(v.is_file && !v.has_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_names_come_once_and_in_order),
        cmocka_unit_test(a_large_directory_takes_many_pages),
        cmocka_unit_test(a_page_goes_on_behind_a_name_that_is_gone),
        cmocka_unit_test(a_directory_that_changes_is_read_anew),
        cmocka_unit_test(what_is_no_directory_of_the_roots_is_said),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
