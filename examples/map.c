/* The SHA-256 of every line of standard input, in the order of the lines.
 *     seq 1000000 | example-map
 * Without TIDEMILL_COORDINATOR a private cluster is started for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemill.h>

static int next_line(void *arg, struct tm_input *ret)
{
    static char *line;
    static size_t cap;
    ssize_t len = getline(&line, &cap, (FILE *)arg);
    if (len < 0)
        return 0;
    *ret = (struct tm_input){ .data = line, .data_len = strcspn(line, "\n") };
    return 1;
}

int main(void)
{
    struct tm_open_options open = { .coordinator = getenv("TIDEMILL_COORDINATOR") };
    struct tm_job_spec spec = { .source = TM_SOURCE_BYTES, .algos = TM_BIT(TM_SHA256) };
    struct tm *tm = NULL;
    struct tm_map *map;
    struct tm_result r;
    struct tm_error err = { 0 };
    int rc = tm_open(&open, &tm, &err);
    if (rc == 0)
        rc = tm_map(tm, &spec, next_line, stdin, &map, &err);
    while (rc == 0 && tm_map_next(map, &r, TM_FOREVER, &err) == 1) {
        for (size_t i = 0; r.status == TM_OK && i < r.digests[0].bytes.len; i++)
            printf("%02x", r.digests[0].bytes.data[i]);
        printf("  %.*s\n", (int)r.data.len, (const char *)r.data.data);
    }
    if (err.code)
        fprintf(stderr, "example-map: %s\n", err.text);
    tm_close(tm);
    return err.code;
}
