/* Armor and Base64. Input: bytes at once (1 byte), text. What opens is strict armor; what
 * Base64 reads is what it would write. */
#include "tests/fuzz/age_try.h"

static struct span trim(struct span s)
{
    while (s.len && strchr(" \t\r\n", s.data[0]) && s.data[0])
        s = span_of(s.data + 1, s.len - 1);
    while (s.len && strchr(" \t\r\n", s.data[s.len - 1]) && s.data[s.len - 1])
        s.len--;
    return s;
}

/* Lines of 64 columns between two marks, the last one not longer. */
static void check_strict(struct span text)
{
    static const char begin[] = "-----BEGIN AGE ENCRYPTED FILE-----",
                      end[] = "-----END AGE ENCRYPTED FILE-----";
    bool inside = false, ended = false;
    size_t columns = 64;

    for (text = trim(text); text.len;) {
        const uint8_t *nl = memchr(text.data, '\n', text.len);
        struct span line = span_of(text.data, nl ? (size_t)(nl - text.data) : text.len);
        text = span_of(text.data + line.len + !!nl, text.len - line.len - !!nl);
        if (line.len && line.data[line.len - 1] == '\r')
            line.len--;
        CHECK(!ended);
        if (span_eq(line, span_str(begin))) {
            CHECK(!inside);
            inside = true;
        } else if (span_eq(line, span_str(end))) {
            ended = true;
        } else {
            CHECK(inside && columns == 64 && line.len && line.len <= 64);
            columns = line.len;
        }
    }
    CHECK(ended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    size_t step = fuzz_number(&in, 1) + 1;
    AUTO_BUF out = BUF_INIT;

    if (age_try(in, step, &out) == 0 && trim(in).data[0] == '-')
        check_strict(in);
    for (int padded = 0; padded < 2; padded++) {
        AUTO_BUF bytes = BUF_INIT, text = BUF_INIT;
        if (base64_read(&bytes, in, padded) < 0)
            continue;
        base64_write(&text, buf_span(&bytes), padded);
        CHECK(span_eq(buf_span(&text), in));
    }
    return 0;
}
