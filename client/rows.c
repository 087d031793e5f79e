#include "client/rows.h"

#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "client/cli.h"
#include "client/json.h"

static struct span text_of(struct tm_bytes b)
{
    return span_of(b.data, b.len);
}

static bool printable(const char *key)
{
    return strcmp(key, "spec") != 0 && strcmp(key, "key") != 0;
}

char *row_text(const struct tm_rows *rows, const char *key)
{
    return span_dup(text_of(tm_rows_text(rows, key)));
}

char *row_shown(const struct tm_rows *rows, const char *key)
{
    AUTO_BUF out = BUF_INIT;

    text_show(&out, text_of(tm_rows_text(rows, key)));
    return span_dup(buf_span(&out));
}

void row_json(const struct tm_rows *rows)
{
    row_json_job(rows, 0);
}

void row_json_job(const struct tm_rows *rows, uint64_t job)
{
    AUTO_BUF out = BUF_INIT;

    json_open(&out);
    json_uint(&out, "v", 1);
    if (job)
        json_uint(&out, "job", job);
    for (size_t i = 0; i < tm_rows_fields(rows); i++) {
        struct tm_bytes k;
        struct tm_value v;
        tm_rows_field(rows, i, &k, &v);
        AUTO_FREE char *key = span_dup(text_of(k));
        if (!printable(key))
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

static void show_time(const char *key, uint64_t wall_ns)
{
    time_t t = (time_t)(wall_ns / NS_PER_S);
    char text[64];

    if (!wall_ns)
        return;
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", localtime(&t));
    printf("%-15s %s\n", key, text);
}

static void show_duration(const char *key, uint64_t ns)
{
    if (ns)
        printf("%-15s %.3g s\n", key, (double)ns / NS_PER_S);
}

static void show_text(const char *key, struct span text)
{
    AUTO_BUF out = BUF_INIT;

    text_show(&out, text);
    printf("%-15s %s\n", key, buf_str(&out));
}

static void show_field(const char *key, const struct tm_value *v)
{
    char n[32];

    if (strcmp(key, "created_ns") == 0)
        show_time("created", v->uint);
    else if (strcmp(key, "ended_ns") == 0)
        show_time("ended", v->uint);
    else if (strcmp(key, "task_timeout_ns") == 0)
        show_duration("task timeout", v->uint);
    else if (strcmp(key, "deadline_ns") == 0)
        show_duration("deadline", v->uint);
    else if (strcmp(key, "id") == 0)
        printf("%-15s j%llu\n", "job", (unsigned long long)v->uint);
    else if (v->kind == TM_TEXT && v->text.len)
        show_text(key, text_of(v->text));
    else if (v->kind == TM_UINT)
        printf("%-15s %s\n", key, cli_count(v->uint, n));
    else if (v->kind == TM_INT)
        printf("%-15s %lld\n", key, (long long)v->integer);
    else if (v->kind == TM_BOOL && v->uint)
        printf("%-15s yes\n", key);
}

void row_show(const struct tm_rows *rows)
{
    for (size_t i = 0; i < tm_rows_fields(rows); i++) {
        struct tm_bytes k;
        struct tm_value v;
        tm_rows_field(rows, i, &k, &v);
        AUTO_FREE char *key = span_dup(text_of(k));
        if (printable(key) && strcmp(key, "state_code") != 0)
            show_field(key, &v);
    }
}
