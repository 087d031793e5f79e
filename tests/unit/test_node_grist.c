/* Fetched bodies on their way to the mills: which go in one run, who comes first when
 * there is room, and what becomes of those that no mill takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The coordinator, which every test is linked with, has a lease_new too. */
#include "tests/sim/worker_names.h"
#include "worker/node_grist.c"

enum { BODIES_MAX = 100, NEVER = 1000 };

static struct loop *loop;
static struct node node;
static struct node_job job = { .id = 1 };
static uint32_t tasks[BODIES_MAX], lens[BODIES_MAX];
static struct node_lease leases[2];
static struct grist bodies[BODIES_MAX];
static int rcs[BODIES_MAX];
static uint32_t n_bodies, n_ended;
static uint8_t bytes[64 * KIB];

/* ---- the pool, and what else the node asks of it ---- */

static struct {
    uint32_t room; /* runs that it takes */
    int never;     /* errno of the next run; 0 = none */
    uint32_t tries, n, cpu_waits, cpu_given;
    struct {
        uint64_t id, lease;
        uint32_t n, first;
    } runs[BODIES_MAX];
} pool;

int procpool_submit(struct procpool *p, const struct procpool_run *run)
{
    size_t all = run->inputs.len;

    (void)p;
    pool.tries++;
    for (uint32_t i = 0; i < run->n; i++)
        all += run->bodies[i].len + 12;
    assert_true(all + 100 <= PROCPOOL_RING_BYTES / 2 - 64);
    errno = pool.never;
    pool.never = 0;
    if (errno)
        return -1;
    errno = EAGAIN;
    if (pool.room == 0)
        return -1;
    pool.room--;
    pool.runs[pool.n].id = run->id;
    pool.runs[pool.n].lease = run->lease;
    pool.runs[pool.n].n = run->n;
    pool.runs[pool.n++].first = run->tasks[0];
    return 0;
}

void procpool_cancel(struct procpool *p, uint64_t run)
{
    (void)p, (void)run;
    abort();
}

void node_start_waiting(struct node *n)
{
    (void)n;
    for (; pool.room > 0 && pool.cpu_waits > 0; pool.cpu_waits--, pool.room--)
        pool.cpu_given++;
}

void split_room(struct node *n)
{
    (void)n;
}

struct span lease_input(const struct node_lease *l, uint32_t index)
{
    return span_of(bytes, l->lens[index]);
}

/* ---- bodies ---- */

static void pass(void *arg)
{
    struct grist *g = arg;

    rcs[g - bodies] = grist_pass(g);
    n_ended++;
}

static void add(uint32_t lease, uint32_t body, uint32_t input, uint32_t count)
{
    for (; count > 0; count--) {
        uint32_t i = n_bodies++;
        tasks[i] = i;
        lens[i] = input;
        bodies[i] = (struct grist){
            .lease = &leases[lease], .index = i, .bytes = span_of(bytes, body), .fd = -1
        };
        assert_int_equal(coropool_spawn(node.coros, pass, &bodies[i], NULL), 0);
    }
}

static void wait_tries(uint32_t n)
{
    while (pool.tries < n)
        loop_once(loop, true);
}

static void wait_ended(uint32_t n)
{
    while (n_ended < n)
        loop_once(loop, true);
}

static void assert_run(uint32_t i, uint64_t lease, uint32_t first, uint32_t n)
{
    assert_in_range(i, 0, pool.n - 1);
    assert_int_equal(pool.runs[i].lease, lease);
    assert_int_equal(pool.runs[i].first, first);
    assert_int_equal(pool.runs[i].n, n);
}

static void answer_all(void)
{
    for (uint32_t i = 0; i < pool.n; i++)
        for (uint32_t k = 0; k < pool.runs[i].n; k++)
            grist_result(&node, pool.runs[i].id, k, TASK_OK, SPAN_NONE);
}

static void a_run_is_of_one_lease(void **state)
{
    (void)state;
    add(0, 10, 10, 3);
    add(1, 10, 10, 2);
    add(0, 10, 10, 1);
    wait_tries(3);
    assert_run(0, 1, 0, 3);
    assert_run(1, 2, 3, 2);
    assert_run(2, 1, 5, 1);
    answer_all();
    wait_ended(6);
    for (uint32_t i = 0; i < 6; i++)
        assert_true(rcs[i] == 0 && bodies[i].status == TASK_OK);
}

static void a_run_has_so_many_bodies(void **state)
{
    (void)state;
    add(0, 10, 10, 70);
    wait_tries(3);
    assert_run(0, 1, 0, 32);
    assert_run(1, 1, 32, 32);
    assert_run(2, 1, 64, 6);
    answer_all();
    wait_ended(70);
}

static void each_mill_gets_its_share(void **state)
{
    (void)state;
    node.config.procs = 2;
    add(0, 10, 10, 40);
    wait_tries(2);
    assert_run(0, 1, 0, 20);
    assert_run(1, 1, 20, 20);
    answer_all();
    wait_ended(40);
}

static void a_run_has_so_many_bytes(void **state)
{
    (void)state;
    add(0, 64 * KIB, 0, 5);
    wait_tries(2);
    assert_run(0, 1, 0, 4);
    assert_run(1, 1, 4, 1);
    answer_all();
    wait_ended(5);
}

static void inputs_count_too(void **state)
{
    (void)state;
    add(0, 64 * KIB, 64 * KIB, 4);
    wait_tries(2);
    assert_run(0, 1, 0, 2);
    assert_run(1, 1, 2, 2);
    answer_all();
    wait_ended(4);
}

/* Nor is it tried before the pool says that there is room. */
static void a_refused_run_waits_for_room(void **state)
{
    (void)state;
    pool.room = 0;
    add(0, 10, 10, 1);
    wait_tries(1);
    add(0, 10, 10, 2);
    while (node.n_mill_waiting < 3)
        loop_once(loop, true);
    assert_false(loop_timer_armed(node.grist_turn));
    assert_int_equal(pool.tries, 1);
    pool.room = NEVER;
    grist_room(&node);
    assert_run(0, 1, 0, 3);
    answer_all();
    wait_ended(3);
}

static void what_no_mill_can_take_fails_alone(void **state)
{
    (void)state;
    pool.never = E2BIG;
    add(0, 10, 10, 1);
    add(1, 10, 10, 1);
    wait_ended(1);
    assert_int_equal(rcs[0], 0);
    assert_int_equal(bodies[0].status, TASK_FAILED);
    assert_run(0, 2, 1, 1);
    answer_all();
    wait_ended(2);
    assert_int_equal(bodies[1].status, TASK_OK);
}

/* One place gets free at a time, and both want each. */
static void fetching_and_hashing_do_not_starve_each_other(void **state)
{
    (void)state;
    pool.room = 0;
    for (uint32_t i = 0; i < 10; i++)
        add(i % 2, 10, 10, 1);
    wait_tries(1);
    while (node.n_mill_waiting < 10)
        loop_once(loop, true);
    pool.cpu_waits = 1;
    for (uint32_t i = 0; i < 2; i++, pool.room = 1)
        grist_room(&node);
    grist_room(&node);
    assert_int_equal(pool.cpu_given, 1);
    pool.cpu_waits = NEVER;
    while (pool.n < 10) {
        uint32_t given = pool.n;
        for (uint32_t i = 0; i < 2; i++) {
            pool.room = 1;
            grist_room(&node);
        }
        assert_int_equal(pool.n, given + 1);
    }
    answer_all();
    wait_ended(10);
}

static void the_node_ends(void **state)
{
    (void)state;
    pool.room = 1;
    add(0, 10, 10, 2);
    add(1, 10, 10, 2);
    wait_tries(2);
    assert_int_equal(node.n_mill_waiting, 2);
    node.pool = NULL;
    coropool_cancel_all(node.coros);
    grist_end(&node);
    wait_ended(4);
    assert_true(rcs[2] < 0 && rcs[3] < 0);
    assert_int_equal(bodies[0].status, TASK_CANCELLED);
}

static int set_up(void **state)
{
    struct coropool_config config = { .max = BODIES_MAX };
    static char a_pool;

    (void)state;
    memset(&pool, 0, sizeof(pool));
    pool.room = NEVER;
    n_bodies = n_ended = 0;
    assert_int_equal(loop_new(LOOP_AUTO, &loop, NULL), 0);
    node = (struct node){ .loop = loop,
                          .config.procs = 1,
                          .next_run = FIRST_IO_RUN,
                          .pool = (struct procpool *)&a_pool };
    TAILQ_INIT(&node.mill_waiting);
    for (uint32_t i = 0; i < 2; i++)
        leases[i] = (struct node_lease){
            .id = i + 1, .node = &node, .job = &job, .tasks = tasks, .lens = lens
        };
    grist_init(&node);
    return coropool_new(loop, &config, &node.coros, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    node.pool = NULL; /* a test that failed leaves some behind */
    coropool_cancel_all(node.coros);
    grist_end(&node);
    while (coropool_live(node.coros))
        loop_once(loop, true);
    coropool_free(node.coros);
    grist_fini(&node);
    for (uint32_t i = 0; i < n_bodies; i++)
        buf_fini(&bodies[i].value);
    loop_free(loop);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_is_of_one_lease),
        TEST(a_run_has_so_many_bodies),
        TEST(each_mill_gets_its_share),
        TEST(a_run_has_so_many_bytes),
        TEST(inputs_count_too),
        TEST(a_refused_run_waits_for_room),
        TEST(what_no_mill_can_take_fails_alone),
        TEST(fetching_and_hashing_do_not_starve_each_other),
        TEST(the_node_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
