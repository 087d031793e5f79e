/* What tests of the client library share: a connection to a coordinator in this process.
 */
#ifndef LIB_WORLD_H
#define LIB_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "client/tidemill.h"
#include "lib_fake.h"

struct world {
    char dir[64];
    struct fake *fake;
    struct tm *tm;
};

static const struct tm_job_spec bytes_spec = { .command = "map",
                                               .source = TM_SOURCE_BYTES,
                                               .algos = TM_BIT(TM_SHA256) };

static inline int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct tm_error err = { 0 };
    snprintf(w->dir, sizeof(w->dir), "/tmp/tidemill-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->fake = fake_new(w->dir);
    struct tm_open_options o = { .coordinator = w->fake->endpoint, .name = "test" };
    if (tm_open(&o, &w->tm, &err) < 0)
        fail_msg("%s", err.text);
    *state = w;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *w = *state;
    char socket[80];
    tm_close(w->tm);
    assert_int_equal(fake_saw(w->fake, &w->fake->wrong), 0);
    fake_free(w->fake);
    snprintf(socket, sizeof(socket), "%s/c", w->dir);
    unlink(socket);
    assert_int_equal(rmdir(w->dir), 0);
    free(w);
    return 0;
}

static inline struct tm_job *submit(struct world *w, const struct tm_job_spec *spec)
{
    struct tm_job *job = NULL;
    struct tm_error err = { 0 };
    if (tm_submit(w->tm, spec, &job, &err) != 0)
        fail_msg("%s", err.text);
    return job;
}

static inline void add_one(struct tm_job *job, unsigned i, size_t len)
{
    char data[4096];
    struct tm_error err;
    memset(data, 'x', sizeof(data));
    snprintf(data, sizeof(data), "%u", i);
    if (tm_add(job, &(struct tm_input){ .data = data, .data_len = len }, &err) != 0)
        fail_msg("%s", err.text);
}

/* Reads n results; each task may come once only. */
static inline void read_results(struct tm_job *job, unsigned n, bool *seen)
{
    for (unsigned i = 0; i < n; i++) {
        struct tm_result r;
        struct tm_error err = { 0 };
        int rc = tm_next(job, &r, 20 * NS_PER_S, &err);
        if (rc != 1)
            fail_msg("result %u: %d %s", i, rc, err.text);
        assert_false(seen[r.task]);
        seen[r.task] = true;
        assert_int_equal(r.bytes, r.task);
        assert_int_equal(r.status, r.task % 1000 == 999 ? TM_FAILED : TM_OK);
        assert_int_equal(r.error.len > 0, r.status != TM_OK);
        assert_int_equal(r.attempts, 1);
        assert_true(r.has_body);
    }
}

static inline void assert_end(struct tm_job *job)
{
    struct tm_result r;
    struct tm_error err = { 0 };
    assert_int_equal(tm_next(job, &r, 20 * NS_PER_S, &err), 0);
    assert_int_equal(tm_next(job, &r, 0, &err), 0);
}

enum { MANY = 10000 };

#define WORLD_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

#endif
