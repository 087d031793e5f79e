/* What a terminal would take for a command is shown, and not sent to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/text.h"

static void commands_are_shown(void **state)
{
    static const struct {
        const char *text, *shown;
    } t[] = {
        { "", "" },
        { "store 1", "store 1" },
        { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
          "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "\x1b[2J", "\\x1b[2J" },
        { "a\nb\x7f", "a\\x0ab\\x7f" },
        { "\xc2\x9b"
          "2J",
          "\\xc2\\x9b2J" },
        { "\xc2\xa0", "\xc2\xa0" },
        { "\x9b", "\\x9b" },
        { "\xc3", "\\xc3" },
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF out = BUF_INIT;
        text_show(&out, span_str(t[i].text));
        assert_string_equal(buf_str(&out), t[i].shown);
        assert_int_equal(text_is_plain(span_str(t[i].text)),
                         strcmp(t[i].text, t[i].shown) == 0);
    }
    assert_false(text_is_plain(SPAN_LIT("a\0b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(commands_are_shown) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
