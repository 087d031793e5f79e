#include "client/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crypto.h"
#include "client/dry.h"
#include "client/names.h"
#include "client/walk.h"

extern char **environ;

bool outputs_claim(struct outputs *o, const char *path)
{
    struct span parts[] = { span_str(path), SPAN_LIT("\0"), SPAN_NONE };
    uint8_t digest[DIGEST_BYTES];

    if (!o->force)
        return true;
    if (o->run && o->run->only) /* one path on two nodes is two files */
        parts[2] = span_str(o->run->only);
    crypto_digest(parts, ARRAY_LEN(parts), digest);
    return digests_add(&o->claimed, digest);
}

int outputs_usage(const struct cli_args *call, const char *files_from, const char *output,
                  bool recursive, struct err *err)
{
    const char *name = call->argv[0];
    int from_stdin;

    if (call->n == 0 && !files_from) {
        err_set(err, EXIT_USAGE, "nothing to %s", name);
        return err_hint(err, "tidemill %s %s", name, cli_command(name)->args);
    }
    from_stdin = feed_is_stdin(call->args, call->n, files_from, err);
    if (from_stdin >= 0 && output && (call->n != 1 || files_from || recursive))
        return err_set(err, EXIT_USAGE, "--output is for one input; -o DIR is for many");
    return from_stdin;
}

/* The output of one input as the user would write it; NULL with *why. Caller frees. */
static char *target(struct outputs *o, const char *root, const char *below,
                    const char **why)
{
    AUTO_FREE char *base = NULL;
    char *name;

    if (o->file) {
        *why = "--output is for one input only";
        if (o->used)
            return NULL;
        o->used = true;
        return xstrdup(o->file);
    }
    base = names_target(o->dir, root, below);
    name = o->add_age ? names_add_age(base) : names_drop_age(base);
    *why = "its name does not end in .age (--output names the file)";
    return name;
}

int outputs_add(void *arg, const char *shown, const char *abs, const char *root,
                const char *below, uint64_t size)
{
    struct outputs *o = arg;
    const char *why = NULL;
    AUTO_FREE char *name = target(o, root, below, &why);
    AUTO_FREE char *out = name ? walk_absolute(name) : NULL;

    if (!out) {
        run_refuse(o->run, shown, why);
        return o->run->stop ? -1 : 0;
    }
    if (!outputs_claim(o, out)) {
        AUTO_FREE char *text = xasprintf("another input goes to %s too", name);
        run_refuse(o->run, shown, text);
        return o->run->stop ? -1 : 0;
    }
    struct tm_input in = { .path = abs, .shown = shown, .out = out, .size = size };
    return run_add(o->run, &in);
}

void outputs_fini(struct outputs *o)
{
    digests_fini(&o->claimed);
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_ERROR;
}

int stream_run(const char *op, const char *const *args, struct span identity)
{
    const char *argv[512] = { "tidemill-worker", "--stream", op };
    AUTO_FREE char *path = NULL;
    char fd_text[16];
    struct tm_error err = { 0 };
    size_t n = 3;
    pid_t pid;
    int fd = -1, rc;

    if (cli_common_now()->dry_run) {
        dry_print(SPAN_LIT("-"), SPAN_LIT("-"));
        return EXIT_OK;
    }
    if (tm_find_program("tidemill-worker", NULL, &path, &err) < 0)
        return cli_tm_error(&err);
    for (; *args && n < ARRAY_LEN(argv) - 3; args++)
        argv[n++] = *args;
    if (identity.len) { /* never in arguments or environment */
        fd = memfd_create("tidemill-identity", 0);
        CHECK(fd >= 0 && write(fd, identity.data, identity.len) == (ssize_t)identity.len);
        snprintf(fd_text, sizeof(fd_text), "%d", fd);
        argv[n++] = "--identity-fd";
        argv[n++] = fd_text;
    }
    argv[n] = NULL;
    rc = posix_spawn(&pid, path, NULL, NULL, (char **)argv, environ);
    if (fd >= 0)
        close(fd);
    if (rc != 0) {
        struct err e = { 0 };
        errno = rc;
        err_sys(&e, EXIT_ERROR, "cannot start %s", path);
        return cli_error(&e);
    }
    return wait_for(pid);
}
