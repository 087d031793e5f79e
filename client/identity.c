/* Age identities. A file is made once, for its owner alone, and never overwritten. */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/agekey.h"
#include "base/crypto.h"
#include "client/keys.h"

enum { IDENTITY_FILE_MAX = MIB };

static int write_identity(const char *path, const uint8_t secret[AGEKEY_BYTES],
                          const char *recipient, struct err *err)
{
    char identity[AGEKEY_TEXT], when[64];
    time_t now = time(NULL);
    bool to_stdout = strcmp(path, "-") == 0;
    int fd = to_stdout ? STDOUT_FILENO
                       : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0 && errno == EEXIST) {
        err_set(err, EXIT_ERROR, "%s exists and is not overwritten", path);
        return err_hint(err, "name another file; a lost identity is lost data");
    }
    if (fd < 0)
        return err_sys(err, EXIT_ERROR, "%s", path);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    agekey_identity_text(secret, identity);
    if (dprintf(fd, "# created: %s\n# public key: %s\n%s\n", when, recipient, identity) <
            0 ||
        (!to_stdout && (fsync(fd) < 0 || close(fd) < 0)))
        rc = err_sys(err, EXIT_ERROR, "%s", path);
    crypto_zero(identity, sizeof(identity));
    return rc;
}

int key_identity(const struct call *call, const char *const *args, size_t n)
{
    const char *path = args[0];
    uint8_t secret[AGEKEY_BYTES], public_key[AGEKEY_BYTES];
    char recipient[AGEKEY_TEXT];
    struct err err = { 0 };
    int rc;

    (void)call, (void)n;
    agekey_identity_new(secret);
    agekey_public(secret, public_key);
    agekey_recipient_text(public_key, recipient);
    rc = write_identity(path, secret, recipient, &err);
    crypto_zero(secret, sizeof(secret));
    if (rc < 0)
        return cli_error(&err);
    if (strcmp(path, "-") != 0)
        puts(recipient);
    return EXIT_OK;
}

static int print_recipient(void *arg, const uint8_t secret[AGEKEY_BYTES])
{
    uint8_t public_key[AGEKEY_BYTES];
    char text[AGEKEY_TEXT];

    (void)arg;
    agekey_public(secret, public_key);
    agekey_recipient_text(public_key, text);
    puts(text);
    return 0;
}

int key_recipient(const struct call *call, const char *const *args, size_t n)
{
    const char *path = args[0];
    AUTO_BUF text = BUF_INIT;
    struct err err = { 0 };
    int rc = cli_read_file(path, IDENTITY_FILE_MAX, &text, &err);

    (void)call, (void)n;
    if (rc == 0 &&
        (rc = agekey_identities_each(buf_span(&text), print_recipient, NULL, &err)) < 0)
        err_prefix(&err, "%s", path);
    if (text.data)
        crypto_zero(text.data, text.cap);
    return rc < 0 ? cli_error(&err) : EXIT_OK;
}
