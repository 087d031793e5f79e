#include "client/names.h"

#include <ctype.h>
#include <strings.h>

#include "base/crypto.h"

enum { PART_MAX = 255 }; /* NAME_MAX of every file system we know */

struct span names_base(const char *path)
{
    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return span_of(path + start, len - start);
}

char *names_target(const char *out_dir, const char *root, const char *below)
{
    if (!out_dir) {
        size_t len = strlen(root);
        const char *slash = len > 0 && root[len - 1] == '/' ? "" : "/";
        return *below ? xasprintf("%s%s%s", root, slash, below) : xstrdup(root);
    }
    struct span base = names_base(root);
    bool nameless =
        base.len == 0 || span_eq(base, SPAN_LIT(".")) || span_eq(base, SPAN_LIT(".."));
    if (nameless)
        return xasprintf("%s/%s", out_dir, below);
    return xasprintf("%s/%.*s%s%s", out_dir, (int)base.len, (const char *)base.data,
                     *below ? "/" : "", below);
}

char *names_add_age(const char *name)
{
    return xasprintf("%s.age", name);
}

char *names_drop_age(const char *name)
{
    size_t len = strlen(name);
    if (len <= 4 || strcmp(name + len - 4, ".age") != 0 || name[len - 5] == '/')
        return NULL;
    return span_dup(span_of(name, len - 4));
}

static bool is_safe(uint8_t c)
{
    return c > 0x20 && c < 0x7f && !strchr("/\\\"*<>|:", c);
}

/* One part of a name: escaped, never "." or "..", at most PART_MAX bytes with suffix. */
static void add_part(struct buf *out, struct span part, const char *suffix)
{
    AUTO_BUF name = BUF_INIT;
    bool dots = span_eq(part, SPAN_LIT(".")) || span_eq(part, SPAN_LIT(".."));
    for (size_t i = 0; i < part.len; i++) {
        if (is_safe(part.data[i]) && !dots)
            buf_add_u8(&name, part.data[i]);
        else
            buf_printf(&name, "%%%02X", part.data[i]);
    }
    size_t max = PART_MAX - strlen(suffix);
    if (name.len > max) {
        uint8_t digest[CRYPTO_DIGEST_BYTES];
        crypto_digest(&part, 1, digest);
        name.len = max - 1 - 2 * sizeof(digest);
        buf_add_u8(&name, '~');
        for (size_t i = 0; i < sizeof(digest); i++)
            buf_printf(&name, "%02x", digest[i]);
    }
    buf_add_span(out, buf_span(&name));
    buf_add_span(out, span_str(suffix));
}

static bool starts_with(struct span s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && strncasecmp((const char *)s.data, prefix, len) == 0;
}

/* HOST[:PORT] in lower case, without user:password@; -1 when there is none. */
static int add_host(struct buf *out, struct span authority)
{
    for (size_t i = authority.len; i > 0; i--) {
        if (authority.data[i - 1] == '@') {
            authority = span_of(authority.data + i, authority.len - i);
            break;
        }
    }
    if (authority.len == 0 || authority.data[0] == ':' || authority.data[0] == '.')
        return -1;
    for (size_t i = 0; i < authority.len; i++) {
        uint8_t c = authority.data[i];
        if (c == 0 || (!isalnum(c) && !strchr("-._:[]", c)))
            return -1;
        buf_add_u8(out, (uint8_t)tolower(c));
    }
    return authority.len > PART_MAX ? -1 : 0;
}

struct span names_list_url(struct span line)
{
    if (line.len && line.data[0] == '#')
        return SPAN_NONE;
    while (line.len && strchr(" \t\r", line.data[line.len - 1]) &&
           line.data[line.len - 1] != '\0')
        line.len--;
    return line;
}

int names_of_url(struct span url, const char *suffix, char **ret)
{
    size_t scheme = starts_with(url, "https://")  ? 8
                    : starts_with(url, "http://") ? 7
                                                  : 0;
    if (scheme == 0 || memchr(url.data, 0, url.len))
        return -1;
    size_t end = scheme;
    while (end < url.len && !strchr("/?#", url.data[end]))
        end++;
    AUTO_BUF out = BUF_INIT;
    if (add_host(&out, span_of(url.data + scheme, end - scheme)) < 0)
        return -1;

    size_t stop = end; /* the fragment is no part of the name */
    while (stop < url.len && url.data[stop] != '#')
        stop++;
    bool query = false, last = false;
    for (size_t at = end; !last;) {
        if (at < stop && url.data[at] == '/' && !query)
            at++;
        size_t part = at;
        while (part < stop && (query || url.data[part] != '/')) {
            query |= url.data[part] == '?';
            part++;
        }
        last = part >= stop;
        struct span name = span_of(url.data + at, part - at);
        AUTO_BUF index = BUF_INIT;
        if (last && (name.len == 0 || name.data[0] == '?')) {
            buf_add_span(&index, SPAN_LIT("index.html"));
            buf_add_span(&index, name);
            name = buf_span(&index);
        }
        if (name.len > 0) {
            buf_add_u8(&out, '/');
            add_part(&out, name, last ? suffix : "");
        }
        at = part;
    }
    *ret = span_dup(buf_span(&out));
    return 0;
}
