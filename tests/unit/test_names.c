#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/names.h"
#include "client/walk.h"

static void a_url_becomes_host_and_path(void **state)
{
    (void)state;
    static const struct {
        const char *url, *suffix, *want; /* want NULL: no such URL */
    } t[] = {
        { "http://h", "", "h/index.html" },
        { "https://H.org:8443/", "", "h.org:8443/index.html" },
        { "http://u:p@h/a/b.tar?x=1/2#frag", ".age", "h/a/b.tar?x=1%2F2.age" },
        { "http://h/../../etc/passwd", "", "h/%2E%2E/%2E%2E/etc/passwd" },
        { "http://h//a///b/", "", "h/a/b/index.html" },
        { "http://h/a b\nc", "", "h/a%20b%0Ac" },
        { "http://h?q", "", "h/index.html?q" },
        { "ftp://h/a", "", NULL },
        { "ht!tp://bad", "", NULL },
        { "http://", "", NULL },
        { "http://../a", "", NULL },
        { "http://a\\b/", "", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_FREE char *got = NULL;
        int rc = names_of_url(span_str(t[i].url), t[i].suffix, &got);
        assert_int_equal(rc, t[i].want ? 0 : -1);
        if (t[i].want)
            assert_string_equal(got, t[i].want);
    }
}

static void a_long_part_is_cut_and_still_its_own(void **state)
{
    (void)state;
    AUTO_FREE char *one = NULL, *two = NULL;
    AUTO_BUF url = BUF_INIT;
    buf_printf(&url, "http://h/%0400d", 1);
    assert_int_equal(names_of_url(buf_span(&url), ".age", &one), 0);
    buf_add_u8(&url, '2');
    assert_int_equal(names_of_url(buf_span(&url), ".age", &two), 0);
    assert_int_equal(strlen(one), strlen("h/") + 255);
    assert_string_not_equal(one, two);
}

static void outputs_go_as_cp_puts_them(void **state)
{
    (void)state;
    static const struct {
        const char *out, *root, *below, *want;
    } t[] = {
        { NULL, "a/b", "", "a/b" }, { NULL, "a/", "c", "a/c" },
        { "o", "a/b", "", "o/b" },  { "o", "a/b/", "c/d", "o/b/c/d" },
        { "o", ".", "c", "o/c" },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_FREE char *got = names_target(t[i].out, t[i].root, t[i].below);
        assert_string_equal(got, t[i].want);
    }
    AUTO_FREE char *plain = names_drop_age("d/a.age");
    assert_string_equal(plain, "d/a");
    assert_null(names_drop_age("d/.age"));
    assert_null(names_drop_age("plain"));
}

struct tally {
    int files, errors;
};

static void a_line_of_a_list_is_a_url_or_nothing(void **state)
{
    static const struct {
        struct span line;
        const char *want;
    } t[] = {
        { SPAN_LIT("http://h/x"), "http://h/x" },
        { SPAN_LIT("http://h/x \t\r"), "http://h/x" },
        { SPAN_LIT(" \t\r"), "" },
        { SPAN_LIT("# http://h/x"), "" },
        { SPAN_LIT(""), "" },
    };
    char *name = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_true(span_eq(names_list_url(t[i].line), span_str(t[i].want)));
    struct span nul = names_list_url(SPAN_LIT("http://h/x\0   "));
    assert_int_equal(names_of_url(nul, "", &name), -1);
    assert_int_equal(names_of_url(SPAN_LIT("http://h\0/x"), "", &name), -1);
}

static int count(void *arg, const struct walk_entry *entry)
{
    struct tally *tally = arg;
    if (entry->error)
        tally->errors++;
    else
        tally->files++;
    return 0;
}

/* Regular files only; a link that the user named is followed, one that is found is not.
 */
static void a_walk_takes_regular_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/walk.XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *file = xasprintf("%s/a\nb", dir), *link = xasprintf("%s/link", dir);
    AUTO_FREE char *fifo = xasprintf("%s/fifo", dir), *none = xasprintf("%s/none", dir);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(symlink(file, link), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *root;
        unsigned flags;
        int files, errors, skipped;
    } t[] = {
        { dir, WALK_RECURSIVE, 1, 0, 2 },  { dir, 0, 0, 1, 0 },  { link, 0, 1, 0, 0 },
        { none, WALK_RECURSIVE, 0, 1, 0 }, { fifo, 0, 0, 1, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct tally tally = { 0, 0 };
        struct walk_counts counts = { 0, 0 };
        assert_int_equal(walk(t[i].root, t[i].flags, count, &tally, &counts), 0);
        assert_int_equal(tally.files, t[i].files);
        assert_int_equal(tally.errors, t[i].errors);
        assert_int_equal(counts.skipped, t[i].skipped);
    }
    unlink(file);
    unlink(link);
    unlink(fifo);
    rmdir(dir);
}

static int list(void *arg, const struct walk_entry *e)
{
    assert_null(e->error);
    buf_printf(arg, "%s|%s|%d\n", e->shown, e->below, (int)e->size);
    return 0;
}

/* What find prints of a tree, with a slash or not behind its name. */
static void found(const char *root, bool sizes, struct buf *out)
{
    AUTO_FREE char *find =
        xasprintf("find %s -type f -printf '%%p|%%P|%s\\n'", root, sizes ? "%s" : "0");
    FILE *f = popen(find, "r");
    size_t n;

    assert_non_null(f);
    while ((n = fread(buf_reserve(out, 4 * KIB), 1, 4 * KIB, f)) > 0)
        out->len += n;
    assert_int_equal(pclose(f), 0);
}

static void a_walk_goes_as_find_does(void **state)
{
    (void)state;
    char dir[] = "/tmp/walk.XXXXXX";
    assert_non_null(mkdtemp(dir));
    AUTO_FREE char *slash = xasprintf("%s/", dir), *link = xasprintf("%s.link", dir);
    AUTO_FREE char *make = xasprintf(
        "cd %s && mkdir -p a/b/c/d empty .hid ... && ln -s a l && ln -s .. a/up && "
        "for i in $(seq 40); do head -c $i /dev/zero >f$i; cp f$i a/b/x$i; done && "
        "cp f9 .hid/.f && cp f9 .../f && cp f9 a/b/c/d/f && rm f7 && mkdir f7 && "
        "cp f8 f7/ && ln -s %s %s",
        dir, dir, link);
    AUTO_FREE char *clean = xasprintf("rm -r %s %s", dir, link);
    const char *roots[] = { dir, slash };
    assert_int_equal(system(make), 0);
    for (size_t i = 0; i < 2 * ARRAY_LEN(roots); i++) {
        AUTO_BUF want = BUF_INIT, got = BUF_INIT;
        struct walk_counts counts = { 0, 0 };
        unsigned flags = WALK_RECURSIVE | (i % 2 ? WALK_SIZES : 0);
        found(roots[i / 2], i % 2, &want);
        assert_int_equal(walk(roots[i / 2], flags, list, &got, &counts), 0);
        assert_string_equal(buf_str(&got), buf_str(&want));
        assert_int_equal(counts.files, 83);
        assert_int_equal(counts.skipped, 2);
    }
    struct tally tally = { 0, 0 };
    struct walk_counts counts = { 0, 0 };
    assert_int_equal(walk(link, WALK_RECURSIVE, count, &tally, &counts), 0);
    assert_int_equal(tally.files, 83);
    assert_int_equal(system(clean), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_becomes_host_and_path),
        cmocka_unit_test(a_long_part_is_cut_and_still_its_own),
        cmocka_unit_test(outputs_go_as_cp_puts_them),
        cmocka_unit_test(a_line_of_a_list_is_a_url_or_nothing),
        cmocka_unit_test(a_walk_takes_regular_files),
        cmocka_unit_test(a_walk_goes_as_find_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
