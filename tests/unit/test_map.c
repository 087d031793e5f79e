/* Flat maps: what is written is read back; broken bytes are refused, never read past. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "proto/map.h"

static void pack_sample(struct buf *b)
{
    static const char text[300] = "long";
    map_pack_begin(b, 7);
    map_pack_str(b, "name", span_str("storm"));
    map_pack_str(b, "text", span_of(text, sizeof(text)));
    map_pack_uint(b, "small", 7);
    map_pack_uint(b, "mid", 40000);
    map_pack_uint(b, "big", UINT64_MAX);
    map_pack_int(b, "neg", -5);
    map_pack_bool(b, "yes", true);
}

static void entries_are_read_back(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT;
    pack_sample(&b);
    size_t pos = 0;
    uint32_t n = 0;
    struct err err = { 0 };
    assert_int_equal(map_unpack_begin(buf_span(&b), &pos, &n, &err), 0);
    assert_int_equal(n, 7);
    struct span key;
    struct map_value v[7];
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(map_unpack_next(buf_span(&b), &pos, &key, &v[i], &err), 0);
    assert_int_equal(pos, b.len);
    assert_true(span_eq(v[0].text, span_str("storm")));
    assert_int_equal(v[1].text.len, 300);
    assert_int_equal(v[2].uint, 7);
    assert_int_equal(v[3].uint, 40000);
    assert_true(v[4].uint == UINT64_MAX);
    assert_int_equal(v[5].kind, MAP_INT);
    assert_int_equal(v[5].integer, -5);
    assert_int_equal(v[6].kind, MAP_BOOL);
    assert_int_equal(map_get_uint(buf_span(&b), 0, "mid"), 40000);
    assert_true(span_eq(map_get_str(buf_span(&b), 0, "name"), span_str("storm")));
    assert_int_equal(map_get_uint(buf_span(&b), 0, "absent"), 0);
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    AUTO_BUF b = BUF_INIT;
    pack_sample(&b);
    for (size_t len = 0; len < b.len; len++) {
        AUTO_FREE uint8_t *exact = xmalloc(len + 1);
        memcpy(exact, b.data, len);
        struct span cut = span_of(exact, len);
        size_t pos = 0;
        uint32_t n = 0;
        bool failed = map_unpack_begin(cut, &pos, &n, NULL) < 0;
        for (uint32_t i = 0; !failed && i < n; i++) {
            struct span key;
            struct map_value v;
            failed = map_unpack_next(cut, &pos, &key, &v, NULL) < 0;
        }
        assert_true(failed);
        assert_true(pos <= len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_read_back),
        cmocka_unit_test(every_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
