/* Maps of MessagePack (specification of 2017) with short string keys: what inputs,
 * values, specs and the rows of Answer are made of. The reader walks bytes in place: it
 * checks every count against the bytes that remain, never allocates and never recurses,
 * which msgpack-c's unpacker does not promise (docs/messagepack.md). What the keys mean
 * is said in pack.h, not here. */
#ifndef PROTO_MAP_H
#define PROTO_MAP_H

#include "base/buf.h"
#include "base/err.h"

/* Writing: map_pack_begin(out, n), then exactly n entries. */
void map_pack_begin(struct buf *out, uint32_t n);
void map_pack_str(struct buf *out, const char *key, struct span value);
void map_pack_uint(struct buf *out, const char *key, uint64_t value);
void map_pack_int(struct buf *out, const char *key, int64_t value);
void map_pack_bool(struct buf *out, const char *key, bool value);

/* One scalar as read. */
enum map_kind {
    MAP_NIL,
    MAP_BOOL,
    MAP_UINT,
    MAP_INT,
    MAP_STR,
    MAP_BIN,
    MAP_FLOAT,
    MAP_NESTED
};
struct map_value {
    enum map_kind kind;
    uint64_t uint;    /* MAP_UINT, MAP_BOOL */
    int64_t integer;  /* MAP_INT: negative numbers */
    double real;      /* MAP_FLOAT */
    struct span text; /* MAP_STR, MAP_BIN; MAP_NESTED: a map, an array or what has no kind
                         of its own, raw. Borrowed from the bytes */
};

/* Reading: map_unpack_begin at *pos gives the number of entries, then as many
 * map_unpack_next. Both move *pos; -1 when the bytes end early or hold another type. */
int map_unpack_begin(struct span bytes, size_t *pos, uint32_t *ret_n, struct err *err);
int map_unpack_next(struct span bytes, size_t *pos, struct span *ret_key,
                    struct map_value *ret, struct err *err);

/* The value of one key in the map that starts at pos; 0 (or nothing) when it is absent or
 * of another kind. For readers that want a few keys of a map they have walked once. */
uint64_t map_get_uint(struct span bytes, size_t pos, const char *key);
struct span map_get_str(struct span bytes, size_t pos, const char *key);

#endif
