/* The armor around age files, and the Base64 in it. */
#include "tests/unit/age_rig.h"

#define BEGIN  "-----BEGIN AGE ENCRYPTED FILE-----"
#define FINISH "-----END AGE ENCRYPTED FILE-----"

/* len bytes of plain that make the sealed file a multiple of 48, plus `over`. */
static void armored(struct buf *out, size_t over, const char *eol)
{
    AUTO_BUF file = BUF_INIT;
    size_t len = 0;

    add_good_header(&file);
    made_nonce(&file);
    while ((file.len + len + 16) % 48 != over)
        len++;
    made_chunk(&file, 0, true, span_of(noise, len));
    for (size_t at = 0; at < file.len; at += 48) {
        base64_write(out, span_of(file.data + at, MIN(file.len - at, 48)), true);
        buf_printf(out, "%s", eol);
    }
}

static void armor_around(void **state)
{
    static const struct {
        const char *name, *before, *eol, *after, *words;
    } t[] = {
        { "strict", BEGIN "\n", "\n", FINISH "\n", NULL },
        { "CRLF", BEGIN "\r\n", "\r\n", FINISH "\r\n", NULL },
        { "no newline at its end", BEGIN "\n", "\n", FINISH, NULL },
        { "white space around", " \r\n\t\n" BEGIN "\n", "\n", FINISH "\n \t\r\n\n",
          NULL },
        { "a space behind its begin", BEGIN " \n", "\n", FINISH "\n", "first line" },
        { "a header", BEGIN "\nComment: x\n\n", "\n", FINISH "\n", "damaged armor" },
        { "an empty line first", BEGIN "\n\n", "\n", FINISH "\n", "damaged armor" },
        { "an empty line last", BEGIN "\n", "\n", "\n" FINISH "\n", "damaged armor" },
        { "lines that end twice", BEGIN "\n", "\n\n", FINISH "\n", "damaged armor" },
        { "spaces at the lines' ends", BEGIN "\n", " \n", FINISH "\n", "damaged armor" },
        { "CR alone", BEGIN "\r", "\r", FINISH "\r", "first line" },
        { "a checksum", BEGIN "\n", "\n", "=AAAA\n" FINISH "\n", "damaged armor" },
        { "no end", BEGIN "\n", "\n", "", "truncated" },
        { "another kind's end", BEGIN "\n", "\n", "-----END AGE FILE-----\n",
          "damaged armor" },
        { "text behind", BEGIN "\n", "\n", FINISH "\nx\n", "text after its end" },
        { "text behind on the same line", BEGIN "\n", "\n", FINISH "x\n",
          "damaged armor" },
        { "text before", "x\n" BEGIN "\n", "\n", FINISH "\n", "not an age file" },
        { "another kind", "-----BEGIN AGE FILE-----\n", "\n", FINISH "\n",
          "not an age file" },
        { "lower case", "-----begin age encrypted file-----\n", "\n", FINISH "\n",
          "not an age file" },
    };

    (void)state;
    for (size_t over = 0; over < 48; over += 13)
        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
            AUTO_BUF file = BUF_INIT;
            size_t len = 0;
            buf_printf(&file, "%s", t[i].before);
            armored(&file, over, t[i].eol);
            buf_printf(&file, "%s", t[i].after);
            AUTO_BUF plain = BUF_INIT;
            if (!t[i].words) {
                assert_int_equal(decrypt(buf_span(&file), 5, &plain, NULL), 0);
                len = plain.len;
            }
            expect(t[i].name, buf_span(&file), t[i].words,
                   t[i].words ? span_of(noise, 48) : span_of(noise, len));
        }
}

static void armor_within(void **state)
{
    AUTO_BUF good = BUF_INIT;

    (void)state;
    armored(&good, 1, "\n"); /* its last line: "AB==" of some letters */
    buf_str(&good);
    size_t last = good.len - 5;
    assert_memory_equal(good.data + last + 2, "==\n", 3);
    static const char *const tails[] = { "A===\n", "====\n", "AB==\n",       "AA=\n",
                                         "AA\n",   "A\n",    "AA==\nAA==\n", "AA==AAAA\n",
                                         "AA=A\n", "A==A\n", "AA\n==\n",     "A A=\n" };
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_printf(&file, BEGIN "\n%.*s%s" FINISH "\n", (int)last,
                   (const char *)good.data, tails[i]);
        expect(tails[i], buf_span(&file), "damage", span_of(noise, 48));
    }
    for (int change = 0; change < 3; change++) {
        AUTO_BUF file = BUF_INIT;
        const char *text = (const char *)good.data, *rest = text + 65;
        if (change == 0) /* one line of 68 columns */
            buf_printf(&file, BEGIN "\n%.64s%.4s\n%s", text, rest, rest + 4);
        else if (change == 1) /* a short line that is not the last */
            buf_printf(&file, BEGIN "\n%.60s\n%.4s%s", text, text + 60, rest);
        else /* in one line */
            buf_printf(&file, BEGIN "\n%.64s%s", text, rest);
        buf_printf(&file, FINISH "\n");
        expect("lines of other lengths", buf_span(&file), "damaged armor", SPAN_NONE);
    }
}

/* White space before armor is bounded, and counts the same however it comes. */
static void much_white_space(void **state)
{
    (void)state;
    for (size_t n = KIB - 1; n <= KIB + 1; n++) {
        AUTO_BUF file = BUF_INIT;
        memset(buf_reserve(&file, n), ' ', n);
        file.len = n - 1;
        buf_printf(&file, "\n%s", of_age);
        memset(buf_reserve(&file, 9000), '\n', 9000);
        file.len += 9000; /* behind it, it costs nothing */
        expect("spaces", buf_span(&file), n > KIB ? "not an age file" : NULL,
               n > KIB ? SPAN_NONE : SPAN_LIT("written by age\n"));
    }
}

/* ---- Base64 ---- */

/* RFC 4648, 10. */
static void base64_is_the_rfc_s(void **state)
{
    static const struct {
        const char *plain, *text;
    } t[] = { { "", "" },
              { "f", "Zg==" },
              { "fo", "Zm8=" },
              { "foo", "Zm9v" },
              { "foob", "Zm9vYg==" },
              { "fooba", "Zm9vYmE=" },
              { "foobar", "Zm9vYmFy" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        for (int padded = 0; padded < 2; padded++) {
            AUTO_BUF text = BUF_INIT, back = BUF_INIT, junk = BUF_INIT;
            struct span want = span_str(t[i].text);
            while (!padded && want.len && want.data[want.len - 1] == '=')
                want.len--;
            base64_write(&text, span_str(t[i].plain), padded);
            assert_true(span_eq(buf_span(&text), want));
            assert_int_equal(base64_read(&back, want, padded), 0);
            assert_true(span_eq(buf_span(&back), span_str(t[i].plain)));
            if (want.len != strlen(t[i].text))
                assert_int_equal(base64_read(&junk, want, true), -1);
            else if (want.len && want.data[want.len - 1] == '=')
                assert_int_equal(base64_read(&junk, want, false), -1);
        }
}

/* What is read is what would be written: no text but one stands for some bytes. */
static void base64_has_one_text_for_all_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        static const char letters[] = "ABQgwxyz019+/=-_ \n";
        char text[8];
        AUTO_BUF bytes = BUF_INIT, again = BUF_INIT;
        size_t len = crypto_random_u32() % (sizeof(text) + 1);
        bool padded = i % 2;
        for (size_t k = 0; k < len; k++)
            text[k] = letters[crypto_random_u32() % (sizeof(letters) - 1)];
        if (base64_read(&bytes, span_of(text, len), padded) < 0)
            continue;
        base64_write(&again, buf_span(&bytes), padded);
        assert_true(span_eq(buf_span(&again), span_of(text, len)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(armor_around),
        cmocka_unit_test(armor_within),
        cmocka_unit_test(much_white_space),
        cmocka_unit_test(base64_is_the_rfc_s),
        cmocka_unit_test(base64_has_one_text_for_all_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
