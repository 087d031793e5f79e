#include "client/manifest.h"

#include <ctype.h>

#include "base/nearest.h"

static const struct {
    const char *name;
    const char *tag; /* in a --tag line */
    const char *file;
    size_t bytes;
} algos[] = {
    [ALGO_MD5] = { "md5", "MD5", "MD5SUMS", 16 },
    [ALGO_SHA1] = { "sha1", "SHA1", "SHA1SUMS", 20 },
    [ALGO_SHA256] = { "sha256", "SHA256", "SHA256SUMS", 32 },
    [ALGO_SHA512] = { "sha512", "SHA512", "SHA512SUMS", 64 },
    [ALGO_BLAKE2B] = { "blake2b", "BLAKE2b", "B2SUMS", 64 },
};

const char *manifest_file_name(enum algo algo)
{
    return algos[algo].file;
}

const char *manifest_algo_name(enum algo algo)
{
    return algos[algo].name;
}

size_t manifest_digest_bytes(enum algo algo)
{
    return algos[algo].bytes;
}

static int algo_by_name(const char *name, size_t len)
{
    if (len == 2 && memcmp(name, "b2", 2) == 0)
        return ALGO_BLAKE2B;
    for (size_t i = 0; i < ARRAY_LEN(algos); i++)
        if (strlen(algos[i].name) == len && memcmp(algos[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

int manifest_algos_parse(const char *list, uint32_t *ret_mask, struct err *err)
{
    uint32_t mask = 0;
    for (const char *p = list;;) {
        size_t len = strcspn(p, ",");
        int algo = algo_by_name(p, len);
        if (algo < 0) {
            const char *names[ARRAY_LEN(algos)];
            for (size_t i = 0; i < ARRAY_LEN(algos); i++)
                names[i] = algos[i].name;
            AUTO_FREE char *word = span_dup(span_of(p, len));
            const char *near = nearest(word, names, ARRAY_LEN(names));
            err_set(err, 2, "unknown algorithm '%s' in -a", word);
            return err_hint(err, "%s%s%savailable: md5 sha1 sha256 sha512 blake2b",
                            near ? "did you mean '" : "", near ? near : "",
                            near ? "'? " : "");
        }
        mask |= BIT(algo);
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    *ret_mask = mask;
    return 0;
}

static bool needs_escape(struct span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] == '\\' || name.data[i] == '\n' || name.data[i] == '\r')
            return true;
    return false;
}

static void add_name(struct buf *out, struct span name, bool escape)
{
    if (!escape) {
        buf_add_span(out, name);
        return;
    }
    for (size_t i = 0; i < name.len; i++) {
        switch (name.data[i]) {
        case '\\':
            buf_add(out, "\\\\", 2);
            break;
        case '\n':
            buf_add(out, "\\n", 2);
            break;
        case '\r':
            buf_add(out, "\\r", 2);
            break;
        default:
            buf_add_u8(out, name.data[i]);
        }
    }
}

static void add_hex(struct buf *out, struct span digest)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < digest.len; i++) {
        buf_add_u8(out, (uint8_t)digits[digest.data[i] >> 4]);
        buf_add_u8(out, (uint8_t)digits[digest.data[i] & 15]);
    }
}

void manifest_line(struct buf *out, enum algo algo, struct span digest, struct span name,
                   bool tag)
{
    bool escape = needs_escape(name);
    if (escape)
        buf_add_u8(out, '\\');
    if (tag) {
        buf_add_span(out, span_str(algos[algo].tag));
        buf_add(out, " (", 2);
        add_name(out, name, escape);
        buf_add(out, ") = ", 4);
        add_hex(out, digest);
    } else {
        add_hex(out, digest);
        buf_add(out, "  ", 2);
        add_name(out, name, escape);
    }
    buf_add_u8(out, '\n');
}

void manifest_verdict(struct buf *out, struct span name, const char *what)
{
    /* Not for a backslash alone: nor does sha256sum. */
    bool escape = memchr(name.data, '\n', name.len) != NULL;
    if (escape)
        buf_add_u8(out, '\\');
    add_name(out, name, escape);
    buf_printf(out, ": %s\n", what);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (uint8_t)tolower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The number of hex digits that text starts with, decoded into out (at most 64 bytes). */
static size_t hex_prefix(struct span text, uint8_t out[64])
{
    size_t n = 0;
    while (n < text.len && n < 128 && hex_value(text.data[n]) >= 0) {
        int v = hex_value(text.data[n]);
        out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | v : v << 4);
        n++;
    }
    return n;
}

static int add_unescaped(struct buf *out, struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        if (c == '\\') {
            if (++i == name.len)
                return -1;
            c = name.data[i] == 'n'    ? '\n'
                : name.data[i] == 'r'  ? '\r'
                : name.data[i] == '\\' ? '\\'
                                       : 0;
            if (!c)
                return -1;
        }
        buf_add_u8(out, c);
    }
    return 0;
}

static int set_name(struct manifest_entry *ret, struct span name, bool escaped)
{
    if (name.len == 0 || memchr(name.data, 0, name.len))
        return -1;
    buf_clear(&ret->name);
    if (escaped)
        return add_unescaped(&ret->name, name);
    buf_add_span(&ret->name, name);
    return 0;
}

/* "SHA256 (name) = digest" */
static int parse_tag(struct span line, bool escaped, struct manifest_entry *ret)
{
    for (size_t a = 0; a < ARRAY_LEN(algos); a++) {
        size_t tag = strlen(algos[a].tag), digits = algos[a].bytes * 2;
        size_t fixed = tag + 2 + 4 + digits;
        if (line.len <= fixed || memcmp(line.data, algos[a].tag, tag) != 0 ||
            memcmp(line.data + tag, " (", 2) != 0 ||
            memcmp(line.data + line.len - digits - 4, ") = ", 4) != 0)
            continue;
        struct span hex = span_of(line.data + line.len - digits, digits);
        if (hex_prefix(hex, ret->digest) != digits)
            return -1;
        ret->algo = (enum algo)a;
        ret->digest_len = algos[a].bytes;
        return set_name(ret, span_of(line.data + tag + 2, line.len - fixed), escaped);
    }
    return -1;
}

int manifest_parse(struct span line, int default_algo, struct manifest_entry *ret)
{
    bool escaped = line.len > 0 && line.data[0] == '\\';
    if (escaped)
        line = span_of(line.data + 1, line.len - 1);
    if (parse_tag(line, escaped, ret) == 0)
        return 0;
    size_t digits = hex_prefix(line, ret->digest);
    if (line.len < digits + 3 || line.data[digits] != ' ' ||
        (line.data[digits + 1] != ' ' && line.data[digits + 1] != '*'))
        return -1;
    int algo = default_algo;
    for (size_t a = 0; algo < 0 && a < ARRAY_LEN(algos); a++)
        if (algos[a].bytes * 2 == digits)
            algo = (int)a;
    if (algo < 0 || algos[algo].bytes * 2 != digits)
        return -1;
    ret->algo = (enum algo)algo;
    ret->digest_len = digits / 2;
    return set_name(ret, span_of(line.data + digits + 2, line.len - digits - 2), escaped);
}
