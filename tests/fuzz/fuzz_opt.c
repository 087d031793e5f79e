/* Options: words of a command line (each ends with NUL, an empty one ends them), a
 * variable of the environment (ends with NUL), a configuration file (the rest). */
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/opt.h"
#include "tests/fuzz/fuzz.h"

struct target {
    bool flag;
    const char *text, *choice;
    struct opt_list list;
    int64_t number, duration, size;
    double rate;
};

#define OFF(field) offsetof(struct target, field)
static const struct opt table[] = {
    { "flag", 'f', OPT_FLAG, OFF(flag), NULL, NULL, 0, 0, NULL, "a flag" },
    { "text", 't', OPT_STR, OFF(text), "TEXT", "as it is", 0, 0, NULL, "a text" },
    { "list", 'l', OPT_LIST, OFF(list), "ITEM", NULL, 0, 0, NULL, "a list" },
    { "number", 'n', OPT_INT, OFF(number), "N", "8", -5, 1024, NULL, "a number" },
    { "duration", 'd', OPT_DURATION, OFF(duration), "TIME", "10s", 1, INT64_MAX, NULL,
      "a duration" },
    { "size", 's', OPT_SIZE, OFF(size), "SIZE", "64KiB", 0, 0, NULL, "a size" },
    { "rate", 'r', OPT_RATE, OFF(rate), "N/s", NULL, 0, 0, NULL, "a rate" },
    { "choice", 'c', OPT_CHOICE, OFF(choice), NULL, "one", 0, 0, "one|two|three",
      "a choice" },
    { 0 },
};
static const struct opt *const tables[] = { table, NULL };

static void check(const struct target *t)
{
    CHECK(t->number >= -5 && t->number <= 1024);
    CHECK(t->duration >= 1 && t->size >= 0 && t->rate >= 0 && t->text);
    CHECK(!strcmp(t->choice, "one") || !strcmp(t->choice, "two") ||
          !strcmp(t->choice, "three"));
    for (size_t i = 0; i < t->list.n; i++)
        fuzz_touch(span_str(t->list.items[i]));
    for (const struct opt *row = table; row->name; row++)
        CHECK(opt_origin(row, t)[0]);
}

/* The next word, up to a NUL or the end; the caller frees. */
static char *word(struct span *in)
{
    size_t len = in->len ? strnlen((const char *)in->data, in->len) : 0;
    char *w = span_dup(fuzz_take(in, len));

    fuzz_take(in, 1);
    return w;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { WORDS_MAX = 16 };
    struct span in = span_of(data, size);
    char *argv[WORDS_MAX + 2] = { "fuzz" };
    int argc = 1, fd = memfd_create("config", MFD_CLOEXEC);
    AUTO_FREE char *path = xasprintf("/proc/self/fd/%d", fd);
    const char *files[] = { "/nonexistent", path, NULL }, **args = NULL;
    struct opt_sources sources = { "TMFUZZ", files };
    struct target target = { 0 };
    struct err err = { 0 };
    size_t n = 0;

    while (argc <= WORDS_MAX && *(argv[argc] = word(&in)))
        argc++;
    AUTO_FREE char *value = word(&in);
    setenv("TMFUZZ_LIST", value, 1);
    setenv("TMFUZZ_RATE", argc % 2 ? value : "", 1);
    CHECK(fd >= 0 && write(fd, in.data, in.len) == (ssize_t)in.len);
    if (opt_parse(tables, &sources, argc, argv, &target, &args, &n, &err) == 0) {
        check(&target);
        CHECK(n < (size_t)argc);
    } else {
        CHECK(err.code == 2);
        fuzz_check_err(&err);
    }
    free(args);
    opt_fini(tables, &target);
    for (int i = 1; i <= argc && i <= WORDS_MAX + 1; i++)
        free(argv[i]);
    close(fd);
    return 0;
}
