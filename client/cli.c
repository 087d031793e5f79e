#include "client/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/keyfile.h"
#include "base/nearest.h"
#include "client/json.h"
#include "client/sub.h"

#define OFF(field) offsetof(struct common, field)
const struct opt cli_common[] = {
    { "coordinator", 0, OPT_STR, OFF(coordinator), "ENDPOINT", NULL, 0, 0, NULL,
      "the cluster to use; without one, a private one for this command" },
    { "key", 0, OPT_STR, OFF(key), "FILE", NULL, 0, 0, NULL,
      "your key for a cluster on other hosts; client.key beside tidemill.conf by "
      "default" },
    { "known-keys", 0, OPT_STR, OFF(known_keys), "FILE", NULL, 0, 0, NULL,
      "the coordinators' keys; known_keys beside your key by default" },
    { "detach", 'd', OPT_FLAG, OFF(detach), NULL, NULL, 0, 0, NULL,
      "submit everything, print the job's id, leave" },
    { "state", 0, OPT_STR, OFF(state), "DIR", NULL, 0, 0, NULL,
      "without a coordinator: keep the job here and go on with it" },
    { "json", 0, OPT_FLAG, OFF(json), NULL, NULL, 0, 0, NULL, "an object a line" },
    { "quiet", 'q', OPT_FLAG, OFF(quiet), NULL, NULL, 0, 0, NULL,
      "results and errors only" },
    { "verbose", 'v', OPT_FLAG, OFF(verbose), NULL, NULL, 0, 0, NULL, "say more" },
    { "progress", 0, OPT_CHOICE, OFF(progress), "HOW", "auto", 0, 0,
      "auto|bar|plain|json|none", "on standard error" },
    { "color", 0, OPT_CHOICE, OFF(color), "WHEN", "auto", 0, 0, "auto|always|never",
      "of the word error; auto: on a terminal, without NO_COLOR" },
    { "procs", 'j', OPT_INT, OFF(procs), "N", "0", 0, 1024, NULL,
      "without a coordinator: processes; 0 = as many as cores" },
    { "name", 0, OPT_STR, OFF(name), "NAME", NULL, 0, 0, NULL, "the job's name" },
    { "priority", 0, OPT_INT, OFF(priority), "N", "0", -1000, 1000, NULL,
      "higher first" },
    { "retries", 0, OPT_INT, OFF(retries), "N", "3", 0, 100, NULL,
      "of errors that may pass" },
    { "task-timeout", 0, OPT_DURATION, OFF(task_timeout_ns), "TIME", NULL, 0, 0, NULL,
      "for one input in a process" },
    { "deadline", 0, OPT_DURATION, OFF(deadline_ns), "TIME", NULL, 0, 0, NULL,
      "the job is cancelled then" },
    { "dry-run", 0, OPT_FLAG, OFF(dry_run), NULL, NULL, 0, 0, NULL,
      "print the inputs and where their outputs would go, do nothing" },
    { "no-input", 0, OPT_FLAG, OFF(no_input), NULL, NULL, 0, 0, NULL,
      "ask nothing; for scripts that say so everywhere, since nothing asks" },
    { "help", 'h', OPT_FLAG, OFF(help), NULL, NULL, 0, 0, NULL, "this text" },
    { 0 },
};

static struct common now;

const struct common *cli_common_now(void)
{
    return &now;
}

const struct command *cli_command(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static void help(const struct command *cmd, const struct sub *subs, const struct opt *own)
{
    printf("usage: tidemill %s %s\n%s.\n\n", cmd->name, cmd->args, cmd->summary);
    for (const struct sub *s = subs; s && s->name; s++)
        printf("  tidemill %s %s %s\n      %s\n", cmd->name, s->name, s->args,
               s->summary);
    if (subs)
        printf("\nOptions:\n");
    if (own)
        opt_help(own, stdout);
    printf("\nCommon options:\n");
    opt_help(cli_common, stdout);
}

int cli_parse_subs(const struct command *cmd, const struct sub *subs,
                   const struct opt *own, int argc, char **argv, void *target,
                   const char ***ret_args, size_t *ret_n, int *ret_code)
{
    const struct opt *const tables[] = { cli_common, own, NULL };
    AUTO_FREE char *users = keyfile_default("tidemill.conf");
    const char *const files[] = { "tidemill.conf", users ? users : "tidemill.conf",
                                  "/etc/tidemill/tidemill.conf", NULL };
    const struct opt_sources sources = { "TIDEMILL", files };
    struct err err = { 0 };

    if (opt_parse(tables, &sources, argc, argv, target, ret_args, ret_n, &err) < 0) {
        if (!err.hint[0])
            err_hint(&err, "tidemill %s --help", cmd->name);
        now.json = ((struct common *)target)->json;
        *ret_code = cli_error(&err);
        return -1;
    }
    now = *(struct common *)target;
    /* Environment and files are tm_find_coordinator's to read: it says where from. */
    if (strcmp(opt_origin(&cli_common[0], target), "--coordinator") != 0)
        now.coordinator = NULL;
    if (now.help) {
        help(cmd, subs, own);
        *ret_code = EXIT_OK;
        return -1;
    }
    if (now.dry_run && !cmd->can_dry_run) { /* it must not be taken for a rehearsal */
        err_set(&err, EXIT_USAGE, "%s has no --dry-run", cmd->name);
        *ret_code = cli_error(&err);
        return -1;
    }
    return 0;
}

int cli_call(const char *name, const struct opt *own, int argc, char **argv,
             void *options, int (*fn)(void *options, const struct cli_args *call))
{
    const char **args = NULL;
    size_t n = 0;
    int code = 0;

    if (cli_parse_subs(cli_command(name), NULL, own, argc, argv, options, &args, &n,
                       &code) == 0)
        code = fn(options, &(struct cli_args){ args, n, argc, argv });
    free(args);
    opt_fini((const struct opt *const[]){ cli_common, own, NULL }, options);
    return code;
}

/* ---- errors ---- */

/* Of standard error (https://no-color.org). */
static bool colored(void)
{
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

    if (!now.color || strcmp(now.color, "auto") == 0)
        return isatty(STDERR_FILENO) && !(no && no[0]) &&
               !(term && strcmp(term, "dumb") == 0);
    return strcmp(now.color, "always") == 0;
}

struct err cli_err_of(const struct tm_error *e)
{
    struct err err = { .code = e->code };

    snprintf(err.text, sizeof(err.text), "%s", e->text);
    snprintf(err.hint, sizeof(err.hint), "%s", e->hint);
    return err;
}

int cli_error(const struct err *err)
{
    int code = err->code ? err->code : EXIT_ERROR;

    if (now.json) {
        AUTO_BUF out = BUF_INIT;
        json_open(&out);
        json_uint(&out, "v", 1);
        json_text(&out, "error", span_str(err->text));
        if (err->hint[0])
            json_text(&out, "hint", span_str(err->hint));
        json_uint(&out, "code", (uint64_t)code);
        json_close(&out);
        fprintf(stderr, "%s\n", buf_str(&out));
        return code;
    }
    fprintf(stderr, "tidemill: %s %s\n",
            colored() ? "\033[1;31merror:\033[0m" : "error:", err->text);
    if (err->hint[0])
        fprintf(stderr, "  hint: %s\n", err->hint);
    return code;
}

int cli_tm_error(const struct tm_error *e)
{
    struct err err = cli_err_of(e);

    if (err.code == TM_TOO_LARGE) /* no exit code */
        err.code = EXIT_ERROR;
    return cli_error(&err);
}

/* What a stranger wrote must not forge lines or drive the terminal. */
static void add_escaped(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_add_u8(out, c);
    }
}

void cli_input_error(const void *name, size_t len, const char *why)
{
    AUTO_BUF line = BUF_INIT;

    buf_printf(&line, "tidemill: ");
    add_escaped(&line, span_of(name, len));
    buf_printf(&line, ": ");
    add_escaped(&line, span_str(why));
    buf_printf(&line, "\n");
    fwrite(line.data, 1, line.len, stderr);
}

void cli_note(const char *fmt, ...)
{
    va_list ap;

    if (now.quiet)
        return;
    fputs("tidemill: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- the cluster ---- */

int cli_open(struct tm_open_options *opts, struct opened *ret, struct tm_error *err)
{
    *ret = (struct opened){ 0 };
    if (tm_find_coordinator(now.coordinator, &ret->endpoint, &ret->origin, err) < 0)
        return -1;
    opts->coordinator = ret->endpoint;
    opts->state_dir = now.state;
    opts->key_file = now.key;
    opts->known_keys = now.known_keys;
    opts->procs = (uint32_t)now.procs;
    if (ret->endpoint && now.state) {
        snprintf(err->text, sizeof(err->text),
                 "--state is for a private cluster, but there is a coordinator (%s)",
                 ret->origin);
        snprintf(err->hint, sizeof(err->hint), "its jobs are kept anyway");
        err->code = EXIT_USAGE;
        return -1;
    }
    if (!ret->endpoint && now.detach) {
        snprintf(err->text, sizeof(err->text), "-d needs a coordinator that stays");
        snprintf(err->hint, sizeof(err->hint), "start one: tidemill up");
        err->code = EXIT_USAGE;
        return -1;
    }
    if (ret->endpoint && strncmp(ret->endpoint, "tcp:", 4) == 0)
        crypto_no_core(); /* a key may be read */
    if (tm_open(opts, &ret->tm, err) == 0)
        return 0;
    if (ret->endpoint) {
        AUTO_FREE char *hint = xstrdup(err->hint);
        snprintf(err->hint, sizeof(err->hint), "the address came from %s%s%.200s",
                 ret->origin, hint[0] ? "; " : "", hint);
    }
    return -1;
}

int cli_open_private(struct tm_open_options *opts, struct opened *ret,
                     struct tm_error *err)
{
    *ret = (struct opened){ 0 };
    opts->procs = (uint32_t)now.procs;
    return tm_open(opts, &ret->tm, err);
}

int cli_open_cluster(const char *what, struct opened *ret, struct tm_error *err)
{
    struct tm_open_options opts = { 0 };

    *ret = (struct opened){ 0 };
    if (tm_find_coordinator(now.coordinator, &ret->endpoint, &ret->origin, err) < 0)
        return -1;
    if (!ret->endpoint) {
        snprintf(err->text, sizeof(err->text), "%s needs a coordinator", what);
        snprintf(err->hint, sizeof(err->hint),
                 "start one with tidemill up, or name it with --coordinator");
        err->code = EXIT_USAGE;
        return -1;
    }
    free(ret->endpoint);
    free(ret->origin);
    return cli_open(&opts, ret, err);
}

void cli_close(struct opened *o)
{
    tm_close(o->tm);
    free(o->endpoint);
    free(o->origin);
}

/* ---- jobs by name ---- */

int cli_job_id(const char *text, uint64_t *ret)
{
    char *end;

    if (*text == 'j')
        text++;
    if (*text < '0' || *text > '9')
        return -1;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *end || errno ? -1 : 0;
}

static int usage(struct tm_error *err, const char *selector)
{
    snprintf(err->text, sizeof(err->text), "not a job: '%s'", selector);
    snprintf(err->hint, sizeof(err->hint), "a job is j41, 41, last, 3-5 or all");
    err->code = EXIT_USAGE;
    return -1;
}

/* Which ids a selector means; *ret_set: those of them that are fit. */
static int parse_selector(const char *selector, uint64_t *lo, uint64_t *hi, bool *ret_set,
                          struct tm_error *err)
{
    *lo = 0;
    *hi = UINT64_MAX;
    *ret_set = strcmp(selector, "all") == 0;
    if (*ret_set || strcmp(selector, "last") == 0)
        return 0;
    AUTO_FREE char *copy = xstrdup(selector);
    char *dash = strchr(copy, '-');
    if (dash)
        *dash++ = 0;
    *ret_set = dash != NULL;
    if (cli_job_id(copy, lo) < 0 || cli_job_id(dash ? dash : copy, hi) < 0 || *lo > *hi)
        return usage(err, selector);
    return 0;
}

static bool is_fit(const struct tm_rows *rows, enum select_which which)
{
    bool ended = tm_rows_uint(rows, "state_code") >= TM_DONE;

    if (which == SELECT_FAILED)
        return ended && tm_rows_uint(rows, "ok") < tm_rows_uint(rows, "tasks");
    return which == SELECT_ANY || ended == (which == SELECT_ENDED);
}

/* A part of another job, which nobody asked for. */
static bool is_walk(const struct tm_rows *rows)
{
    struct tm_bytes command = tm_rows_text(rows, "command");

    return span_eq(span_of(command.data, command.len), SPAN_LIT("walk"));
}

int cli_select(struct tm *tm, const char *selector, enum select_which which,
               uint64_t **ret, size_t *ret_n, struct tm_error *err)
{
    uint64_t lo, hi, *ids;
    struct tm_rows *rows;
    bool set, last = strcmp(selector, "last") == 0;
    size_t n = 0;

    if (parse_selector(selector, &lo, &hi, &set, err) < 0 ||
        tm_query(tm, lo == hi ? "job" : "jobs", lo == hi ? lo : 0, &rows, err) < 0)
        return -1;
    ids = xcalloc(tm_rows_count(rows) + 1, sizeof(*ids));
    while (tm_rows_next(rows)) {
        uint64_t id = tm_rows_uint(rows, "id");
        if (last && is_walk(rows))
            continue;
        if (id >= lo && id <= hi && (!set || is_fit(rows, which)))
            ids[n++] = id;
    }
    tm_rows_free(rows);
    if (n == 0) {
        static const char *const kinds[] = { "such job", "such job that runs",
                                             "such job that has ended",
                                             "such job of which something failed" };
        free(ids);
        snprintf(err->text, sizeof(err->text), "no %s: %.500s",
                 kinds[set ? which : SELECT_ANY], selector);
        snprintf(err->hint, sizeof(err->hint), "tidemill job ls");
        err->code = EXIT_NOTHING;
        return -1;
    }
    if (last) {
        ids[0] = ids[n - 1];
        n = 1;
    }
    *ret = ids;
    *ret_n = n;
    return 0;
}

/* ---- small things ---- */

int cli_read_file(const char *path, size_t max, struct buf *out, struct err *err)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return err_sys(err, 1, "%s", path);
    while ((n = read(fd, buf_reserve(out, 64 * KIB), 64 * KIB)) > 0 && out->len <= max)
        out->len += (size_t)n;
    if (n < 0)
        err_sys(err, 1, "%s", path);
    else if (out->len > max)
        n = err_set(err, 2, "%s: longer than %zu bytes", path, max);
    if (fd != STDIN_FILENO)
        close(fd);
    return n < 0 ? -1 : 0;
}

const char *cli_count(uint64_t n, char text[32])
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}
