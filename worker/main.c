/* tidemill-worker: options, signals, life. With --mill it is one process of the pool. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/opt.h"
#include "proto/enrol.h"
#include "proto/select.h"
#include "worker/cores.h"
#include "worker/litter.h"
#include "worker/node.h"
#include "worker/procpool.h"
#include "worker/stream.h"

/* Descriptors. A transfer has a connection and the file of a long body. A mill has two
 * events, a socket and itself, copies of the bodies it was given, and two to spare while
 * it starts. Beside: connections kept for later, sockets of the resolver and of ZeroMQ,
 * files that threads sync. */
enum {
    FILES_A_TRANSFER = 2,
    FILES_A_MILL = 6 + PROCPOOL_AHEAD,
    FILES_A_THREAD = 3, /* a file, its directory, a copy */
    FILES_BESIDE = 240,
    COROUTINES_DEFAULT = 1024
};

struct options {
    const char *join, *key, *known_keys, *name, *spool, *loop, *log_level, *stream;
    struct opt_list roots, identities, recipients, labels;
    int64_t procs, coroutines, threads, identity_fd, lifeline_fd;
    struct opt_list scratch;
    bool armor, ephemeral, sweep, help, version;
    char *endpoint; /* of the invitation; owned */
};

#define OFF(field) offsetof(struct options, field)
static const struct opt table[] = {
    { "join", 0, OPT_STR, OFF(join), "ENDPOINT", NULL, 0, 0, NULL,
      "the coordinator: ipc:///path or tcp://HOST:PORT; or an invitation, or @FILE that "
      "holds one" },
    { "key", 0, OPT_STR, OFF(key), "FILE", NULL, 0, 0, NULL,
      "this worker's key; ~/.config/tidemill/worker.key by default" },
    { "known-keys", 0, OPT_STR, OFF(known_keys), "FILE", NULL, 0, 0, NULL,
      "the coordinators' keys; known_keys beside the key by default" },
    { "root", 0, OPT_LIST, OFF(roots), "DIR[:ro]", NULL, 0, 0, NULL,
      "directory whose files it may use; repeatable; none = no files" },
    { "procs", 0, OPT_INT, OFF(procs), "N", "0", 0, 1024, NULL,
      "processes that hash and encrypt; 0 = as many as it may use cores" },
    { "coroutines", 0, OPT_INT, OFF(coroutines), "N", "-1", -1, 100000, NULL,
      "transfers at once; -1 = 1024, or what the descriptors allow" },
    { "threads", 0, OPT_INT, OFF(threads), "N", "4", 1, 256, NULL,
      "threads for blocking disk calls" },
    { "name", 0, OPT_STR, OFF(name), "NAME", NULL, 0, 0, NULL,
      "how it is called in tidemill node ls; the host's name by default" },
    { "label", 0, OPT_LIST, OFF(labels), "KEY=VALUE", NULL, 0, 0, NULL,
      "what jobs can ask for by --on; repeatable" },
    { "identity", 0, OPT_LIST, OFF(identities), "FILE", NULL, 0, 0, NULL,
      "age identities it may decrypt with; repeatable" },
    { "spool", 0, OPT_STR, OFF(spool), "DIR", "/var/tmp", 0, 0, NULL,
      "where large fetched bodies are kept for a while" },
    { "loop", 0, OPT_CHOICE, OFF(loop), "BACKEND", "auto", 0, 0, "auto|select|poll|epoll",
      "what the event loop waits with" },
    { "log-level", 0, OPT_CHOICE, OFF(log_level), "LEVEL", "info", 0, 0,
      "error|warn|info|debug", "what is written to stderr" },
    { "stream", 0, OPT_CHOICE, OFF(stream), "OP", NULL, 0, 0, "encrypt|decrypt",
      "no node: standard input to standard output" },
    { "recipient", 0, OPT_LIST, OFF(recipients), "age1...", NULL, 0, 0, NULL,
      "with --stream encrypt: for whom; repeatable" },
    { "armor", 0, OPT_FLAG, OFF(armor), NULL, NULL, 0, 0, NULL,
      "with --stream encrypt: as text" },
    { "identity-fd", 0, OPT_INT, OFF(identity_fd), "FD", "-1", -1, 1 << 20, NULL,
      "as --identity, from a descriptor" },
    { "lifeline-fd", 0, OPT_INT, OFF(lifeline_fd), "FD", "-1", -1, 1 << 20, NULL,
      "end when this descriptor is closed at its other end" },
    { "ephemeral", 0, OPT_FLAG, OFF(ephemeral), NULL, NULL, 0, 0, NULL,
      "its coordinator ends with it: leave nothing for later" },
    { "scratch", 0, OPT_LIST, OFF(scratch), "FILE", NULL, 0, 0, NULL,
      "remove this file at the end" },
    { "sweep", 0, OPT_FLAG, OFF(sweep), NULL, NULL, 0, 0, NULL,
      "no node: remove what killed ephemeral workers left behind" },
    { "help", 'h', OPT_FLAG, OFF(help), NULL, NULL, 0, 0, NULL, "this text" },
    { "version", 0, OPT_FLAG, OFF(version), NULL, NULL, 0, 0, NULL, "name and version" },
    { 0 },
};
static const struct opt *const tables[] = { table, NULL };

struct run {
    struct loop *loop;
    struct node *node;
};

static void on_term(void *arg)
{
    notify("STOPPING=1");
    node_stop(((struct run *)arg)->node);
}

static void on_lifeline(void *arg, int events)
{
    (void)events; /* it is never written to: the other end is closed */
    loop_stop(((struct run *)arg)->loop);
}

static int complain(const struct err *err)
{
    if (err->code == STREAM_FAILED) { /* the client's own line about its input */
        fprintf(stderr, "tidemill: -: %s\n", err->text);
        return err->code;
    }
    fprintf(stderr, "tidemill-worker: error: %s\n", err->text);
    if (err->hint[0])
        fprintf(stderr, "  hint: %s\n", err->hint);
    return err->code ? err->code : 1;
}

/* ---- identities ---- */

static int slurp(int fd, struct buf *out, const char *name, struct err *err)
{
    ssize_t n;

    while ((n = read(fd, buf_reserve(out, 4 * KIB), 4 * KIB)) > 0) {
        out->len += (size_t)n;
        if (out->len > MIB)
            return err_set(err, 2, "%s: too long for an identity file", name);
    }
    return n < 0 ? err_sys(err, 2, "%s", name) : 0;
}

static int read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? err_sys(err, 2, "--identity %s", path) : slurp(fd, out, path, err);

    if (fd >= 0)
        close(fd);
    buf_add_u8(out, '\n');
    return rc;
}

/* All identities as one text; empty when there are none. */
static int read_identities(const struct options *o, struct buf *text, struct err *err)
{
    for (size_t i = 0; i < o->identities.n; i++)
        if (read_file(o->identities.items[i], text, err) < 0)
            return -1;
    if (o->identity_fd < 0)
        return 0;
    lseek((int)o->identity_fd, 0, SEEK_SET); /* a pipe stays where it is */
    return slurp((int)o->identity_fd, text, "--identity-fd", err);
}

/* What the mills read: a file in memory. -1 = no identities. */
static int identities_fd(const struct buf *text)
{
    int fd;

    if (text->len == 0)
        return -1;
    fd = memfd_create("tidemill-identities", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text->data, text->len) == (ssize_t)text->len);
    return fd;
}

/* ---- node ---- */

/* How many transfers the descriptors allow; raises their limit as far as it goes. */
static int coroutines(const struct options *o, uint32_t procs, uint32_t *ret,
                      struct err *err)
{
    int64_t beside =
        FILES_BESIDE + (int64_t)procs * FILES_A_MILL + o->threads * FILES_A_THREAD;
    int64_t room;
    struct rlimit rl;

    CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    room = ((int64_t)MIN(rl.rlim_max, 1u << 30) - beside) / FILES_A_TRANSFER;
    if (o->coroutines < 0) {
        *ret = (uint32_t)MAX(0, MIN(room, COROUTINES_DEFAULT));
        return 0;
    }
    if (o->coroutines > room) {
        err_set(err, 2, "%lld coroutines need %lld file descriptors; the limit is %lld",
                (long long)o->coroutines,
                (long long)(o->coroutines * FILES_A_TRANSFER + beside),
                (long long)rl.rlim_max);
        return err_hint(err, "raise LimitNOFILE or ulimit -n, or --coroutines %lld",
                        (long long)MAX(room, 0));
    }
    *ret = (uint32_t)o->coroutines;
    return 0;
}

static int serve(const struct options *o, const struct node_config *config,
                 struct err *err)
{
    struct run run = { NULL, NULL };
    struct loop_io *lifeline = NULL;
    enum loop_backend backend;
    int rc = -1;

    loop_backend_parse(o->loop, &backend);
    if (loop_new(backend, &run.loop, err) < 0)
        return -1;
    if (node_new(run.loop, config, &run.node, err) == 0) {
        struct loop_signal *term = loop_signal_new(run.loop, SIGTERM, on_term, &run);
        struct loop_signal *intr = loop_signal_new(run.loop, SIGINT, on_term, &run);
        if (o->lifeline_fd >= 0)
            lifeline =
                loop_io_new(run.loop, (int)o->lifeline_fd, LOOP_READ, on_lifeline, &run);
        /* It works on as soon as there is a coordinator, and need not be started again.
         */
        notify("READY=1");
        loop_run(run.loop);
        loop_io_free(lifeline);
        loop_signal_free(term);
        loop_signal_free(intr);
        rc = 0;
        if (node_failure(run.node)) {
            *err = *node_failure(run.node);
            rc = -1;
        }
        node_free(run.node);
    }
    loop_free(run.loop);
    return rc;
}

/* Its name and labels, checked. */
static int presentation(const struct options *o, char host[256], struct buf *labels,
                        struct node_config *config, struct err *err)
{
    gethostname(host, 255);
    config->name = o->name ? o->name : host;
    if (select_check_name(span_str(config->name), err) < 0)
        return -1;
    for (size_t i = 0; i < o->labels.n; i++) {
        struct span label = span_str(o->labels.items[i]);
        if (select_check_label(label, err) < 0)
            return err_prefix(err, "--label");
        buf_printf(labels, "%s%s", labels->len ? "\n" : "", o->labels.items[i]);
    }
    if (labels->len > WIRE_LABELS_MAX)
        return err_set(err, 2, "labels of %zu bytes, at most %d", labels->len,
                       WIRE_LABELS_MAX);
    config->labels = buf_span(labels);
    return 0;
}

/* ---- keys ---- */

/* An invitation is as good as a key: it is to be seen no longer in /proc, of this process
 * or of a mill. (One that stands in a file is that file's.) */
static void hide_invitation(const char *word)
{
    char *environment = getenv("TIDEMILL_JOIN");

    if (environment && invite_is(environment)) {
        crypto_zero(environment, strlen(environment));
        unsetenv("TIDEMILL_JOIN");
    }
    if (invite_is(word)) /* in argv, or a copy of our own */
        crypto_zero((char *)(uintptr_t)word, strlen(word));
}

static int enrol_by(struct options *o, const char *name, struct err *err)
{
    AUTO_FREE char *key = o->key ? xstrdup(o->key) : keyfile_default("worker.key");
    AUTO_FREE char *pins = key && !o->known_keys ? pins_beside(key) : NULL;
    struct invite invite;
    AUTO_FREE char *called = NULL;
    int rc;

    if (!key)
        return err_set(err, 2, "no --key FILE, and HOME is not set");
    rc = invite_read(o->join, &invite, err);
    hide_invitation(o->join);
    if (rc < 0)
        return err_prefix(err, "--join");
    struct enrol e = { .invite = &invite,
                       .key_path = key,
                       .pins_path = pins ? pins : o->known_keys,
                       .name = name };
    rc = enrol(&e, &called, err);
    if (rc == 0) {
        if (called)
            log_info("enrolled", "coordinator=%s name=%s key=%s", invite.endpoint, called,
                     key);
        o->endpoint = xstrdup(invite.endpoint);
    }
    invite_fini(&invite);
    return rc;
}

/* Where to, and with which key. */
static int open_keys(struct options *o, const char *name, struct keyring *ret,
                     struct err *err)
{
    bool invited = o->join && (o->join[0] == '@' || invite_is(o->join));

    if (!o->join) {
        err_set(err, 2, "no --join ENDPOINT");
        return err_hint(err, "the endpoint that the coordinator listens on");
    }
    if (invited && enrol_by(o, name, err) < 0)
        return -1;
    return keyring_open(o->endpoint ? o->endpoint : o->join, o->key, o->known_keys,
                        "worker.key", ret, err);
}

static int run_node(struct options *o, struct err *err)
{
    struct keyring keyring = { .endpoint = NULL };
    struct node_config config = { .keyring = &keyring,
                                  .procs =
                                      (uint32_t)(o->procs ? o->procs : cores_usable()),
                                  .threads = (uint32_t)o->threads,
                                  .identity_fd = -1,
                                  .spool_dir = o->spool,
                                  .ephemeral = o->ephemeral };
    AUTO_FREE const char **roots = xcalloc(o->roots.n + 1, sizeof(*roots));
    AUTO_BUF text = BUF_INIT, recipients = BUF_INIT, labels = BUF_INIT;
    struct age_identities *ids = NULL;
    char host[256] = "worker";
    int rc;

    if (presentation(o, host, &labels, &config, err) < 0 ||
        coroutines(o, config.procs, &config.coroutines, err) < 0 ||
        read_identities(o, &text, err) < 0)
        return -1;
    if (text.len) {
        if (age_identities_new(buf_span(&text), &ids, err) < 0)
            return err_prefix(err, "--identity");
        age_identities_recipients(ids, &recipients);
        age_identities_free(ids);
        config.recipients = buf_span(&recipients);
        config.identity_fd = identities_fd(&text);
        crypto_zero(text.data, text.cap);
    }
    if (o->roots.n)
        memcpy(roots, o->roots.items, o->roots.n * sizeof(*roots));
    config.roots = roots;
    rc = open_keys(o, config.name, &keyring, err);
    config.join = keyring.endpoint;
    if (rc == 0)
        rc = serve(o, &config, err);
    keyring_fini(&keyring);
    for (size_t i = 0; i < o->scratch.n; i++)
        unlink(o->scratch.items[i]);
    if (config.identity_fd >= 0)
        close(config.identity_fd);
    return rc;
}

static int run_sweep(const struct options *o, struct err *err)
{
    struct litter *l;

    if (litter_new(o->spool, NULL, &l, err) < 0)
        return -1;
    litter_sweep(l);
    litter_free(l, false);
    return 0;
}

static int run_stream(const struct options *o, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    struct age_identities *ids = NULL;
    AUTO_FREE struct span *to = xcalloc(o->recipients.n + 1, sizeof(*to));
    int rc;

    if (strcmp(o->stream, "encrypt") == 0) {
        for (size_t i = 0; i < o->recipients.n; i++)
            to[i] = span_str(o->recipients.items[i]);
        return stream_encrypt(to, o->recipients.n, o->armor, err);
    }
    if (read_identities(o, &text, err) < 0 ||
        age_identities_new(buf_span(&text), &ids, err) < 0)
        return err_prefix(err, "--identity");
    crypto_zero(text.data, text.cap);
    rc = stream_decrypt(ids, err);
    age_identities_free(ids);
    return rc;
}

/* What --help or --version asks for. */
static void say(const struct options *o)
{
    if (o->version) {
        printf("tidemill-worker %s\n", TM_VERSION);
        return;
    }
    printf("usage: tidemill-worker --join ENDPOINT|INVITE [--root DIR]...\n\n");
    opt_help(table, stdout);
}

int main(int argc, char **argv)
{
    static const char *const files[] = { "/etc/tidemill/worker.conf", NULL };
    const struct opt_sources sources = { "TIDEMILL", files };
    struct options o = { 0 };
    const char **args = NULL;
    enum log_level level;
    struct err err = { 0 };
    size_t n_args = 0;
    int rc;

    if (argc > 1 && strcmp(argv[1], "--mill") == 0)
        return mill_main(argc, argv);
    memory_keep();
    signal(SIGPIPE, SIG_IGN);
    crypto_no_core();
    crypto_init();
    rc = opt_parse(tables, &sources, argc, argv, &o, &args, &n_args, &err);
    if (rc == 0 && (o.help || o.version)) {
        say(&o);
        goto out;
    }
    if (rc == 0 && n_args)
        rc = err_set(&err, 2, "unexpected argument '%s'", args[0]);
    if (rc == 0) {
        log_level_parse(o.log_level, &level);
        log_init("tidemill-worker", level);
        rc = o.stream  ? run_stream(&o, &err)
             : o.sweep ? run_sweep(&o, &err)
                       : run_node(&o, &err);
    }
out:
    free(args);
    free(o.endpoint);
    opt_fini(tables, &o);
    return rc < 0 ? complain(&err) : 0;
}
