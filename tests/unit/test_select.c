/* Which nodes a job's selectors mean, and what can be a label or a node's name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "proto/select.h"

static void all_selectors_have_to_hold(void **state)
{
    static const struct {
        const char *on, *name, *labels;
        bool fits;
    } t[] = {
        { "", "n1", "", true },
        { "n1", "n1", "", true },
        { "n1", "n2", "", false },
        { "n1", "n11", "", false },
        { "disk=ssd", "n1", "site=b\ndisk=ssd", true },
        { "disk=ssd", "n1", "disk=ssd2", false },
        { "disk=ssd", "n1", "xdisk=ssd", false },
        { "disk=ssd", "disk=ssd", "", false },
        { "disk=ssd\nsite=b", "n1", "site=b\ndisk=ssd", true },
        { "disk=ssd\nsite=c", "n1", "site=b\ndisk=ssd", false },
        { "disk=ssd\nn2", "n1", "disk=ssd", false },
        { "each", "n1", "", true },
        { "each\nn1", "n2", "", false },
        { "each\nsite=b", "n2", "site=b", true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(
            select_fits(span_str(t[i].on), span_str(t[i].name), span_str(t[i].labels)),
            t[i].fits);
    assert_true(select_each(SPAN_LIT("disk=ssd\neach")));
    assert_false(select_each(SPAN_LIT("disk=each")));
}

static void labels_and_names_cannot_be_mistaken(void **state)
{
    static const struct {
        const char *text;
        int label, name;
    } t[] = {
        { "disk=ssd", 0, -1 },
        { "a.b_c-d/e=x y", -1, -1 },
        { "k=a=b", 0, -1 },
        { "=v", -1, -1 },
        { "k=", 0, -1 },
        { "k v=1", -1, -1 },
        { "k=a,b", -1, -1 },
        { "store1", -1, 0 },
        { "each", -1, -1 },
        { "a\nb", -1, -1 },
        { "k=a\nb", -1, -1 },
        { "", -1, -1 },
        { "rack/1=\xc3\xa4", 0, -1 },
        { "\xc3\xa4", -1, 0 },
        { "k=\x1b[2J", -1, -1 },
        { "n\x1b[2J", -1, -1 },
        { "k=\xc2\x9b", -1, -1 }, /* C1: a terminal may take it for ESC [ */
        { "n\xc2\x9b", -1, -1 },
        { "k=\x9b", -1, -1 },
        { "n\x9b", -1, -1 },
        { "n\"", -1, -1 },
        { "n\\", -1, -1 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(select_check_label(span_str(t[i].text), NULL), t[i].label);
        assert_int_equal(select_check_name(span_str(t[i].text), NULL), t[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_selectors_have_to_hold),
        cmocka_unit_test(labels_and_names_cannot_be_mistaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
