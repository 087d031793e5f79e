/* The pool with mills gone mad: what they say of parts is not believed, nor of tasks that
 * were taken from them, and no part that one of them may have begun is run again (R19).
 * And with some that are not: where keys were, there are none, and whoever is given tasks
 * of another does them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/pack.h"
#include "worker/millshm.h"
#include "worker/millwork.h"
#include "worker/ops/part.h"
#include "worker/procpool_state.h"

/* What a mill is to answer, in part.first of what it is asked. */
enum answer {
    HONEST,
    NO_VALUE,
    TOO_LARGE,
    SHORT_BODY,
    NOT_A_RANGE,
    NOT_FROM_THE_FIRST,
    TOO_MANY_CHUNKS,
    HEADER_TOO_LONG,
    TOO_SMALL_A_FILE,
    MORE_THAN_THERE_IS,
    BODY_OF_A_RANGE,
    STRANGE_RUN, /* once, when it has two */
};
#define MARK "TM_TEST_PROCPOOL_MARK" /* a file: somebody went mad already */

/* ---- the mill ---- */

static struct ring work, done;

static void say_of(uint32_t serial, uint32_t index, struct span value)
{
    struct mill_done_head head = { serial, index, TASK_OK, 0 };
    uint8_t *at = ring_reserve(&done, sizeof(head) + value.len);

    memcpy(at, &head, sizeof(head));
    if (value.len)
        memcpy(at + sizeof(head), value.data, value.len);
    ring_push(&done);
}

static void say(uint32_t serial, struct span value)
{
    say_of(serial, 0, value);
}

static void say_part(uint32_t serial, enum answer answer)
{
    struct part p = { .kind = PART_RANGE, .seal = true, .header = 200 };
    struct task_value v = { .body = span_of(&p, sizeof(p)), .has_body = true };
    AUTO_BUF packed = BUF_INIT;

    p.source.size = answer == TOO_SMALL_A_FILE     ? PART_FILE_MIN - 1
                    : answer == MORE_THAN_THERE_IS ? UINT64_MAX
                                                   : PART_FILE_MIN;
    p.header = answer == HEADER_TOO_LONG ? UINT64_MAX - 100 : p.header;
    p.kind = answer == NOT_A_RANGE ? PART_HEAD : PART_RANGE;
    p.first = answer == NOT_FROM_THE_FIRST;
    p.n = age_payload_chunks(true, p.header, p.source.size);
    p.n += answer == TOO_MANY_CHUNKS;
    v.body.len -= answer == SHORT_BODY;
    value_pack(&packed, &v);
    say(serial, buf_span(&packed));
}

static void answer(uint32_t serial, enum answer answer)
{
    static uint8_t much[VALUE_MAX_BYTES + 1];

    if (answer == NO_VALUE)
        say(serial, SPAN_LIT("\xc1"));
    else if (answer == TOO_LARGE)
        say(serial, span_of(much, sizeof(much)));
    else
        say_part(serial, answer);
    eventfd_write(MILL_FD_DONE, 1);
}

/* Both were done, but what is said first is nonsense: whoever reads it reads no more. */
static void answer_strangely(const uint32_t *serials, uint32_t n)
{
    const char *mark = getenv(MARK);
    int fd = open(mark, O_CREAT | O_EXCL | O_WRONLY, 0600);

    if (fd >= 0)
        say(UINT32_MAX, SPAN_NONE);
    for (uint32_t i = 0; i < n; i++)
        say_part(serials[i], HONEST);
    eventfd_write(MILL_FD_DONE, 1);
}

/* Whoever has it first takes no task, so that others are given it, and says that it has
 * done them all, and first those that are no longer its own. */
static void serve_run(struct mill_control *control, const struct mill_run_head *head)
{
    struct mill_run run = mill_run_parts((struct mill_run_head *)head);
    struct task_value v = { 0 };
    AUTO_BUF packed = BUF_INIT;

    if (!mill_run_is_done(&run, 0) &&
        open(getenv(MARK), O_CREAT | O_EXCL | O_WRONLY, 0600) >= 0)
        while (atomic_load(&control->unbegun[head->place]) == mill_unbegun(0, head->n))
            usleep(100);
    value_pack(&packed, &v);
    for (uint32_t i = 0; i < head->n; i++)
        if (!mill_run_is_done(&run, head->n - 1 - i))
            say_of(head->serial, head->n - 1 - i, buf_span(&packed));
    eventfd_write(MILL_FD_DONE, 1);
}

static void serve(const struct mill_run_head *head)
{
    static uint32_t strange[PROCPOOL_AHEAD], n_strange;
    struct mill_run run = mill_run_parts((struct mill_run_head *)head);
    struct part part;

    memcpy(&part, run.body, sizeof(part));
    if (part.first != STRANGE_RUN) {
        answer(head->serial, (enum answer)part.first);
        return;
    }
    strange[n_strange++] = head->serial;
    if (n_strange == PROCPOOL_AHEAD) {
        answer_strangely(strange, n_strange);
        n_strange = 0;
    }
}

static _Noreturn void mill(void)
{
    struct mill_shm *shm;

    millwork_enter();
    shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED, MILL_FD_SHM, 0);
    CHECK(shm != MAP_FAILED);
    ring_init(&work, &shm->work, shm->work_bytes, PROCPOOL_RING_BYTES);
    ring_init(&done, &shm->done, shm->done_bytes, PROCPOOL_RING_BYTES);
    atomic_store(&shm->control.ready, 1);
    eventfd_write(MILL_FD_DONE, 1);
    for (;;) {
        struct span record;
        if (ring_next(&work, &record) != 1) {
            usleep(1000);
            continue;
        }
        const struct mill_run_head *head = (const void *)record.data;
        if (head->kind == MILL_RUN && head->body == MILL_BODY_PART)
            serve(head);
        else if (head->kind == MILL_RUN)
            serve_run(&shm->control, head);
        ring_release(&work);
    }
}

/* ---- one that is the product's but for its task ---- */

#define SANE "TM_TEST_PROCPOOL_SANE"
static const uint8_t secret[AGE_PAYLOAD_KEY] = "a key that nobody else has";

static bool has_secret(const void *at, size_t len)
{
    return len && memmem(at, len, secret, sizeof(secret));
}

/* The task /gate ends when the file is there. */
static enum task_status fn_whole(const struct task_work *w)
{
    while (span_eq(w->in->path, SPAN_LIT("/gate")) && access(getenv(MARK), F_OK) < 0)
        usleep(100);
    return TASK_OK;
}

static enum task_status fn(const struct task_env *env, const struct task_work *w,
                           struct buf *mem, struct task_value *ret)
{
    struct part p = { .kind = PART_RANGE, .source.size = PART_FILE_MIN };

    (void)env;
    if (!w->part)
        return fn_whole(w);
    if (has_secret(mem->data, mem->cap))
        return TASK_FAILED;
    if (w->part->kind == PART_RANGE)
        return has_secret(w->part->key, sizeof(secret)) ? TASK_OK : TASK_FAILED;
    p.n = age_payload_chunks(false, 0, p.source.size);
    memcpy(p.key, secret, sizeof(secret));
    buf_clear(mem);
    buf_add(mem, &p, sizeof(p));
    ret->body = buf_span(mem);
    ret->has_body = true;
    return TASK_OK;
}

/* ---- the pool ---- */

enum { WHOLE = 1000 }; /* a run of whole tasks */

static char mark[64];
static struct loop *loop;
static struct procpool *pool;
static unsigned ends, ok, lost;
static uint32_t indexes; /* bits */
static bool told_secret;

static void on_result(void *arg, uint64_t run, uint32_t index, enum task_status status,
                      struct span value)
{
    struct task_value v;

    (void)arg, (void)run;
    assert_false(run == WHOLE && (indexes & BIT(index)));
    indexes |= BIT(index);
    ends++;
    assert_int_equal(value_unpack(value, &v, NULL), 0);
    ok += status == TASK_OK;
    told_secret |= v.has_body && has_secret(v.body.data, v.body.len);
    lost += status == TASK_LOST;
}

static void on_room(void *arg)
{
    (void)arg;
}

static const struct procpool_events events = { on_result, on_room };

static void submit(uint64_t id, enum part_kind kind, enum answer answer)
{
    struct part part = { .kind = kind, .first = answer };
    if (kind == PART_RANGE)
        memcpy(part.key, secret, sizeof(secret));
    struct task_input in = { .path = SPAN_LIT("/f") };
    AUTO_BUF packed = BUF_INIT;
    uint32_t task = 0, len = (uint32_t)input_pack(&packed, &in);

    struct procpool_run run = { .id = id,
                                .spec_id = 1,
                                .n = 1,
                                .tasks = &task,
                                .lens = &len,
                                .inputs = buf_span(&packed),
                                .body_fd = -1,
                                .part = &part };
    assert_int_equal(procpool_submit(pool, &run), 0);
}

/* gates: by index, the tasks that are /gate. */
static void submit_whole(uint32_t n, uint32_t gates)
{
    uint32_t tasks[8] = { 0 }, lens[8];
    AUTO_BUF packed = BUF_INIT;

    for (uint32_t i = 0; i < n; i++) {
        struct task_input in = { .path = gates & BIT(i) ? SPAN_LIT("/gate")
                                                        : SPAN_LIT("/f") };
        lens[i] = (uint32_t)input_pack(&packed, &in);
    }
    struct procpool_run run = { .id = WHOLE,
                                .spec_id = 1,
                                .n = n,
                                .tasks = tasks,
                                .lens = lens,
                                .inputs = buf_span(&packed),
                                .body_fd = -1 };
    ends = indexes = 0;
    assert_int_equal(procpool_submit(pool, &run), 0);
}

static void wait_ends(unsigned n)
{
    while (ends < n)
        loop_once(loop, true);
}

static void a_head_that_is_right_is_taken(void **state)
{
    (void)state;
    submit(1, PART_HEAD, HONEST);
    wait_ends(1);
    assert_int_equal(ok, 1);
}

static void what_is_said_of_a_part_is_not_believed(void **state)
{
    uint64_t id = 1;

    (void)state;
    for (enum answer a = NO_VALUE; a <= BODY_OF_A_RANGE; a++) {
        submit(id++, a == BODY_OF_A_RANGE ? PART_RANGE : PART_HEAD, a);
        wait_ends(a);
        assert_int_equal(lost, a);
    }
}

static void no_part_of_a_mill_gone_mad_is_run_again(void **state)
{
    (void)state;
    submit(1, PART_HEAD, STRANGE_RUN);
    submit(2, PART_HEAD, STRANGE_RUN);
    wait_ends(2);
    assert_int_equal(lost, 2);
}

static void no_key_stays_where_it_was(void **state)
{
    (void)state;
    submit(1, PART_HEAD, HONEST);
    wait_ends(1);
    assert_true(told_secret);
    submit(2, PART_RANGE, HONEST);
    wait_ends(2);
    submit(3, PART_RANGE, HONEST);
    wait_ends(3);
    assert_int_equal(ok, 3);
    assert_false(has_secret(pool->mills[0].proc.shm, sizeof(struct mill_shm)));
}

/* All but the one that a mill is on are taken from it: it finds that this was its last,
 * gives the run's record back, and all of its places are free again. */
static void what_is_taken_from_a_mill_is_done_by_another(void **state)
{
    pid_t pids[2] = { pool->mills[0].proc.pid, pool->mills[1].proc.pid };

    (void)state;
    submit_whole(8, BIT(0));
    wait_ends(7);
    assert_false(indexes & BIT(0));
    close(open(mark, O_CREAT | O_WRONLY, 0600));
    wait_ends(8);
    assert_int_equal(procpool_busy(pool), 0);
    for (unsigned i = 0; i < 2 * PROCPOOL_AHEAD; i++)
        submit(i, PART_HEAD, HONEST);
    wait_ends(8 + 2 * PROCPOOL_AHEAD);
    assert_int_equal(ok, ends);
    for (unsigned i = 0; i < 2; i++) /* and none has died of it */
        assert_int_equal(pool->mills[i].proc.pid, pids[i]);
}

static void what_is_taken_from_a_mill_has_no_second_result(void **state)
{
    pid_t pids[2] = { pool->mills[0].proc.pid, pool->mills[1].proc.pid };

    (void)state;
    while (!pool->mills[0].up || !pool->mills[1].up)
        loop_once(loop, true);
    submit_whole(2, BIT(0));
    wait_ends(2);
    assert_int_equal(indexes, BIT(0) | BIT(1));
    while (pids[0] == pool->mills[0].proc.pid && pids[1] == pool->mills[1].proc.pid)
        loop_once(loop, true); /* who said that it had done both is killed */
    submit_whole(2, BIT(0));
    wait_ends(2);
    assert_int_equal(ok, 4);
}

/* The mill that is on that task of what was submitted; NULL = none. */
static struct mill *mill_on(uint32_t index)
{
    for (uint32_t i = 0; i < pool->n; i++) {
        struct mill *m = &pool->mills[i];
        struct mill_control *control = m->proc.pid ? &m->proc.shm->control : NULL;
        if (control && atomic_load(&control->since_ns) &&
            (uint32_t)atomic_load(&control->on) == index)
            return m;
    }
    return NULL;
}

/* Of eight tasks a mill has the first four, another the others, and each is on its first:
 * what a killed one has not begun, its own or another's, is the others' again. */
static void each_task_has_one_result_whoever_is_killed(void **state)
{
    static const uint32_t victims[] = { 0, 4 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(victims); i++) {
        unlink(mark);
        ok = lost = 0;
        submit_whole(8, ~0u);
        while (!mill_on(0) || !mill_on(4))
            loop_once(loop, false);
        pid_t pid = mill_on(victims[i])->proc.pid;
        assert_true(pid > 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        wait_ends(1);
        assert_int_equal(lost, 1);
        assert_int_equal(indexes, BIT(victims[i]));
        close(open(mark, O_CREAT | O_WRONLY, 0600));
        wait_ends(8);
        assert_int_equal(ok, 7);
        assert_int_equal(procpool_busy(pool), 0);
    }
}

static int set_up_mills(uint32_t procs)
{
    struct procpool_config config = { .procs = procs, .identity_fd = -1 };
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;

    ends = ok = lost = 0;
    told_secret = false;
    snprintf(mark, sizeof(mark), "/tmp/tm-procpool-run.%d", (int)getpid());
    setenv(MARK, mark, 1);
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

static int set_up_sane(void **state)
{
    setenv(SANE, "1", 1);
    return set_up(state);
}

static int set_up_two_sane(void **state)
{
    setenv(SANE, "1", 1);
    return set_up_two(state);
}

static int tear_down(void **state)
{
    (void)state;
    procpool_free(pool);
    loop_free(loop);
    unlink(mark);
    unsetenv(SANE);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_head_that_is_right_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_said_of_a_part_is_not_believed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(no_part_of_a_mill_gone_mad_is_run_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(no_key_stays_where_it_was, set_up_sane,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_taken_from_a_mill_is_done_by_another,
                                        set_up_two_sane, tear_down),
        cmocka_unit_test_setup_teardown(what_is_taken_from_a_mill_has_no_second_result,
                                        set_up_two, tear_down),
        cmocka_unit_test_setup_teardown(each_task_has_one_result_whoever_is_killed,
                                        set_up_two_sane, tear_down),
    };
    static const struct task_env env;

    if (argc > 1 && strcmp(argv[1], "--mill") == 0 && getenv(SANE)) {
        millwork_enter();
        millwork_loop(fn, &env);
    }
    if (argc > 1 && strcmp(argv[1], "--mill") == 0)
        mill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
