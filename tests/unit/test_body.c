/* A fetched body that is kept while it comes: digests, its file, and what goes wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/ops/body.h"
#include "worker/ops/hash.h"

static char dir[64];
static struct files_roots *roots;
static const struct files_attempt attempt = { 5, 0xab, 3 };

static int set_up(void **state)
{
    const char *specs[] = { dir };

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tm-body.XXXXXX");
    assert_non_null(mkdtemp(dir));
    return files_roots_new(specs, 1, &roots, NULL);
}

static int tear_down(void **state)
{
    AUTO_FREE char *command = xasprintf("rm -rf %s", dir);

    (void)state;
    files_roots_free(roots);
    return system(command);
}

static struct body *body_for(const struct job_spec *spec, const char *out)
{
    struct body_work work = { .roots = roots,
                              .spec = spec,
                              .out = span_str(out),
                              .attempt = attempt,
                              .mode = 0604 };

    return body_new(&work);
}

static void assert_digest(const struct digest *d, enum algo algo, struct span bytes)
{
    struct digest want[PACK_DIGESTS_MAX];
    struct hash *h = hash_new();

    hash_begin(h, BIT(algo));
    hash_update(h, bytes);
    assert_int_equal(hash_end(h, want), 1);
    assert_int_equal(d->algo, algo);
    assert_true(span_eq(d->bytes, want[0].bytes));
    hash_free(h);
}

/* Pieces of all lengths, more than what is written back at once. */
static void a_body_in_pieces_is_one_file_and_its_digests(void **state)
{
    enum { ALL = 9 * MIB + 5 };
    struct job_spec spec = { .sink = SINK_FILE,
                             .algos = BIT(ALGO_SHA256),
                             .out_algos = BIT(ALGO_SHA512) };
    AUTO_FREE char *out = xasprintf("%s/made/of/pieces", dir);
    AUTO_FREE char *temp = xasprintf("%s/made/of/.pieces.tm-5-ab-3", dir);
    AUTO_FREE uint8_t *bytes = xcalloc(1, ALL), *back = xcalloc(1, ALL + 1);
    struct body *b = body_for(&spec, out);
    struct task_value v;
    struct stat st;

    (void)state;
    for (size_t i = 0; i < ALL; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t at = 0, n; at < ALL; at += n) {
        n = MIN((size_t)ALL - at, at % 200000 + 1);
        assert_int_equal(body_pass(b, span_of(bytes + at, n), NULL), TASK_OK);
    }
    assert_int_equal(body_end(b, &v, NULL), TASK_OK);
    assert_int_equal(v.bytes, ALL);
    assert_int_equal(v.out_bytes, ALL);
    assert_true(span_eq(v.output, span_str(out)));
    assert_int_equal(v.n_digests, 1);
    assert_int_equal(v.n_out_digests, 1);
    assert_digest(&v.digests[0], ALGO_SHA256, span_of(bytes, ALL));
    assert_digest(&v.out_digests[0], ALGO_SHA512, span_of(bytes, ALL));
    body_free(b);
    assert_int_equal(access(out, F_OK), -1); /* it is not published */
    int fd = open(temp, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0604);
    assert_int_equal(read(fd, back, ALL + 1), ALL);
    assert_memory_equal(back, bytes, ALL);
    close(fd);
}

static void an_empty_body_is_an_empty_file(void **state)
{
    struct job_spec spec = { .sink = SINK_FILE, .algos = BIT(ALGO_SHA256) };
    AUTO_FREE char *out = xasprintf("%s/empty", dir);
    AUTO_FREE char *temp = xasprintf("%s/.empty.tm-5-ab-3", dir);
    struct body *b = body_for(&spec, out);
    struct task_value v;
    struct stat st;

    (void)state;
    assert_int_equal(body_end(b, &v, NULL), TASK_OK);
    assert_digest(&v.digests[0], ALGO_SHA256, SPAN_NONE);
    body_free(b);
    assert_int_equal(stat(temp, &st), 0);
    assert_int_equal(st.st_size, 0);
}

static void without_a_sink_no_file_is_made(void **state)
{
    struct job_spec spec = { .sink = SINK_NONE, .algos = BIT(ALGO_SHA256) };
    AUTO_FREE char *out = xasprintf("%s/nowhere", dir);
    AUTO_FREE char *temp = xasprintf("%s/.nowhere.tm-5-ab-3", dir);
    struct body *b = body_for(&spec, out);
    struct task_value v;

    (void)state;
    assert_int_equal(body_pass(b, SPAN_LIT("bytes"), NULL), TASK_OK);
    assert_int_equal(body_end(b, &v, NULL), TASK_OK);
    assert_int_equal(v.bytes, 5);
    assert_int_equal(v.out_bytes, 0);
    assert_int_equal(v.output.len, 0);
    body_free(b);
    assert_int_equal(access(temp, F_OK), -1);
}

static void what_is_discarded_leaves_nothing(void **state)
{
    struct job_spec spec = { .sink = SINK_FILE };
    AUTO_FREE char *out = xasprintf("%s/half", dir);
    AUTO_FREE char *temp = xasprintf("%s/.half.tm-5-ab-3", dir);
    struct body *b = body_for(&spec, out);

    (void)state;
    body_discard(b); /* before there is anything, too */
    assert_int_equal(body_pass(b, SPAN_LIT("half of"), NULL), TASK_OK);
    assert_int_equal(access(temp, F_OK), 0);
    body_discard(b);
    body_free(b);
    assert_int_equal(access(temp, F_OK), -1);
}

static void an_output_that_stands_is_kept_and_fails_for_good(void **state)
{
    struct job_spec spec = { .sink = SINK_FILE };
    AUTO_FREE char *out = xasprintf("%s/stands", dir);
    struct body *b = body_for(&spec, out);
    struct err err = { 0 };
    int fd = open(out, O_WRONLY | O_CREAT, 0600);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    errno = ENOSPC; /* of something before */
    assert_int_equal(body_pass(b, SPAN_LIT("x"), &err), TASK_FAILED);
    assert_string_equal(err.text, "output exists (--force replaces it)");
    body_discard(b);
    body_free(b);
    assert_int_equal(access(out, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_in_pieces_is_one_file_and_its_digests),
        cmocka_unit_test(an_empty_body_is_an_empty_file),
        cmocka_unit_test(without_a_sink_no_file_is_made),
        cmocka_unit_test(what_is_discarded_leaves_nothing),
        cmocka_unit_test(an_output_that_stands_is_kept_and_fails_for_good),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
