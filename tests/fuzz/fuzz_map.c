/* The reader of MessagePack maps (rows of Answer), held against msgpack-c's. */
#include <msgpack/object.h>
#include <msgpack/unpack.h>

#include "proto/map.h"
#include "tests/fuzz/fuzz.h"

/* Reads one map as rows are read: 1, or 0 when it is malformed. */
static int read_row(struct span in, size_t *pos)
{
    struct err err = { 0 };
    uint32_t n;

    if (map_unpack_begin(in, pos, &n, &err) < 0) {
        fuzz_check_err(&err);
        return 0;
    }
    while (n--) {
        struct span key;
        struct map_value v;
        if (map_unpack_next(in, pos, &key, &v, &err) < 0) {
            fuzz_check_err(&err);
            return 0;
        }
        CHECK(fuzz_within(key, in) && fuzz_within(v.text, in));
        fuzz_touch(key);
        fuzz_touch(v.text);
    }
    return 1;
}

/* What is whole for us is whole for msgpack-c, unless it is too deep for it, and as long.
 * It is not asked about more: it would allocate by counts that nothing stands behind
 * (docs/messagepack.md). */
static void ask_the_other(struct span in, size_t start, size_t end)
{
    msgpack_unpacked got;
    msgpack_unpack_return rc;

    msgpack_unpacked_init(&got);
    rc = msgpack_unpack_next(&got, (const char *)in.data, end, &start);
    CHECK(rc != MSGPACK_UNPACK_CONTINUE);
    CHECK(rc != MSGPACK_UNPACK_SUCCESS || start == end);
    msgpack_unpacked_destroy(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    size_t pos = 0, start = 0;

    while (pos < size && read_row(in, &pos)) {
        ask_the_other(in, start, pos);
        map_get_uint(in, start, "id");
        fuzz_touch(map_get_str(in, start, "name"));
        start = pos;
    }
    CHECK(pos <= size);
    map_get_uint(in, start, "id"); /* of what was refused too */
    fuzz_touch(map_get_str(in, start, "name"));
    return 0;
}
