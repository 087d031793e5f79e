/* A large file in parts: what the ranges make together is what one pass makes, and what
 * is wrong with one of them is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto.h"
#include "tests/unit/age_made.h"
#include "tests/unit/roots_rig.h"
#include "worker/ops/age.h"
#include "worker/ops/part.h"

enum { NOISE = 9 * AGE_CHUNK + 1000 };
static uint8_t noise[NOISE];

static int set_up(void **state)
{
    crypto_init();
    crypto_random(noise, sizeof(noise));
    return rig_set_up(state);
}

/* An open file of these bytes, whose name is gone. */
static int file_of(struct span bytes)
{
    int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes.data, bytes.len, 0), (ssize_t)bytes.len);
    return fd;
}

static void bytes_of(int fd, struct buf *out)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    buf_clear(out);
    assert_int_equal(
        pread(fd, buf_reserve(out, (size_t)st.st_size + 1), (size_t)st.st_size, 0),
        st.st_size);
    out->len = (size_t)st.st_size;
}

/* The range of all chunks, as the head of a large file returns it. */
static struct part whole(bool seal, int in, size_t header, const uint8_t *key)
{
    struct part part = { .kind = PART_RANGE, .seal = seal, .header = header };
    struct stat st;

    assert_int_equal(fstat(in, &st), 0);
    part.source = part_source_of(&st);
    part.n = age_payload_chunks(seal, header, part.source.size);
    memcpy(part.key, key, sizeof(part.key));
    return part;
}

/* Runs all ranges of `step` chunks, the last one first. */
static enum task_status run_ranges(const struct part *all, uint64_t step, int in, int out,
                                   uint64_t *ret_bytes, struct err *err)
{
    struct task_env env = { 0 };
    enum task_status status = TASK_OK;

    *ret_bytes = 0;
    for (uint64_t i = (all->n + step - 1) / step; i-- > 0 && status == TASK_OK;) {
        struct part part = *all;
        uint64_t made = 0;
        part.first = i * step;
        part.n = MIN(step, all->n - part.first);
        status = part_range(&env, &part, in, out, &made, err);
        *ret_bytes += made;
    }
    return status;
}

static const size_t sizes[] = { 0,
                                1,
                                AGE_CHUNK - 1,
                                AGE_CHUNK,
                                AGE_CHUNK + 1,
                                4 * AGE_CHUNK,
                                4 * AGE_CHUNK + 1,
                                8 * AGE_CHUNK - 1,
                                NOISE };

/* Ranges meet without gap or overlap, on both sides, and the last one alone is last. */
static void ranges_meet(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int seal = 0; seal < 2; seal++)
            for (uint64_t step = 1; step < 12; step++) {
                uint64_t header = 216, plain = sizes[i];
                uint64_t chunks = plain ? (plain + AGE_CHUNK - 1) / AGE_CHUNK : 1;
                uint64_t sealed = header + plain + chunks * EVP_AEAD_TAG;
                uint64_t size = seal ? plain : sealed, out = seal ? header : 0;
                uint64_t in = seal ? 0 : header;
                assert_int_equal(age_payload_chunks(seal, header, size), chunks);
                for (uint64_t at = 0; at < chunks; at += step) {
                    uint64_t n = MIN(step, chunks - at);
                    struct age_range r = age_payload_range(seal, header, size, at, n);
                    assert_int_equal(r.in_at, in);
                    assert_int_equal(r.out_at, out);
                    assert_int_equal(r.last, at + n == chunks);
                    in += r.in_len;
                    out +=
                        seal ? r.in_len + n * EVP_AEAD_TAG : r.in_len - n * EVP_AEAD_TAG;
                }
                assert_int_equal(in, size);
                assert_int_equal(out, seal ? sealed : plain);
            }
}

/* The file that one pass makes of the same file key and nonce. */
static void one_pass(struct span plain, struct buf *file, size_t *ret_header)
{
    buf_add_span(file, SPAN_LIT(MADE_INTRO));
    made_end(file);
    made_nonce(file);
    *ret_header = file->len;
    for (uint64_t i = 0;; i++) {
        size_t n = MIN(plain.len, AGE_CHUNK);
        bool last = n == plain.len;
        made_chunk(file, i, last, span_of(plain.data, n));
        plain = span_of(plain.data + n, plain.len - n);
        if (last)
            return;
    }
}

static void ranges_make_what_one_pass_makes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (uint64_t step = 1; step < 12; step += 3) {
            struct span plain = span_of(noise, sizes[i]);
            AUTO_BUF expected = BUF_INIT, made = BUF_INIT;
            uint8_t key[AGE_PAYLOAD_KEY];
            size_t header;
            uint64_t bytes;
            one_pass(plain, &expected, &header);
            age_payload_key(made_file_key, expected.data + header - AGE_NONCE, key);
            int in = file_of(plain), sealed = file_of(span_of(expected.data, header));
            struct part part = whole(true, in, header, key);
            assert_int_equal(run_ranges(&part, step, in, sealed, &bytes, NULL), TASK_OK);
            bytes_of(sealed, &made);
            assert_int_equal(header + bytes, expected.len);
            assert_true(span_eq(buf_span(&made), buf_span(&expected)));

            int back = file_of(SPAN_NONE);
            part = whole(false, sealed, header, key);
            assert_int_equal(run_ranges(&part, step, sealed, back, &bytes, NULL),
                             TASK_OK);
            bytes_of(back, &made);
            assert_int_equal(bytes, plain.len);
            assert_true(span_eq(buf_span(&made), plain));
            close(in), close(sealed), close(back);
        }
}

/* Opens the ranges of a damaged file; it must fail, and say so. */
static void expect_damaged(struct span file, size_t header, const char *words)
{
    uint8_t key[AGE_PAYLOAD_KEY];
    int in = file_of(file), out = file_of(SPAN_NONE);
    struct err err = { 0 };
    uint64_t bytes;

    age_payload_key(made_file_key, file.data + header - AGE_NONCE, key);
    struct part part = whole(false, in, header, key);
    assert_int_equal(run_ranges(&part, 3, in, out, &bytes, &err), TASK_FAILED);
    if (!strstr(err.text, words))
        fail_msg("%s", err.text);
    close(in), close(out);
}

static void damage_is_found_in_any_range(void **state)
{
    AUTO_BUF file = BUF_INIT, bad = BUF_INIT;
    size_t header;

    (void)state;
    one_pass(span_of(noise, 6 * AGE_CHUNK), &file, &header);
    for (size_t chunk = 0; chunk < 6; chunk++) {
        buf_clear(&bad);
        buf_add_span(&bad, buf_span(&file));
        bad.data[header + chunk * AGE_SEALED + 77] ^= 1;
        expect_damaged(buf_span(&bad), header, "not authentic");
        /* Truncated, before a chunk and in it. */
        expect_damaged(span_of(file.data, header + chunk * AGE_SEALED), header,
                       chunk ? "not authentic" : "truncated");
        expect_damaged(span_of(file.data, header + chunk * AGE_SEALED + 9), header,
                       "truncated");
    }
    buf_clear(&bad); /* two of its chunks in each other's place */
    buf_add_span(&bad, span_of(file.data, header));
    buf_add(&bad, file.data + header + AGE_SEALED, AGE_SEALED);
    buf_add(&bad, file.data + header, AGE_SEALED);
    buf_add(&bad, file.data + header + 2 * AGE_SEALED, 4 * AGE_SEALED);
    expect_damaged(buf_span(&bad), header, "not authentic");
    buf_add(&file, file.data + header, AGE_SEALED); /* and one too many */
    expect_damaged(buf_span(&file), header, "not authentic");
}

static void a_source_that_changes_is_noticed(void **state)
{
    static const uint8_t key[AGE_PAYLOAD_KEY];
    struct span plain = span_of(noise, 5 * AGE_CHUNK);
    int in = file_of(plain), out = file_of(SPAN_NONE);
    struct part part = whole(true, in, 200, key);
    struct err err = { 0 };
    uint64_t bytes;

    (void)state;
    part.source.size += AGE_CHUNK; /* it was longer when its head was run */
    assert_int_equal(run_ranges(&part, 2, in, out, &bytes, &err), TASK_RETRYABLE);
    assert_string_equal(err.text, "changed while it was read");
    part = whole(true, in, 200, key);
    part.source.mtime_ns ^= 1;
    assert_int_equal(run_ranges(&part, 2, in, out, &bytes, &err), TASK_RETRYABLE);
    close(in), close(out);
}

/* ---- heads, through task_run ---- */

static enum task_status run_part(const struct job_spec *spec, const char *from,
                                 const char *to, const struct part *part, struct buf *mem,
                                 struct task_value *v)
{
    struct task_env env = { .roots = roots, .identities = ids };
    struct task_input in = { .path = span_str(from), .out = span_str(to) };
    struct task_work work = {
        .spec = spec, .in = &in, .attempt = { 1, 2, 3 }, .body_fd = -1, .part = part
    };
    return task_run(&env, &work, mem, v);
}

static void publish(const char *to)
{
    struct files_item item = { .out = span_str(to),
                               .attempt = { 1, 2, 3 },
                               .force = true };
    files_publish(roots, &item, 1, false);
    assert_int_equal(item.err.code, 0);
}

/* A sparse file of the least size that is shared. */
static void large_file(const char *name, size_t len)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(pwrite(fd, noise, NOISE, 0), NOISE);
    close(fd);
}

static bool same_bytes(const char *a, const char *b)
{
    AUTO_FREE char *command = xasprintf("cmp -s %s %s", a, b);
    return system(command) == 0;
}

static struct job_spec encrypting(bool armor)
{
    return (struct job_spec){ .transform = TRANSFORM_ENCRYPT,
                              .recipients = { span_str(recipient) },
                              .n_recipients = 1,
                              .sink = SINK_FILE,
                              .force = true,
                              .armor = armor };
}

static const struct job_spec dec = { .transform = TRANSFORM_DECRYPT,
                                     .sink = SINK_FILE,
                                     .force = true };

static void a_head_says_what_is_to_be_shared(void **state)
{
    AUTO_FREE char *plain = xasprintf("%s/plain", dir);
    AUTO_FREE char *sealed = xasprintf("%s/sealed", dir);
    AUTO_FREE char *back = xasprintf("%s/back", dir);
    struct job_spec enc = encrypting(false);
    const struct part head = { .kind = PART_HEAD };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;
    struct part part;

    (void)state;
    large_file(plain, PART_FILE_MIN);
    const struct {
        const struct job_spec *spec;
        const char *from, *to;
    } ways[] = { { &enc, plain, sealed }, { &dec, sealed, back } };
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        assert_int_equal(
            run_part(ways[i].spec, ways[i].from, ways[i].to, &head, &mem, &v), TASK_OK);
        assert_true(v.has_body);
        assert_int_equal(v.body.len, sizeof(part));
        memcpy(&part, v.body.data, sizeof(part));
        assert_int_equal(part.n, PART_FILE_MIN / AGE_CHUNK);
        assert_int_equal(
            run_part(ways[i].spec, ways[i].from, ways[i].to, &part, &mem, &v), TASK_OK);
        assert_false(v.has_body);
        assert_true(v.out_bytes >= PART_FILE_MIN);
        publish(ways[i].to);
    }
    assert_true(same_bytes(plain, back));
}

/* Small, armored, or no age file: the head does all of it, or says what is wrong. */
static void a_head_does_the_rest_itself(void **state)
{
    AUTO_FREE char *plain = xasprintf("%s/plain", dir);
    AUTO_FREE char *sealed = xasprintf("%s/sealed", dir);
    AUTO_FREE char *back = xasprintf("%s/back", dir);
    struct job_spec enc = encrypting(true);
    const struct part head = { .kind = PART_HEAD };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;

    (void)state;
    large_file(plain, PART_FILE_MIN - 1);
    assert_int_equal(run_part(&enc, plain, sealed, NULL, &mem, &v), TASK_OK);
    publish(sealed);
    assert_int_equal(run_part(&dec, sealed, back, &head, &mem, &v), TASK_OK);
    assert_false(v.has_body);
    assert_int_equal(v.out_bytes, PART_FILE_MIN - 1);
    publish(back);
    assert_true(same_bytes(plain, back));
    enc.armor = false;
    assert_int_equal(run_part(&enc, plain, sealed, &head, &mem, &v), TASK_OK);
    assert_false(v.has_body);
    publish(sealed);
    large_file(plain, PART_FILE_MIN);
    assert_int_equal(run_part(&dec, plain, back, &head, &mem, &v), TASK_FAILED);
    assert_non_null(memmem(v.error.data, v.error.len, "not an age file", 15));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_meet),
        cmocka_unit_test(ranges_make_what_one_pass_makes),
        cmocka_unit_test(damage_is_found_in_any_range),
        cmocka_unit_test(a_source_that_changes_is_noticed),
        cmocka_unit_test(a_head_says_what_is_to_be_shared),
        cmocka_unit_test(a_head_does_the_rest_itself),
    };
    return cmocka_run_group_tests(tests, set_up, rig_tear_down);
}
