/* Hashes files: submits a job, seals it, reads its results as they come.
 *     example-submit /etc/passwd /bin/ls */
#include <stdio.h>
#include <stdlib.h>
#include <tidemill.h>

int main(int argc, char **argv)
{
    struct tm_open_options open = { .coordinator = getenv("TIDEMILL_COORDINATOR") };
    struct tm_job_spec spec = { .command = "hash",
                                .source = TM_SOURCE_PATH,
                                .algos = TM_BIT(TM_SHA256) | TM_BIT(TM_BLAKE2B) };
    struct tm *tm = NULL;
    struct tm_job *job;
    struct tm_result r;
    struct tm_error err = { 0 };
    int rc = tm_open(&open, &tm, &err);
    if (rc == 0)
        rc = tm_submit(tm, &spec, &job, &err);
    for (int i = 1; rc == 0 && i < argc; i++)
        rc = tm_add(job, &(struct tm_input){ .path = argv[i] }, &err);
    if (rc == 0)
        rc = tm_seal(job, &err);
    if (rc == 0)
        rc = tm_follow(job, 0, TM_INPUTS, &err);
    while (rc == 0 && tm_next(job, &r, TM_FOREVER, &err) == 1) {
        printf("%.*s: %s", (int)r.shown.len, (const char *)r.shown.data,
               r.status == TM_OK ? "" : tm_status_name(r.status));
        for (uint32_t d = 0; d < r.n_digests; d++) {
            printf(" %s ", tm_algo_name(r.digests[d].algo));
            for (size_t i = 0; i < r.digests[d].bytes.len; i++)
                printf("%02x", r.digests[d].bytes.data[i]);
        }
        printf("\n");
    }
    if (err.code)
        fprintf(stderr, "example-submit: %s\n", err.text);
    tm_close(tm);
    return err.code;
}
