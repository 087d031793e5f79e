/* The connection itself: who cannot be reached, who is refused, what ends a wait; and how
 * a coordinator is found and started. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "client/tidemill.h"
#include "lib_fake.h"

static const struct tm_job_spec bytes_spec = { .source = TM_SOURCE_BYTES };

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tidemill-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static void remove_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
}

static int tear_down(void **state)
{
    (void)state;
    remove_file("c");
    return rmdir(dir);
}

static struct tm *connect_to(struct fake *f, int64_t reconnect_ns)
{
    struct tm_open_options o = { .coordinator = f->endpoint,
                                 .reconnect_timeout_ns = reconnect_ns };
    struct tm_error err = { 0 };
    struct tm *tm = NULL;
    if (tm_open(&o, &tm, &err) < 0)
        fail_msg("%s", err.text);
    return tm;
}

static void nobody_there_is_code_6(void **state)
{
    (void)state;
    char endpoint[128];
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/nobody", dir);
    struct tm_open_options o = { .coordinator = endpoint,
                                 .connect_timeout_ns = 300 * NS_PER_MS };
    struct tm_error err = { 0 };
    struct tm *tm;
    int64_t from = clock_mono_ns();
    assert_int_equal(tm_open(&o, &tm, &err), -1);
    assert_int_equal(err.code, TM_UNREACHABLE);
    assert_non_null(strstr(err.text, endpoint));
    assert_true(err.hint[0] != '\0');
    assert_true(clock_mono_ns() - from >= 300 * NS_PER_MS);
    o.coordinator = "http://x";
    assert_int_equal(tm_open(&o, &tm, &err), -1);
    assert_int_equal(err.code, TM_USAGE);
}

static void a_lost_coordinator_fails_calls_in_the_end(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, NS_PER_S);
    struct tm_job *job;
    struct tm_result r;
    struct tm_error err = { 0 };
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, &err), 0);
    fake_set(f, f->mute = true);
    assert_int_equal(tm_next(job, &r, 20 * NS_PER_S, &err), -1);
    assert_int_equal(err.code, TM_UNREACHABLE);
    assert_int_equal(tm_process(tm, &err), -1);
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, &err), -1);
    tm_close(tm);
    fake_free(f);
}

/* R5: a coordinator that comes back on older or other state is refused. */
static void older_state_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t epoch;
        uint8_t nonce;
        bool refused;
    } t[] = { { 5, 1, false }, { 6, 2, false }, { 5, 2, true }, { 4, 1, true } };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct fake *f = fake_new(dir);
        struct tm_rows *rows;
        struct tm_error err = { 0 };
        fake_set(f, (f->epoch = 5, f->epoch_nonce = 1));
        struct tm *tm = connect_to(f, 0);
        fake_down(f);
        f->epoch = t[i].epoch;
        f->epoch_nonce = t[i].nonce;
        fake_up(f);
        unsigned before = fake_saw(f, &f->welcomes);
        while (fake_saw(f, &f->welcomes) == before) /* at most the silence time */
            usleep(1000);
        int rc = tm_query(tm, "jobs", 0, &rows, &err);
        assert_int_equal(rc, t[i].refused ? -1 : 0);
        assert_int_equal(err.code, t[i].refused ? TM_ERROR : 0);
        tm_close(tm);
        fake_free(f);
    }
}

static struct tm *interrupted;

static void on_alarm(int signo)
{
    (void)signo;
    tm_interrupt(interrupted);
}

static void an_interrupt_ends_one_wait(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = interrupted = connect_to(f, 0);
    struct tm_job *job;
    struct tm_result r;
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, NULL), 0);
    tm_interrupt(tm); /* before: the next wait returns */
    assert_int_equal(tm_next(job, &r, TM_FOREVER, NULL), TM_AGAIN);
    signal(SIGALRM, on_alarm); /* while waiting, out of a signal handler */
    ualarm(50000, 0);
    assert_int_equal(tm_next(job, &r, TM_FOREVER, NULL), TM_AGAIN);
    assert_int_equal(tm_next(job, &r, 30 * NS_PER_MS, NULL), TM_AGAIN); /* its time */
    assert_int_equal(tm_add(job, &(struct tm_input){ .data = "x", .data_len = 1 }, NULL),
                     0);
    assert_int_equal(tm_next(job, &r, TM_FOREVER, NULL), 1);
    tm_close(tm);
    fake_free(f);
}

static void a_future_waits_no_longer_than_told(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct tm_future *all[20], *one;
    struct tm_result r;
    struct tm_input in = { .data = "x", .data_len = 1 };
    fake_set(f, f->give_results = 0);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(tm_submit_one(tm, &bytes_spec, &in, &all[i], NULL), 0);
    assert_int_equal(tm_future_result(all[3], &r, 0, NULL), TM_AGAIN);
    assert_int_equal(tm_future_result(all[3], &r, 50 * NS_PER_MS, NULL), TM_AGAIN);
    fake_set(f, f->give_results = UINT64_MAX);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(tm_future_result(all[i], &r, 20 * NS_PER_S, NULL), 1);
        assert_int_equal(tm_future_result(all[i], &r, 0, NULL), 1); /* asked again */
        assert_int_equal(r.status, TM_OK);
        tm_future_free(all[i]);
    }
    fake_set(f, f->give_results = 0);
    assert_int_equal(tm_submit_one(tm, &bytes_spec, &in, &one, NULL), 0);
    assert_int_equal(tm_future_cancel(one, NULL), 0);
    struct tm_error err = { 0 };
    assert_int_equal(tm_future_result(one, &r, 20 * NS_PER_S, &err), -1);
    assert_int_equal(err.code, TM_CANCELLED);
    tm_close(tm);
    fake_free(f);
}

struct sequence {
    unsigned next, n, fail_at;
    char text[32];
};

static int next_number(void *arg, struct tm_input *ret)
{
    struct sequence *s = arg;
    if (s->next == s->n)
        return 0;
    if (s->fail_at && s->next == s->fail_at)
        return -1;
    int len = snprintf(s->text, sizeof(s->text), "%u", s->next++);
    *ret = (struct tm_input){ .data = s->text, .data_len = (size_t)len };
    return 1;
}

static void a_map_keeps_the_order_and_draws_no_more_than_it_may(void **state)
{
    (void)state;
    enum { N = 60000 };
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct sequence s = { .n = N };
    struct tm_map *map;
    struct tm_result r;
    fake_set(f, (f->credit_bytes = 64 * KIB, f->give_results = 0));
    assert_int_equal(tm_map(tm, &bytes_spec, next_number, &s, &map, NULL), 0);
    assert_int_equal(tm_map_next(map, &r, 200 * NS_PER_MS, NULL), TM_AGAIN);
    assert_in_range(s.next, 1, 33000); /* results do not come: it stops drawing */
    fake_set(f, f->give_results = UINT64_MAX);
    for (unsigned i = 0; i < N; i++) {
        char want[32];
        struct tm_error err = { 0 };
        int len = snprintf(want, sizeof(want), "%u", i);
        int rc = tm_map_next(map, &r, 20 * NS_PER_S, &err);
        if (rc != 1)
            fail_msg("%u: %d %s", i, rc, err.text);
        assert_int_equal(r.task, i);
        assert_true(r.has_input);
        assert_int_equal(r.data.len, (size_t)len);
        assert_memory_equal(r.data.data, want, (size_t)len);
    }
    assert_int_equal(tm_map_next(map, &r, 20 * NS_PER_S, NULL), 0);
    assert_int_equal(tm_map_next(map, &r, 0, NULL), 0);
    tm_map_free(map);
    assert_int_equal(fake_saw(f, &f->cancels), 0);
    tm_close(tm);
    assert_int_equal(fake_saw(f, &f->wrong), 0);
    fake_free(f);
}

static void a_broken_sequence_cancels_the_map(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct sequence s = { .n = 100, .fail_at = 50 };
    struct tm_map *map;
    struct tm_result r;
    struct tm_error err = { 0 };
    assert_int_equal(tm_map(tm, &bytes_spec, next_number, &s, &map, NULL), 0);
    int rc;
    while ((rc = tm_map_next(map, &r, 20 * NS_PER_S, &err)) == 1)
        ;
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err.text, "sequence failed"));
    assert_int_equal(tm_map_next(map, &r, 0, &err), -1);
    tm_map_free(map);
    s = (struct sequence){ .n = 10 };
    assert_int_equal(tm_map(tm, &bytes_spec, next_number, &s, &map, NULL), 0);
    assert_int_equal(tm_map_next(map, &r, 20 * NS_PER_S, NULL), 1);
    tm_map_free(map); /* in the middle */
    tm_close(tm);
    fake_free(f);
}

/* ---- orders ---- */

static void orders_are_answered_or_refused(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct tm_job *job;
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, NULL), 0);
    uint64_t id = tm_job_id(job);
    assert_int_equal(tm_pause(tm, id, NULL), 0);
    fake_set(f, assert_true(f->jobs[0].paused));
    assert_int_equal(tm_resume(tm, id, NULL), 0);
    fake_set(f, assert_false(f->jobs[0].paused));
    assert_int_equal(tm_drain(tm, "mill-1", NULL), 0);
    fake_set(f, assert_true(f->drained));
    assert_int_equal(tm_undrain(tm, "mill-1", NULL), 0);
    fake_set(f, assert_false(f->drained));
    assert_int_equal(tm_cancel(tm, id, NULL), 0);
    fake_set(f, assert_true(f->jobs[0].cancelled));
    assert_int_equal(tm_remove(tm, id, NULL), 0);

    struct tm_error err = { 0 };
    assert_int_equal(tm_drain(tm, "mill-2", &err), -1);
    assert_int_equal(err.code, TM_NOT_FOUND);
    assert_string_equal(err.text, "no such node");
    int (*const all[])(struct tm *, uint64_t,
                       struct tm_error *) = { tm_pause, tm_resume, tm_cancel, tm_remove };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        err = (struct tm_error){ 0 };
        assert_int_equal(all[i](tm, id, &err), -1);
        assert_int_equal(err.code, TM_NOT_FOUND);
    }
    tm_close(tm);
    assert_int_equal(fake_saw(f, &f->wrong), 0);
    fake_free(f);
}

struct ordering {
    struct tm *tm;
    int (*order)(struct tm *tm, uint64_t job, struct tm_error *err);
    uint64_t job;
    int rc;
    struct tm_error err;
};

static void *run_order(void *arg)
{
    struct ordering *o = arg;
    o->rc = o->order(o->tm, o->job, &o->err);
    return NULL;
}

static void saw_orders(struct fake *f, unsigned n)
{
    while (fake_saw(f, &f->orders) < n)
        usleep(1000);
}

/* The answer was lost with the coordinator: the order is said again, and what was done
 * already counts as done. */
static void orders_are_said_again_after_a_reconnect(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct tm_job *job;
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, NULL), 0);
    struct ordering all[] = { { tm, tm_pause, tm_job_id(job), 1, { 0 } },
                              { tm, tm_remove, tm_job_id(job), 1, { 0 } } };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        pthread_t thread;
        fake_set(f, (f->mute_orders = true, f->orders = 0));
        assert_int_equal(pthread_create(&thread, NULL, run_order, &all[i]), 0);
        saw_orders(f, 1);
        fake_down(f);
        f->mute_orders = false;
        fake_up(f);
        pthread_join(thread, NULL);
        assert_int_equal(all[i].rc, 0);
        assert_int_equal(fake_saw(f, &f->orders), 2);
    }
    tm_close(tm);
    assert_int_equal(fake_saw(f, &f->wrong), 0);
    fake_free(f);
}

/* An Error goes to the order of its type and job, whatever else waits. */
static void an_error_finds_its_order(void **state)
{
    (void)state;
    struct fake *f = fake_new(dir);
    struct tm *tm = connect_to(f, 0);
    struct tm_job *job;
    assert_int_equal(tm_submit(tm, &bytes_spec, &job, NULL), 0);
    struct ordering all[] = { { tm, tm_cancel, tm_job_id(job), 1, { 0 } },
                              { tm, tm_pause, tm_job_id(job), 1, { 0 } } };
    pthread_t threads[ARRAY_LEN(all)];
    fake_set(f, f->mute_orders = true);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_order, &all[i]), 0);
    saw_orders(f, ARRAY_LEN(all));
    struct tm_error err = { 0 };
    assert_int_equal(tm_cancel(tm, 999, &err), -1);
    assert_int_equal(err.code, TM_NOT_FOUND);
    assert_int_equal(tm_pause(tm, 999, NULL), -1);
    fake_down(f); /* the two still wait, and are said again */
    f->mute_orders = false;
    fake_up(f);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(all[i].rc, 0);
    }
    tm_close(tm);
    fake_free(f);
}

/* ---- programs that are no tidemill: what an embedded start says then ---- */

static void write_program(const char *name, const char *script)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0700);
    assert_true(fd >= 0);
    dprintf(fd, "#!/bin/sh\n%s\n", script);
    close(fd);
}

static void a_program_that_fails_is_quoted(void **state)
{
    (void)state;
    struct tm_open_options o = { .bin_dir = dir };
    struct tm_error err = { 0 };
    struct tm *tm;
    assert_int_equal(tm_open(&o, &tm, &err), -1);
    assert_non_null(strstr(err.text, "tidemill-coordinator"));
    write_program("tidemill-coordinator",
                  "echo first >&2; echo no room left >&2; exit 3");
    write_program("tidemill-worker", "exec cat");
    assert_int_equal(tm_open(&o, &tm, &err), -1);
    assert_string_equal(err.text,
                        "tidemill-coordinator ended: exit status 3: no room left");
    remove_file("tidemill-coordinator");
    remove_file("tidemill-worker");
}

/* The pair of `up` gets its options, and ends with its lifelines. */
static void up_starts_both_and_ends_both(void **state)
{
    (void)state;
    static const char *const roots[] = { "/srv:ro", NULL };
    char sock[128], log[128], conf[128];
    /* Says its endpoint, then waits for the end of its lifeline. */
    write_program("tidemill-coordinator",
                  "for a; do case $p in --lifeline-fd) l=$a;; --ready-fd) r=$a;;"
                  " --listen) e=$a;; esac; p=$a; done\n"
                  "eval \"echo $e >&$r; exec $r>&-; exec cat <&$l\"");
    write_program("tidemill-worker",
                  "for a; do case $p in --lifeline-fd) l=$a;; --identity-fd) i=$a;;"
                  " esac; p=$a; done\n"
                  "eval \"cat <&$i\" >\"$LOG\"; echo \"$@\" >>\"$LOG\"\n"
                  "eval \"cat <&$l\"; echo ended >>\"$LOG\"");
    snprintf(sock, sizeof(sock), "ipc://%s/s", dir);
    snprintf(log, sizeof(log), "%s/log", dir);
    snprintf(conf, sizeof(conf), "%s/state", dir);
    setenv("LOG", log, 1);
    struct tm_up_options o = { .listen = sock,
                               .state_dir = conf,
                               .bin_dir = dir,
                               .roots = roots,
                               .procs = 3,
                               .identity = "secret\n",
                               .identity_len = 7 };
    struct tm_up *up;
    struct tm_error err = { 0 };
    if (tm_up_start(&o, &up, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(tm_up_endpoint(up), sock);
    struct stat st;
    while (stat(log, &st) < 0 || st.st_size < 20)
        usleep(1000);
    assert_int_equal(tm_up_wait(up, 0, &err), TM_AGAIN);
    int fd = open(log, O_RDONLY);
    char text[512] = "";
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    assert_non_null(strstr(text, "secret\n"));
    assert_non_null(strstr(text, "--root /srv:ro --procs 3 --identity-fd"));
    tm_up_stop(up);
    remove_file("tidemill-coordinator");
    remove_file("tidemill-worker");
    remove_file("log");
    assert_int_equal(rmdir(conf), 0);
}

/* ---- who is found ---- */

static void assert_found(const char *flag, const char *endpoint, const char *origin)
{
    char *e = NULL, *o = NULL;
    struct tm_error err = { 0 };
    if (tm_find_coordinator(flag, &e, &o, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(o, origin);
    if (endpoint)
        assert_string_equal(e, endpoint);
    else
        assert_null(e);
    free(e);
    free(o);
}

static int listen_at(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    assert_true(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void the_nearest_origin_wins(void **state)
{
    (void)state;
    char own[128], conf[160], up[160], endpoint[200];
    snprintf(own, sizeof(own), "%s/tidemill", dir);
    snprintf(conf, sizeof(conf), "%s/tidemill.conf", own);
    snprintf(up, sizeof(up), "%s/up", own);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", up);
    setenv("XDG_CONFIG_HOME", dir, 1);
    setenv("XDG_RUNTIME_DIR", dir, 1);
    unsetenv("TIDEMILL_COORDINATOR");
    assert_found(NULL, NULL, "embedded");
    assert_int_equal(mkdir(own, 0700), 0);
    int fd = listen_at(up);
    assert_found(NULL, endpoint, "tidemill up");
    assert_int_equal(chmod(own, 0755), 0); /* others could have put it there */
    assert_found(NULL, NULL, "embedded");
    chmod(own, 0700);
    int file = open(conf, O_CREAT | O_WRONLY, 0600);
    dprintf(file, "# coordinator = x\ncoordinators = y\n coordinator=tcp://h:1 # c\n");
    close(file);
    assert_found(NULL, "tcp://h:1", conf);
    setenv("TIDEMILL_COORDINATOR", "tcp://e:1", 1);
    assert_found(NULL, "tcp://e:1", "TIDEMILL_COORDINATOR");
    assert_found("tcp://f:1", "tcp://f:1", "--coordinator");
    unsetenv("TIDEMILL_COORDINATOR");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_RUNTIME_DIR");
    close(fd);
    unlink(conf);
    unlink(up);
    rmdir(own);
}

#define DIR_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(nobody_there_is_code_6),
        DIR_TEST(a_lost_coordinator_fails_calls_in_the_end),
        DIR_TEST(older_state_is_refused),
        DIR_TEST(an_interrupt_ends_one_wait),
        DIR_TEST(a_future_waits_no_longer_than_told),
        DIR_TEST(a_map_keeps_the_order_and_draws_no_more_than_it_may),
        DIR_TEST(a_broken_sequence_cancels_the_map),
        DIR_TEST(orders_are_answered_or_refused),
        DIR_TEST(orders_are_said_again_after_a_reconnect),
        DIR_TEST(an_error_finds_its_order),
        DIR_TEST(a_program_that_fails_is_quoted),
        DIR_TEST(up_starts_both_and_ends_both),
        DIR_TEST(the_nearest_origin_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
