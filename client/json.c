#include "client/json.h"

#include "base/text.h"

static void key_of(struct buf *out, const char *key)
{
    if (out->len && out->data[out->len - 1] != '{')
        buf_add_u8(out, ',');
    buf_printf(out, "\"%s\":", key);
}

void json_open(struct buf *out)
{
    buf_add_u8(out, '{');
}

void json_close(struct buf *out)
{
    buf_add_u8(out, '}');
}

void json_uint(struct buf *out, const char *key, uint64_t value)
{
    key_of(out, key);
    buf_printf(out, "%llu", (unsigned long long)value);
}

void json_real(struct buf *out, const char *key, double value)
{
    key_of(out, key);
    buf_printf(out, "%.6g", value);
}

void json_null(struct buf *out, const char *key)
{
    key_of(out, key);
    buf_printf(out, "null");
}

void json_bool(struct buf *out, const char *key, bool value)
{
    key_of(out, key);
    buf_printf(out, value ? "true" : "false");
}

void json_object(struct buf *out, const char *key)
{
    key_of(out, key);
    json_open(out);
}

static void add_char(struct buf *out, struct span s, size_t len)
{
    uint8_t c = s.data[0];

    if (c == '"' || c == '\\')
        buf_printf(out, "\\%c", c);
    else if (c == '\n')
        buf_printf(out, "\\n");
    else if (c < 0x20 || c == 0x7f)
        buf_printf(out, "\\u%04x", c);
    else
        buf_add(out, s.data, len);
}

static void add_base64(struct buf *out, struct span s)
{
    static const char a[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < s.len; i += 3) {
        uint32_t v = (uint32_t)s.data[i] << 16;
        v |= i + 1 < s.len ? (uint32_t)s.data[i + 1] << 8 : 0;
        v |= i + 2 < s.len ? s.data[i + 2] : 0;
        buf_add_u8(out, (uint8_t)a[v >> 18]);
        buf_add_u8(out, (uint8_t)a[v >> 12 & 63]);
        buf_add_u8(out, i + 1 < s.len ? (uint8_t)a[v >> 6 & 63] : '=');
        buf_add_u8(out, i + 2 < s.len ? (uint8_t)a[v & 63] : '=');
    }
}

void json_text(struct buf *out, const char *key, struct span value)
{
    struct span rest = value;
    bool clean = true;

    key_of(out, key);
    buf_add_u8(out, '"');
    while (rest.len) {
        size_t len = utf8_len(rest);
        if (len)
            add_char(out, rest, len);
        else
            buf_printf(out, "\\ufffd");
        clean = clean && len;
        len = len ? len : 1;
        rest = span_of(rest.data + len, rest.len - len);
    }
    buf_add_u8(out, '"');
    if (clean)
        return;
    buf_printf(out, ",\"%s_base64\":\"", key);
    add_base64(out, value);
    buf_add_u8(out, '"');
}

void json_hex(struct buf *out, const char *key, struct span value)
{
    key_of(out, key);
    buf_add_u8(out, '"');
    for (size_t i = 0; i < value.len; i++)
        buf_printf(out, "%02x", value.data[i]);
    buf_add_u8(out, '"');
}
