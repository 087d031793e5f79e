#include "worker/ops/age_header.h"

#include "base/crypto.h"

enum { COLUMNS = 64, WRAPPED = AGE_FILE_KEY + 16, SHARE_TEXT = 43, MAC_TEXT = 43 };

static const char intro[] = "age-encryption.org/v1\n";
static const char x25519_label[] = "age-encryption.org/v1/X25519";

/* ---- base64 ---- */

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_write(struct buf *out, struct span bytes, bool padded)
{
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = MIN(bytes.len - i, 3);
        uint32_t v = (uint32_t)bytes.data[i] << 16;
        v |= n > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
        v |= n > 2 ? bytes.data[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            if (k <= n)
                buf_add_u8(out, (uint8_t)alphabet[v >> (18 - 6 * k) & 63]);
            else if (padded)
                buf_add_u8(out, '=');
        }
    }
}

static int digit(uint8_t c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

int base64_read(struct buf *out, struct span text, bool padded)
{
    uint32_t acc = 0, bits = 0;

    if (padded) {
        if (text.len % 4)
            return -1;
        for (int i = 0; i < 2 && text.len && text.data[text.len - 1] == '='; i++)
            text.len--;
    }
    if (text.len % 4 == 1)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        int d = digit(text.data[i]);
        if (d < 0)
            return -1;
        acc = acc << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_add_u8(out, (uint8_t)(acc >> bits));
        }
    }
    return acc & ((1u << bits) - 1) ? -1 : 0; /* canonical: unused bits are zero */
}

/* ---- identities ---- */

struct age_identities {
    size_t n;
    uint8_t (*secrets)[AGEKEY_BYTES]; /* crypto_secret_alloc'ed */
};

static int identity_add(void *arg, const uint8_t secret[AGEKEY_BYTES])
{
    struct age_identities *ids = arg;
    uint8_t(*grown)[AGEKEY_BYTES] = crypto_secret_alloc((ids->n + 1) * AGEKEY_BYTES);

    if (ids->n)
        memcpy(grown, ids->secrets, ids->n * AGEKEY_BYTES);
    memcpy(grown[ids->n], secret, AGEKEY_BYTES);
    crypto_secret_free(ids->secrets);
    ids->secrets = grown;
    ids->n++;
    return 0;
}

int age_identities_new(struct span text, struct age_identities **ret, struct err *err)
{
    struct age_identities *ids = xcalloc(1, sizeof(*ids));

    if (agekey_identities_each(text, identity_add, ids, err) < 0) {
        age_identities_free(ids);
        return -1;
    }
    *ret = ids;
    return 0;
}

void age_identities_free(struct age_identities *ids)
{
    if (!ids)
        return;
    crypto_secret_free(ids->secrets);
    free(ids);
}

void age_identities_recipients(const struct age_identities *ids, struct buf *out)
{
    uint8_t public_key[AGEKEY_BYTES];
    char text[AGEKEY_TEXT];

    for (size_t i = 0; i < ids->n; i++) {
        agekey_public(ids->secrets[i], public_key);
        agekey_recipient_text(public_key, text);
        buf_printf(out, "%s%s", i ? "\n" : "", text);
    }
}

/* ---- wrapping ---- */

/* The key that wraps a file key, from the shared secret. */
static void wrap_key(uint8_t out[32], const uint8_t secret[32], const uint8_t share[32],
                     const uint8_t recipient[32])
{
    uint8_t salt[64];

    memcpy(salt, share, 32);
    memcpy(salt + 32, recipient, 32);
    crypto_hkdf_sha256(out, 32, span_of(secret, 32), span_of(salt, sizeof(salt)),
                       span_str(x25519_label));
}

static int stanza_write(struct buf *out, struct span recipient,
                        const uint8_t file_key[AGE_FILE_KEY], struct err *err)
{
    static const uint8_t nonce[12];
    uint8_t to[32], ephemeral[32], share[32], secret[32], key[32], body[WRAPPED];
    int rc = 0;

    if (agekey_recipient_parse(recipient, to, err) < 0)
        return -1;
    crypto_random(ephemeral, sizeof(ephemeral));
    crypto_x25519_base(share, ephemeral);
    if (crypto_x25519(secret, ephemeral, to) < 0) {
        rc = err_set(err, 2, "a recipient's key is worthless (low order)");
    } else {
        wrap_key(key, secret, share, to);
        crypto_aead_seal(body, file_key, AGE_FILE_KEY, nonce, key);
        buf_add_span(out, SPAN_LIT("-> X25519 "));
        base64_write(out, span_of(share, 32), false);
        buf_add_u8(out, '\n');
        base64_write(out, span_of(body, sizeof(body)), false);
        buf_add_u8(out, '\n'); /* 43 columns: shorter than 64, so it ends the body */
    }
    crypto_zero(ephemeral, sizeof(ephemeral));
    crypto_zero(secret, sizeof(secret));
    crypto_zero(key, sizeof(key));
    return rc;
}

/* Over the header up to and with its three dashes. */
static void header_mac(uint8_t out[32], const uint8_t file_key[AGE_FILE_KEY],
                       struct span header)
{
    uint8_t key[32];

    crypto_hkdf_sha256(key, sizeof(key), span_of(file_key, AGE_FILE_KEY), SPAN_NONE,
                       SPAN_LIT("header"));
    crypto_hmac_sha256(out, span_of(key, sizeof(key)), header);
    crypto_zero(key, sizeof(key));
}

int age_header_write(struct buf *out, const struct span *recipients, size_t n,
                     const uint8_t file_key[AGE_FILE_KEY], struct err *err)
{
    size_t start = out->len;
    uint8_t mac[32];

    if (n == 0)
        return err_set(err, 2, "no recipient");
    buf_add_span(out, span_str(intro));
    for (size_t i = 0; i < n; i++)
        if (stanza_write(out, recipients[i], file_key, err) < 0)
            return -1;
    buf_add_span(out, SPAN_LIT("---"));
    header_mac(mac, file_key, span_of(out->data + start, out->len - start));
    buf_add_u8(out, ' ');
    base64_write(out, span_of(mac, sizeof(mac)), false);
    buf_add_u8(out, '\n');
    return 0;
}

/* ---- unwrapping ---- */

/* One line without its newline: 1, or 0 when it is not complete. */
static int next_line(struct span bytes, size_t *at, struct span *ret)
{
    const uint8_t *nl = memchr(bytes.data + *at, '\n', bytes.len - *at);

    if (!nl)
        return 0;
    *ret = span_of(bytes.data + *at, (size_t)(nl - bytes.data) - *at);
    *at += ret->len + 1;
    return 1;
}

static int damaged(struct err *err, const char *what)
{
    return err_set(err, 1, "damaged age header: %s", what);
}

/* Takes what an X25519 stanza wraps, if one of ours opens it: 1 = it did. */
static int unwrap(const struct age_identities *ids, struct span share_text,
                  struct span body, uint8_t ret_file_key[AGE_FILE_KEY])
{
    static const uint8_t nonce[12];
    AUTO_BUF share = BUF_INIT;
    uint8_t secret[32], key[32], to[32];
    int opened = 0;

    if (share_text.len != SHARE_TEXT || base64_read(&share, share_text, false) < 0 ||
        share.len != 32 || body.len != WRAPPED)
        return -1;
    for (size_t i = 0; ids && i < ids->n && !opened; i++) {
        agekey_public(ids->secrets[i], to);
        if (crypto_x25519(secret, ids->secrets[i], share.data) < 0)
            return -1;
        wrap_key(key, secret, share.data, to);
        opened = crypto_aead_open(ret_file_key, body.data, WRAPPED, nonce, key) == 0;
    }
    crypto_zero(secret, sizeof(secret));
    crypto_zero(key, sizeof(key));
    return opened;
}

/* Reads a stanza's body lines: 1, 0 = more bytes needed, -1. */
static int stanza_body(struct span bytes, size_t *at, struct buf *body)
{
    struct span line;

    do {
        if (!next_line(bytes, at, &line))
            return 0;
        if (line.len > COLUMNS || base64_read(body, line, false) < 0)
            return -1;
    } while (line.len == COLUMNS);
    return 1;
}

/* Whether a stanza's first argument is "X25519"; *ret_rest: the others. */
static bool is_x25519(struct span line, struct span *ret_rest)
{
    static const char start[] = "-> X25519";
    size_t len = sizeof(start) - 1;

    if (line.len < len || memcmp(line.data, start, len) != 0 ||
        (line.len > len && line.data[len] != ' '))
        return false;
    len = MIN(line.len, len + 1);
    *ret_rest = span_of(line.data + len, line.len - len);
    return true;
}

/* "-> " and words of printable characters, a space between two. */
static bool stanza_start(struct span line)
{
    if (line.len < 4 || memcmp(line.data, "-> ", 3) != 0)
        return false;
    for (size_t i = 3; i < line.len; i++) {
        bool space = line.data[i] == ' ';
        if (space && (line.data[i - 1] == ' ' || i + 1 == line.len))
            return false;
        if (!space && (line.data[i] < 33 || line.data[i] > 126))
            return false;
    }
    return line.data[3] != ' ';
}

/* Ends a header: its MAC must be the file key's. */
static int check_mac(struct span line, struct span header, bool opened,
                     const uint8_t file_key[AGE_FILE_KEY], struct err *err)
{
    AUTO_BUF given = BUF_INIT;
    uint8_t mac[32];

    if (line.len != 4 + MAC_TEXT || line.data[3] != ' ' ||
        base64_read(&given, span_of(line.data + 4, MAC_TEXT), false) < 0)
        return damaged(err, "its end");
    if (!opened) {
        err_set(err, 1, "no identity opens it");
        return err_hint(err, "it was encrypted to other recipients");
    }
    header_mac(mac, file_key, header);
    if (!crypto_equal(mac, given.data, sizeof(mac)))
        return damaged(err, "it is not authentic");
    return 1;
}

bool age_header_begins(struct span bytes)
{
    return bytes.len == 0 ||
           memcmp(bytes.data, intro, MIN(bytes.len, strlen(intro))) == 0;
}

bool age_header_ends(struct span line)
{
    return line.len >= 3 && memcmp(line.data, "---", 3) == 0;
}

int age_header_read(struct span bytes, const struct age_identities *ids, size_t *ret_len,
                    uint8_t ret_file_key[AGE_FILE_KEY], struct err *err)
{
    size_t at = strlen(intro);
    bool opened = false, too_long = bytes.len > AGE_HEADER_MAX;
    struct span line, share;

    if (!age_header_begins(bytes))
        return err_set(err, 1, "not an age file");
    if (bytes.len < at)
        return 0;
    bytes.len = MIN(bytes.len, AGE_HEADER_MAX); /* it must end in these */
    for (;;) {
        AUTO_BUF body = BUF_INIT;
        size_t start = at;
        int rc;
        if (!next_line(bytes, &at, &line))
            break;
        if (age_header_ends(line)) {
            *ret_len = at;
            return check_mac(line, span_of(bytes.data, start + 3), opened, ret_file_key,
                             err);
        }
        if (!stanza_start(line))
            return damaged(err, "a recipient's line");
        rc = stanza_body(bytes, &at, &body);
        if (rc == 0)
            break;
        if (rc < 0)
            return damaged(err, "a recipient's key");
        if (opened || !is_x25519(line, &share))
            continue;
        rc = unwrap(ids, share, buf_span(&body), ret_file_key);
        if (rc < 0)
            return damaged(err, "an X25519 recipient");
        opened = rc == 1;
    }
    return too_long ? damaged(err, "it is too long") : 0;
}
