/* age files damaged everywhere, one bit, one byte, one end at a time. */
#include "tests/unit/age_rig.h"

static struct buf small_file(bool armor)
{
    struct buf file = BUF_INIT;

    if (armor) {
        buf_printf(&file, "%s", of_age);
        return file;
    }
    add_good_header(&file);
    add_hello(&file);
    return file;
}

static void must_fail(struct span file, const char *what, size_t where)
{
    for (size_t step = SIZE_MAX / 2; step; step = step > 11 ? 11 : 0) {
        AUTO_BUF out = BUF_INIT;
        struct err err = { 0 };
        if (decrypt(file, step, &out, &err) == 0)
            fail_msg("%s at %zu is not noticed", what, where);
        assert_int_equal(out.len, 0);
        assert_true(err.text[0] && !strchr(err.text, '\n'));
    }
    run_task(file, -1, SPAN_NONE, what);
}

static void every_truncation_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        size_t needed = file.len - (size_t)armor; /* the last newline may go */
        for (size_t len = 0; len < needed; len++)
            must_fail(span_of(file.data, len), "truncation", len);
    }
}

static void every_changed_bit_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        for (size_t bit = 0; bit < file.len * 8; bit++) {
            file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            must_fail(buf_span(&file), "changed bit", bit);
            file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void every_missing_or_doubled_byte_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        for (size_t i = 0; i + 1 < file.len; i++) {
            AUTO_BUF less = BUF_INIT, more = BUF_INIT;
            buf_add(&less, file.data, i);
            buf_add(&less, file.data + i + 1, file.len - i - 1);
            buf_add(&more, file.data, i + 1);
            buf_add(&more, file.data + i, file.len - i);
            must_fail(buf_span(&less), "missing byte", i);
            must_fail(buf_span(&more), "doubled byte", i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_noticed),
        cmocka_unit_test(every_changed_bit_is_noticed),
        cmocka_unit_test(every_missing_or_doubled_byte_is_noticed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
