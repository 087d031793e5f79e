#include "proto/map.h"

enum {
    FMT_FIXMAP = 0x80,
    FMT_FIXARRAY = 0x90,
    FMT_FIXSTR = 0xa0,
    FMT_NIL = 0xc0,
    FMT_FALSE = 0xc2,
    FMT_TRUE = 0xc3,
    FMT_BIN8 = 0xc4,
    FMT_BIN32 = 0xc6,
    FMT_EXT8 = 0xc7,
    FMT_EXT32 = 0xc9,
    FMT_FLOAT32 = 0xca,
    FMT_FLOAT64 = 0xcb,
    FMT_UINT8 = 0xcc,
    FMT_UINT64 = 0xcf,
    FMT_INT8 = 0xd0,
    FMT_INT64 = 0xd3,
    FMT_FIXEXT1 = 0xd4,
    FMT_FIXEXT16 = 0xd8,
    FMT_STR8 = 0xd9,
    FMT_STR32 = 0xdb,
    FMT_ARRAY16 = 0xdc,
    FMT_ARRAY32 = 0xdd,
    FMT_MAP16 = 0xde,
    FMT_MAP32 = 0xdf,
    FMT_NEGFIX = 0xe0,
};

/* A format byte followed by an unsigned number of `size` bytes, big-endian. */
static void add_number(struct buf *out, uint8_t format, uint64_t value, unsigned size)
{
    buf_add_u8(out, format);
    for (unsigned i = size; i-- > 0;)
        buf_add_u8(out, (uint8_t)(value >> (8 * i)));
}

/* The formats of one family follow each other: 1, 2, 4 and 8 bytes wide. */
static void add_widening(struct buf *out, uint8_t first_format, uint64_t value)
{
    unsigned step = value <= UINT8_MAX    ? 0
                    : value <= UINT16_MAX ? 1
                    : value <= UINT32_MAX ? 2
                                          : 3;
    add_number(out, (uint8_t)(first_format + step), value, 1u << step);
}

static void add_str(struct buf *out, struct span s)
{
    CHECK(s.len <= UINT32_MAX);
    if (s.len < 32)
        buf_add_u8(out, (uint8_t)(FMT_FIXSTR | s.len));
    else
        add_widening(out, FMT_STR8, s.len);
    buf_add_span(out, s);
}

void map_pack_begin(struct buf *out, uint32_t n)
{
    if (n < 16)
        buf_add_u8(out, (uint8_t)(FMT_FIXMAP | n));
    else if (n <= UINT16_MAX)
        add_number(out, FMT_MAP16, n, 2);
    else
        add_number(out, FMT_MAP32, n, 4);
}

void map_pack_str(struct buf *out, const char *key, struct span value)
{
    add_str(out, span_str(key));
    add_str(out, value);
}

void map_pack_uint(struct buf *out, const char *key, uint64_t value)
{
    add_str(out, span_str(key));
    if (value < 128)
        buf_add_u8(out, (uint8_t)value);
    else
        add_widening(out, FMT_UINT8, value);
}

void map_pack_int(struct buf *out, const char *key, int64_t value)
{
    if (value >= 0) {
        map_pack_uint(out, key, (uint64_t)value);
        return;
    }
    add_str(out, span_str(key));
    add_number(out, FMT_INT64, (uint64_t)value, 8);
}

void map_pack_bool(struct buf *out, const char *key, bool value)
{
    add_str(out, span_str(key));
    buf_add_u8(out, value ? FMT_TRUE : FMT_FALSE);
}

static int cut_short(struct err *err)
{
    return err_set(err, 1, "MessagePack is cut short");
}

static int read_number(struct span bytes, size_t *pos, unsigned size, uint64_t *ret,
                       struct err *err)
{
    if (bytes.len - *pos < size)
        return cut_short(err);
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | bytes.data[(*pos)++];
    *ret = value;
    return 0;
}

static int read_format(struct span bytes, size_t *pos, uint8_t *ret, struct err *err)
{
    if (*pos >= bytes.len)
        return cut_short(err);
    *ret = bytes.data[(*pos)++];
    return 0;
}

static int read_text(struct span bytes, size_t *pos, uint64_t len, struct span *ret,
                     struct err *err)
{
    if (bytes.len - *pos < len)
        return cut_short(err);
    *ret = span_of(bytes.data + *pos, len);
    *pos += len;
    return 0;
}

int map_unpack_begin(struct span bytes, size_t *pos, uint32_t *ret_n, struct err *err)
{
    uint8_t format = 0;
    uint64_t n = 0;
    if (read_format(bytes, pos, &format, err) < 0)
        return -1;
    if ((format & 0xf0) == FMT_FIXMAP)
        n = format & 0x0f;
    else if (format != FMT_MAP16 && format != FMT_MAP32)
        return err_set(err, 1, "MessagePack: type %#x where a map was expected", format);
    else if (read_number(bytes, pos, format == FMT_MAP16 ? 2 : 4, &n, err) < 0)
        return -1;
    if (n > (bytes.len - *pos) / 2) /* an entry has at least two bytes */
        return cut_short(err);
    *ret_n = (uint32_t)n;
    return 0;
}

/* A string with its length in the format byte, as nearly every key is: without the way
 * through all formats. False when it is not one, or cut short. */
static inline bool short_str(struct span bytes, size_t *pos, struct span *ret)
{
    size_t left = bytes.len - *pos, len;

    if (left == 0 || (bytes.data[*pos] & 0xe0) != FMT_FIXSTR)
        return false;
    len = bytes.data[*pos] & 0x1f;
    if (left - 1 < len)
        return false;
    *ret = span_of(bytes.data + *pos + 1, len);
    *pos += 1 + len;
    return true;
}

/* Bytes with their length in one byte, as digests and small inputs are: likewise. */
static inline bool short_bin(struct span bytes, size_t *pos, struct span *ret)
{
    size_t left = bytes.len - *pos, len;

    if (left < 2 || bytes.data[*pos] != FMT_BIN8)
        return false;
    len = bytes.data[*pos + 1];
    if (left - 2 < len)
        return false;
    *ret = span_of(bytes.data + *pos + 2, len);
    *pos += 2 + len;
    return true;
}

static int read_value(struct span bytes, size_t *pos, struct map_value *ret,
                      struct err *err);

/* How many values follow a map's or array's header; -1 when it is neither. */
static int read_count(struct span bytes, size_t *pos, uint8_t format, uint64_t *ret,
                      struct err *err)
{
    if ((format & 0xf0) == FMT_FIXMAP || (format & 0xf0) == FMT_FIXARRAY)
        *ret = format & 0x0f;
    else if (format >= FMT_ARRAY16 && format <= FMT_MAP32) {
        if (read_number(bytes, pos, format & 1 ? 4 : 2, ret, err) < 0)
            return -1;
    } else {
        return err_set(err, 1, "MessagePack: unexpected type %#x", format);
    }
    if ((format & 0xf0) == FMT_FIXMAP || format >= FMT_MAP16)
        *ret *= 2;
    return *ret > bytes.len - *pos ? cut_short(err) : 0;
}

/* What map.h has no kind for: floats are read, maps and arrays are given as raw bytes.
 * Nothing is kept of what is nested: a count of values still to come is enough. */
static int read_other(struct span bytes, size_t *pos, uint8_t format, struct map_value *v,
                      struct err *err)
{
    size_t start = *pos - 1;
    uint64_t left = 0, len = 0;

    if (format == FMT_FLOAT64) {
        uint64_t raw = 0;
        v->kind = MAP_FLOAT;
        if (read_number(bytes, pos, 8, &raw, err) < 0)
            return -1;
        memcpy(&v->real, &raw, sizeof(v->real));
        return 0;
    }
    v->kind = MAP_NESTED;
    if (format == FMT_FLOAT32) {
        if (read_text(bytes, pos, 4, &v->text, err) < 0)
            return -1;
    } else if (format >= FMT_FIXEXT1 && format <= FMT_FIXEXT16) {
        if (read_text(bytes, pos, (1u << (format - FMT_FIXEXT1)) + 1, &v->text, err) < 0)
            return -1;
    } else if (format >= FMT_EXT8 && format <= FMT_EXT32) {
        if (read_number(bytes, pos, 1u << (format - FMT_EXT8), &len, err) < 0 ||
            read_text(bytes, pos, len + 1, &v->text, err) < 0)
            return -1;
    } else if (read_count(bytes, pos, format, &left, err) < 0) {
        return -1;
    }
    for (; left; left--) {
        struct map_value inner;
        uint64_t more = 0;
        if (short_str(bytes, pos, &inner.text) || short_bin(bytes, pos, &inner.text))
            continue;
        size_t here = *pos;
        uint8_t f = here < bytes.len ? bytes.data[here] : 0;
        if ((f & 0xe0) == FMT_FIXMAP || (f >= FMT_ARRAY16 && f <= FMT_MAP32)) {
            (*pos)++;
            if (read_count(bytes, pos, f, &more, err) < 0)
                return -1;
            if (left + more > bytes.len)
                return cut_short(err);
            left += more;
        } else if (read_value(bytes, pos, &inner, err) < 0) {
            return -1;
        }
    }
    v->text = span_of(bytes.data + start, *pos - start);
    return 0;
}

static int64_t sign_extended(uint64_t value, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    return (int64_t)(value << shift) >> shift;
}

static int read_wide(struct span bytes, size_t *pos, uint8_t format, struct map_value *v,
                     struct err *err)
{
    if (format >= FMT_UINT8 && format <= FMT_UINT64) {
        v->kind = MAP_UINT;
        return read_number(bytes, pos, 1u << (format - FMT_UINT8), &v->uint, err);
    }
    if (format >= FMT_INT8 && format <= FMT_INT64) {
        unsigned size = 1u << (format - FMT_INT8);
        uint64_t raw;
        if (read_number(bytes, pos, size, &raw, err) < 0)
            return -1;
        v->integer = sign_extended(raw, size);
        v->kind = v->integer < 0 ? MAP_INT : MAP_UINT;
        v->uint = v->integer < 0 ? 0 : (uint64_t)v->integer;
        return 0;
    }
    bool str = format >= FMT_STR8 && format <= FMT_STR32;
    if (str || (format >= FMT_BIN8 && format <= FMT_BIN32)) {
        uint64_t len = 0;
        v->kind = str ? MAP_STR : MAP_BIN;
        uint8_t family = str ? FMT_STR8 : FMT_BIN8;
        if (read_number(bytes, pos, 1u << (format - family), &len, err) < 0)
            return -1;
        return read_text(bytes, pos, len, &v->text, err);
    }
    return read_other(bytes, pos, format, v, err);
}

/* Any value. On failure *ret holds anything. */
static int read_value(struct span bytes, size_t *pos, struct map_value *ret,
                      struct err *err)
{
    uint8_t format = 0;
    *ret = (struct map_value){ .kind = MAP_NIL };
    if (read_format(bytes, pos, &format, err) < 0)
        return -1;
    if (format < 0x80) {
        ret->kind = MAP_UINT;
        ret->uint = format;
    } else if (format >= FMT_NEGFIX) {
        ret->kind = MAP_INT;
        ret->integer = (int8_t)format;
    } else if ((format & 0xe0) == FMT_FIXSTR) {
        ret->kind = MAP_STR;
        return read_text(bytes, pos, format & 0x1f, &ret->text, err);
    } else if (format == FMT_TRUE || format == FMT_FALSE) {
        ret->kind = MAP_BOOL;
        ret->uint = format == FMT_TRUE;
    } else if (format != FMT_NIL) {
        return read_wide(bytes, pos, format, ret, err);
    }
    return 0;
}

int map_unpack_next(struct span bytes, size_t *pos, struct span *ret_key,
                    struct map_value *ret, struct err *err)
{
    struct map_value key;
    if (!short_str(bytes, pos, ret_key)) {
        if (read_value(bytes, pos, &key, err) < 0)
            return -1;
        if (key.kind != MAP_STR)
            return err_set(err, 1, "MessagePack: a key is not a string");
        *ret_key = key.text;
    }
    *ret = (struct map_value){ .kind = MAP_BIN };
    if (short_bin(bytes, pos, &ret->text))
        return 0;
    return read_value(bytes, pos, ret, err);
}

static struct map_value map_get(struct span bytes, size_t pos, const char *key)
{
    struct map_value v = { .kind = MAP_NIL };
    struct span k, want = span_str(key);
    uint32_t n;
    if (map_unpack_begin(bytes, &pos, &n, NULL) < 0)
        return v;
    for (uint32_t i = 0; i < n; i++) {
        struct map_value entry;
        if (map_unpack_next(bytes, &pos, &k, &entry, NULL) < 0)
            return v;
        if (span_eq(k, want))
            return entry;
    }
    return v;
}

uint64_t map_get_uint(struct span bytes, size_t pos, const char *key)
{
    return map_get(bytes, pos, key).uint;
}

struct span map_get_str(struct span bytes, size_t pos, const char *key)
{
    return map_get(bytes, pos, key).text;
}
