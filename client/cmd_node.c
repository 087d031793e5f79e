/* tidemill node: the cluster's nodes. */
#include "client/cmd.h"
#include "client/json.h"

static void line(const struct tm_rows *rows)
{
    struct tm_bytes name = tm_rows_text(rows, "name"),
                    state = tm_rows_text(rows, "state");
    char procs[32], coros[32], tasks[32], done[32];

    snprintf(procs, sizeof(procs), "%llu/%llu",
             (unsigned long long)tm_rows_uint(rows, "processes_busy"),
             (unsigned long long)tm_rows_uint(rows, "processes"));
    snprintf(coros, sizeof(coros), "%llu/%llu",
             (unsigned long long)tm_rows_uint(rows, "coroutines_busy"),
             (unsigned long long)tm_rows_uint(rows, "coroutines"));
    printf("%-20.*s %-9.*s %10s %12s %10s %14s\n", (int)name.len, (const char *)name.data,
           (int)state.len, (const char *)state.data, procs, coros,
           cli_count(tm_rows_uint(rows, "tasks"), tasks),
           cli_count(tm_rows_uint(rows, "done"), done));
}

static void object(const struct tm_rows *rows)
{
    static const char *const numbers[] = { "processes",  "processes_busy",
                                           "coroutines", "coroutines_busy",
                                           "tasks",      "done" };
    static const char *const texts[] = { "name", "state" };
    AUTO_BUF out = BUF_INIT;

    json_open(&out);
    json_uint(&out, "v", 1);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct tm_bytes t = tm_rows_text(rows, texts[i]);
        json_text(&out, texts[i], span_of(t.data, t.len));
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_uint(&out, numbers[i], tm_rows_uint(rows, numbers[i]));
    json_close(&out);
    puts(buf_str(&out));
}

static int list(struct tm *tm, bool json)
{
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(tm, "nodes", 0, &rows, &err) < 0)
        return cli_tm_error(&err);
    if (!json)
        printf("%-20s %-9s %10s %12s %10s %14s\n", "NODE", "STATE", "PROCESSES",
               "COROUTINES", "TASKS", "DONE");
    while (tm_rows_next(rows)) {
        if (json)
            object(rows);
        else
            line(rows);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}

int cmd_node(int argc, char **argv)
{
    struct common o = { 0 };
    struct opened opened = { 0 };
    const char **args = NULL;
    struct tm_error terr = { 0 };
    struct err err = { 0 };
    size_t n = 0;
    int code = 0;

    if (cli_parse(cli_command("node"), NULL, argc, argv, &o, &args, &n, &code) == 0) {
        if (n != 1 || strcmp(args[0], "ls") != 0) {
            err_set(&err, EXIT_USAGE, "node what?");
            err_hint(&err, "tidemill node ls");
            code = cli_error(&err);
        } else if (cli_open_cluster("tidemill node", &opened, &terr) < 0) {
            code = cli_tm_error(&terr);
        } else {
            code = list(opened.tm, o.json);
        }
        cli_close(&opened);
    }
    free(args);
    opt_fini((const struct opt *const[]){ cli_common, NULL }, &o);
    return code;
}
