/* Keys as text, and identity files. What is a key is the text that would be written. */
#include <ctype.h>

#include "base/agekey.h"
#include "base/crypto.h"
#include "tests/fuzz/fuzz.h"

static struct span trim(struct span s)
{
    while (s.len && isspace(s.data[0]))
        s = span_of(s.data + 1, s.len - 1);
    while (s.len && isspace(s.data[s.len - 1]))
        s.len--;
    return s;
}

static int count(void *arg, const uint8_t secret[AGEKEY_BYTES])
{
    fuzz_touch(span_of(secret, AGEKEY_BYTES));
    ++*(size_t *)arg;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    uint8_t key[AGEKEY_BYTES];
    char text[AGEKEY_TEXT];
    struct err err = { 0 };
    size_t n = 0;

    if (agekey_recipient_parse(in, key, &err) == 0) {
        agekey_recipient_text(key, text);
        CHECK(span_eq(trim(in), span_str(text)));
    } else {
        fuzz_check_err(&err);
    }
    if (agekey_identity_parse(in, key, &err) == 0) {
        agekey_identity_text(key, text);
        CHECK(span_eq(trim(in), span_str(text)));
    } else {
        fuzz_check_err(&err);
    }
    if (agekey_identities_each(in, count, &n, &err) == 0)
        CHECK(n > 0);
    else
        fuzz_check_err(&err);
    return 0;
}
