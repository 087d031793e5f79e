#include "worker/ops/age.h"

#include "base/crypto.h"

enum {
    ARMOR_COLUMNS = 64,
    ARMOR_BYTES = 48,
    ARMOR_SPACE_MAX = KIB, /* white space before it, as age has it */
};

static const char armor_begin[] = "-----BEGIN AGE ENCRYPTED FILE-----";
static const char armor_end[] = "-----END AGE ENCRYPTED FILE-----";

/* ---- encrypting ---- */

struct age_enc {
    struct age_payload *payload;
    uint64_t chunk;  /* the next one */
    struct buf hold; /* at most one chunk: whether it is the last is not known yet */
    bool armor;
    struct buf sealed; /* armor only: bytes that do not fill a line yet */
};

/* Sends sealed bytes on, as lines when armored. */
static void emit(struct age_enc *e, struct buf *out, bool end)
{
    size_t at = 0;

    for (; e->sealed.len - at >= ARMOR_BYTES || (end && e->sealed.len > at);
         at += MIN(e->sealed.len - at, ARMOR_BYTES)) {
        base64_write(out,
                     span_of(e->sealed.data + at, MIN(e->sealed.len - at, ARMOR_BYTES)),
                     true);
        buf_add_u8(out, '\n');
    }
    buf_drop(&e->sealed, at);
}

static void seal(struct age_enc *e, struct span plain, bool last, struct buf *out)
{
    struct buf *to = e->armor ? &e->sealed : out;

    age_payload_seal(e->payload, e->chunk++, last, plain,
                     buf_reserve(to, plain.len + EVP_AEAD_TAG));
    to->len += plain.len + EVP_AEAD_TAG;
    if (e->armor)
        emit(e, out, last);
}

int age_enc_new(const struct span *recipients, size_t n, bool armor, struct buf *out,
                struct age_enc **ret, struct err *err)
{
    struct age_enc *e = xcalloc(1, sizeof(*e));
    struct buf *to = armor ? &e->sealed : out;
    uint8_t key[AGE_PAYLOAD_KEY];
    int rc;

    e->armor = armor;
    rc = age_payload_begin(recipients, n, to, key, err);
    if (rc == 0) {
        e->payload = age_payload_new(key);
        if (armor) {
            buf_printf(out, "%s\n", armor_begin);
            emit(e, out, false);
        }
        *ret = e;
    } else {
        age_enc_free(e);
    }
    crypto_zero(key, sizeof(key));
    return rc;
}

/* Takes n bytes off the front. */
static struct span take(struct span *from, size_t n)
{
    struct span taken = span_of(from->data, n);

    *from = span_of(from->data + n, from->len - n);
    return taken;
}

/* Seals all chunks behind which more bytes are known, straight from the input but for one
 * that began before it. Returns what is left of the input: a chunk at most. */
static struct span seal_full(struct age_enc *e, struct span plain, struct buf *out)
{
    if (e->hold.len && plain.len) {
        buf_add_span(&e->hold, take(&plain, MIN(plain.len, AGE_CHUNK - e->hold.len)));
        if (!plain.len)
            return SPAN_NONE;
        seal(e, buf_span(&e->hold), false, out);
        buf_clear(&e->hold);
    }
    while (plain.len > AGE_CHUNK)
        seal(e, take(&plain, AGE_CHUNK), false, out);
    return plain;
}

void age_enc_update(struct age_enc *e, struct span plain, struct buf *out)
{
    buf_add_span(&e->hold, seal_full(e, plain, out));
}

void age_enc_end(struct age_enc *e, struct span plain, struct buf *out)
{
    struct span rest = seal_full(e, plain, out);

    seal(e, e->hold.len ? buf_span(&e->hold) : rest, true, out);
    if (e->armor)
        buf_printf(out, "%s\n", armor_end);
}

void age_enc_free(struct age_enc *e)
{
    if (!e)
        return;
    age_payload_free(e->payload);
    if (e->hold.data)
        crypto_zero(e->hold.data, e->hold.cap);
    buf_fini(&e->hold);
    buf_fini(&e->sealed);
    free(e);
}

/* ---- decrypting ---- */

enum armor_state { ARMOR_UNKNOWN, ARMOR_NONE, ARMOR_LINES, ARMOR_LAST, ARMOR_ENDED };

struct age_dec {
    const struct age_identities *ids;
    enum armor_state armor;
    struct buf text;                     /* armor: what is not a whole line yet */
    struct buf hold;                     /* header, or at most one sealed chunk */
    size_t scanned, line_at, header_len; /* in the header; length 0: no end seen yet */
    struct age_payload *payload;         /* NULL: the header was not read yet */
    uint64_t chunk;                      /* the next one */
};

struct age_dec *age_dec_new(const struct age_identities *ids)
{
    struct age_dec *d = xcalloc(1, sizeof(*d));
    d->ids = ids;
    return d;
}

void age_dec_free(struct age_dec *d)
{
    if (!d)
        return;
    age_payload_free(d->payload);
    buf_fini(&d->text);
    buf_fini(&d->hold);
    free(d);
}

static int open_chunk(struct age_dec *d, struct span sealed, bool last, struct buf *out,
                      struct err *err)
{
    if (age_payload_open(d->payload, d->chunk, last, sealed, buf_reserve(out, sealed.len),
                         err) < 0)
        return -1;
    out->len += sealed.len - EVP_AEAD_TAG;
    d->chunk++;
    return 0;
}

/* Whether the header is worth reading: it is there with the nonce, or it never will be.
 * Reading costs a key exchange a recipient, so it is done once, however the bytes come.
 */
static bool header_due(struct age_dec *d)
{
    for (; d->scanned < d->hold.len && !d->header_len; d->scanned++) {
        if (d->hold.data[d->scanned] != '\n')
            continue;
        if (age_header_ends(span_of(d->hold.data + d->line_at, d->scanned - d->line_at)))
            d->header_len = d->scanned + 1;
        d->line_at = d->scanned + 1;
    }
    if (d->header_len)
        return d->hold.len >= d->header_len + AGE_NONCE;
    return d->hold.len > AGE_HEADER_MAX || !age_header_begins(buf_span(&d->hold));
}

/* Reads the header from hold, and leaves what follows the nonce in *ret_rest. */
static int header_take(struct age_dec *d, struct span *ret_rest, struct err *err)
{
    uint8_t key[AGE_PAYLOAD_KEY];
    size_t len = 0;
    int rc = age_payload_find(buf_span(&d->hold), d->ids, &len, key, err);

    if (rc == 1) {
        d->payload = age_payload_new(key);
        *ret_rest = span_of(d->hold.data + len, d->hold.len - len);
        rc = 0;
    } else if (rc == 0) {
        rc = err_set(err, 1, "truncated age file: it ends in its header");
    }
    crypto_zero(key, sizeof(key));
    return rc;
}

/* Bytes of the file itself, armor taken off. */
static int feed(struct age_dec *d, struct span bytes, struct buf *out, struct err *err)
{
    if (!d->payload) {
        struct span rest;
        buf_add_span(&d->hold, bytes);
        if (!header_due(d))
            return 0;
        if (header_take(d, &rest, err) < 0)
            return -1;
        struct buf held = d->hold;
        d->hold = (struct buf)BUF_INIT;
        int rc = feed(d, rest, out, err);
        buf_fini(&held);
        return rc;
    }
    while (bytes.len) {
        if (d->hold.len == AGE_SEALED) {
            if (open_chunk(d, buf_span(&d->hold), false, out, err) < 0)
                return -1;
            buf_clear(&d->hold);
        }
        if (d->hold.len == 0 && bytes.len > AGE_SEALED) {
            if (open_chunk(d, span_of(bytes.data, AGE_SEALED), false, out, err) < 0)
                return -1;
            bytes = span_of(bytes.data + AGE_SEALED, bytes.len - AGE_SEALED);
            continue;
        }
        size_t n = MIN(bytes.len, AGE_SEALED - d->hold.len);
        buf_add(&d->hold, bytes.data, n);
        bytes = span_of(bytes.data + n, bytes.len - n);
    }
    return 0;
}

/* How many bytes of white space it begins with. */
static size_t spaces(struct span s)
{
    size_t n = 0;

    while (n < s.len && (s.data[n] == ' ' || s.data[n] == '\n' || s.data[n] == '\r' ||
                         s.data[n] == '\t'))
        n++;
    return n;
}

/* One line of armor, without its end. */
static int armor_line(struct age_dec *d, struct span line, struct buf *out,
                      struct err *err)
{
    AUTO_BUF bytes = BUF_INIT;

    if (line.len && line.data[line.len - 1] == '\r')
        line.len--;
    if (span_eq(line, span_str(armor_end))) {
        d->armor = ARMOR_ENDED;
        return 0;
    }
    if (d->armor == ARMOR_LAST || line.len == 0 || line.len > ARMOR_COLUMNS ||
        base64_read(&bytes, line, true) < 0)
        return err_set(err, 1, "damaged armor");
    if (line.len < ARMOR_COLUMNS || line.data[line.len - 1] == '=')
        d->armor = ARMOR_LAST; /* only the last line may be short */
    return feed(d, buf_span(&bytes), out, err);
}

static int armor_feed(struct age_dec *d, struct buf *out, struct err *err)
{
    size_t at = 0;
    int rc = 0;

    while (rc == 0 && d->armor != ARMOR_ENDED) {
        const uint8_t *nl =
            d->text.len > at ? memchr(d->text.data + at, '\n', d->text.len - at) : NULL;
        if (!nl)
            break;
        size_t end = (size_t)(nl - d->text.data);
        rc = armor_line(d, span_of(d->text.data + at, end - at), out, err);
        at = end + 1;
    }
    buf_drop(&d->text, at);
    if (rc < 0)
        return -1;
    if (d->armor == ARMOR_ENDED) {
        if (spaces(buf_span(&d->text)) < d->text.len)
            return err_set(err, 1, "damaged armor: text after its end");
        buf_clear(&d->text);
    } else if (d->text.len > ARMOR_COLUMNS + 1) { /* 1: CR */
        return err_set(err, 1, "damaged armor");
    }
    return 0;
}

/* Armored or not? Decided on the first bytes; armor may have white space before it. */
static int detect(struct age_dec *d, struct buf *out, struct err *err)
{
    size_t skip = spaces(buf_span(&d->text)), len = strlen(armor_begin);
    size_t have = MIN(d->text.len - skip, len), end = skip + len;

    if (skip > ARMOR_SPACE_MAX)
        return err_set(err, 1, "not an age file");
    if (have && memcmp(d->text.data + skip, armor_begin, have) != 0) {
        struct buf all = d->text;
        d->armor = ARMOR_NONE;
        d->text = (struct buf)BUF_INIT;
        int rc = feed(d, buf_span(&all), out, err);
        buf_fini(&all);
        return rc;
    }
    if (d->text.len > end && d->text.data[end] == '\r')
        end++;
    if (d->text.len <= end)
        return 0;
    if (d->text.data[end] != '\n')
        return err_set(err, 1, "damaged armor: its first line");
    buf_drop(&d->text, end + 1);
    d->armor = ARMOR_LINES;
    return armor_feed(d, out, err);
}

int age_dec_update(struct age_dec *d, struct span bytes, struct buf *out, struct err *err)
{
    if (d->armor == ARMOR_NONE)
        return feed(d, bytes, out, err);
    buf_add_span(&d->text, bytes);
    if (d->armor == ARMOR_UNKNOWN)
        return detect(d, out, err);
    return armor_feed(d, out, err);
}

int age_dec_end(struct age_dec *d, struct buf *out, struct err *err)
{
    if (d->armor == ARMOR_UNKNOWN && spaces(buf_span(&d->text)) == d->text.len)
        return err_set(err, 1, "not an age file: it is empty");
    if (d->armor >= ARMOR_LINES) {
        if (d->text.len && armor_line(d, buf_span(&d->text), out, err) < 0)
            return -1; /* it was a last line without its newline */
        if (d->armor != ARMOR_ENDED)
            return err_set(err, 1, "truncated age file: its armor has no end");
    }
    struct span rest;
    /* Not whole or damaged: reading it says which. */
    if (!d->payload && header_take(d, &rest, err) < 0)
        return -1;
    return open_chunk(d, buf_span(&d->hold), true, out, err);
}
