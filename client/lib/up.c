/* `tidemill up`: coordinator and worker of this user, with a socket others find. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/lib/internal.h"
#include "client/lib/pair.h"
#include "client/lib/up.h"

#define LOOK_NS (50 * NS_PER_MS) /* how often the programs are looked after */

struct tm_up {
    struct pair *pair;
};

bool up_directory_is_own(const char *dir, struct err *err)
{
    struct stat st;
    if (lstat(dir, &st) < 0) {
        err_sys(err, TM_ERROR, "%s", dir);
        return false;
    }
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        return true;
    err_set(err, TM_DENIED, "%s is not a directory of this user alone", dir);
    err_hint(err, "it should have this owner and mode 0700: remove it, or use --listen");
    return false;
}

/* The default endpoint, in its directory. NULL and err. Caller frees. */
static char *own_endpoint(struct err *err)
{
    AUTO_FREE char *dir = up_directory();
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        err_sys(err, TM_ERROR, "cannot make %s", dir);
        return NULL;
    }
    if (!up_directory_is_own(dir, err))
        return NULL;
    return xasprintf("ipc://%s/up", dir);
}

/* mkdir -p, the new ones with mode 0700. */
static int make_directories(const char *path, struct err *err)
{
    AUTO_FREE char *p = xstrdup(path);
    for (char *at = p + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(p, 0700) < 0 && errno != EEXIST)
            return err_sys(err, TM_ERROR, "cannot make %s", p);
        *at = end;
        if (end == '\0')
            return 0;
    }
}

static char *own_state(struct err *err)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && state[0] == '/')
        return xasprintf("%s/tidemill", state);
    if (home && home[0] == '/')
        return xasprintf("%s/.local/state/tidemill", home);
    err_set(err, TM_USAGE, "no state directory: neither XDG_STATE_HOME nor HOME is set");
    err_hint(err, "--state DIR");
    return NULL;
}

int tm_up_start(const struct tm_up_options *opts, struct tm_up **ret,
                struct tm_error *terr)
{
    static const struct tm_up_options defaults;
    static const char ipc[] = "ipc://";
    const struct tm_up_options *o = opts ? opts : &defaults;
    struct err err;
    AUTO_FREE char *listen = o->listen ? xstrdup(o->listen) : own_endpoint(&err);
    if (!listen)
        return error_out(terr, &err);
    AUTO_FREE char *state = o->state_dir ? xstrdup(o->state_dir) : own_state(&err);
    if (!state || make_directories(state, &err) < 0)
        return error_out(terr, &err);
    if (link_endpoint_check(listen, false, &err) < 0) {
        err_hint(&err, "up is for this host: tcp://127.0.0.1:PORT; for others there is "
                       "tidemill-coordinator, with keys (tidemill-coordinator init)");
        return error_out(terr, &err);
    }
    if (strncmp(listen, ipc, sizeof(ipc) - 1) == 0 &&
        up_listens(listen + sizeof(ipc) - 1)) {
        err_set(&err, TM_ERROR, "a coordinator listens at %s already", listen);
        return error_out(terr, &err);
    }
    struct pair_options po = {
        .bin_dir = o->bin_dir,
        .listen = listen,
        .state_dir = state,
        .roots = o->roots,
        .procs = o->procs,
        .coroutines = o->coroutines,
        .identity = o->identity,
        .identity_len = o->identity_len,
    };
    struct pair *pair;
    if (pair_start(&po, &pair, &err) < 0)
        return error_out(terr, &err);
    *ret = xcalloc(1, sizeof(**ret));
    (*ret)->pair = pair;
    return 0;
}

const char *tm_up_endpoint(const struct tm_up *up)
{
    return pair_endpoint(up->pair);
}

int tm_up_wait(struct tm_up *up, int64_t timeout_ns, struct tm_error *terr)
{
    struct err err;
    int64_t now = clock_mono_ns();
    int64_t most = MIN(timeout_ns, NS_PER_S);
    for (int64_t until = now + most;;) {
        if (pair_check(up->pair, &err) < 0)
            return error_out(terr, &err);
        now = clock_mono_ns();
        if (now >= until)
            return TM_AGAIN;
        struct timespec pause = { 0, MIN(LOOK_NS, until - now) };
        if (nanosleep(&pause, NULL) < 0 && errno == EINTR)
            return TM_AGAIN;
    }
}

void tm_up_stop(struct tm_up *up)
{
    if (!up)
        return;
    pair_free(up->pair, SIGTERM);
    free(up);
}
