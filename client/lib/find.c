/* Where the coordinator is: flag, environment, configuration, `tidemill up`. */
#include <errno.h>
#include <ctype.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/lib/internal.h"
#include "client/lib/spawn.h"
#include "client/lib/up.h"

char *up_directory(void)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (base && base[0] == '/')
        return xasprintf("%s/tidemill", base);
    return xasprintf("/tmp/tidemill-%u", (unsigned)geteuid());
}

bool up_listens(const char *socket_path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(socket_path) >= sizeof(addr.sun_path))
        return false;
    memcpy(addr.sun_path, socket_path, strlen(socket_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool there = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    close(fd);
    return there;
}

/* The value of a "coordinator = value" line; NULL if it is another line. In place. */
static char *value_of(char *line)
{
    static const char key[] = "coordinator";
    line += strspn(line, " \t");
    if (strncmp(line, key, sizeof(key) - 1) != 0)
        return NULL;
    line += sizeof(key) - 1;
    line += strspn(line, " \t");
    if (*line++ != '=')
        return NULL;
    line += strspn(line, " \t");
    size_t len = strcspn(line, "#\n");
    while (len > 0 && isspace((unsigned char)line[len - 1]))
        len--;
    line[len] = '\0';
    return line;
}

/* 1 and *ret_endpoint, 0 when the file or the key is absent, -1. */
static int from_file(const char *path, char **ret_endpoint, struct err *err)
{
    FILE *f = fopen(path, "re");
    if (!f && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (!f)
        return err_sys(err, TM_USAGE, "%s", path);
    char *line = NULL, *value = NULL;
    size_t cap = 0;
    while (!value && getline(&line, &cap, f) >= 0) {
        char *v = value_of(line);
        if (v && *v)
            value = xstrdup(v);
    }
    free(line);
    fclose(f);
    *ret_endpoint = value;
    return value != NULL;
}

static int from_files(char **ret_endpoint, char **ret_origin, struct err *err)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    AUTO_FREE char *own = NULL;
    if (config && config[0] == '/')
        own = xasprintf("%s/tidemill/tidemill.conf", config);
    else if (home)
        own = xasprintf("%s/.config/tidemill/tidemill.conf", home);
    const char *files[] = { "./tidemill.conf", own, "/etc/tidemill/tidemill.conf" };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        int rc = files[i] ? from_file(files[i], ret_endpoint, err) : 0;
        if (rc != 0) {
            *ret_origin = rc > 0 ? xstrdup(files[i]) : NULL;
            return rc;
        }
    }
    return 0;
}

static int found(const char *endpoint, const char *origin, char **ret_endpoint,
                 char **ret_origin)
{
    *ret_endpoint = endpoint ? xstrdup(endpoint) : NULL;
    *ret_origin = xstrdup(origin);
    return 0;
}

int tm_find_coordinator(const char *flag, char **ret_endpoint, char **ret_origin,
                        struct tm_error *terr)
{
    struct err err;
    if (flag && *flag)
        return found(flag, "--coordinator", ret_endpoint, ret_origin);
    const char *env = getenv("TIDEMILL_COORDINATOR");
    if (env && *env)
        return found(env, "TIDEMILL_COORDINATOR", ret_endpoint, ret_origin);
    int rc = from_files(ret_endpoint, ret_origin, &err);
    if (rc != 0)
        return rc > 0 ? 0 : error_out(terr, &err);
    AUTO_FREE char *dir = up_directory();
    AUTO_FREE char *path = xasprintf("%s/up", dir);
    AUTO_FREE char *endpoint = xasprintf("ipc://%s", path);
    if (up_directory_is_own(dir, NULL) && up_listens(path))
        return found(endpoint, "tidemill up", ret_endpoint, ret_origin);
    return found(NULL, "embedded", ret_endpoint, ret_origin);
}

int tm_find_program(const char *program, const char *bin_dir, char **ret,
                    struct tm_error *terr)
{
    struct err err = { 0 };
    if (spawn_find(bin_dir, program, ret, &err) < 0)
        return error_out(terr, &err);
    return 0;
}
