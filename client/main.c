/* tidemill: the table of commands. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/crypto.h"
#include "base/nearest.h"
#include "client/cmd.h"

const struct command commands[] = {
    { "hash", "[OPTIONS] PATH...", "Print digests of files, or check them (-c)", cmd_hash,
      true },
    { "encrypt", "-r RECIPIENT [OPTIONS] PATH...", "Encrypt files to age recipients",
      cmd_encrypt, true },
    { "decrypt", "-i IDENTITY [OPTIONS] PATH...", "Decrypt age files", cmd_decrypt,
      true },
    { "fetch", "[OPTIONS] URL...", "Fetch URLs, digest and store what comes", cmd_fetch,
      true },
    { "wait", "JOB...", "Wait until jobs have ended", cmd_wait, false },
    { "results", "JOB", "Print a job's results as its command would have", cmd_results,
      false },
    { "watch", "JOB", "Show a job's progress until it ends", cmd_watch, false },
    { "explain", "JOB...", "Say why jobs wait", cmd_explain, false },
    { "job", "ls | show | cancel | pause | resume | retry | rm [JOB...]",
      "List jobs; show, cancel, pause, resume, retry or remove them", cmd_job, false },
    { "node", "ls | show | drain | undrain [NODE...]",
      "List nodes; show them, take them out of work and back", cmd_node, false },
    { "key", "identity | recipient | gen | trust | join | invite | revoke | ls ...",
      "Make age identities; make keys of clients and workers, say whose may come",
      cmd_key, false },
    { "up", "[OPTIONS]", "Run a coordinator and a worker of your own here", cmd_up,
      false },
    { "version", "", "Print the version", cmd_version, false },
    { "help", "[COMMAND]", "Print this text, or a command's", cmd_help, false },
    { NULL, NULL, NULL, NULL, false },
};

/* For commands without options. */
static int usage_alone(const char *name)
{
    const struct command *c = cli_command(name);

    printf("usage: tidemill %s%s%s\n%s.\n", c->name, c->args[0] ? " " : "", c->args,
           c->summary);
    return EXIT_OK;
}

int cmd_version(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return usage_alone("version");
    printf("tidemill %s\n", TM_VERSION);
    return EXIT_OK;
}

static int unknown(const char *name)
{
    const char *names[64];
    size_t n = 0;
    struct err err = { 0 };

    for (const struct command *c = commands; c->name; c++)
        names[n++] = c->name;
    const char *near = nearest(name, names, n);
    err_set(&err, EXIT_USAGE, "unknown command '%s'", name);
    if (near)
        err_hint(&err, "did you mean '%s'?", near);
    else
        err_hint(&err, "tidemill help lists the commands");
    return cli_error(&err);
}

int cmd_help(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return usage_alone("help");
    if (argc > 1) {
        const struct command *c = cli_command(argv[1]);
        char *help[] = { argv[1], "--help", NULL };
        return c ? c->run(2, help) : unknown(argv[1]);
    }
    printf("tidemill hashes, encrypts, decrypts and fetches: on this machine, or on a "
           "cluster.\n\nusage: tidemill COMMAND [OPTIONS] ...\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  %-8s  %s\n", c->name, c->summary);
    printf("\ntidemill help COMMAND tells its options.\n");
    return EXIT_OK;
}

/* Manifests of many nodes are open at once. */
static void allow_files(void)
{
    struct rlimit rl;

    CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
}

int main(int argc, char **argv)
{
    const struct command *c;

    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of its write */
    crypto_init();
    allow_files();
    if (argc < 2) {
        cmd_help(1, argv);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cmd_help(1, argv);
    if (strcmp(argv[1], "--version") == 0)
        return cmd_version(1, argv);
    c = cli_command(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown(argv[1]);
}
