/* age files as the specification (C2SP age.md) allows and forbids them. Whatever is wrong
 * ends in one line of words, the same however the bytes come, and leaves no output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/age_made.h"
#include "tests/unit/hex.h"
#include "worker/ops/task.h"

static char dir[64];
static struct files_roots *roots;
static struct age_identities *ids;
static uint8_t noise[3 * AGE_CHUNK];

/* ---- decrypting in every way ---- */

static int decrypt(struct span file, size_t step, struct buf *out, struct err *err)
{
    struct age_dec *d = age_dec_new(ids);
    int rc = 0;

    for (size_t at = 0; at < file.len && rc == 0; at += step)
        rc = age_dec_update(d, span_of(file.data + at, MIN(step, file.len - at)), out,
                            err);
    if (rc == 0)
        rc = age_dec_end(d, out, err);
    age_dec_free(d);
    return rc;
}

static unsigned entries(void)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* As a task: the file's bytes inline, the output a file. */
static void run_task(struct span file, int rc, struct span plain, const char *name)
{
    AUTO_FREE char *out = xasprintf("%s/out", dir);
    struct job_spec spec = { .transform = TRANSFORM_DECRYPT, .sink = SINK_FILE };
    struct task_input in = { .data = file, .has_data = true, .out = span_str(out) };
    struct task_env env = { .roots = roots, .identities = ids };
    struct task_work work = {
        .spec = &spec, .in = &in, .attempt = { 1, 2, 3 }, .body_fd = -1
    };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;
    unsigned before = entries();
    enum task_status status = task_run(&env, &work, &mem, &v);

    if ((status == TASK_OK) != (rc == 0) || (rc < 0 && status != TASK_FAILED))
        fail_msg("%s: status %d", name, (int)status);
    if (rc < 0) {
        assert_true(v.error.len > 0 && !memchr(v.error.data, '\n', v.error.len));
        assert_int_equal(entries(), before);
        return;
    }
    assert_int_equal(v.out_bytes, plain.len);
    assert_int_equal(entries(), before + 1); /* not published: it goes again */
    files_discard(roots, in.out, &work.attempt);
    assert_int_equal(entries(), before);
}

/* words NULL: it opens and gives plain; else it fails with these words in its error. */
static void expect(const char *name, struct span file, const char *words,
                   struct span plain)
{
    static const size_t steps[] = { SIZE_MAX / 2, 1, 7, 4093, AGE_CHUNK };
    struct err first = { 0 };

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        AUTO_BUF out = BUF_INIT;
        struct err err = { 0 };
        int rc = decrypt(file, steps[i], &out, &err);
        if (rc != (words ? -1 : 0))
            fail_msg("%s, %zu bytes at once: %s", name, steps[i],
                     rc ? err.text : "opened");
        if (!words) {
            assert_true(span_eq(buf_span(&out), plain));
            continue;
        }
        assert_true(out.len <= plain.len);
        assert_true(span_eq(buf_span(&out), span_of(plain.data, out.len)));
        if (!strstr(err.text, words))
            fail_msg("%s: '%s' does not say '%s'", name, err.text, words);
        if (i == 0)
            first = err;
        assert_string_equal(err.text, first.text);
    }
    run_task(file, words ? -1 : 0, plain, name);
}

/* ---- headers ---- */

static const struct span hello = SPAN_LIT("hello\n");

/* @S: a share, @B: its body, @L: a line of 64 columns; the rest as it stands. */
static void add_template(struct buf *out, const char *template)
{
    uint8_t share[32], body[32];
    struct buf line = BUF_INIT;

    made_wrap(made_file_key, AGE_FILE_KEY, share, body);
    for (size_t i = 0; i < 48; i++)
        buf_add_u8(&line, 0);
    for (const char *c = template; *c; c++) {
        if (*c != '@')
            buf_add_u8(out, (uint8_t)*c);
        else if (*++c == 'S')
            base64_write(out, span_of(share, 32), false);
        else
            base64_write(out, *c == 'B' ? span_of(body, 32) : buf_span(&line), false);
    }
    buf_fini(&line);
}

#define STANZA "-> X25519 @S\n@B\n"

static void stanzas(void **state)
{
    static const struct {
        const char *name, *stanzas, *words;
    } t[] = {
        { "plain", STANZA, NULL },
        { "an unknown one before", "-> grease a {}~!\n\n" STANZA, NULL },
        { "an unknown one behind", STANZA "-> grease\nAAAA\n", NULL },
        { "a body of 48 bytes", "-> long\n@L\n\n" STANZA, NULL },
        { "a body of 99 bytes", "-> long\n@L\n@L\nAAAA\n" STANZA, NULL },
        { "twice ours", STANZA STANZA, NULL },
        { "share padded", "-> X25519 @S=\n@B\n", "X25519 recipient" },
        { "share too short", "-> X25519 AAAA\n@B\n", "X25519 recipient" },
        { "share of 33 bytes", "-> X25519 @SA\n@B\n", "X25519 recipient" },
        { "share of low order",
          "-> X25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n@B\n",
          "X25519 recipient" },
        { "share of low order, one",
          "-> X25519 AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n@B\n",
          "X25519 recipient" },
        { "no share", "-> X25519\n@B\n", "X25519 recipient" },
        { "an argument too many", "-> X25519 @S 1\n@B\n", "X25519 recipient" },
        { "two shares", "-> X25519 @S @S\n@B\n", "X25519 recipient" },
        { "other case", "-> x25519 @S\n@B\n", "no identity opens it" },
        { "a longer name", "-> X25519x @S\n@B\n", "no identity opens it" },
        { "none of ours", "-> grease\n\n", "no identity opens it" },
        { "none at all", "", "no identity opens it" },
        { "body padded", "-> X25519 @S\n@B=\n", "recipient's key" },
        { "body not canonical", "-> X25519 @S\nAAB\n", "recipient's key" },
        { "body of one character", "-> X25519 @S\nA\n", "recipient's key" },
        { "body empty", "-> X25519 @S\n\n", "X25519 recipient" },
        { "body in two lines", "-> X25519 @S\nAAAA\n@B\n", "X25519 recipient" },
        { "body of 48 bytes for X25519", "-> X25519 @S\n@L\n\n", "X25519 recipient" },
        { "body's character", "-> X25519 @S\nAA-A\n", "recipient's key" },
        { "body with CR", "-> X25519 @S\n@B\r\n", "recipient's key" },
        { "body's line of 68", "-> long\n@LAAAA\n\n" STANZA, "recipient's key" },
        { "no short last line", "-> long\n@L\n" STANZA, "recipient's key" },
        { "no short last line, at the end", STANZA "-> long\n@L\n", "recipient's key" },
        { "no body", "-> long\n" STANZA, "recipient's key" },
        { "an empty line between", STANZA "\n", "recipient's line" },
        { "arguments with CR", "-> X25519 @S\r\n@B\n", "recipient's line" },
        { "no space behind the arrow", "->X25519 @S\n@B\n", "recipient's line" },
        { "two spaces", "->  X25519 @S\n@B\n", "recipient's line" },
        { "an empty argument", "-> X25519  @S\n@B\n", "recipient's line" },
        { "a space at the end", "-> X25519 @S \n@B\n", "recipient's line" },
        { "no argument", "->\n@B\n" STANZA, "recipient's line" },
        { "no argument but a space", "-> \n@B\n" STANZA, "recipient's line" },
        { "a tab", "-> grease\ta\n\n" STANZA, "recipient's line" },
        { "a letter outside of ASCII", "-> gr\xc3\xa4se\n\n" STANZA, "recipient's line" },
        { "a line of another kind", "recipient\n" STANZA, "recipient's line" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_add_span(&file, SPAN_LIT(MADE_INTRO));
        add_template(&file, t[i].stanzas);
        made_end(&file);
        made_nonce(&file);
        made_chunk(&file, 0, true, hello);
        expect(t[i].name, buf_span(&file), t[i].words, hello);
    }
}

/* Base64's last character of 32 bytes has two bits to spare: they must be zeros. */
static void spare_bits_are_zeros(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) /* share, body, MAC */
        for (uint8_t spare = 1; spare < 4; spare++) {
            static const char alphabet[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            AUTO_BUF file = BUF_INIT;
            buf_add_span(&file, SPAN_LIT(MADE_INTRO));
            size_t first = file.len + strlen("-> X25519 ") + 42;
            add_template(&file, STANZA);
            size_t at[] = { first, first + 44, first + 44 + 48 };
            if (which < 2)
                file.data[at[which]] = (uint8_t)
                    alphabet[strchr(alphabet, file.data[at[which]]) - alphabet + spare];
            made_end(&file);
            if (which == 2)
                file.data[at[2]] = (uint8_t)
                    alphabet[strchr(alphabet, file.data[at[2]]) - alphabet + spare];
            made_nonce(&file);
            made_chunk(&file, 0, true, hello);
            expect("spare bits", buf_span(&file), "damaged age header", SPAN_NONE);
        }
}

static void file_keys_of_another_size(void **state)
{
    static const uint8_t key[32] = { 1 };
    static const size_t sizes[] = { 0, 15, 17, 32 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO_BUF file = BUF_INIT;
        uint8_t share[32], body[48];
        made_wrap(key, sizes[i], share, body);
        buf_printf(&file, MADE_INTRO "-> X25519 ");
        base64_write(&file, span_of(share, 32), false);
        buf_add_u8(&file, '\n');
        base64_write(&file, span_of(body, sizes[i] + 16), false);
        if (sizes[i] == 32)
            buf_add_u8(&file, '\n'); /* 64 columns: an empty line ends it */
        buf_add_u8(&file, '\n');
        made_end(&file);
        expect("size of a file key", buf_span(&file), "X25519 recipient", SPAN_NONE);
    }
}

static void versions(void **state)
{
    static const char *const t[] = {
        "age-encryption.org/v2\n",  "age-encryption.org/v1\r\n",
        "age-encryption.org/v1 \n", "age-encryption.org/v1",
        " age-encryption.org/v1\n", "Age-encryption.org/v1\n",
        "\nage-encryption.org/v1\n"
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_printf(&file, "%s", t[i]);
        add_template(&file, STANZA);
        made_end(&file);
        made_nonce(&file);
        made_chunk(&file, 0, true, hello);
        expect(t[i], buf_span(&file), "not an age file", SPAN_NONE);
    }
    expect("nothing", SPAN_NONE, "not an age file: it is empty", SPAN_NONE);
    expect("white space", SPAN_LIT(" \n\r\t"), "not an age file: it is empty", SPAN_NONE);
    expect("a part of the first line", SPAN_LIT("age-encr"), "truncated", SPAN_NONE);
}

static void header_ends(void **state)
{
    static const struct {
        const char *name, *end; /* @: the MAC; ~: but its last character */
        const char *words;
    } t[] = {
        { "as it should be", "--- @\n", NULL },
        { "padded", "--- @=\n", "its end" },
        { "two spaces", "---  @\n", "its end" },
        { "no space", "---@\n", "its end" },
        { "a space behind", "--- @ \n", "its end" },
        { "CR", "--- @\r\n", "its end" },
        { "another word", "--- @ A\n", "its end" },
        { "four dashes", "---- @\n", "its end" },
        { "short", "--- ~\n", "its end" },
        { "long", "--- @A\n", "its end" },
        { "no MAC", "--- \n", "its end" },
        { "neither space nor MAC", "---\n", "its end" },
        { "another MAC", "--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
          "not authentic" },
        { "no end", "", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT, text = BUF_INIT;
        uint8_t mac[32];
        buf_add_span(&file, SPAN_LIT(MADE_INTRO));
        add_template(&file, STANZA);
        made_mac(buf_span(&file), made_file_key, mac);
        base64_write(&text, span_of(mac, sizeof(mac)), false);
        for (const char *c = t[i].end; *c; c++) {
            if (*c == '@' || *c == '~')
                buf_add(&file, text.data, text.len - (*c == '~'));
            else
                buf_add_u8(&file, (uint8_t)*c);
        }
        made_nonce(&file);
        made_chunk(&file, 0, true, hello);
        expect(t[i].name, buf_span(&file), t[i].words, hello);
    }
}

/* A header may be long, but not without end. */
static void long_headers(void **state)
{
    AUTO_BUF file = BUF_INIT;

    (void)state;
    buf_add_span(&file, SPAN_LIT(MADE_INTRO));
    while (file.len < AGE_HEADER_MAX - 4 * KIB)
        add_template(&file, "-> grease\n@L\n@L\n\n");
    add_template(&file, STANZA);
    size_t len = file.len;
    made_end(&file);
    made_nonce(&file);
    made_chunk(&file, 0, true, hello);
    AUTO_BUF out = BUF_INIT;
    struct err err = { 0 };
    assert_int_equal(decrypt(buf_span(&file), 32 * KIB, &out, &err), 0);
    file.len = len;
    while (file.len < AGE_HEADER_MAX)
        add_template(&file, "-> grease\n@L\n@L\n\n");
    made_end(&file);
    made_nonce(&file);
    made_chunk(&file, 0, true, hello);
    for (size_t step = 32 * KIB; step <= MIB; step *= 32) {
        buf_clear(&out);
        assert_int_equal(decrypt(buf_span(&file), step, &out, &err), -1);
        assert_non_null(strstr(err.text, "too long"));
    }
}

static unsigned exchanges;

int __real_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32]);
int __wrap_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32]);
int __wrap_crypto_x25519(uint8_t out[32], const uint8_t scalar[32],
                         const uint8_t point[32])
{
    exchanges++;
    return __real_crypto_x25519(out, scalar, point);
}

/* A key exchange is slow: a header of many recipients costs one for each, not one for
 * each and each piece that the header comes in, which are many when it is armored. */
static void a_recipient_is_tried_once(void **state)
{
    static const size_t steps[] = { 1, 30, 64 * KIB };
    enum { OTHERS = 200 };

    (void)state;
    for (int armor = 0; armor < 2; armor++)
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            AUTO_BUF plain = BUF_INIT, file = BUF_INIT, out = BUF_INIT;
            buf_add_span(&plain, SPAN_LIT(MADE_INTRO));
            for (int k = 0; k < OTHERS; k++) /* the body is somebody else's */
                add_template(
                    &plain,
                    "-> X25519 @S\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
            add_template(&plain, STANZA);
            made_end(&plain);
            made_nonce(&plain);
            made_chunk(&plain, 0, true, hello);
            if (armor) {
                buf_printf(&file, "-----BEGIN AGE ENCRYPTED FILE-----\n");
                for (size_t at = 0; at < plain.len; at += 48) {
                    base64_write(&file, span_of(plain.data + at, MIN(48, plain.len - at)),
                                 true);
                    buf_add_u8(&file, '\n');
                }
                buf_printf(&file, "-----END AGE ENCRYPTED FILE-----\n");
            } else {
                buf_add_span(&file, buf_span(&plain));
            }
            exchanges = 0;
            assert_int_equal(decrypt(buf_span(&file), steps[i], &out, NULL), 0);
            assert_true(span_eq(buf_span(&out), hello));
            assert_int_equal(exchanges, OTHERS + 1);
        }
}

/* ---- the specification's examples ---- */

/* Its X25519 stanza is for its identity; its whole header is for somebody else. */
static void the_specification_s_stanzas(void **state)
{
    static const char *const headers[] = {
        MADE_INTRO "-> X25519 XEl0dJ6y3C7KZkgmgWUicg63EyXJiwBJW8PdYJ/cYBE\n"
                   "qRS0AMjdjPvZ/WT08U2KL4G+PIooA3hy38SvLpvaC1E\n"
                   "--- HK2NmOBN9Dpq0Gw6xMCuhFcQlQLvZ/wQUi/2scLG75s\n",
        MADE_INTRO "-> X25519 O6DLx/wDIawpUC978NSPjYvrfDtJVnZApXKp4FMPHCY\n"
                   "3aKjozt9agh7jGmvOKvR4iax41Wl4zj95MKK4X9JuWc\n"
                   "--- HK2NmOBN9Dpq0Gw6xMCuhFcQlQLvZ/wQUi/2scLG75s\n",
    };

    (void)state;
    expect("header", span_str(headers[0]), "no identity opens it", SPAN_NONE);
    expect("stanza", span_str(headers[1]), "not authentic", SPAN_NONE);
}

/* Written by age 1.1.1 to the specification's recipient. */
static const char of_age[] =
    "-----BEGIN AGE ENCRYPTED FILE-----\n"
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB1eWxrcWdkSS9hb0MwSy85\n"
    "VU9HV3JMWVNJOHd5d1FVNXZMaGp4UTNkaFZzCmJ2NFBnSExkbTBvekIrUUVId2pL\n"
    "Z0luYkUzcFhLR2dWQjV0TXdjUTVFY1UKLS0tIFJqcng1T1c1MERvbTJ6eEJHK3R3\n"
    "Uk5uNkZIMWdCV1F5d1lwdXhlMnA1MDQKcI6XtSImMv0Un19L/eZyn9mq8+vpf023\n"
    "Mg8HedZmRsxr2NDc101ZqcP+tMzRKBI=\n"
    "-----END AGE ENCRYPTED FILE-----\n";

static void what_age_wrote_is_opened(void **state)
{
    (void)state;
    expect("of age", span_str(of_age), NULL, SPAN_LIT("written by age\n"));
}

/* What is written is what the specification says, read here without the product's reader:
 * the stanza's body gives the file key, the MAC is over the header, the chunks open. */
static void what_is_written_is_as_specified(void **state)
{
    static const size_t sizes[] = { 0, 1, AGE_CHUNK, AGE_CHUNK + 1, 2 * AGE_CHUNK };
    static const char to[] =
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    static const uint8_t zero[12];
    uint8_t ours[32], recipient[32];

    (void)state;
    memset(ours, 0x42, sizeof(ours));
    crypto_x25519_base(recipient, ours);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO_BUF file = BUF_INIT, share = BUF_INIT, body = BUF_INIT, mac = BUF_INIT;
        struct span r = span_str(to);
        struct age_enc *e;
        uint8_t secret[32], salt[64], key[32], file_key[AGE_FILE_KEY], want[32];
        assert_int_equal(age_enc_new(&r, 1, false, &file, &e, NULL), 0);
        age_enc_update(e, span_of(noise, sizes[i]), &file);
        age_enc_end(e, &file);
        age_enc_free(e);
        const uint8_t *at = file.data + strlen(MADE_INTRO);
        assert_memory_equal(file.data, MADE_INTRO "-> X25519 ", 32);
        assert_int_equal(base64_read(&share, span_of(at + 10, 43), false), 0);
        assert_int_equal(base64_read(&body, span_of(at + 54, 43), false), 0);
        assert_memory_equal(at + 97, "\n--- ", 5);
        assert_int_equal(base64_read(&mac, span_of(at + 102, 43), false), 0);
        assert_int_equal(crypto_x25519(secret, ours, share.data), 0);
        memcpy(salt, share.data, 32);
        memcpy(salt + 32, recipient, 32);
        crypto_hkdf_sha256(key, 32, span_of(secret, 32), span_of(salt, 64),
                           SPAN_LIT("age-encryption.org/v1/X25519"));
        assert_int_equal(crypto_aead_open(file_key, body.data, 32, zero, key), 0);
        made_mac(span_of(file.data, (size_t)(at + 98 - file.data)), file_key, want);
        assert_memory_equal(mac.data, want, 32);
        size_t pos = (size_t)(at + 146 - file.data), done = 0;
        crypto_hkdf_sha256(key, 32, span_of(file_key, AGE_FILE_KEY),
                           span_of(file.data + pos, 16), SPAN_LIT("payload"));
        pos += 16;
        for (uint8_t chunk = 0; pos < file.len; chunk++) {
            static uint8_t plain[AGE_CHUNK];
            size_t n = MIN(file.len - pos, AGE_CHUNK + 16);
            uint8_t nonce[12] = { [10] = chunk, [11] = pos + n == file.len };
            assert_int_equal(crypto_aead_open(plain, file.data + pos, n, nonce, key), 0);
            assert_memory_equal(plain, noise + done, n - 16);
            assert_true(n > 16 || sizes[i] == 0);
            done += n - 16;
            pos += n;
        }
        assert_int_equal(done, sizes[i]);
    }
}

/* ---- payloads ---- */

/* A chunk: how many bytes of noise from where, under which counter, last or not. */
struct piece {
    size_t at, len;
    uint64_t counter;
    bool last;
};

static void add_good_header(struct buf *file)
{
    buf_add_span(file, SPAN_LIT(MADE_INTRO));
    add_template(file, STANZA);
    made_end(file);
}

#define C AGE_CHUNK
static void payloads(void **state)
{
    static const struct {
        const char *name;
        struct piece pieces[4];
        size_t n, garbage, plain;
        const char *words;
    } t[] = {
        { "empty", { { 0, 0, 0, true } }, 1, 0, 0, NULL },
        { "one byte", { { 0, 1, 0, true } }, 1, 0, 1, NULL },
        { "full", { { 0, C, 0, true } }, 1, 0, C, NULL },
        { "two", { { 0, C, 0, false }, { C, 1, 1, true } }, 2, 0, C + 1, NULL },
        { "two, full", { { 0, C, 0, false }, { C, C, 1, true } }, 2, 0, 2 * C, NULL },
        { "no chunk", { { 0 } }, 0, 0, 0, "truncated" },
        { "last is empty",
          { { 0, C, 0, false }, { 0, 0, 1, true } },
          2,
          0,
          C,
          "truncated" },
        { "none is last", { { 0, 9, 0, false } }, 1, 0, 0, "not authentic" },
        { "none is last, full", { { 0, C, 0, false } }, 1, 0, C, "authentic" },
        { "none of two is last",
          { { 0, C, 0, false }, { C, 9, 1, false } },
          2,
          0,
          C,
          "chunk 1" },
        { "two are last", { { 0, C, 0, true }, { C, 9, 1, true } }, 2, 0, 0, "chunk 0" },
        { "the last comes twice",
          { { 0, 9, 0, true }, { 0, 9, 0, true } },
          2,
          0,
          0,
          "chunk 0" },
        { "the last follows a short one",
          { { 0, 9, 0, false }, { 9, 9, 1, true } },
          2,
          0,
          0,
          "chunk 0" },
        { "swapped",
          { { C, C, 1, false }, { 0, C, 0, false }, { 2 * C, 9, 2, true } },
          3,
          0,
          0,
          "chunk 0" },
        { "swapped behind the first",
          { { 0, C, 0, false }, { 2 * C, C, 2, true }, { C, C, 1, false } },
          3,
          0,
          C,
          "chunk 1" },
        { "one is missing",
          { { 0, C, 0, false }, { 2 * C, 9, 2, true } },
          2,
          0,
          C,
          "chunk 1" },
        { "the first is missing", { { C, 9, 1, true } }, 1, 0, 0, "chunk 0" },
        { "one comes twice",
          { { 0, C, 0, false }, { 0, C, 0, false }, { C, 9, 1, true } },
          3,
          0,
          C,
          "chunk 1" },
        { "counted from 1",
          { { 0, C, 1, false }, { C, 9, 2, true } },
          2,
          0,
          0,
          "chunk 0" },
        { "a byte behind", { { 0, 9, 0, true } }, 1, 1, 0, "chunk 0" },
        { "a chunk's bytes behind", { { 0, C, 0, true } }, 1, 17, 0, "chunk 0" },
        { "a tag's bytes behind a full one", { { 0, C, 0, true } }, 1, 16, 0, "chunk 0" },
        { "few bytes behind a full one", { { 0, C, 0, true } }, 1, 3, 0, "chunk 0" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        AUTO_BUF file = BUF_INIT;
        add_good_header(&file);
        made_nonce(&file);
        for (size_t p = 0; p < t[i].n; p++)
            made_chunk(&file, t[i].pieces[p].counter, t[i].pieces[p].last,
                       span_of(noise + t[i].pieces[p].at, t[i].pieces[p].len));
        buf_add(&file, noise, t[i].garbage);
        expect(t[i].name, buf_span(&file), t[i].words, span_of(noise, t[i].plain));
    }
}

/* ---- armor ---- */

#define BEGIN  "-----BEGIN AGE ENCRYPTED FILE-----"
#define FINISH "-----END AGE ENCRYPTED FILE-----"

/* len bytes of plain that make the sealed file a multiple of 48, plus `over`. */
static void armored(struct buf *out, size_t over, const char *eol)
{
    AUTO_BUF file = BUF_INIT;
    size_t len = 0;

    add_good_header(&file);
    made_nonce(&file);
    while ((file.len + len + 16) % 48 != over)
        len++;
    made_chunk(&file, 0, true, span_of(noise, len));
    for (size_t at = 0; at < file.len; at += 48) {
        base64_write(out, span_of(file.data + at, MIN(file.len - at, 48)), true);
        buf_printf(out, "%s", eol);
    }
}

static void armor_around(void **state)
{
    static const struct {
        const char *name, *before, *eol, *after, *words;
    } t[] = {
        { "strict", BEGIN "\n", "\n", FINISH "\n", NULL },
        { "CRLF", BEGIN "\r\n", "\r\n", FINISH "\r\n", NULL },
        { "no newline at its end", BEGIN "\n", "\n", FINISH, NULL },
        { "white space around", " \r\n\t\n" BEGIN "\n", "\n", FINISH "\n \t\r\n\n",
          NULL },
        { "a space behind its begin", BEGIN " \n", "\n", FINISH "\n", "first line" },
        { "a header", BEGIN "\nComment: x\n\n", "\n", FINISH "\n", "damaged armor" },
        { "an empty line first", BEGIN "\n\n", "\n", FINISH "\n", "damaged armor" },
        { "an empty line last", BEGIN "\n", "\n", "\n" FINISH "\n", "damaged armor" },
        { "lines that end twice", BEGIN "\n", "\n\n", FINISH "\n", "damaged armor" },
        { "spaces at the lines' ends", BEGIN "\n", " \n", FINISH "\n", "damaged armor" },
        { "CR alone", BEGIN "\r", "\r", FINISH "\r", "first line" },
        { "a checksum", BEGIN "\n", "\n", "=AAAA\n" FINISH "\n", "damaged armor" },
        { "no end", BEGIN "\n", "\n", "", "truncated" },
        { "another kind's end", BEGIN "\n", "\n", "-----END AGE FILE-----\n",
          "damaged armor" },
        { "text behind", BEGIN "\n", "\n", FINISH "\nx\n", "text after its end" },
        { "text behind on the same line", BEGIN "\n", "\n", FINISH "x\n",
          "damaged armor" },
        { "text before", "x\n" BEGIN "\n", "\n", FINISH "\n", "not an age file" },
        { "another kind", "-----BEGIN AGE FILE-----\n", "\n", FINISH "\n",
          "not an age file" },
        { "lower case", "-----begin age encrypted file-----\n", "\n", FINISH "\n",
          "not an age file" },
    };

    (void)state;
    for (size_t over = 0; over < 48; over += 13)
        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
            AUTO_BUF file = BUF_INIT;
            size_t len = 0;
            buf_printf(&file, "%s", t[i].before);
            armored(&file, over, t[i].eol);
            buf_printf(&file, "%s", t[i].after);
            AUTO_BUF plain = BUF_INIT;
            if (!t[i].words) {
                assert_int_equal(decrypt(buf_span(&file), 5, &plain, NULL), 0);
                len = plain.len;
            }
            expect(t[i].name, buf_span(&file), t[i].words,
                   t[i].words ? span_of(noise, 48) : span_of(noise, len));
        }
}

static void armor_within(void **state)
{
    AUTO_BUF good = BUF_INIT;

    (void)state;
    armored(&good, 1, "\n"); /* its last line: "AB==" of some letters */
    buf_str(&good);
    size_t last = good.len - 5;
    assert_memory_equal(good.data + last + 2, "==\n", 3);
    static const char *const tails[] = { "A===\n", "====\n", "AB==\n",       "AA=\n",
                                         "AA\n",   "A\n",    "AA==\nAA==\n", "AA==AAAA\n",
                                         "AA=A\n", "A==A\n", "AA\n==\n",     "A A=\n" };
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        AUTO_BUF file = BUF_INIT;
        buf_printf(&file, BEGIN "\n%.*s%s" FINISH "\n", (int)last,
                   (const char *)good.data, tails[i]);
        expect(tails[i], buf_span(&file), "damage", span_of(noise, 48));
    }
    for (int change = 0; change < 3; change++) {
        AUTO_BUF file = BUF_INIT;
        const char *text = (const char *)good.data, *rest = text + 65;
        if (change == 0) /* one line of 68 columns */
            buf_printf(&file, BEGIN "\n%.64s%.4s\n%s", text, rest, rest + 4);
        else if (change == 1) /* a short line that is not the last */
            buf_printf(&file, BEGIN "\n%.60s\n%.4s%s", text, text + 60, rest);
        else /* in one line */
            buf_printf(&file, BEGIN "\n%.64s%s", text, rest);
        buf_printf(&file, FINISH "\n");
        expect("lines of other lengths", buf_span(&file), "damaged armor", SPAN_NONE);
    }
}

/* White space before armor is bounded, and counts the same however it comes. */
static void much_white_space(void **state)
{
    (void)state;
    for (size_t n = KIB - 1; n <= KIB + 1; n++) {
        AUTO_BUF file = BUF_INIT;
        memset(buf_reserve(&file, n), ' ', n);
        file.len = n - 1;
        buf_printf(&file, "\n%s", of_age);
        memset(buf_reserve(&file, 9000), '\n', 9000);
        file.len += 9000; /* behind it, it costs nothing */
        expect("spaces", buf_span(&file), n > KIB ? "not an age file" : NULL,
               n > KIB ? SPAN_NONE : SPAN_LIT("written by age\n"));
    }
}

/* ---- damage everywhere ---- */

static struct buf small_file(bool armor)
{
    struct buf file = BUF_INIT;

    if (armor) {
        buf_printf(&file, "%s", of_age);
        return file;
    }
    add_good_header(&file);
    made_nonce(&file);
    made_chunk(&file, 0, true, hello);
    return file;
}

static void must_fail(struct span file, const char *what, size_t where)
{
    for (size_t step = SIZE_MAX / 2; step; step = step > 11 ? 11 : 0) {
        AUTO_BUF out = BUF_INIT;
        struct err err = { 0 };
        if (decrypt(file, step, &out, &err) == 0)
            fail_msg("%s at %zu is not noticed", what, where);
        assert_int_equal(out.len, 0);
        assert_true(err.text[0] && !strchr(err.text, '\n'));
    }
    run_task(file, -1, SPAN_NONE, what);
}

static void every_truncation_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        size_t needed = file.len - (size_t)armor; /* the last newline may go */
        for (size_t len = 0; len < needed; len++)
            must_fail(span_of(file.data, len), "truncation", len);
    }
}

static void every_changed_bit_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        for (size_t bit = 0; bit < file.len * 8; bit++) {
            file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            must_fail(buf_span(&file), "changed bit", bit);
            file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void every_missing_or_doubled_byte_is_noticed(void **state)
{
    (void)state;
    for (int armor = 0; armor < 2; armor++) {
        AUTO_BUF file = small_file(armor);
        for (size_t i = 0; i + 1 < file.len; i++) {
            AUTO_BUF less = BUF_INIT, more = BUF_INIT;
            buf_add(&less, file.data, i);
            buf_add(&less, file.data + i + 1, file.len - i - 1);
            buf_add(&more, file.data, i + 1);
            buf_add(&more, file.data + i, file.len - i);
            must_fail(buf_span(&less), "missing byte", i);
            must_fail(buf_span(&more), "doubled byte", i);
        }
    }
}

/* ---- Base64 ---- */

/* RFC 4648, 10. */
static void base64_is_the_rfc_s(void **state)
{
    static const struct {
        const char *plain, *text;
    } t[] = { { "", "" },
              { "f", "Zg==" },
              { "fo", "Zm8=" },
              { "foo", "Zm9v" },
              { "foob", "Zm9vYg==" },
              { "fooba", "Zm9vYmE=" },
              { "foobar", "Zm9vYmFy" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        for (int padded = 0; padded < 2; padded++) {
            AUTO_BUF text = BUF_INIT, back = BUF_INIT, junk = BUF_INIT;
            struct span want = span_str(t[i].text);
            while (!padded && want.len && want.data[want.len - 1] == '=')
                want.len--;
            base64_write(&text, span_str(t[i].plain), padded);
            assert_true(span_eq(buf_span(&text), want));
            assert_int_equal(base64_read(&back, want, padded), 0);
            assert_true(span_eq(buf_span(&back), span_str(t[i].plain)));
            if (want.len != strlen(t[i].text))
                assert_int_equal(base64_read(&junk, want, true), -1);
            else if (want.len && want.data[want.len - 1] == '=')
                assert_int_equal(base64_read(&junk, want, false), -1);
        }
}

/* What is read is what would be written: no text but one stands for some bytes. */
static void base64_has_one_text_for_all_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        static const char letters[] = "ABQgwxyz019+/=-_ \n";
        char text[8];
        AUTO_BUF bytes = BUF_INIT, again = BUF_INIT;
        size_t len = crypto_random_u32() % (sizeof(text) + 1);
        bool padded = i % 2;
        for (size_t k = 0; k < len; k++)
            text[k] = letters[crypto_random_u32() % (sizeof(letters) - 1)];
        if (base64_read(&bytes, span_of(text, len), padded) < 0)
            continue;
        base64_write(&again, buf_span(&bytes), padded);
        assert_true(span_eq(buf_span(&again), span_of(text, len)));
    }
}

static int set_up(void **state)
{
    const char *specs[] = { dir };

    (void)state;
    crypto_init();
    crypto_random(noise, sizeof(noise));
    snprintf(dir, sizeof(dir), "/tmp/tm-age.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(files_roots_new(specs, 1, &roots, NULL), 0);
    return age_identities_new(SPAN_LIT(MADE_IDENTITY), &ids, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    files_roots_free(roots);
    age_identities_free(ids);
    return rmdir(dir); /* nothing may lie in it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stanzas),
        cmocka_unit_test(spare_bits_are_zeros),
        cmocka_unit_test(file_keys_of_another_size),
        cmocka_unit_test(versions),
        cmocka_unit_test(header_ends),
        cmocka_unit_test(long_headers),
        cmocka_unit_test(a_recipient_is_tried_once),
        cmocka_unit_test(the_specification_s_stanzas),
        cmocka_unit_test(what_age_wrote_is_opened),
        cmocka_unit_test(what_is_written_is_as_specified),
        cmocka_unit_test(payloads),
        cmocka_unit_test(armor_around),
        cmocka_unit_test(armor_within),
        cmocka_unit_test(much_white_space),
        cmocka_unit_test(every_truncation_is_noticed),
        cmocka_unit_test(every_changed_bit_is_noticed),
        cmocka_unit_test(every_missing_or_doubled_byte_is_noticed),
        cmocka_unit_test(base64_is_the_rfc_s),
        cmocka_unit_test(base64_has_one_text_for_all_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
