/* The pool with the real mills: whose fault it is when one of them ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/pack.h"
#include "worker/oom.h"
#include "worker/ops/hash.h"
#include "worker/procpool.h"

static char dir[64], large[80], *program;
static struct loop *loop;
static struct procpool *pool;

/* The kernel's counter, as the test wants it. */
static uint64_t kills;
uint64_t oom_kills(void)
{
    return kills;
}

struct seen {
    unsigned results, ends;
    uint32_t indexes; /* bits */
    enum task_status status;
    uint8_t digests[4][32]; /* by index: SHA-256 of each */
    char why[128];
};
static struct seen seen;

static void on_result(void *arg, uint64_t run, uint32_t index, enum task_status status,
                      struct span value)
{
    struct task_value v;

    (void)arg, (void)run;
    assert_false(seen.indexes & BIT(index));
    seen.indexes |= BIT(index);
    assert_int_equal(value_unpack(value, &v, NULL), 0);
    snprintf(seen.why, sizeof(seen.why), "%.*s", (int)v.error.len,
             v.error.len ? (const char *)v.error.data : "");
    if (v.n_digests && index < ARRAY_LEN(seen.digests))
        memcpy(seen.digests[index], v.digests[0].bytes.data, 32);
    seen.status = status;
    seen.results++;
}

static void on_run_end(void *arg, uint64_t run)
{
    (void)arg, (void)run;
    seen.ends++;
}

static void on_room(void *arg)
{
    (void)arg;
}

static const struct procpool_events events = { on_result, on_run_end, on_room };

/* ---- mills ---- */

static bool has_open(pid_t pid, const char *path)
{
    AUTO_FREE char *fds = xasprintf("/proc/%d/fd", (int)pid);
    DIR *d = opendir(fds);
    struct dirent *e;
    bool found = false;

    while (d && !found && (e = readdir(d))) {
        char target[256];
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = 0;
        found = strcmp(target, path) == 0;
    }
    if (d)
        closedir(d);
    return found;
}

/* The mill that has the large file open; 0 = none. */
static pid_t mill_at_work(void)
{
    AUTO_FREE char *name = xasprintf("/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(name, "r");
    int pid;
    pid_t found = 0;

    assert_non_null(f);
    while (!found && fscanf(f, "%d", &pid) == 1)
        if (has_open(pid, large))
            found = pid;
    fclose(f);
    return found;
}

/* Starts the digest of the large file; the mill that is at it. */
static pid_t start(uint64_t id)
{
    struct task_input in = { .path = span_str(large) };
    AUTO_BUF packed = BUF_INIT;
    uint32_t task = 0, len;
    pid_t pid;

    input_pack(&packed, &in);
    len = (uint32_t)packed.len;
    struct procpool_run run = { .id = id,
                                .spec_id = 1,
                                .n = 1,
                                .tasks = &task,
                                .lens = &len,
                                .inputs = buf_span(&packed),
                                .body_fd = -1 };
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
    while (!(pid = mill_at_work())) {
        assert_int_equal(seen.results, 0);
        loop_once(loop, false);
    }
    return pid;
}

static void wait_result(void)
{
    while (!seen.results)
        loop_once(loop, true);
    assert_int_equal(seen.results, 1);
}

static void killed_from_outside_is_lost(void **state)
{
    (void)state;
    assert_int_equal(kill(start(1), SIGKILL), 0);
    wait_result();
    assert_int_equal(seen.status, TASK_LOST);
    assert_string_equal(seen.why, "its process died: SIGKILL");
}

static void its_own_fault_is_poison(void **state)
{
    (void)state;
    assert_int_equal(kill(start(2), SIGSEGV), 0);
    wait_result();
    assert_int_equal(seen.status, TASK_POISON);
}

static void killed_for_want_of_memory_is_poison(void **state)
{
    pid_t pid = start(3);

    (void)state;
    kills++;
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_result();
    assert_int_equal(seen.status, TASK_POISON);
}

/* The counter is the whole host's: somebody else was killed before the task began. */
static void want_of_memory_before_is_no_fault_of_a_task(void **state)
{
    (void)state;
    kills += 3;
    assert_int_equal(kill(start(4), SIGKILL), 0);
    wait_result();
    assert_int_equal(seen.status, TASK_LOST);
}

/* The kernel kills with SIGKILL and nothing else. */
static void want_of_memory_ends_with_sigkill(void **state)
{
    pid_t pid = start(5);

    (void)state;
    kills++;
    assert_int_equal(kill(pid, SIGUSR1), 0);
    wait_result();
    assert_int_equal(seen.status, TASK_LOST);
}

/* Tasks that the node runs in another way are not the mill's, and not in the result. */
static void what_is_skipped_is_not_run(void **state)
{
    struct task_input in = { .data = SPAN_LIT("x"), .has_data = true };
    const bool skip[] = { false, true, false, true };
    uint32_t tasks[] = { 7, 8, 9, 10 }, lens[4];
    AUTO_BUF packed = BUF_INIT;

    (void)state;
    for (size_t i = 0, before = 0; i < 4; i++, before = packed.len) {
        input_pack(&packed, &in);
        lens[i] = (uint32_t)(packed.len - before);
    }
    struct procpool_run run = { .id = 6,
                                .spec_id = 1,
                                .n = 4,
                                .tasks = tasks,
                                .lens = lens,
                                .inputs = buf_span(&packed),
                                .skip = skip,
                                .body_fd = -1 };
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
    while (!seen.ends)
        loop_once(loop, true);
    assert_int_equal(seen.results, 2);
    assert_int_equal(seen.indexes, BIT(0) | BIT(2));
    assert_int_equal(seen.status, TASK_OK);
    run.skip = NULL; /* nothing of it is left behind */
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
    while (!seen.ends)
        loop_once(loop, true);
    assert_int_equal(seen.results, 4);
}

static void assert_digest(const uint8_t got[32], struct span bytes)
{
    struct digest want[PACK_DIGESTS_MAX];
    struct hash *h = hash_new();

    hash_begin(h, BIT(ALGO_SHA256));
    hash_update(h, bytes);
    assert_int_equal(hash_end(h, want), 1);
    assert_memory_equal(got, want[0].bytes.data, 32);
    hash_free(h);
}

/* Each task gets its own, one that is skipped and one of nothing among them. */
static void bodies_of_a_run(void **state)
{
    const struct span bodies[] = { SPAN_LIT("first"), SPAN_LIT("skipped"), SPAN_NONE,
                                   SPAN_LIT("the last one") };
    const bool skip[] = { false, true, false, false };
    const uint32_t tasks[] = { 7, 8, 9, 10 };
    struct task_input in = { .url = SPAN_LIT("http://localhost/") };
    AUTO_BUF packed = BUF_INIT;
    uint32_t lens[4];

    (void)state;
    for (size_t i = 0, before = 0; i < 4; i++, before = packed.len) {
        input_pack(&packed, &in);
        lens[i] = (uint32_t)(packed.len - before);
    }
    struct procpool_run run = { .id = 7,
                                .spec_id = 1,
                                .n = 4,
                                .tasks = tasks,
                                .lens = lens,
                                .inputs = buf_span(&packed),
                                .skip = skip,
                                .bodies = bodies,
                                .body_fd = -1 };
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
    while (!seen.ends)
        loop_once(loop, true);
    assert_int_equal(seen.indexes, BIT(0) | BIT(2) | BIT(3));
    assert_int_equal(seen.status, TASK_OK);
    for (size_t i = 0; i < 4; i++)
        if (!skip[i])
            assert_digest(seen.digests[i], bodies[i]);
}

static int set_up(void **state)
{
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;
    const char *bin = getenv("TM_BIN");
    const char *const roots[] = { dir, NULL };
    int fd;

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/tm-procpool.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(large, sizeof(large), "%s/large", dir);
    fd = open(large, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 64ll << 30), 0); /* sparse: nobody gets to its end */
    close(fd);
    program = xasprintf("%s/tidemill-worker", bin ? bin : "build/asan/bin");
    struct procpool_config config = {
        .procs = 1, .program = program, .roots = roots, .identity_fd = -1
    };
    assert_int_equal(loop_new(LOOP_AUTO, &loop, NULL), 0);
    assert_int_equal(procpool_new(loop, &config, &events, NULL, &pool, NULL), 0);
    spec_pack(&packed, &spec);
    procpool_spec(pool, 1, buf_span(&packed));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    procpool_free(pool);
    loop_free(loop);
    free(program);
    unlink(large);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_from_outside_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(its_own_fault_is_poison, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_for_want_of_memory_is_poison, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(want_of_memory_before_is_no_fault_of_a_task,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(want_of_memory_ends_with_sigkill, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_skipped_is_not_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bodies_of_a_run, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
