/* age files past their MAC and tags, which no mutation would guess: the header's lines
 * are the input's, the MAC over them is true; the payload is chunks under any counter.
 * Input: bytes at once (2), length of the header (2), header (@S: a share, @B: its body),
 * then chunks of 3 bytes: counter, kind, length. Only what the specification allows may
 * open. */
#include "tests/fuzz/age_try.h"

enum { CHUNKS_MAX = 6, LAST = 1, FULL = 2, GARBAGE = 4 };

static void add_header(struct buf *file, struct span text)
{
    uint8_t share[32], body[32];

    made_wrap(made_file_key, AGE_FILE_KEY, share, body);
    buf_add_span(file, SPAN_LIT(MADE_INTRO));
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i], next = i + 1 < text.len ? text.data[i + 1] : 0;
        if (c != '@' || (next != 'S' && next != 'B')) {
            buf_add_u8(file, c);
            continue;
        }
        base64_write(file, span_of(next == 'S' ? share : body, 32), false);
        i++;
    }
    made_end(file);
}

/* Appends chunks, their plain bytes to `plain`; true when they are a payload. */
static bool add_chunks(struct buf *file, struct span in, struct buf *plain)
{
    static const uint8_t bytes[AGE_CHUNK] = { 1, 2, 3 };
    bool good = true, ended = false;

    for (uint64_t n = 0; in.len && n < CHUNKS_MAX; n++) {
        uint64_t counter = fuzz_number(&in, 1), kind = fuzz_number(&in, 1);
        size_t len = kind & FULL ? AGE_CHUNK : fuzz_number(&in, 1);
        if (kind & GARBAGE) {
            buf_add(file, bytes, len);
            good = good && len == 0;
            continue;
        }
        made_chunk(file, counter, kind & LAST, span_of(bytes, len));
        buf_add(plain, bytes, len);
        bool first = plain->len == len && n == 0;
        good = good && !ended && counter == n &&
               (kind & LAST ? len > 0 || first : len == AGE_CHUNK);
        ended = ended || kind & LAST;
    }
    return good && ended;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    size_t step = fuzz_number(&in, 2) + 1;
    struct span header = fuzz_take(&in, fuzz_number(&in, 2));
    AUTO_BUF file = BUF_INIT, plain = BUF_INIT, out = BUF_INIT;

    crypto_init();
    add_header(&file, header);
    made_nonce(&file);
    bool good = add_chunks(&file, in, &plain);
    if (age_try(buf_span(&file), MAX(step, file.len / 512), &out) == 0)
        CHECK(good && span_eq(buf_span(&out), buf_span(&plain)));
    else if (span_eq(header, SPAN_LIT("-> X25519 @S\n@B\n")))
        CHECK(!good);
    return 0;
}
