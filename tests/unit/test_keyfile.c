/* Key files: what is written is read back by its owner alone; what others could have
 * read, or could have written, is refused. And known_keys, line for line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pins.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    crypto_init();
    strcpy(dir, "/tmp/tidemill-keyfile.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    AUTO_FREE char *command = xasprintf("rm -rf %s", dir);
    (void)state;
    return system(command);
}

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_file(const char *path, const char *expected)
{
    char text[4096] = "";
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_true(read(fd, text, sizeof(text) - 1) >= 0);
    close(fd);
    assert_string_equal(text, expected);
}

/* RFC 7748, 6.1: Alice's pair; the text was made with `base64 -w0 | tr +/ -_`. */
static void the_published_pair_fits(void **state)
{
    static const char text[] = "# a comment\n"
                               "public = hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo\n"
                               "secret = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo\n";
    struct keypair *k;
    struct err err = { 0 };
    char public_text[KEY_TEXT];

    (void)state;
    assert_int_equal(keyfile_parse(span_str(text), &k, &err), 0);
    key_text(k->public_key, public_text);
    assert_string_equal(public_text, "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo");
    assert_int_equal(k->secret[0], 0x77);
    assert_int_equal(k->secret[31], 0x2a);
    keypair_free(k);
}

static void a_key_as_text_has_one_form(void **state)
{
    static const char *const wrong[] = {
        "",
        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTm",
        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo=",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo",
        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmp", /* two bits too many */
        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmoA",
        " hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo",
    };
    uint8_t key[KEY_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct err err = { 0 };
        assert_int_equal(key_parse(span_str(wrong[i]), key, &err), -1);
        assert_int_equal(err.code, 2);
    }
}

static void no_new_key_looks_like_an_option(void **state)
{
    enum { KEYS = 500 }; /* of 64 one would */
    char text[KEY_TEXT];

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        struct keypair *k = keypair_new();
        key_text(k->public_key, text);
        assert_int_not_equal(text[0], '-');
        keypair_free(k);
    }
}

static void a_written_key_is_read_back_and_never_overwritten(void **state)
{
    AUTO_FREE char *path = path_of("new/deep/worker.key");
    struct keypair *made = keypair_new(), *other = keypair_new(), *read;
    struct err err = { 0 };
    struct stat st;

    (void)state;
    assert_int_equal(keyfile_write(path, made, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(keyfile_write(path, other, &err), -1);
    assert_int_equal(err.code, 1);
    assert_int_equal(keyfile_read(path, &read, &err), 0);
    assert_memory_equal(read, made, sizeof(*made));
    keypair_free(read);
    keypair_free(made);
    keypair_free(other);
}

static void assert_refused(const char *path, int code, const char *why)
{
    struct keypair *k;
    struct err err = { 0 };
    assert_int_equal(keyfile_read(path, &k, &err), -1);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, why));
}

static void a_key_that_others_can_read_is_refused_each_time(void **state)
{
    AUTO_FREE char *path = path_of("open.key");
    struct keypair *made = keypair_new(), *read;
    struct err err = { 0 };

    (void)state;
    assert_refused(path, 5, "No such file");
    assert_int_equal(keyfile_write(path, made, &err), 0);
    static const mode_t modes[] = { 0640, 0604, 0660, 0644, 0610 };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_refused(path, 5, "can be read by others");
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(keyfile_read(path, &read, &err), 0);
    keypair_free(read);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_refused(path, 5, "belongs to another user");
    }
    keypair_free(made);
}

/* A secret that was mistyped must not be shown either. */
static void a_malformed_file_is_refused_without_a_word_of_it(void **state)
{
    static const char *const texts[] = {
        "", "secret = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo\n",
        "public = hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo\nsecret = dwdtCnMYpX\n",
        /* the secret of another */
        "public = hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo\n"
        "secret = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCw\n"
    };
    AUTO_FREE char *path = path_of("bad.key");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct keypair *k;
        struct err err = { 0 };
        write_file(path, texts[i], 0600);
        assert_int_equal(keyfile_read(path, &k, &err), -1);
        assert_null(strstr(err.text, "dwdt"));
        assert_null(strstr(err.hint, "dwdt"));
    }
}

/* ---- known_keys ---- */

static const char A[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
static const char B[] = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

static void key_of(const char *text, uint8_t key[KEY_BYTES])
{
    assert_int_equal(key_parse(span_str(text), key, NULL), 0);
}

static void pins_are_those_of_the_endpoint(void **state)
{
    AUTO_FREE char *path = path_of("known");
    struct pin pins[PINS_MAX];
    struct err err = { 0 };
    uint8_t a[KEY_BYTES], b[KEY_BYTES];
    size_t n = 9;

    (void)state;
    key_of(A, a);
    key_of(B, b);
    assert_int_equal(pins_read(path, "tcp://h:1", pins, &n, &err), 0);
    assert_int_equal(n, 0);
    AUTO_FREE char *text = xasprintf("# mine\n\ntcp://h:1 %s\ntcp://h:12 %s\n"
                                     "  tcp://h:1\t%s\n",
                                     A, A, B);
    write_file(path, text, 0644);
    assert_int_equal(pins_read(path, "tcp://h:1", pins, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_memory_equal(pins[0].key, a, KEY_BYTES);
    assert_int_equal(pins[0].line, 3);
    assert_memory_equal(pins[1].key, b, KEY_BYTES);
    assert_int_equal(pins[1].line, 5);
}

static void a_file_that_others_can_write_pins_nothing(void **state)
{
    AUTO_FREE char *path = path_of("loose");
    struct pin pins[PINS_MAX];
    struct err err = { 0 };
    size_t n;

    (void)state;
    write_file(path, "", 0666);
    assert_int_equal(pins_read(path, "tcp://h:1", pins, &n, &err), -1);
    assert_int_equal(err.code, 5);
}

static void a_malformed_line_of_the_endpoint_is_named(void **state)
{
    static const char *const lines[] = {
        "tcp://h:1", "tcp://h:1 x",
        "tcp://h:1 "
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA z"
    };
    struct pin pins[PINS_MAX];
    size_t n;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct err err = { 0 };
        AUTO_FREE char *text = xasprintf("# one\n%s\n", lines[i]);
        assert_int_equal(pins_parse(span_str(text), "tcp://h:1", pins, &n, &err), -1);
        assert_non_null(strstr(err.text, "line 2"));
        assert_int_equal(pins_parse(span_str(text), "tcp://h:2", pins, &n, &err), 0);
        assert_int_equal(n, 0);
    }
}

static void pins_are_added_and_replaced_beside_others(void **state)
{
    AUTO_FREE char *path = path_of("set");
    uint8_t keys[2][KEY_BYTES];
    struct err err = { 0 };
    struct stat before, after;

    (void)state;
    key_of(A, keys[0]);
    key_of(B, keys[1]);
    AUTO_FREE char *other = xasprintf("# mine\ntcp://h:12 %s", A);
    write_file(path, other, 0600);
    assert_int_equal(pins_add(path, "tcp://h:1", keys[0], &err), 0);
    AUTO_FREE char *one = xasprintf("%s\ntcp://h:1 %s\n", other, A);
    assert_file(path, one);
    assert_int_equal(pins_add(path, "tcp://h:1", keys[1], &err), 0);
    AUTO_FREE char *two = xasprintf("%stcp://h:1 %s\n", one, B);
    assert_file(path, two);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(pins_add(path, "tcp://h:1", keys[0], &err), 0);
    assert_int_equal(
        pins_set(path, "tcp://h:1", (const uint8_t(*)[KEY_BYTES])keys, 2, &err), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* it was not written again */
    assert_int_equal(
        pins_set(path, "tcp://h:1", (const uint8_t(*)[KEY_BYTES]) & keys[1], 1, &err), 0);
    AUTO_FREE char *last = xasprintf("%s\ntcp://h:1 %s\n", other, B);
    assert_file(path, last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_pair_fits),
        cmocka_unit_test(a_key_as_text_has_one_form),
        cmocka_unit_test(no_new_key_looks_like_an_option),
        cmocka_unit_test(a_written_key_is_read_back_and_never_overwritten),
        cmocka_unit_test(a_key_that_others_can_read_is_refused_each_time),
        cmocka_unit_test(a_malformed_file_is_refused_without_a_word_of_it),
        cmocka_unit_test(pins_are_those_of_the_endpoint),
        cmocka_unit_test(a_file_that_others_can_write_pins_nothing),
        cmocka_unit_test(a_malformed_line_of_the_endpoint_is_named),
        cmocka_unit_test(pins_are_added_and_replaced_beside_others),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
