#include "base/text.h"

size_t utf8_len(struct span s)
{
    static const struct {
        uint8_t from, to, second_min, second_max, len;
    } rows[] = {
        { 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
        { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
        { 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
        { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (s.data[0] < rows[i].from || s.data[0] > rows[i].to)
            continue;
        if (rows[i].len > s.len)
            return 0;
        if (rows[i].len > 1 &&
            (s.data[1] < rows[i].second_min || s.data[1] > rows[i].second_max))
            return 0;
        for (size_t k = 2; k < rows[i].len; k++)
            if ((s.data[k] & 0xc0) != 0x80)
                return 0;
        return rows[i].len;
    }
    return 0;
}

static bool is_control(struct span s, size_t len)
{
    return s.data[0] < ' ' || s.data[0] == 0x7f ||
           (len == 2 && s.data[0] == 0xc2 && s.data[1] < 0xa0);
}

/* How many bytes of s, which is not empty, can be shown as they are; 0 = not one. */
static size_t plain_len(struct span s)
{
    size_t len = utf8_len(s);

    return len && !is_control(s, len) ? len : 0;
}

bool text_is_plain(struct span s)
{
    size_t len;

    for (; s.len; s = span_of(s.data + len, s.len - len))
        if (!(len = plain_len(s)))
            return false;
    return true;
}

void text_show(struct buf *out, struct span s)
{
    size_t len;

    for (; s.len; s = span_of(s.data + len, s.len - len)) {
        len = plain_len(s);
        if (len)
            buf_add(out, s.data, len);
        else
            buf_printf(out, "\\x%02x", s.data[0]);
        len = MAX(len, (size_t)1);
    }
}
