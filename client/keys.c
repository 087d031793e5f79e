/* Keys of links, and whom they are for, in this user's files. */
#include "client/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include "base/crypto.h"
#include "proto/enrol.h"
#include "proto/link.h"

#define ENROL_NS (10 * NS_PER_S)

/* Where the user's key and known_keys are; NULL and err. Callers free. */
static char *own_key(const struct common *o, struct err *err)
{
    char *path = o->key ? xstrdup(o->key) : keyfile_default("client.key");

    if (!path)
        err_set(err, EXIT_USAGE, "no --key FILE, and HOME is not set");
    return path;
}

static char *own_pins(const struct common *o, struct err *err)
{
    if (o->known_keys)
        return xstrdup(o->known_keys);
    AUTO_FREE char *key = own_key(o, err);
    return key ? pins_beside(key) : NULL;
}

/* ---- gen ---- */

int key_gen(const struct call *call, const char *const *args, size_t n)
{
    const struct key_options *o = call->options;
    struct err err = { 0 };
    char text[KEY_TEXT];

    (void)n;
    if (!o->role) {
        err_set(&err, EXIT_USAGE, "no --role");
        err_hint(&err, "--role client, worker or admin");
        return cli_error(&err);
    }
    crypto_no_core();
    AUTO_FREE char *path = o->output ? xstrdup(o->output) : xasprintf("%s.key", args[0]);
    struct keypair *key = keypair_new();
    int rc = keyfile_write(path, key, &err);
    key_text(key->public_key, text);
    keypair_free(key);
    if (rc < 0)
        return cli_error(&err);
    puts(text);
    cli_note("%s; an admin lets it in: tidemill key trust %s %s --role %s", path, args[0],
             text, o->role);
    return EXIT_OK;
}

/* ---- trust ---- */

int key_trust(const struct call *call, const char *const *args, size_t n)
{
    const struct key_options *o = call->options;
    uint8_t key[1][KEY_BYTES];
    struct err err = { 0 };

    (void)n;
    if (link_endpoint_check(args[0], true, &err) < 0 ||
        key_parse(span_str(args[1]), key[0], &err) < 0)
        return cli_error(&err);
    AUTO_FREE char *pins = own_pins(&o->common, &err);
    if (!pins || pins_set(pins, args[0], (const uint8_t(*)[KEY_BYTES])key, 1, &err) < 0)
        return cli_error(&err);
    return EXIT_OK;
}

/* ---- join ---- */

static char *own_name(void)
{
    char host[256] = "";
    const struct passwd *user = getpwuid(geteuid());

    gethostname(host, sizeof(host) - 1);
    return xasprintf("%s@%s", user ? user->pw_name : "user", host);
}

/* Does a file have a line for the coordinator? */
static bool names_one(const char *path, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    char *rest, *line;

    if (access(path, F_OK) < 0)
        return false;
    if (cli_read_file(path, MIB, &text, err) < 0)
        return false;
    rest = (char *)(uintptr_t)buf_str(&text);
    while ((line = strsep(&rest, "\n"))) {
        line += strspn(line, " \t");
        if (strncmp(line, "coordinator", 11) == 0 &&
            line[11 + strspn(line + 11, " \t")] == '=')
            return true;
    }
    return false;
}

/* Commands find the coordinator from now on. */
static int name_coordinator(const char *endpoint, struct err *err)
{
    AUTO_FREE char *path = keyfile_default("tidemill.conf");

    if (!path || names_one(path, err) || err->code)
        return err->code ? -1 : 0;
    AUTO_FREE char *dir = keyfile_directory(path);
    AUTO_FREE char *text = xasprintf("coordinator = %s\n", endpoint);
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    char last = '\n';
    if (fd < 0)
        return err_sys(err, EXIT_ERROR, "%s", path);
    off_t end = lseek(fd, 0, SEEK_END);
    if (end > 0 && pread(fd, &last, 1, end - 1) == 1 && last != '\n')
        last = 0; /* of a last line without an end */
    AUTO_FREE char *lines = xasprintf("%s%s", last ? "" : "\n", text);
    bool written = write(fd, lines, strlen(lines)) == (ssize_t)strlen(lines);
    close(fd);
    return written ? 0 : err_sys(err, EXIT_ERROR, "%s", path);
}

static int join(const struct common *o, const struct invite *invite, struct err *err)
{
    AUTO_FREE char *key = own_key(o, err);
    AUTO_FREE char *pins = own_pins(o, err);
    AUTO_FREE char *name = o->name ? xstrdup(o->name) : own_name();
    struct enrol e = { .invite = invite,
                       .key_path = key,
                       .pins_path = pins,
                       .name = name,
                       .timeout_ns = ENROL_NS };
    AUTO_FREE char *called = NULL;

    if (!key || !pins || enrol(&e, &called, err) < 0 ||
        name_coordinator(invite->endpoint, err) < 0)
        return -1;
    if (called)
        cli_note("%s may use %s as %s", key, invite->endpoint, called);
    else
        cli_note("%s exists and is used; it has to be trusted at %s", key,
                 invite->endpoint);
    return 0;
}

int key_join(const struct call *call, const char *const *args, size_t n)
{
    const struct key_options *o = call->options;
    struct invite invite;
    struct err err = { 0 };

    (void)n;
    crypto_no_core();
    if (invite_read(args[0], &invite, &err) < 0)
        return cli_error(&err);
    if (invite_is(args[0])) /* it is to be seen no longer in /proc */
        crypto_zero((char *)(uintptr_t)args[0], strlen(args[0]));
    int rc = join(&o->common, &invite, &err);
    invite_fini(&invite);
    return rc < 0 ? cli_error(&err) : EXIT_OK;
}
