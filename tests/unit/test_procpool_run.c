/* The pool with mills gone mad: what they say of parts is not believed, and no part that
 * one of them may have begun is run again (R19). And with one that is not: where keys
 * were, there are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
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

static void say(uint32_t serial, struct span value)
{
    struct mill_done_head head = { .serial = serial, .status = TASK_OK };
    uint8_t *at = ring_reserve(&done, sizeof(head) + value.len);

    memcpy(at, &head, sizeof(head));
    if (value.len)
        memcpy(at + sizeof(head), value.data, value.len);
    ring_push(&done);
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
    for (;;) {
        struct span record;
        if (ring_next(&work, &record) != 1) {
            usleep(1000);
            continue;
        }
        const struct mill_run_head *head = (const void *)record.data;
        if (head->kind == MILL_RUN)
            serve(head);
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

static enum task_status fn(const struct task_env *env, const struct task_work *w,
                           struct buf *mem, struct task_value *ret)
{
    struct part p = { .kind = PART_RANGE, .source.size = PART_FILE_MIN };

    (void)env;
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

static char mark[64];
static struct loop *loop;
static struct procpool *pool;
static unsigned ends, ok, lost;
static bool told_secret;

static void on_result(void *arg, uint64_t run, uint32_t index, enum task_status status,
                      struct span value)
{
    struct task_value v;

    (void)arg, (void)run;
    assert_int_equal(index, 0);
    assert_int_equal(value_unpack(value, &v, NULL), 0);
    ok += status == TASK_OK;
    told_secret |= v.has_body && has_secret(v.body.data, v.body.len);
    lost += status == TASK_LOST;
}

static void on_run_end(void *arg, uint64_t run)
{
    (void)arg, (void)run;
    ends++;
}

static void on_room(void *arg)
{
    (void)arg;
}

static const struct procpool_events events = { on_result, on_run_end, on_room };

static void submit(uint64_t id, enum part_kind kind, enum answer answer)
{
    struct part part = { .kind = kind, .first = answer };
    if (kind == PART_RANGE)
        memcpy(part.key, secret, sizeof(secret));
    struct task_input in = { .path = SPAN_LIT("/f") };
    AUTO_BUF packed = BUF_INIT;
    uint32_t task = 0, len;

    input_pack(&packed, &in);
    len = (uint32_t)packed.len;
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

static int set_up(void **state)
{
    struct procpool_config config = { .procs = 1, .identity_fd = -1 };
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;

    (void)state;
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

static int set_up_sane(void **state)
{
    setenv(SANE, "1", 1);
    return set_up(state);
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
