/* What the tests of age share: files are opened in every way, and must end in every way
 * the same. */
#ifndef TESTS_UNIT_AGE_RIG_H
#define TESTS_UNIT_AGE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "tests/unit/age_made.h"
#include "worker/ops/task.h"

static char dir[64];
static struct files_roots *roots;
static struct age_identities *ids;
static uint8_t noise[3 * AGE_CHUNK];

static inline int decrypt(struct span file, size_t step, struct buf *out, struct err *err)
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

static inline unsigned entries(void)
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
static inline void run_task(struct span file, int rc, struct span plain, const char *name)
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
static inline void expect(const char *name, struct span file, const char *words,
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

/* ---- making files ---- */

static const struct span hello = SPAN_LIT("hello\n");

/* @S: a share, @B: its body, @L: a line of 64 columns; the rest as it stands. */
static inline void add_template(struct buf *out, const char *template)
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

static inline void add_good_header(struct buf *file)
{
    buf_add_span(file, SPAN_LIT(MADE_INTRO));
    add_template(file, STANZA);
    made_end(file);
}

static inline void add_hello(struct buf *file)
{
    made_nonce(file);
    made_chunk(file, 0, true, hello);
}

/* Ends a header and adds the payload. */
static inline void end_with_hello(struct buf *file)
{
    made_end(file);
    add_hello(file);
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

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
{
    (void)state;
    files_roots_free(roots);
    age_identities_free(ids);
    return rmdir(dir); /* nothing may lie in it */
}

#endif
