/* Fetches some URLs at once and waits for each at most ten seconds.
 *     example-future http://localhost/a http://localhost/b */
#include <stdio.h>
#include <stdlib.h>
#include <tidemill.h>

int main(int argc, char **argv)
{
    struct tm_open_options open = { .coordinator = getenv("TIDEMILL_COORDINATOR") };
    struct tm_job_spec spec = { .source = TM_SOURCE_URL, .sink = TM_SINK_RETURN };
    struct tm_future *futures[64];
    struct tm *tm = NULL;
    struct tm_result r;
    struct tm_error err = { 0 };
    int n = argc - 1 < 64 ? argc - 1 : 64;
    int rc = tm_open(&open, &tm, &err);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = tm_submit_one(tm, &spec, &(struct tm_input){ .url = argv[i + 1] },
                           &futures[i], &err);
    for (int i = 0; rc == 0 && i < n; i++) {
        int got = tm_future_result(futures[i], &r, INT64_C(10000000000), &err);
        if (got == TM_AGAIN) {
            printf("%s: not in time\n", argv[i + 1]);
            tm_future_cancel(futures[i], &err);
        } else if (got == 1 && r.status == TM_OK) {
            printf("%s: HTTP %u, %zu bytes\n", argv[i + 1], r.http_status, r.body.len);
        } else if (got == 1) {
            printf("%s: %.*s\n", argv[i + 1], (int)r.error.len,
                   (const char *)r.error.data);
        }
    }
    if (err.code)
        fprintf(stderr, "example-future: %s\n", err.text);
    tm_close(tm);
    return err.code;
}
