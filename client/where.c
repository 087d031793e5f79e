#include "client/where.h"

#include <stdarg.h>

#include "client/rows.h"
#include "proto/select.h"

bool where_each(const struct where *w)
{
    for (size_t i = 0; i < w->on.n; i++)
        if (strcmp(w->on.items[i], "each") == 0)
            return true;
    return false;
}

static int check_one(const char *text, struct err *err)
{
    struct span s = span_str(text);

    if (strcmp(text, "each") == 0)
        return 0;
    if ((strchr(text, '=') ? select_check_label(s, err) : select_check_name(s, err)) == 0)
        return 0;
    return err_prefix(err, "--on");
}

int where_check(const struct where *w, bool recursive, struct err *err)
{
    for (size_t i = 0; i < w->on.n; i++)
        if (check_one(w->on.items[i], err) < 0)
            return -1;
    if (!cli_common_now()->dry_run)
        return 0;
    if (w->remote && recursive) {
        err_set(err, EXIT_USAGE,
                "--dry-run asks no node, and --remote leaves the walk to "
                "them");
        return err_hint(err, "leave one of them away");
    }
    return 0;
}

static int fail(struct tm_error *err, int code, const char *hint, const char *fmt, ...)
{
    va_list args;

    err->code = code;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    snprintf(err->hint, sizeof(err->hint), "%s", hint);
    return -1;
}

/* It may use files, decrypt, fetch, as far as the job needs that (sched_place.c). */
static bool can_run(const struct tm_rows *rows, const struct tm_job_spec *spec)
{
    bool files = spec->source == TM_SOURCE_PATH || spec->sink == TM_SINK_FILE;
    bool opens = spec->transform != TM_TRANSFORM_DECRYPT;
    AUTO_FREE char *identities = row_text(rows, "identities");

    for (size_t i = 0; !opens && i < spec->n_recipients; i++)
        opens = strstr(identities, spec->recipients[i]) != NULL;
    return opens && (!files || tm_rows_uint(rows, "files")) &&
           (spec->source != TM_SOURCE_URL || tm_rows_uint(rows, "coroutines"));
}

/* The row's node is one of the set. */
static bool is_meant(const struct tm_rows *rows, const char *on,
                     const struct tm_job_spec *spec)
{
    AUTO_FREE char *labels = row_text(rows, "labels");
    AUTO_FREE char *state = row_text(rows, "state");
    struct tm_bytes name = tm_rows_text(rows, "name");

    for (char *c = labels; *c; c++)
        *c = *c == ',' ? '\n' : *c; /* as the selectors have them */
    return strcmp(state, "away") != 0 && can_run(rows, spec) &&
           select_fits(span_str(on), span_of(name.data, name.len), span_str(labels));
}

static int find_each(const struct opened *open, const struct tm_job_spec *spec,
                     struct where_found *f, struct tm_error *err)
{
    struct tm_rows *rows;

    if (tm_query(open->tm, "nodes", 0, &rows, err) < 0)
        return -1;
    while (tm_rows_next(rows)) {
        if (!is_meant(rows, f->on, spec))
            continue;
        f->nodes = xrealloc(f->nodes, (f->n + 1) * sizeof(*f->nodes));
        f->nodes[f->n++] = row_text(rows, "name");
    }
    tm_rows_free(rows);
    if (f->n)
        return 0;
    return fail(err, TM_UNPLACEABLE, "tidemill node ls shows names and labels",
                "cannot be placed: no connected node is meant by --on each");
}

int where_find(const struct where *w, const struct opened *open, struct tm_job_spec *spec,
               struct where_found *ret, struct tm_error *err)
{
    AUTO_BUF on = BUF_INIT;

    if (!w || w->on.n == 0)
        return 0;
    if (!open->endpoint)
        return fail(err, EXIT_USAGE, "--coordinator ENDPOINT, or start one: tidemill up",
                    "--on needs a cluster to choose from");
    for (size_t i = 0; i < w->on.n; i++)
        buf_printf(&on, "%s%s", i ? "\n" : "", w->on.items[i]);
    ret->on = xstrdup(buf_str(&on));
    spec->on = ret->on;
    return where_each(w) ? find_each(open, spec, ret, err) : 0;
}

void where_found_fini(struct where_found *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->nodes[i]);
    free(f->nodes);
    free(f->on);
    *f = (struct where_found){ 0 };
}
