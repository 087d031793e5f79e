#include "base/agekey.h"

#include <ctype.h>

#include "base/crypto.h"

enum { CHECKSUM_CHARS = 6, DATA_CHARS = 52 }; /* 256 bits in groups of 5 */

static const char charset[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t polymod_step(uint32_t chk, uint8_t v)
{
    static const uint32_t gen[] = { 0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd,
                                    0x2a1462b3 };
    uint32_t top = chk >> 25;

    chk = (chk & 0x1ffffff) << 5 ^ v;
    for (int i = 0; i < 5; i++)
        if (top >> i & 1)
            chk ^= gen[i];
    return chk;
}

/* The checksum's state after the human-readable part. */
static uint32_t polymod_hrp(const char *hrp)
{
    uint32_t chk = 1;

    for (const char *p = hrp; *p; p++)
        chk = polymod_step(chk, (uint8_t)*p >> 5);
    chk = polymod_step(chk, 0);
    for (const char *p = hrp; *p; p++)
        chk = polymod_step(chk, *p & 31);
    return chk;
}

static void encode(const char *hrp, const uint8_t key[AGEKEY_BYTES], char *out)
{
    uint32_t chk = polymod_hrp(hrp), bits = 0, acc = 0;
    size_t n = (size_t)sprintf(out, "%s1", hrp);

    for (int i = 0; i <= AGEKEY_BYTES; i++) {
        if (i < AGEKEY_BYTES) {
            acc = acc << 8 | key[i];
            bits += 8;
        } else if (bits) { /* the last group is filled with zeros */
            acc <<= 5 - bits;
            bits = 5;
        }
        for (; bits >= 5; bits -= 5) {
            uint8_t v = acc >> (bits - 5) & 31;
            chk = polymod_step(chk, v);
            out[n++] = charset[v];
        }
    }
    for (int i = 0; i < CHECKSUM_CHARS; i++)
        chk = polymod_step(chk, 0);
    chk ^= 1;
    for (int i = 0; i < CHECKSUM_CHARS; i++)
        out[n++] = charset[chk >> 5 * (CHECKSUM_CHARS - 1 - i) & 31];
    out[n] = 0;
    crypto_zero(&acc, sizeof(acc));
}

/* text: of one case already, as it must be. */
static int decode(const char *hrp, struct span text, uint8_t ret[AGEKEY_BYTES])
{
    size_t hrp_len = strlen(hrp), at = 0;
    uint32_t chk = polymod_hrp(hrp), acc = 0, bits = 0;
    const uint8_t *data;

    if (text.len != hrp_len + 1 + DATA_CHARS + CHECKSUM_CHARS ||
        memcmp(text.data, hrp, hrp_len) != 0 || text.data[hrp_len] != '1')
        return -1;
    data = text.data + hrp_len + 1;
    for (int i = 0; i < DATA_CHARS + CHECKSUM_CHARS; i++) {
        const char *c = data[i] ? strchr(charset, data[i]) : NULL;
        if (!c)
            return -1;
        chk = polymod_step(chk, (uint8_t)(c - charset));
        if (i >= DATA_CHARS)
            continue;
        acc = acc << 5 | (uint32_t)(c - charset);
        bits += 5;
        if (bits >= 8 && at < AGEKEY_BYTES) {
            bits -= 8;
            ret[at++] = (uint8_t)(acc >> bits);
        }
    }
    bool padded = acc & ((1u << bits) - 1); /* the filling must be zeros */
    crypto_zero(&acc, sizeof(acc));
    return chk == 1 && at == AGEKEY_BYTES && !padded ? 0 : -1;
}

int agekey_recipient_parse(struct span text, uint8_t ret_public[AGEKEY_BYTES],
                           struct err *err)
{
    text = span_trim(text);
    if (decode("age", text, ret_public) == 0)
        return 0;
    err_set(err, 2, "not an age recipient: '%.*s'", (int)MIN(text.len, 80),
            (const char *)text.data);
    return err_hint(err,
                    "a recipient begins with age1; tidemill key recipient FILE shows "
                    "an identity's");
}

void agekey_recipient_text(const uint8_t public_key[AGEKEY_BYTES], char ret[AGEKEY_TEXT])
{
    encode("age", public_key, ret);
}

void agekey_identity_new(uint8_t ret_secret[AGEKEY_BYTES])
{
    crypto_random(ret_secret, AGEKEY_BYTES);
}

int agekey_identity_parse(struct span text, uint8_t ret_secret[AGEKEY_BYTES],
                          struct err *err)
{
    char s[AGEKEY_TEXT] = "";
    bool upper = true;
    int rc = -1;

    text = span_trim(text);
    if (text.len < sizeof(s)) {
        for (size_t i = 0; i < text.len; i++) {
            upper = upper && !islower(text.data[i]);
            s[i] = (char)tolower(text.data[i]);
        }
        if (upper)
            rc = decode("age-secret-key-", span_of(s, text.len), ret_secret);
    }
    crypto_zero(s, sizeof(s));
    if (rc == 0)
        return 0;
    err_set(err, 2, "not an age identity"); /* never shown: it may be one, mistyped */
    return err_hint(err,
                    "an identity begins with AGE-SECRET-KEY-1; tidemill key identity "
                    "FILE makes one");
}

void agekey_identity_text(const uint8_t secret[AGEKEY_BYTES], char ret[AGEKEY_TEXT])
{
    encode("age-secret-key-", secret, ret);
    for (char *p = ret; *p; p++)
        *p = (char)toupper((unsigned char)*p);
}

void agekey_public(const uint8_t secret[AGEKEY_BYTES], uint8_t ret_public[AGEKEY_BYTES])
{
    crypto_x25519_base(ret_public, secret);
}

int agekey_identities_each(struct span text,
                           int (*fn)(void *arg, const uint8_t secret[AGEKEY_BYTES]),
                           void *arg, struct err *err)
{
    unsigned line = 0, found = 0;
    uint8_t secret[AGEKEY_BYTES];
    int rc = 0;

    for (size_t at = 0; at < text.len && rc == 0; line++) {
        const uint8_t *nl = memchr(text.data + at, '\n', text.len - at);
        size_t end = nl ? (size_t)(nl - text.data) : text.len;
        struct span s = span_trim(span_of(text.data + at, end - at));
        at = end + 1;
        if (s.len == 0 || s.data[0] == '#')
            continue;
        rc = agekey_identity_parse(s, secret, err);
        if (rc < 0)
            err_prefix(err, "line %u", line + 1);
        else if ((rc = fn(arg, secret)) == 0)
            found++;
    }
    crypto_zero(secret, sizeof(secret));
    if (rc == 0 && !found)
        return err_set(err, 2, "holds no age identity");
    return rc;
}
