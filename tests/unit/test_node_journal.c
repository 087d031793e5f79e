/* What a killed worker left is swept when the coordinator has said all that it wants
 * published (R8), and not before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/node_state.h"

#define TEMPORARY ".out.tm-1-2-0"

static char dir[] = "/tmp/tidemill-journal.XXXXXX";

static bool is_there(void)
{
    return access(TEMPORARY, F_OK) == 0;
}

/* A worker noted attempt 2 of epoch 1, made its file, and was killed. */
static void killed(void)
{
    AUTO_FREE char *out = xasprintf("%s/out", dir);
    struct litter *l;
    int fd;

    assert_int_equal(litter_new(dir, "k", &l, NULL), 0);
    litter_note(l, 1, 2, span_str(out));
    litter_flush(l);
    litter_free(l, true);
    fd = open(TEMPORARY, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void nothing_is_swept_before_all_is_told(void **state)
{
    struct node n = { .epoch = { 3, { 3 } }, .session = 1, .welcomed = true };
    struct err err = { 0 };

    (void)state;
    TAILQ_INIT(&n.batches);
    assert_int_equal(loop_new(LOOP_AUTO, &n.loop, &err), 0);
    assert_int_equal(threadpool_new(n.loop, 1, 8, &n.threads, &err), 0);
    assert_int_equal(litter_new(dir, "k", &n.litter, &err), 0);
    n.sweep_ns = loop_now_ns(n.loop) - 3600 * NS_PER_S; /* whatever the time */
    journal_tend(&n);
    assert_int_equal(threadpool_busy(n.threads), 0);
    assert_true(is_there());
    n.told_all = true;
    journal_tend(&n);
    while (!n.swept)
        loop_once(n.loop, true);
    assert_false(is_there());
    litter_free(n.litter, false);
    threadpool_free(n.threads);
    loop_free(n.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_swept_before_all_is_told),
    };
    int failed;

    if (!mkdtemp(dir) || chdir(dir) < 0)
        return 1;
    killed();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (chdir("/") < 0 || rmdir(dir) < 0)
        return 1;
    return failed;
}
