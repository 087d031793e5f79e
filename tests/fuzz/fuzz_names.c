/* Lists of URLs and the names made of them. Input: whether names get ".age" (1 byte),
 * lines. A name stays below its directory and is one that a file system takes. */
#include "client/names.h"
#include "tests/fuzz/fuzz.h"

enum { PART_MAX = 255 };

static void check_name(const char *name, const char *suffix)
{
    size_t len = strlen(name), end = strlen(suffix);

    CHECK(len > end && strcmp(name + len - end, suffix) == 0);
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t n = strcspn(part, "/");
        CHECK(n > 0 && n <= PART_MAX);
        CHECK(!(n == 1 && part[0] == '.') && !(n == 2 && memcmp(part, "..", 2) == 0));
    }
    for (const char *c = name; *c; c++)
        CHECK((uint8_t)*c > 0x20 && (uint8_t)*c < 0x7f && *c != '\\');
}

static void try_line(struct span line, const char *suffix)
{
    struct span url = names_list_url(line);
    char *name = NULL;

    CHECK(fuzz_within(url, line));
    if (names_of_url(url, suffix, &name) == 0)
        check_name(name, suffix);
    free(name);
    AUTO_FREE char *path = span_dup(line);
    struct span base = names_base(path);
    CHECK(!memchr(base.data, '/', base.len));
    free(names_target("out", path, ""));
    AUTO_FREE char *more = names_add_age(path), *less = names_drop_age(more);
    CHECK(!less || strcmp(less, path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    const char *suffix = fuzz_number(&in, 1) & 1 ? ".age" : "";

    while (in.len) {
        const uint8_t *nl = memchr(in.data, '\n', in.len);
        try_line(fuzz_take(&in, nl ? (size_t)(nl - in.data) : in.len), suffix);
        fuzz_take(&in, 1);
    }
    return 0;
}
