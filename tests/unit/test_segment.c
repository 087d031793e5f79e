/* Files of bodies: what was kept is there, what was taken back is not, and a process
 * appends to no file that it found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "coordinator/segment.h"
#include "coordinator/store_dir.h"

struct fixture {
    char dir[64];
    struct segments *segments;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/tm-segment.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->segments = segments_new(f->dir, true);
    assert_non_null(f->segments);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    segments_free(f->segments);
    dir_remove(f->dir);
    assert_int_equal(access(f->dir, F_OK), -1);
    free(f);
    return 0;
}

/* *ret: the file's length, and how much of it is on the disk. */
static void look(const struct fixture *f, uint32_t id, struct stat *ret)
{
    char name[SEGMENT_NAME_BYTES];

    segment_name(id, name);
    AUTO_FREE char *path = xasprintf("%s/%s", f->dir, name);
    assert_int_equal(stat(path, ret), 0);
}

static uint64_t put(struct fixture *f, const char *text)
{
    uint64_t at = 0;

    assert_int_equal(segment_put(f->segments, span_str(text), &at), 0);
    return at;
}

static void assert_reads(const struct fixture *f, uint64_t at, const char *text)
{
    struct blob *b = NULL;

    assert_int_equal(segment_read(f->segments, at, strlen(text), &b), 1);
    assert_true(span_eq(blob_span(b), span_str(text)));
    blob_unref(b);
}

static void names_are_numbers(void **state)
{
    static const char *const others[] = { "segment.",         "segment.1",
                                          "segment.0000000g", "segment.00000001.moved",
                                          "segment.0000000A", "segment.000000001",
                                          "tidemill.db",      "segment.00000000",
                                          "segment.-0000001", "segment.7fffffff" };
    char name[SEGMENT_NAME_BYTES];

    (void)state;
    segment_name(0xabc, name);
    assert_string_equal(name, "segment.00000abc");
    assert_int_equal(segment_number(name), 0xabc);
    segment_name(SEGMENT_NUMBER_MAX, name);
    assert_int_equal(segment_number(name), SEGMENT_NUMBER_MAX);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_int_equal(segment_number(others[i]), 0);
}

static void what_is_kept_is_there(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(segments_current(f->segments), 0);
    uint64_t first = put(f, "first"), second = put(f, "second");
    assert_int_equal(segments_sync(f->segments), 0);
    segments_keep(f->segments);
    assert_int_equal(segment_of(first), segments_current(f->segments));
    assert_int_equal(second, segment_after(first, 5));
    assert_int_equal(second, first + SEGMENT_BLOCK);
    /* Taken back, and its place is another's; also when it was synced. */
    uint64_t lost = put(f, "lost");
    segments_back(f->segments);
    look(f, segment_of(first), &st);
    assert_int_equal(st.st_size, 2 * SEGMENT_BLOCK);
    assert_int_equal(put(f, "other"), lost);
    assert_int_equal(segments_sync(f->segments), 0);
    segments_back(f->segments);
    assert_int_equal(put(f, "third"), lost);
    assert_reads(f, first, "first");
    assert_reads(f, second, "second");
    assert_reads(f, lost, "third");
}

static void a_new_process_has_a_new_segment(void **state)
{
    struct fixture *f = *state;
    uint64_t before = put(f, "before");

    segments_keep(f->segments);
    segments_free(f->segments);
    f->segments = segments_new(f->dir, false);
    uint64_t after = put(f, "after");
    assert_int_equal(segment_of(after), segment_of(before) + 1);
    assert_reads(f, before, "before");
    assert_reads(f, after, "after");
}

static void a_long_one_gets_no_more(void **state)
{
    struct fixture *f = *state;
    struct blob *large = blob_alloc(SEGMENT_BYTES - SEGMENT_BLOCK);
    uint64_t at;

    memset(large->data, 7, large->len);
    assert_int_equal(segment_put(f->segments, blob_span(large), &at), 0);
    blob_unref(large);
    uint64_t last = put(f, "goes over its end"), next = put(f, "next");
    assert_int_equal(segment_of(last), segment_of(at));
    assert_int_equal(segment_of(next), segment_of(at) + 1);
    /* What is taken back goes over two of them. */
    segments_back(f->segments);
    assert_int_equal(put(f, "again"), next);
    assert_reads(f, next, "again");
}

static void what_is_not_there_is_not_read(void **state)
{
    struct fixture *f = *state;
    uint64_t at = put(f, "body");
    struct blob *b = NULL;

    assert_int_equal(segment_read(f->segments, at, 5, &b), 0);
    assert_int_equal(segment_read(f->segments, at + 1, 4, &b), 0);
    assert_int_equal(segment_read(f->segments, at, UINT64_MAX, &b), 0);
    assert_int_equal(segment_read(f->segments, at, 1ull << 40, &b), 0);
    assert_int_equal(segment_read(f->segments, at + (1ull << 32), 4, &b), 0);
    assert_null(b);
    segment_unlink(f->segments, segment_of(at));
    assert_int_equal(segment_read(f->segments, at, 4, &b), 0);
}

/* Bodies begin at a block, so that each gives back all of its room by itself. */
static void what_is_dropped_gives_its_room_back(void **state)
{
    enum { BODIES = 20, BODY = 17 * KIB };
    struct fixture *f = *state;
    struct blob *body = blob_alloc(BODY), *read = NULL;
    uint64_t at[BODIES];
    uint32_t number;

    memset(body->data, 7, body->len);
    for (int i = 0; i < BODIES; i++)
        assert_int_equal(segment_put(f->segments, blob_span(body), &at[i]), 0);
    assert_int_equal(segments_sync(f->segments), 0);
    number = segment_of(at[0]);
    for (int i = 0; i < BODIES; i += 2)
        segment_punch(f->segments, at[i], segment_after(at[i], BODY));
    segment_punch(f->segments, segment_begin(number + 1), BODY); /* there is none */
    for (int i = 1; i < BODIES; i += 2) {
        assert_false(segment_is_hole(f->segments, number));
        assert_int_equal(segment_read(f->segments, at[i], BODY, &read), 1);
        assert_true(span_eq(blob_span(read), blob_span(body)));
        blob_unref(read);
        segment_punch(f->segments, at[i], segment_after(at[i], BODY));
    }
    assert_true(segment_is_hole(f->segments, number));
    assert_false(segment_is_hole(f->segments, number + 1));
    blob_unref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_numbers),
        cmocka_unit_test_setup_teardown(what_is_kept_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_process_has_a_new_segment, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_long_one_gets_no_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_dropped_gives_its_room_back, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
