#include "proto/select.h"

#include <ctype.h>

#include "base/text.h"
#include "proto/wire.h"

#define EACH SPAN_LIT("each")

bool select_next(struct span text, size_t *pos, struct span *ret)
{
    const uint8_t *end;

    if (*pos >= text.len)
        return false;
    end = memchr(text.data + *pos, '\n', text.len - *pos);
    size_t len = end ? (size_t)(end - text.data) - *pos : text.len - *pos;
    *ret = span_of(text.data + *pos, len);
    *pos += len + 1;
    return true;
}

static bool has(struct span text, struct span what)
{
    struct span one;
    size_t pos = 0;

    while (select_next(text, &pos, &one))
        if (span_eq(one, what))
            return true;
    return false;
}

bool select_each(struct span on)
{
    return has(on, EACH);
}

bool select_fits(struct span on, struct span name, struct span labels)
{
    struct span one;
    size_t pos = 0;

    while (select_next(on, &pos, &one)) {
        bool label = one.len && memchr(one.data, '=', one.len);
        if (!span_eq(one, EACH) && !(label ? has(labels, one) : span_eq(name, one)))
            return false;
    }
    return true;
}

int select_check_label(struct span l, struct err *err)
{
    const uint8_t *eq = l.len ? memchr(l.data, '=', l.len) : NULL;
    size_t key = eq ? (size_t)(eq - l.data) : 0;
    bool good = key > 0 && l.len <= WIRE_TEXT_MAX && text_is_plain(l);

    for (size_t i = 0; good && i < l.len; i++) {
        uint8_t c = l.data[i];
        good = i < key ? isalnum(c) || (c && strchr("._-/", c)) : c != ' ' && c != ',';
    }
    if (good)
        return 0;
    err_set(err, 2, "not a label: '%.*s'", (int)MIN(l.len, (size_t)200),
            (const char *)l.data);
    return err_hint(err, "KEY=VALUE, as in disk=ssd");
}

int select_check_name(struct span name, struct err *err)
{
    bool good = name.len && name.len <= WIRE_TEXT_MAX && !span_eq(name, EACH) &&
                text_is_plain(name);

    for (size_t i = 0; good && i < name.len; i++)
        good = !strchr(" =\"\\", name.data[i]);
    if (good)
        return 0;
    err_set(err, 2, "no node can be called '%.*s'", (int)MIN(name.len, (size_t)200),
            (const char *)name.data);
    return err_hint(err, "a name has no white space, none of = \" \\, and is not 'each'");
}
