/* Manifest lines and lists of algorithms. Input: the algorithm asked for (1 byte, 0 =
 * guess), the line. What is read is written, and read again the same, in both forms. */
#include "client/manifest.h"
#include "tests/fuzz/fuzz.h"

static void again(const struct manifest_entry *e, bool tag)
{
    struct manifest_entry other = { .name = BUF_INIT };
    AUTO_BUF line = BUF_INIT;

    manifest_line(&line, e->algo, span_of(e->digest, e->digest_len), buf_span(&e->name),
                  tag);
    CHECK(line.len && memchr(line.data, '\n', line.len) == line.data + line.len - 1);
    CHECK(manifest_parse(span_of(line.data, line.len - 1), (int)e->algo, &other) == 0);
    CHECK(other.algo == e->algo && other.digest_len == e->digest_len);
    CHECK(memcmp(other.digest, e->digest, e->digest_len) == 0);
    CHECK(span_eq(buf_span(&other.name), buf_span(&e->name)));
    buf_fini(&other.name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest_entry e = { .name = BUF_INIT };
    struct span in = span_of(data, size);
    int asked = (int)(fuzz_number(&in, 1) % (ALGO_COUNT + 1)) - 1;
    AUTO_FREE char *list = span_dup(in);
    struct err err = { 0 };
    uint32_t mask;

    if (manifest_parse(in, asked, &e) == 0) {
        CHECK(e.digest_len == manifest_digest_bytes(e.algo));
        CHECK(e.name.len && !memchr(e.name.data, 0, e.name.len));
        again(&e, false);
        again(&e, true);
    }
    buf_fini(&e.name);
    if (manifest_algos_parse(list, &mask, &err) == 0)
        CHECK(mask && mask < BIT(ALGO_COUNT));
    else
        fuzz_check_err(&err);
    return 0;
}
