#include "client/sub.h"

#include "base/nearest.h"
#include "client/rows.h"

enum { SUBS_MAX = 16 };
const char sub_alone[] = "";

static const struct sub *find(const struct sub *subs, const char *name)
{
    for (const struct sub *s = subs; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

static int what(const char *command, const struct sub *subs, const char *name,
                struct err *err)
{
    const char *names[SUBS_MAX];
    AUTO_BUF list = BUF_INIT;
    size_t n = 0;

    for (const struct sub *s = subs; s->name; s++) {
        CHECK(n < SUBS_MAX);
        names[n++] = s->name;
        buf_printf(&list, "%s%s", list.len ? ", " : "", s->name);
    }
    if (!name)
        err_set(err, EXIT_USAGE, "%s what?", command);
    else
        err_set(err, EXIT_USAGE, "unknown command '%s %s'", command, name);
    const char *near = name ? nearest(name, names, n) : NULL;
    if (near)
        return err_hint(err, "did you mean '%s %s'?", command, near);
    return err_hint(err, "tidemill %s: %s", command, buf_str(&list));
}

/* -1: an option of the command that is not this subcommand's was given. One from the
 * environment or a file is meant for those that know it. */
static int check_options(const char *command, const struct sub *sub,
                         const struct opt *own, const void *options, struct err *err)
{
    for (const struct opt *o = own; o && o->name; o++) {
        AUTO_FREE char *word = xasprintf("|%s|", o->name);
        AUTO_FREE char *flag = xasprintf("--%s", o->name);
        if ((sub->takes && strstr(sub->takes, word)) ||
            strcmp(opt_origin(o, options), flag) != 0)
            continue;
        err_set(err, EXIT_USAGE, "%s is not an option of %s %s", flag, command,
                sub->name);
        return err_hint(err, "tidemill %s --help", command);
    }
    return 0;
}

static int run(const struct sub *sub, const char *command, const void *options,
               const char *const *args, size_t n)
{
    AUTO_FREE char *name = xasprintf("tidemill %s", command);
    struct opened opened = { 0 };
    struct tm_error err = { 0 };
    int code;

    if (sub->how != sub_alone && cli_open_cluster(name, &opened, &err) < 0) {
        code = cli_tm_error(&err);
    } else {
        struct call call = { opened.tm, sub, options, cli_common_now()->json };
        code = sub->run(&call, args, n);
    }
    cli_close(&opened);
    return code;
}

static int choose(const char *command, const struct sub *subs, const struct opt *own,
                  const void *options, const char *const *args, size_t n)
{
    struct err err = { 0 };
    const struct sub *sub = n ? find(subs, args[0]) : NULL;

    if (!sub) {
        what(command, subs, n ? args[0] : NULL, &err);
        return cli_error(&err);
    }
    if (n - 1 < sub->min || n - 1 > sub->max) {
        err_set(&err, EXIT_USAGE, "usage: tidemill %s %s %s", command, sub->name,
                sub->args);
        return cli_error(&err);
    }
    if (check_options(command, sub, own, options, &err) < 0)
        return cli_error(&err);
    return run(sub, command, options, args + 1, n - 1);
}

int sub_run(const char *command, const struct sub *subs, const struct opt *own,
            void *options, int argc, char **argv)
{
    const struct opt *const tables[] = { cli_common, own, NULL };
    const char **args = NULL;
    size_t n = 0;
    int code = 0;

    if (cli_parse_subs(cli_command(command), subs, own, argc, argv, options, &args, &n,
                       &code) == 0)
        code = choose(command, subs, own, options, args, n);
    free(args);
    opt_fini(tables, options);
    return code;
}

int sub_table(const struct call *call, const char *what, const char *heading,
              void (*line)(const struct tm_rows *rows))
{
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(call->tm, what, 0, &rows, &err) < 0)
        return cli_tm_error(&err);
    if (!call->json)
        puts(heading);
    while (tm_rows_next(rows)) {
        if (call->json)
            row_json(rows);
        else
            line(rows);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}
