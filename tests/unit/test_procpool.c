/* The pool with the real mills: whose fault it is when one of them ends, and who gets
 * what of a run. */
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

enum { TASKS_MAX = 4 };

/* Nobody gets to the end of the large ones. */
static char dir[64], large[3][80], *program;
static struct loop *loop;
static struct procpool *pool;

/* The kernel's counter, as the test wants it. */
static uint64_t kills;
uint64_t oom_kills(void)
{
    return kills;
}

struct seen {
    unsigned results;
    bool index[TASKS_MAX]; /* which results there are */
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
    assert_false(seen.index[index]);
    seen.index[index] = true;
    assert_int_equal(value_unpack(value, &v, NULL), 0);
    snprintf(seen.why, sizeof(seen.why), "%.*s", (int)v.error.len,
             v.error.len ? (const char *)v.error.data : "");
    if (v.n_digests && index < ARRAY_LEN(seen.digests))
        memcpy(seen.digests[index], v.digests[0].bytes.data, 32);
    seen.status = status;
    seen.results++;
}

static void on_room(void *arg)
{
    (void)arg;
}

static const struct procpool_events events = { on_result, on_room };

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

/* The mill that has a file open; 0 = none. */
static pid_t mill_at(const char *path)
{
    AUTO_FREE char *name = xasprintf("/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(name, "r");
    int pid;
    pid_t found = 0;

    assert_non_null(f);
    while (!found && fscanf(f, "%d", &pid) == 1)
        if (has_open(pid, path))
            found = pid;
    fclose(f);
    return found;
}

/* Submits the digest of as many files. */
static void submit(uint64_t id, const char *(*file)(unsigned i), uint32_t n)
{
    static uint32_t tasks[TASKS_MAX], lens[TASKS_MAX];
    AUTO_BUF packed = BUF_INIT;

    for (uint32_t i = 0; i < n; i++) {
        struct task_input in = { .path = span_str(file(i)) };
        lens[i] = (uint32_t)input_pack(&packed, &in);
        tasks[i] = i;
    }
    struct procpool_run run = { .id = id,
                                .spec_id = 1,
                                .n = n,
                                .tasks = tasks,
                                .lens = lens,
                                .inputs = buf_span(&packed),
                                .body_fd = -1 };
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
}

static const char *nth_large(unsigned i)
{
    return large[i];
}

static pid_t wait_mill_at(const char *path)
{
    pid_t pid;

    while (!(pid = mill_at(path)))
        loop_once(loop, false);
    return pid;
}

/* Starts the digest of a large file; the mill that is at it. */
static pid_t start(uint64_t id)
{
    submit(id, nth_large, 1);
    return wait_mill_at(large[0]);
}

static void wait_results(unsigned n)
{
    while (seen.results < n)
        loop_once(loop, true);
    assert_int_equal(seen.results, n);
}

static void wait_result(void)
{
    wait_results(1);
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
    for (size_t i = 0; i < 4; i++)
        lens[i] = (uint32_t)input_pack(&packed, &in);
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
    wait_results(2);
    assert_true(seen.index[0] && seen.index[2]);
    assert_int_equal(seen.status, TASK_OK);
    run.skip = NULL; /* nothing of it is left behind */
    seen = (struct seen){ 0 };
    assert_int_equal(procpool_submit(pool, &run), 0);
    wait_results(4);
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
    for (size_t i = 0; i < 4; i++)
        lens[i] = (uint32_t)input_pack(&packed, &in);
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
    wait_results(3);
    assert_false(seen.index[1]);
    assert_int_equal(seen.status, TASK_OK);
    for (size_t i = 0; i < 4; i++)
        if (!skip[i])
            assert_digest(seen.digests[i], bodies[i]);
}

/* Three tasks in one run, which one mill gets, and of which none ends: the other gets one
 * or two of them, and when it is killed on the first, another is given the second. */
static void a_mill_without_work_gets_half_of_anothers(void **state)
{
    pid_t first, other;
    unsigned at = 1;

    (void)state;
    submit(7, nth_large, 3);
    first = wait_mill_at(large[0]);
    while (!(other = mill_at(large[at]))) {
        loop_once(loop, false);
        at = 3 - at;
    }
    assert_int_not_equal(first, other);
    kill(other, SIGKILL);
    wait_result();
    assert_true(seen.index[at]);
    assert_int_equal(seen.status, TASK_LOST);
    assert_int_not_equal(wait_mill_at(large[3 - at]), first);
    assert_int_equal(mill_at(large[0]), first);
    /* That it is with two mills makes no difference to who ends it. */
    procpool_cancel(pool, 7);
    wait_results(3);
    assert_int_equal(seen.status, TASK_CANCELLED);
    assert_int_equal(procpool_busy(pool), 0);
}

static void make_sparse(char *path, size_t size, const char *name, off_t bytes)
{
    int fd;

    snprintf(path, size, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

static int set_up_mills(uint32_t procs)
{
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;
    const char *bin = getenv("TM_BIN");
    const char *const roots[] = { dir, NULL };

    snprintf(dir, sizeof(dir), "/tmp/tm-procpool.XXXXXX");
    assert_non_null(mkdtemp(dir));
    make_sparse(large[0], sizeof(large[0]), "large0", 64ll << 30);
    make_sparse(large[1], sizeof(large[1]), "large1", 64ll << 30);
    make_sparse(large[2], sizeof(large[2]), "large2", 64ll << 30);
    program = xasprintf("%s/tidemill-worker", bin ? bin : "build/asan/bin");
    struct procpool_config config = {
        .procs = procs, .program = program, .roots = roots, .identity_fd = -1
    };
    assert_int_equal(loop_new(LOOP_AUTO, &loop, NULL), 0);
    assert_int_equal(procpool_new(loop, &config, &events, NULL, &pool, NULL), 0);
    spec_pack(&packed, &spec);
    procpool_spec(pool, 1, buf_span(&packed));
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_mills(1);
}

static int set_up_two(void **state)
{
    (void)state;
    return set_up_mills(2);
}

static int tear_down(void **state)
{
    (void)state;
    procpool_free(pool);
    loop_free(loop);
    free(program);
    for (size_t i = 0; i < ARRAY_LEN(large); i++)
        unlink(large[i]);
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
        cmocka_unit_test_setup_teardown(a_mill_without_work_gets_half_of_anothers,
                                        set_up_two, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
