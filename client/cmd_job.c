/* tidemill job: what jobs there are, what is known of one, ending them, removing them. */
#include <time.h>

#include "client/cmd.h"
#include "client/json.h"

static struct span text_of(struct tm_bytes b)
{
    return span_of(b.data, b.len);
}

/* Any row of an answer as a JSON object; bytes that are no text are left out. */
static void row_json(const struct tm_rows *rows)
{
    AUTO_BUF out = BUF_INIT;

    json_open(&out);
    json_uint(&out, "v", 1);
    for (size_t i = 0; i < tm_rows_fields(rows); i++) {
        struct tm_bytes k;
        struct tm_value v;
        tm_rows_field(rows, i, &k, &v);
        AUTO_FREE char *key = span_dup(text_of(k));
        if (strcmp(key, "spec") == 0)
            continue;
        if (v.kind == TM_TEXT)
            json_text(&out, key, text_of(v.text));
        else if (v.kind == TM_UINT)
            json_uint(&out, key, v.uint);
        else if (v.kind == TM_BOOL)
            json_bool(&out, key, v.uint);
        else if (v.kind == TM_INT)
            json_real(&out, key, (double)v.integer);
    }
    json_close(&out);
    puts(buf_str(&out));
}

static void job_line(const struct tm_rows *rows)
{
    struct tm_bytes command = tm_rows_text(rows, "command");
    struct tm_bytes state = tm_rows_text(rows, "state"),
                    name = tm_rows_text(rows, "name");
    uint64_t failed = tm_rows_uint(rows, "failed") + tm_rows_uint(rows, "quarantined");
    char id[24], tasks[32], ok[32], bad[32];

    snprintf(id, sizeof(id), "j%llu", (unsigned long long)tm_rows_uint(rows, "id"));
    printf("%-7s %-8.*s %-10.*s %12s %12s %10s  %.*s\n", id, (int)command.len,
           (const char *)command.data, (int)state.len, (const char *)state.data,
           cli_count(tm_rows_uint(rows, "tasks"), tasks),
           cli_count(tm_rows_uint(rows, "ok"), ok), cli_count(failed, bad), (int)name.len,
           (const char *)name.data);
}

static int list(struct tm *tm, bool json)
{
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(tm, "jobs", 0, &rows, &err) < 0)
        return cli_tm_error(&err);
    if (!json)
        printf("%-7s %-8s %-10s %12s %12s %10s  %s\n", "JOB", "COMMAND", "STATE", "TASKS",
               "OK", "FAILED", "NAME");
    while (tm_rows_next(rows)) {
        if (json)
            row_json(rows);
        else
            job_line(rows);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}

static void show_time(const char *key, uint64_t wall_ns)
{
    time_t t = (time_t)(wall_ns / NS_PER_S);
    char text[64];

    if (!wall_ns)
        return;
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", localtime(&t));
    printf("%-14s %s\n", key, text);
}

static void show_row(const struct tm_rows *rows)
{
    for (size_t i = 0; i < tm_rows_fields(rows); i++) {
        struct tm_bytes k;
        struct tm_value v;
        char n[32];
        tm_rows_field(rows, i, &k, &v);
        AUTO_FREE char *key = span_dup(text_of(k));
        if (strcmp(key, "spec") == 0 || strcmp(key, "state_code") == 0)
            continue;
        if (strcmp(key, "created_ns") == 0)
            show_time("created", v.uint);
        else if (strcmp(key, "ended_ns") == 0)
            show_time("ended", v.uint);
        else if (strcmp(key, "id") == 0)
            printf("%-14s j%llu\n", "job", (unsigned long long)v.uint);
        else if (v.kind == TM_TEXT && v.text.len)
            printf("%-14s %.*s\n", key, (int)v.text.len, (const char *)v.text.data);
        else if (v.kind == TM_UINT)
            printf("%-14s %s\n", key, cli_count(v.uint, n));
    }
}

static int show(struct tm *tm, uint64_t id, bool json)
{
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(tm, "job", id, &rows, &err) < 0)
        return cli_tm_error(&err);
    while (tm_rows_next(rows)) {
        if (json)
            row_json(rows);
        else
            show_row(rows);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}

static int cancel(struct tm *tm, uint64_t id)
{
    struct tm_error err = { 0 };

    if (tm_cancel(tm, id, &err) < 0)
        return cli_tm_error(&err);
    cli_note("j%llu: cancelled", (unsigned long long)id);
    return EXIT_OK;
}

static int rm(struct tm *tm, uint64_t id)
{
    struct tm_error err = { 0 };

    if (tm_remove(tm, id, &err) < 0)
        return cli_tm_error(&err);
    cli_note("j%llu: removed", (unsigned long long)id);
    return EXIT_OK;
}

static int each(struct tm *tm, const char *what, const char *const *selectors, size_t n)
{
    struct tm_error err = { 0 };
    int code = EXIT_OK;

    for (size_t i = 0; i < n && code == EXIT_OK; i++) {
        uint64_t *ids;
        size_t n_ids;
        if (cli_select(tm, selectors[i], &ids, &n_ids, &err) < 0)
            return cli_tm_error(&err);
        for (size_t k = 0; k < n_ids; k++) {
            int rc = strcmp(what, "show") == 0 ? show(tm, ids[k], cli_common_now()->json)
                     : strcmp(what, "rm") == 0 ? rm(tm, ids[k])
                                               : cancel(tm, ids[k]);
            code = code ? code : rc; /* the others are not to blame */
        }
        free(ids);
    }
    return code;
}

int cmd_job(int argc, char **argv)
{
    struct common o = { 0 };
    struct opened opened = { 0 };
    const char **args = NULL;
    struct tm_error terr = { 0 };
    struct err err = { 0 };
    size_t n = 0;
    int code = 0;

    if (cli_parse(cli_command("job"), NULL, argc, argv, &o, &args, &n, &code) == 0) {
        bool ls = n == 1 && strcmp(args[0], "ls") == 0;
        bool other =
            n > 1 && (strcmp(args[0], "show") == 0 || strcmp(args[0], "cancel") == 0 ||
                      strcmp(args[0], "rm") == 0);
        if (!ls && !other) {
            err_set(&err, EXIT_USAGE, "job what?");
            err_hint(&err,
                     "tidemill job ls, job show JOB, job cancel JOB..., job rm JOB...");
            code = cli_error(&err);
        } else if (cli_open_cluster("tidemill job", &opened, &terr) < 0) {
            code = cli_tm_error(&terr);
        } else {
            code =
                ls ? list(opened.tm, o.json) : each(opened.tm, args[0], args + 1, n - 1);
        }
        cli_close(&opened);
    }
    free(args);
    opt_fini((const struct opt *const[]){ cli_common, NULL }, &o);
    return code;
}
