#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/opt.h"

struct target {
    bool recursive, quiet;
    const char *name, *progress;
    struct opt_list labels;
    int64_t procs, timeout, max_size;
    double rate;
};
#define AT(field) offsetof(struct target, field)
static const struct opt common[] = {
    { "quiet", 'q', OPT_FLAG, AT(quiet), NULL, NULL, 0, 0, NULL, "Say less" },
    { "name", 0, OPT_STR, AT(name), "NAME", "nobody", 0, 0, NULL, "A name" },
    { 0 },
};
static const struct opt own[] = {
    { "recursive", 'r', OPT_FLAG, AT(recursive), NULL, NULL, 0, 0, NULL, "Walk" },
    { "label", 'l', OPT_LIST, AT(labels), "K=V", NULL, 0, 0, NULL, "A label" },
    { "procs", 'j', OPT_INT, AT(procs), "N", NULL, 1, 512, NULL, "Processes" },
    { "timeout", 0, OPT_DURATION, AT(timeout), "D", "10s", 0, 0, NULL, "Time limit" },
    { "max-size", 0, OPT_SIZE, AT(max_size), "N", NULL, 0, 0, NULL, "Size limit" },
    { "rate", 0, OPT_RATE, AT(rate), "N/s", NULL, 0, 0, NULL, "Rate" },
    { "progress", 0, OPT_CHOICE, AT(progress), NULL, "auto", 0, 0, "auto|bar|none",
      "How" },
    { 0 },
};
static const struct opt *const tables[] = { common, own, NULL };

/* Parses "a b c" split at spaces; arguments come back joined by ','. */
static int parse(const char *line, const struct opt_sources *sources, struct target *t,
                 char *ret_args, struct err *err)
{
    static char words[256];
    char *argv[32] = { (char *)"prog" };
    int argc = 1;
    snprintf(words, sizeof(words), "%s", line);
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    const char **args = NULL;
    size_t n = 0;
    int rc = opt_parse(tables, sources, argc, argv, t, &args, &n, err);
    ret_args[0] = '\0';
    for (size_t i = 0; rc == 0 && i < n; i++)
        sprintf(ret_args + strlen(ret_args), "%s%s", i ? "," : "", args[i]);
    free(args);
    return rc;
}

static void options_and_arguments_mix(void **state)
{
    (void)state;
    struct target t = { 0 };
    struct err err = { 0 };
    char args[256];
    assert_int_equal(parse("a -rqj4 --label=x=1 b -l y --timeout 250ms --max-size 64KiB "
                           "--rate 120/m - -- -z",
                           NULL, &t, args, &err),
                     0);
    assert_string_equal(args, "a,b,-,-z");
    assert_true(t.recursive && t.quiet);
    assert_int_equal(t.procs, 4);
    assert_int_equal(t.labels.n, 2);
    assert_string_equal(t.labels.items[0], "x=1");
    assert_string_equal(t.labels.items[1], "y");
    assert_int_equal(t.timeout, 250 * NS_PER_MS);
    assert_int_equal(t.max_size, 65536);
    assert_true(t.rate == 2.0);
    assert_string_equal(t.progress, "auto");
    assert_string_equal(t.name, "nobody");
    opt_fini(tables, &t);
}

static void what_is_wrong_is_said_with_a_hint(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text, *hint;
    } t[] = {
        { "--recusive", "unknown option '--recusive'", "did you mean '--recursive'?" },
        { "-x", "unknown option '-x'", "" },
        { "--label", "option '--label' needs K=V", "" },
        { "-j", "option '-j' needs N", "" },
        { "--timeout 10", "--timeout: '10' is not a duration",
          "with a unit: 250ms 10s 5m 2h 1d" },
        { "--max-size 10", "--max-size: '10' is not a size",
          "with a unit: 64KiB 10MB 1GiB" },
        { "--procs 0", "--procs: '0' is too small", "from 1 to 512" },
        { "--procs 4x", "--procs: '4x' is not a whole number", "a whole number" },
        { "--progress ba", "--progress: 'ba' is not one of its values",
          "one of: auto bar none" },
        { "--rate 5", "--rate: '5' is not a rate", "as in 5/s, 100/m, 30/h" },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct target target = { 0 };
        struct err err = { 0 };
        char args[256];
        assert_int_equal(parse(t[i].line, NULL, &target, args, &err), -1);
        assert_int_equal(err.code, 2);
        assert_string_equal(err.text, t[i].text);
        assert_string_equal(err.hint, t[i].hint);
        opt_fini(tables, &target);
    }
}

static char *write_file(const char *text)
{
    char *path = xstrdup("/tmp/test-opt.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

/* flag > environment > first file > second file > default, for each option by itself. */
static void the_higher_source_wins(void **state)
{
    (void)state;
    AUTO_FREE char *first = write_file("# comment\n[any]\nname = from file one\n"
                                       "procs=3\ntimeout = 3s\nother-program = 1\n");
    AUTO_FREE char *second = write_file("name = two\nprocs = 9\ntimeout = 9s\n"
                                        "max_size = 9B\nlabel = a b\nlabel = c\n");
    const char *const files[] = { first, "/nonexistent/file", second, NULL };
    const struct opt_sources sources = { "TESTOPT", files };
    setenv("TESTOPT_PROCS", "2", 1);
    setenv("TESTOPT_TIMEOUT", "2s", 1);
    setenv("TESTOPT_RECURSIVE", "true", 1);
    setenv("TESTOPT_PROGRESS", "", 1);
    struct target t = { 0 };
    struct err err = { 0 };
    char args[256];
    assert_int_equal(parse("--timeout 1s", &sources, &t, args, &err), 0);
    assert_int_equal(t.timeout, 1 * NS_PER_S);
    assert_int_equal(t.procs, 2);
    assert_true(t.recursive);
    assert_string_equal(t.name, "from file one");
    assert_int_equal(t.max_size, 9);
    assert_int_equal(t.labels.n, 2);
    assert_string_equal(t.labels.items[0], "a b");
    assert_string_equal(t.progress, "auto");
    assert_string_equal(opt_origin(&own[3], &t), "--timeout");
    assert_string_equal(opt_origin(&own[2], &t), "TESTOPT_PROCS");
    assert_string_equal(opt_origin(&own[6], &t), "default");
    assert_non_null(strstr(opt_origin(&common[1], &t), ":3"));
    opt_fini(tables, &t);

    setenv("TESTOPT_LABEL", "p=1  q=2", 1); /* a list of a higher source replaces */
    struct target u = { 0 };
    assert_int_equal(parse("", &sources, &u, args, &err), 0);
    assert_int_equal(u.labels.n, 2);
    assert_string_equal(u.labels.items[1], "q=2");
    opt_fini(tables, &u);

    setenv("TESTOPT_PROCS", "many", 1);
    struct target v = { 0 };
    assert_int_equal(parse("", &sources, &v, args, &err), -1);
    assert_string_equal(err.text, "TESTOPT_PROCS: 'many' is not a whole number");
    opt_fini(tables, &v);
    unsetenv("TESTOPT_PROCS");
    unlink(first);
    unlink(second);
}

static void a_bad_line_of_a_file_is_named(void **state)
{
    (void)state;
    AUTO_FREE char *path = write_file("name = x\nprocs = 1000\n");
    const char *const files[] = { path, NULL };
    const struct opt_sources sources = { NULL, files };
    struct target t = { 0 };
    struct err err = { 0 };
    char args[256];
    assert_int_equal(parse("", &sources, &t, args, &err), -1);
    AUTO_FREE char *want = xasprintf("%s:2: procs: '1000' is too large", path);
    assert_string_equal(err.text, want);
    opt_fini(tables, &t);
    unlink(path);
}

static void quantities_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int rc;
        int64_t value;
    } d[] = { { "250ms", 0, 250 * NS_PER_MS },
              { "5m", 0, 300 * NS_PER_S },
              { "1d", 0, 86400 * NS_PER_S },
              { "2", -1, 0 },
              { "-1s", -1, 0 },
              { " 1s", -1, 0 },
              { "1 s", -1, 0 },
              { "99999999999999d", -1, 0 } },
      s[] = { { "0", 0, 0 },          { "64KiB", 0, 65536 },      { "10MB", 0, 10000000 },
              { "1GiB", 0, 1 << 30 }, { "12B", 0, 12 },           { "7", -1, 0 },
              { "1K", -1, 0 },        { "99999999999TiB", -1, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(d); i++) {
        int64_t v = 0;
        assert_int_equal(duration_parse(d[i].in, &v), d[i].rc);
        assert_int_equal(v, d[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        int64_t v = 0;
        assert_int_equal(size_parse(s[i].in, &v), s[i].rc);
        assert_int_equal(v, s[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_arguments_mix),
        cmocka_unit_test(what_is_wrong_is_said_with_a_hint),
        cmocka_unit_test(the_higher_source_wins),
        cmocka_unit_test(a_bad_line_of_a_file_is_named),
        cmocka_unit_test(quantities_have_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
