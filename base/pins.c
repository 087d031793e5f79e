#include "base/pins.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = MIB, DENIED = 5 };

/* ---- lines ---- */

static struct span next_line(struct span *text)
{
    const uint8_t *nl = memchr(text->data, '\n', text->len);
    size_t len = nl ? (size_t)(nl - text->data) : text->len;
    struct span line = span_of(text->data, len);

    len += nl != NULL;
    *text = span_of(text->data + len, text->len - len);
    return line;
}

static struct span next_word(struct span *line)
{
    size_t from = 0, to;

    while (from < line->len && isspace(line->data[from]))
        from++;
    for (to = from; to < line->len && !isspace(line->data[to]);)
        to++;
    struct span word = span_of(line->data + from, to - from);
    *line = span_of(line->data + to, line->len - to);
    return word;
}

static bool is_of(struct span line, const char *endpoint)
{
    return span_eq(next_word(&line), span_str(endpoint));
}

int pins_parse(struct span text, const char *endpoint, struct pin ret[PINS_MAX],
               size_t *ret_n, struct err *err)
{
    size_t n = 0;

    for (unsigned number = 1; text.len; number++) {
        struct span line = next_line(&text);
        struct span name = next_word(&line);
        if (!name.len || name.data[0] == '#' || !span_eq(name, span_str(endpoint)))
            continue;
        if (n == PINS_MAX)
            return err_set(err, 2, "line %u: more than %d keys of %s", number, PINS_MAX,
                           endpoint);
        if (key_parse(next_word(&line), ret[n].key, err) < 0)
            return err_prefix(err, "line %u", number);
        if (next_word(&line).len)
            return err_set(err, 2, "line %u: not a line of the form ENDPOINT KEY",
                           number);
        ret[n++].line = number;
    }
    *ret_n = n;
    return 0;
}

/* ---- the file ---- */

static int check_owner(int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(err, DENIED, "%s", path);
    if ((st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & 022))
        return 0;
    err_set(err, DENIED, "%s can be written by others (owner %u, mode %04o)", path,
            (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
    return err_hint(err, "look at what it says, then: chmod 600 %s", path);
}

/* All of it; nothing when there is none. */
static int slurp(const char *path, struct buf *text, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    ssize_t n = 0;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0)
        return err_sys(err, DENIED, "%s", path);
    rc = check_owner(fd, path, err);
    while (rc == 0 && (n = read(fd, buf_reserve(text, 4 * KIB), 4 * KIB)) > 0) {
        text->len += (size_t)n;
        if (text->len > FILE_BYTES_MAX)
            rc = err_set(err, 2, "%s: longer than %d bytes", path, FILE_BYTES_MAX);
    }
    if (rc == 0 && n < 0)
        rc = err_sys(err, DENIED, "%s", path);
    close(fd);
    return rc;
}

int pins_read(const char *path, const char *endpoint, struct pin ret[PINS_MAX],
              size_t *ret_n, struct err *err)
{
    AUTO_BUF text = BUF_INIT;

    if (slurp(path, &text, err) < 0)
        return -1;
    if (pins_parse(buf_span(&text), endpoint, ret, ret_n, err) < 0)
        return err_prefix(err, "%s", path);
    return 0;
}

/* Whole under its name, or not there. */
static int replace(int dir, const char *name, struct span text)
{
    AUTO_FREE char *fresh = xasprintf("%s.new", name);
    int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool whole;

    if (fd < 0)
        return -1;
    whole = write(fd, text.data, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    close(fd);
    if (whole && renameat(dir, fresh, dir, name) == 0 && fsync(dir) == 0)
        return 0;
    int saved = errno;
    unlinkat(dir, fresh, 0);
    errno = saved;
    return -1;
}

static bool says(struct span text, const char *endpoint, const uint8_t (*keys)[KEY_BYTES],
                 size_t n)
{
    struct pin pins[PINS_MAX];
    size_t there = 0;

    if (pins_parse(text, endpoint, pins, &there, NULL) < 0 || there != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (memcmp(pins[i].key, keys[i], KEY_BYTES) != 0)
            return false;
    return true;
}

static void lines_with(struct span old, const char *endpoint,
                       const uint8_t (*keys)[KEY_BYTES], size_t n, struct buf *text)
{
    char key[KEY_TEXT];

    while (old.len) {
        struct span line = next_line(&old);
        if (is_of(line, endpoint))
            continue;
        buf_add_span(text, line);
        buf_add_u8(text, '\n');
    }
    for (size_t i = 0; i < n; i++) {
        key_text(keys[i], key);
        buf_printf(text, "%s %s\n", endpoint, key);
    }
}

/* Under the directory's lock. more: to those that are there. */
static int change(const char *path, int dir, const char *name, const char *endpoint,
                  const uint8_t (*keys)[KEY_BYTES], size_t n, bool more, struct err *err)
{
    AUTO_BUF old = BUF_INIT, text = BUF_INIT;
    uint8_t all[PINS_MAX + 1][KEY_BYTES];
    struct pin pins[PINS_MAX];
    size_t there = 0;

    if (slurp(path, &old, err) < 0)
        return -1;
    if (more && pins_parse(buf_span(&old), endpoint, pins, &there, err) < 0)
        return err_prefix(err, "%s", path);
    for (size_t i = 0; i < there; i++) {
        if (memcmp(pins[i].key, keys[0], KEY_BYTES) == 0)
            return 0;
        memcpy(all[i], pins[i].key, KEY_BYTES);
    }
    if (there + n > PINS_MAX)
        return err_set(err, 2, "%s: more than %d keys of %s", path, PINS_MAX, endpoint);
    memcpy(all[there], keys, n * KEY_BYTES);
    if (says(buf_span(&old), endpoint, (const uint8_t(*)[KEY_BYTES])all, there + n))
        return 0;
    lines_with(buf_span(&old), endpoint, (const uint8_t(*)[KEY_BYTES])all, there + n,
               &text);
    return replace(dir, name, buf_span(&text)) < 0 ? err_sys(err, 1, "%s", path) : 0;
}

static int locked(const char *path, const char *endpoint,
                  const uint8_t (*keys)[KEY_BYTES], size_t n, bool more, struct err *err)
{
    AUTO_FREE char *where = keyfile_directory(path);
    const char *slash = strrchr(path, '/');
    int dir = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

    if (dir < 0 || flock(dir, LOCK_EX) < 0)
        rc = err_sys(err, 1, "%s", where);
    else
        rc = change(path, dir, slash ? slash + 1 : path, endpoint, keys, n, more, err);
    if (dir >= 0)
        close(dir);
    return rc;
}

int pins_set(const char *path, const char *endpoint, const uint8_t (*keys)[KEY_BYTES],
             size_t n, struct err *err)
{
    return locked(path, endpoint, keys, n, false, err);
}

int pins_add(const char *path, const char *endpoint, const uint8_t key[KEY_BYTES],
             struct err *err)
{
    return locked(path, endpoint, (const uint8_t(*)[KEY_BYTES])key, 1, true, err);
}

char *pins_beside(const char *key_path)
{
    const char *slash = strrchr(key_path, '/');
    int dir = slash ? (int)(slash - key_path) + 1 : 0;

    return xasprintf("%.*sknown_keys", dir, key_path);
}
