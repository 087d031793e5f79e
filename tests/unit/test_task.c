/* A task from source to sink: digests, encryption, files; and what goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/roots_rig.h"

static struct span path(const char *name)
{
    static char text[4][256];
    static unsigned next;
    char *p = text[next++ % 4];

    snprintf(p, 256, "%s/%s", dir, name);
    return span_str(p);
}

static void write_file(const char *name, const void *data, size_t len)
{
    int fd = open((const char *)path(name).data, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

static enum task_status run(const struct job_spec *spec, const struct task_input *in,
                            struct buf *mem, struct task_value *v)
{
    struct task_env env = { .roots = roots, .identities = ids };
    struct task_work work = {
        .spec = spec, .in = in, .attempt = { 1, 2, 3 }, .body_fd = -1
    };
    return task_run(&env, &work, mem, v);
}

static void publish(struct span out, bool force, int expected)
{
    struct files_item item = { .out = out, .attempt = { 1, 2, 3 }, .force = force };

    files_sync(roots, &item, 1);
    assert_int_equal(item.err.code, 0);
    files_publish(roots, &item, 1, true);
    assert_int_equal(item.err.code, expected);
}

static unsigned entries(void)
{
    AUTO_FREE char *command = xasprintf("ls -A %s | wc -l", dir);
    FILE *f = popen(command, "r");
    unsigned n = 0;
    assert_int_equal(fscanf(f, "%u", &n), 1);
    pclose(f);
    return n;
}

/* FIPS 180-2, B.1 and RFC 1321, A.5. */
static void digests_of_bytes_and_files(void **state)
{
    static const uint8_t sha256[] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea };
    static const uint8_t md5[] = { 0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0 };
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) | BIT(ALGO_MD5) };
    struct task_input bytes = { .data = SPAN_LIT("abc"), .has_data = true };
    struct task_input file = { .path = path("abc") };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;

    (void)state;
    write_file("abc", "abc", 3);
    const struct task_input *inputs[] = { &bytes, &file };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(&spec, inputs[i], &mem, &v), TASK_OK);
        assert_int_equal(v.bytes, 3);
        assert_int_equal(v.n_digests, 2);
        assert_memory_equal(v.digests[0].bytes.data, md5, sizeof(md5));
        assert_memory_equal(v.digests[1].bytes.data, sha256, sizeof(sha256));
    }
}

static void there_and_back(void **state)
{
    static uint8_t data[3 * AGE_CHUNK + 1];
    static const size_t sizes[] = {
        0, 1, AGE_CHUNK - 1, AGE_CHUNK, AGE_CHUNK + 1, 3 * AGE_CHUNK, 3 * AGE_CHUNK + 1
    };

    (void)state;
    crypto_random(data, sizeof(data));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int armor = 0; armor < 2; armor++) {
            struct job_spec enc = { .transform = TRANSFORM_ENCRYPT,
                                    .recipients = { span_str(recipient) },
                                    .n_recipients = 1,
                                    .sink = SINK_FILE,
                                    .force = true,
                                    .armor = armor,
                                    .algos = BIT(ALGO_SHA256) };
            struct job_spec dec = { .transform = TRANSFORM_DECRYPT,
                                    .sink = SINK_FILE,
                                    .force = true,
                                    .out_algos = BIT(ALGO_SHA256) };
            struct task_input a = { .path = path("plain"), .out = path("plain.age") };
            struct task_input b = { .path = path("plain.age"), .out = path("back") };
            AUTO_BUF mem = BUF_INIT;
            struct task_value v;
            uint8_t first[32];
            write_file("plain", data, sizes[i]);
            assert_int_equal(run(&enc, &a, &mem, &v), TASK_OK);
            memcpy(first, v.digests[0].bytes.data, 32);
            publish(a.out, true, 0);
            assert_int_equal(run(&dec, &b, &mem, &v), TASK_OK);
            assert_int_equal(v.out_bytes, sizes[i]);
            assert_memory_equal(v.out_digests[0].bytes.data, first, 32);
            publish(b.out, true, 0);
        }
}

/* Any changed, missing or surplus byte: an error in words, and no output. */
static void damage_leaves_no_output(void **state)
{
    static uint8_t plain[AGE_CHUNK + 100], sealed[2 * AGE_CHUNK], bad[2 * AGE_CHUNK + 1];
    struct job_spec enc = { .transform = TRANSFORM_ENCRYPT,
                            .recipients = { span_str(recipient) },
                            .n_recipients = 1,
                            .sink = SINK_FILE,
                            .force = true };
    struct job_spec dec = { .transform = TRANSFORM_DECRYPT, .sink = SINK_FILE };
    struct task_input a = { .path = path("p"), .out = path("p.age") };
    struct task_input b = { .path = path("bad.age"), .out = path("never") };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;

    (void)state;
    write_file("p", plain, sizeof(plain));
    assert_int_equal(run(&enc, &a, &mem, &v), TASK_OK);
    publish(a.out, true, 0);
    int fd = open((const char *)path("p.age").data, O_RDONLY);
    size_t len = (size_t)read(fd, sealed, sizeof(sealed));
    close(fd);
    write_file("bad.age", "x", 1);
    unsigned before = entries();
    for (size_t i = 0; i <= len; i += i < 300 ? 7 : 9973) {
        memcpy(bad, sealed, len);
        bad[i] ^= 4; /* at len: one byte more */
        write_file("bad.age", bad, MAX(len, i + 1));
        assert_int_equal(run(&dec, &b, &mem, &v), TASK_FAILED);
        assert_true(v.error.len > 0);
        write_file("bad.age", sealed, i < len ? i : len - 1);
        assert_int_equal(run(&dec, &b, &mem, &v), TASK_FAILED);
        assert_int_equal(entries(), before);
    }
}

static void what_is_wrong_is_said(void **state)
{
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    const struct {
        struct span path;
        const char *words;
    } cases[] = {
        { path("missing"), "No such file" },
        { span_str(dir), "Is a directory" },
        { SPAN_LIT("/etc/passwd"), "outside of the worker's roots" },
        { path("link"), "outside of the worker's roots" },
    };

    (void)state;
    assert_int_equal(symlink("/etc/passwd", (const char *)path("link").data), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct task_input in = { .path = cases[i].path };
        AUTO_BUF mem = BUF_INIT;
        struct task_value v;
        assert_int_equal(run(&spec, &in, &mem, &v), TASK_FAILED);
        if (!memmem(v.error.data, v.error.len, cases[i].words, strlen(cases[i].words)))
            fail_msg("%.*s", (int)v.error.len, v.error.data);
    }
}

static void an_old_output_stays(void **state)
{
    struct job_spec spec = { .sink = SINK_FILE };
    struct task_input in = { .data = SPAN_LIT("new"),
                             .has_data = true,
                             .out = path("o/u/t") };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;

    (void)state;
    assert_int_equal(run(&spec, &in, &mem, &v), TASK_OK);
    publish(in.out, false, 0);
    assert_int_equal(run(&spec, &in, &mem, &v), TASK_FAILED);
    assert_non_null(memmem(v.error.data, v.error.len, "exists", 6));
    spec.force = true;
    assert_int_equal(run(&spec, &in, &mem, &v), TASK_OK);
    publish(in.out, false, 1); /* it came while the task ran */
    in.out = SPAN_LIT("/etc/tidemill-was-here");
    assert_int_equal(run(&spec, &in, &mem, &v), TASK_FAILED);
}

static void permission_bits_come_from_the_input(void **state)
{
    struct job_spec spec = { .sink = SINK_FILE, .force = true };
    struct task_input in = { .path = path("mode"), .out = path("mode.out") };
    AUTO_BUF mem = BUF_INIT;
    struct task_value v;
    struct stat st;

    (void)state;
    write_file("mode", "m", 1);
    assert_int_equal(chmod((const char *)path("mode").data, 0751), 0);
    assert_int_equal(run(&spec, &in, &mem, &v), TASK_OK);
    publish(in.out, true, 0);
    assert_int_equal(stat((const char *)path("mode.out").data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0751);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_of_bytes_and_files),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(damage_leaves_no_output),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(an_old_output_stays),
        cmocka_unit_test(permission_bits_come_from_the_input),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
