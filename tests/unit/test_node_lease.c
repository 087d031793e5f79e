/* The jobs a node knows: as long as it may be given leases of them without their spec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The coordinator, which every test is linked with, has a lease_new too. */
#include "tests/sim/worker_names.h"
#include "worker/node_lease.c"

static struct loop *loop;
static struct node node;

/* A lease of two tasks; with_spec: as the first one of a session has it. */
static struct node_lease *take(uint64_t id, uint64_t job, bool with_spec)
{
    static uint32_t lens[2];
    static struct range ranges[1] = { { 0, 2 } };
    struct job_spec spec = { .algos = BIT(ALGO_SHA256) };
    AUTO_BUF packed = BUF_INIT;
    struct msg m = { .type = MSG_LEASE };
    struct node_job *j;

    spec_pack(&packed, &spec);
    m.lease.lease = id;
    m.lease.job = job;
    m.lease.lens = lens;
    m.lease.n_lens = 2;
    m.lease.ranges = ranges;
    m.lease.n_ranges = 1;
    if (with_spec)
        m.lease.spec = buf_span(&packed);
    j = job_of(&node, &m.lease, NULL);
    return j ? lease_new(&node, j, &m) : NULL;
}

static void end(struct node_lease *l)
{
    HASH_DEL(node.leases, l);
    lease_unref(l);
}

static void a_job_is_known_for_the_session(void **state)
{
    (void)state;
    assert_null(take(1, 1, false));
    end(take(1, 1, true));
    struct node_lease *l = take(2, 1, false);
    assert_non_null(l);
    end(l);
}

static void a_new_session_keeps_those_with_leases(void **state)
{
    struct node_lease *l = take(1, 1, true);

    (void)state;
    for (uint64_t job = 2; job < 1000; job++)
        end(take(job, job, true));
    assert_int_equal(HASH_COUNT(node.jobs), 999);
    jobs_forget(&node, 0);
    assert_int_equal(HASH_COUNT(node.jobs), 1);
    assert_int_equal(l->job->spec.algos, BIT(ALGO_SHA256));
    assert_null(take(2000, 2, false));
    end(take(2001, 2, true)); /* sent anew */
    end(l);
    assert_int_equal(HASH_COUNT(node.jobs), 1); /* not sent in this one, 1 has gone */
    assert_int_equal(node.jobs->id, 2);
}

static void a_spec_sent_again_is_kept(void **state)
{
    struct node_lease *l = take(1, 1, true);

    (void)state;
    jobs_forget(&node, 0);
    end(take(2, 1, true));
    end(l);
    l = take(3, 1, false);
    assert_non_null(l);
    end(l);
}

static void an_ended_job_is_forgotten_alone(void **state)
{
    struct node_lease *l = take(1, 1, true);

    (void)state;
    end(take(2, 2, true));
    jobs_forget(&node, 1); /* what is under way needs it still */
    assert_int_equal(HASH_COUNT(node.jobs), 2);
    end(l);
    assert_int_equal(HASH_COUNT(node.jobs), 1);
    assert_int_equal(node.jobs->id, 2);
}

static int set_up(void **state)
{
    static const struct procpool_events events;
    struct procpool_config none = { .identity_fd = -1 };

    (void)state;
    node = (struct node){ 0 };
    assert_int_equal(loop_new(LOOP_AUTO, &loop, NULL), 0);
    return procpool_new(loop, &none, &events, NULL, &node.pool, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    jobs_forget(&node, 0);
    procpool_free(node.pool);
    loop_free(loop);
    return node.jobs || node.leases ? -1 : 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_job_is_known_for_the_session),
        TEST(a_new_session_keeps_those_with_leases),
        TEST(a_spec_sent_again_is_kept),
        TEST(an_ended_job_is_forgotten_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
