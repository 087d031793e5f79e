/* tidemill explain: why jobs wait. */
#include "client/cmd.h"
#include "client/rows.h"

struct options {
    struct common common;
};

static int explain_one(struct tm *tm, uint64_t id)
{
    bool json = cli_common_now()->json;
    struct tm_error err = { 0 };
    struct tm_rows *rows;

    if (tm_query(tm, "explain", id, &rows, &err) < 0)
        return cli_tm_error(&err);
    if (tm_rows_count(rows) == 0) {
        struct err none = { 0 };
        tm_rows_free(rows);
        err_set(&none, EXIT_NOTHING, "no such job: j%llu", (unsigned long long)id);
        err_hint(&none, "tidemill job ls");
        return cli_error(&none);
    }
    while (tm_rows_next(rows)) {
        AUTO_FREE char *text = row_shown(rows, "text");
        if (json)
            row_json_job(rows, id);
        else
            printf("j%llu: %s\n", (unsigned long long)id, text);
    }
    tm_rows_free(rows);
    return EXIT_OK;
}

static int explain(void *options, const struct cli_args *call)
{
    struct opened opened = { 0 };
    struct tm_error err = { 0 };
    int code = EXIT_OK;

    (void)options;
    if (call->n == 0) {
        struct err usage = { 0 };
        err_set(&usage, EXIT_USAGE, "which job?");
        err_hint(&usage,
                 "a job is j41, 41, last, 3-5 or all; tidemill job ls lists them");
        return cli_error(&usage);
    }
    if (cli_open_cluster("tidemill explain", &opened, &err) < 0)
        code = cli_tm_error(&err);
    for (size_t i = 0; opened.tm && i < call->n; i++) {
        uint64_t *ids;
        size_t n_ids;
        if (cli_select(opened.tm, call->args[i], SELECT_RUNNING, &ids, &n_ids, &err) <
            0) {
            int rc = cli_tm_error(&err);
            code = code ? code : rc;
            continue;
        }
        for (size_t k = 0; k < n_ids; k++) {
            int rc = explain_one(opened.tm, ids[k]);
            code = code ? code : rc;
        }
        free(ids);
    }
    cli_close(&opened);
    return code;
}

int cmd_explain(int argc, char **argv)
{
    struct options o = { 0 };
    return cli_call("explain", NULL, argc, argv, &o, explain);
}
