/* What a Beat names: each lease that goes on once, however many of its tasks wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* The coordinator, which every test is linked with, has a lease_new too. */
#include "tests/sim/worker_names.h"
#include "worker/node_held.c"
#include "worker/procpool_state.h"
#include "worker/split.c"

/* ---- what it asks the node's other files for ---- */

struct node_lease *lease_find(struct node *n, uint64_t id)
{
    struct node_lease *l;

    HASH_FIND(hh, n->leases, &id, sizeof(id), l);
    return l;
}

/* No part is given out here: these are never called. */
struct span lease_input(const struct node_lease *l, uint32_t index)
{
    (void)l, (void)index;
    abort();
}
struct files_attempt lease_attempt(const struct node_lease *l, uint32_t index)
{
    (void)l, (void)index;
    abort();
}
void attempt_discard(struct node_lease *l, uint32_t index)
{
    (void)l, (void)index;
    abort();
}
void node_result(struct node_lease *l, uint32_t index, enum task_status status,
                 struct span value)
{
    (void)l, (void)index, (void)status, (void)value;
    abort();
}

static void a_lease_of_many_large_files_is_named_once(void **state)
{
    enum { MANY = WIRE_LIST_MAX + 1, WAITS = 2, SAID };
    static uint64_t list[WIRE_LIST_MAX];
    struct node_job job = { .id = 1 };
    struct procpool pool = { .n = 0 };
    struct node node = { .pool = &pool }; /* no process: no part is given out */
    struct node_lease many = { .id = 1, .node = &node, .job = &job, .n = MANY };
    struct node_lease waits = { .id = WAITS, .node = &node, .job = &job };
    struct node_lease said = { .id = SAID, .node = &node, .job = &job };
    struct batch batch = { .lease = &said, .state = BATCH_SENT };

    (void)state;
    TAILQ_INIT(&pool.homeless);
    TAILQ_INIT(&node.waiting);
    TAILQ_INIT(&node.mill_waiting);
    TAILQ_INIT(&node.splits);
    TAILQ_INIT(&node.batches);
    many.split = xcalloc(MANY, sizeof(bool));
    memset(many.split, true, MANY);
    waits.waiting = true;
    HASH_ADD(hh, node.leases, id, sizeof(many.id), (&many));
    HASH_ADD(hh, node.leases, id, sizeof(waits.id), (&waits));
    TAILQ_INSERT_TAIL(&node.batches, &batch, node_entry);
    split_start(&many);
    for (int beat = 0; beat < 2; beat++) {
        assert_int_equal(held_moving(&node, list), 3);
        assert_int_equal(list[0], SAID);
        assert_int_equal(list[1], WAITS);
        assert_int_equal(list[2], many.id);
    }
    split_free_all(&node);
    HASH_CLEAR(hh, node.leases);
    free(many.split);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_of_many_large_files_is_named_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
