#include "base/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/failpoint.h"

enum {
    FILE_BYTES_MAX = 4 * KIB,
    DENIED = 5, /* the exit code */
};

/* ---- text ---- */

void key_text(const uint8_t key[KEY_BYTES], char ret[KEY_TEXT])
{
    crypto_text(key, KEY_BYTES, ret);
}

int key_parse(struct span text, uint8_t ret[KEY_BYTES], struct err *err)
{
    uint8_t key[KEY_BYTES];

    if (crypto_text_parse(text, key, sizeof(key)) != KEY_BYTES) {
        err_set(err, 2, "not a public key: '%.*s'", (int)MIN(text.len, 80),
                (const char *)text.data);
        return err_hint(err, "a key is 43 letters, digits, '-' and '_'");
    }
    memcpy(ret, key, sizeof(key));
    return 0;
}

/* ---- pairs ---- */

static struct keypair *pair_alloc(void)
{
    return crypto_secret_alloc(sizeof(struct keypair));
}

/* A public key that looked like an option would be one wherever it is an argument. */
static bool begins_with_dash(const struct keypair *k)
{
    char text[KEY_TEXT];

    key_text(k->public_key, text);
    return text[0] == '-';
}

struct keypair *keypair_new(void)
{
    struct keypair *k = pair_alloc();

    do {
        crypto_random(k->secret, KEY_BYTES);
        crypto_x25519_base(k->public_key, k->secret);
    } while (begins_with_dash(k));
    return k;
}

struct keypair *keypair_of(const uint8_t secret[KEY_BYTES])
{
    struct keypair *k = pair_alloc();

    memcpy(k->secret, secret, KEY_BYTES);
    crypto_x25519_base(k->public_key, k->secret);
    return k;
}

struct keypair *keypair_copy(const struct keypair *key)
{
    struct keypair *k = pair_alloc();

    *k = *key;
    return k;
}

void keypair_free(struct keypair *key)
{
    crypto_secret_free(key);
}

/* ---- what a file says ---- */

/* The value of "name = value", or nothing. */
static struct span value_of(struct span line, const char *name)
{
    size_t len = strlen(name);

    if (line.len < len || memcmp(line.data, name, len) != 0)
        return SPAN_NONE;
    line = span_trim(span_of(line.data + len, line.len - len));
    if (!line.len || line.data[0] != '=')
        return SPAN_NONE;
    return span_trim(span_of(line.data + 1, line.len - 1));
}

/* Its words never stand in a message: they may be the secret, mistyped. */
int keyfile_parse(struct span text, struct keypair **ret, struct err *err)
{
    struct keypair *k = pair_alloc();
    uint8_t public_key[KEY_BYTES];
    bool has_secret = false, has_public = false;

    for (size_t at = 0; at < text.len;) {
        const uint8_t *nl = memchr(text.data + at, '\n', text.len - at);
        size_t end = nl ? (size_t)(nl - text.data) : text.len;
        struct span line = span_trim(span_of(text.data + at, end - at));
        struct span public_text = value_of(line, "public");
        struct span secret_text = value_of(line, "secret");
        at = end + 1;
        if (public_text.len)
            has_public =
                crypto_text_parse(public_text, public_key, KEY_BYTES) == KEY_BYTES;
        if (secret_text.len)
            has_secret =
                crypto_text_parse(secret_text, k->secret, KEY_BYTES) == KEY_BYTES;
    }
    if (has_secret)
        crypto_x25519_base(k->public_key, k->secret);
    if (has_secret && has_public && crypto_equal(public_key, k->public_key, KEY_BYTES)) {
        *ret = k;
        return 0;
    }
    keypair_free(k);
    return err_set(err, 2, "%s",
                   has_secret && has_public ? "its public key is not its secret key's"
                                            : "not a key file: no public and secret key");
}

/* ---- files ---- */

bool keyfile_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static int check_owner(int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(err, DENIED, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, DENIED, "%s is not a file", path);
    if (st.st_uid != geteuid()) {
        err_set(err, DENIED, "the key file %s belongs to another user (%u)", path,
                (unsigned)st.st_uid);
        return err_hint(err, "chown %u %s", (unsigned)geteuid(), path);
    }
    if (st.st_mode & 077) {
        err_set(err, DENIED, "the key file %s can be read by others (mode %04o)", path,
                (unsigned)st.st_mode & 07777);
        return err_hint(err, "chmod 600 %s", path);
    }
    return 0;
}

int keyfile_read(const char *path, struct keypair **ret, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
    uint8_t *text;
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0)
        return err_sys(err, DENIED, "no key: %s", path);
    if ((rc = check_owner(fd, path, err)) == 0) {
        text = crypto_secret_alloc(FILE_BYTES_MAX);
        while (len < FILE_BYTES_MAX &&
               (n = read(fd, text + len, FILE_BYTES_MAX - len)) > 0)
            len += (size_t)n;
        if (n < 0)
            rc = err_sys(err, DENIED, "%s", path);
        else if ((rc = keyfile_parse(span_of(text, len), ret, err)) < 0)
            err_prefix(err, "%s", path);
        crypto_secret_free(text);
    }
    close(fd);
    return rc;
}

char *keyfile_directory(const char *path)
{
    char *dir = xstrdup(path), *slash = strrchr(dir, '/');

    if (!slash) {
        free(dir);
        return xstrdup(".");
    }
    if (slash == dir) {
        slash[1] = 0;
        return dir;
    }
    *slash = 0;
    for (char *at = dir + 1;; at++) {
        if (*at != '/' && *at)
            continue;
        char end = *at;
        *at = 0;
        mkdir(dir, 0700); /* what is wrong with it is told by who opens the file */
        *at = end;
        if (!end)
            return dir;
    }
}

static int sync_directory(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc =
        fd < 0 || fsync(fd) < 0 ? err_sys(err, 1, "cannot write %s to disk", dir) : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

static int write_text(int fd, const struct keypair *key)
{
    enum { TEXT_MAX = 256 };
    char *text = crypto_secret_alloc(TEXT_MAX), *at = text;
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    ssize_t n;

    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    at += sprintf(at, "# tidemill key, made %s\npublic = ", when);
    key_text(key->public_key, at);
    at += strlen(at);
    at += sprintf(at, "\nsecret = ");
    key_text(key->secret, at);
    at += strlen(at);
    *at++ = '\n';
    n = write(fd, text, (size_t)(at - text));
    if (n >= 0 && n != at - text)
        errno = ENOSPC;
    bool whole = n == at - text;
    crypto_secret_free(text);
    return whole && fsync(fd) == 0 ? 0 : -1;
}

static int not_written(const char *path, struct err *err)
{
    if (errno != EEXIST)
        return err_sys(err, 1, "%s", path);
    err_set(err, 1, "%s exists and is not overwritten", path);
    return err_hint(err, "name another file, or move this one away");
}

/* Whole under its name, or not there: half a key would be in the way for good. */
int keyfile_write(const char *path, const struct keypair *key, struct err *err)
{
    AUTO_FREE char *dir = keyfile_directory(path);
    AUTO_FREE char *fresh = xasprintf("%s.tmp-XXXXXX", path);
    int fd, rc = 0;

    if (keyfile_there(path)) {
        errno = EEXIST;
        return not_written(path, err);
    }
    fd = mkostemp(fresh, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return err_sys(err, 1, "%s", path);
    if (write_text(fd, key) < 0)
        rc = err_sys(err, 1, "%s", path);
    close(fd);
    FAILPOINT("keyfile_written");
    if (rc == 0 && link(fresh, path) < 0)
        rc = not_written(path, err);
    unlink(fresh);
    return rc < 0 ? -1 : sync_directory(dir, err);
}

int keyfile_sync(const char *path, struct err *err)
{
    AUTO_FREE char *dir = keyfile_directory(path);
    return sync_directory(dir, err);
}

char *keyfile_default(const char *name)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (config && config[0] == '/')
        return xasprintf("%s/tidemill/%s", config, name);
    if (home && home[0] == '/')
        return xasprintf("%s/.config/tidemill/%s", home, name);
    return NULL;
}
