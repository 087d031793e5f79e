/* The full check finds every damaged byte of what was written, and names where it is. */
#include "tests/unit/store_rows.h"

#include "coordinator/store_check.h"

/* What the check says: its lines, and how many findings. */
static uint64_t check(const char *dir, struct buf *lines)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct check_totals t;
    struct err err = { 0 };

    if (store_check(dir, out, &t, &err) < 0)
        fail_msg("%s", err.text);
    fclose(out);
    buf_clear(lines);
    buf_add(lines, text, len);
    free(text);
    return t.findings;
}

static void what_was_written_is_whole(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    AUTO_BUF lines = BUF_INIT;

    fill(f);
    add_batch(g, 3, 0, 1, 10, 1, 4, true); /* waits for its files */
    push(f, g);
    store_close(f->store, false);
    assert_int_equal(check(f->dir, &lines), 0);
    assert_string_equal(buf_str(&lines), "");
    /* So is what a first start leaves that was cut off before its epoch. */
    change(f, "UPDATE meta SET v = 0 WHERE k = 'epoch'");
    assert_int_equal(check(f->dir, &lines), 0);
    open_store(f); /* the check changed nothing */
}

/* Arrays of which the first element says all are stored so. A release before had them
 * whole: its state is read, rows as they are, and taken on. */
static void arrays_are_short_or_whole(void **state)
{
    static const char short_ones[] =
        "CREATE TEMP TABLE t(ok CHECK(ok));"
        "INSERT INTO t SELECT length(lens) = 4 FROM chunk;"
        "INSERT INTO t SELECT length(lens) = 4 AND length(attempts) = 4 FROM batch;"
        "INSERT INTO t SELECT length(tasks) = n * 4 AND length(statuses) = n FROM batch"
        " WHERE row < 3;"
        "INSERT INTO t SELECT length(tasks) = 4 AND length(statuses) = 1 FROM batch"
        " WHERE row = 3;";
    static const char whole_ones[] =
        "CREATE TEMP TABLE repeated(n, two, three, one, zero);"
        "INSERT INTO repeated VALUES(4, x'02000000020000000200000002000000',"
        " x'03000000030000000300000003000000', x'01000000010000000100000001000000',"
        " x'00000000'), (5, x'0200000002000000020000000200000002000000', NULL,"
        " x'0100000001000000010000000100000001000000', NULL);"
        "UPDATE batch SET attempts = (SELECT one FROM repeated r WHERE r.n = batch.n),"
        " lens = (SELECT iif(row = 3, three, two) FROM repeated r WHERE r.n = batch.n);"
        "UPDATE batch SET tasks = x'0A0000000B0000000C0000000D000000',"
        " statuses = (SELECT zero FROM repeated WHERE n = 4) WHERE row = 3;"
        "UPDATE chunk SET lens = (SELECT CAST(two || two || substr(two, 1, 8) AS BLOB)"
        " FROM repeated WHERE n = 4) WHERE id & 15 = 0;"
        "DROP INDEX chunk_at; DROP INDEX batch_at; DROP TABLE lost;"
        "ALTER TABLE chunk DROP COLUMN at; ALTER TABLE chunk DROP COLUMN size;"
        "ALTER TABLE chunk DROP COLUMN place;"
        "ALTER TABLE batch DROP COLUMN at; ALTER TABLE batch DROP COLUMN size;"
        "ALTER TABLE batch DROP COLUMN place;"
        "PRAGMA user_version = 5";
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    AUTO_BUF lines = BUF_INIT;

    fill(f);
    add_batch(g, 3, 0, 1, 10, 1, 4, true);
    push(f, g);
    store_close(f->store, false);
    change(f, short_ones);
    change(f, whole_ones);
    assert_int_equal(check(f->dir, &lines), 0);
    assert_string_equal(buf_str(&lines), "");
    open_store(f);
    assert_int_equal(f->pending, 4);
    store_close(f->store, false);
    change(f, "CREATE TEMP TABLE t(ok CHECK(ok));"
              "INSERT INTO t SELECT user_version = 8 FROM pragma_user_version");
    open_store(f);
}

static void it_refuses_while_a_coordinator_runs(void **state)
{
    struct fixture *f = *state;
    struct check_totals t;
    struct err err = { 0 };

    assert_int_equal(store_check(f->dir, stderr, &t, &err), -1);
    assert_non_null(strstr(err.text, "another coordinator"));
    assert_int_equal(store_check("/nonexistent", stderr, &t, &err), -1);
    assert_non_null(strstr(err.text, "no state"));
}

/* Rows as they must not be, though every page is whole. */
static void broken_promises_are_named(void **state)
{
    static const struct {
        const char *sql, *says;
    } t[] = {
        { "INSERT INTO lost VALUES(2, 0, 1)", "of job 2 belongs to no job" },
        { "UPDATE job SET priority = 7", "job 1: its description is not what was" },
        { "UPDATE job SET key = x'00'", "job 1: its description is not what was" },
        { "UPDATE chunk SET body = CAST('j0' || substr(CAST(body AS TEXT), 3) AS BLOB)"
          " WHERE id & 15 = 0",
          "job 1: chunk 0: its inputs are not what was accepted" },
        { "UPDATE chunk SET node = x'6E32' WHERE id & 15 = 1",
          "job 1: chunk 1: its inputs are not what was accepted" },
        { "UPDATE chunk SET lens = x'00' WHERE id & 15 = 1",
          "chunk 1: it cannot have 10" },
        { "UPDATE chunk SET id = id + 1 WHERE id & 15 = 1",
          "chunk 2 follows where chunk 1 is" },
        { "DELETE FROM chunk WHERE id & 15 = 0", "batch 1 belongs to no chunk of a job" },
        { "UPDATE batch SET vals = CAST('w' || substr(CAST(vals AS TEXT), 2) AS BLOB)"
          " WHERE row = 2",
          "batch 2: statuses or values are not what was written" },
        { "UPDATE batch SET node = x'41' WHERE row = 1", "batch 1: tasks, attempts or" },
        { "UPDATE batch SET cursor = 6 WHERE row = 2", "batch 2: its cursor is 6, exp" },
        { "INSERT INTO batch SELECT 9, job, chunk, 10, epoch, lease, n, head, digest,"
          " node, tasks, statuses, attempts, lens, vals, at, size, place FROM batch "
          "WHERE row = "
          "1",
          "batch 9: task 1 has a record already" },
        { "UPDATE job SET ok = ok + 1", "job 1: its counts do not fit its records" },
        { "UPDATE job SET state = 2", "it has ended with 10 records for 20 tasks" },
        { "UPDATE job SET tasks = 21", "20 tasks in 2 chunks are there, 21 in 2 were" },
        { "DELETE FROM job", "chunk 1 belongs to no chunk of a job" },
        { "UPDATE job SET bytes = 1", "168 bytes are stored, 1 are counted" },
        { "UPDATE key SET role = 2", "key alice: it is not what was written" },
        { "UPDATE key SET revoked = 7", "key alice: it is not what was written" },
        { "UPDATE meta SET v = -1 WHERE k = 'epoch'",
          "the epoch or the running time is missing" },
    };
    AUTO_BUF lines = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        assert_int_equal(set_up(state), 0);
        struct fixture *f = *state;
        fill(f);
        store_close(f->store, false);
        change(f, t[i].sql);
        assert_true(check(f->dir, &lines) > 0);
        if (!strstr(buf_str(&lines), t[i].says))
            fail_msg("%s: %s", t[i].sql, buf_str(&lines));
        assert_int_equal(store_open(f->dir, DURABILITY_FULL, &f->store, NULL), 0);
        tear_down(state);
    }
}

/* Every byte of inputs, values, statuses and descriptions, one bit of each. */
static void every_flipped_bit_is_found(void **state)
{
    static const char *const written[] = {
        "i0i1i2i3i4i5i6i7i8i9", "v1v3v5v7v9", "v0v2v4v6v8", "name", "sha256", "alice"
    };
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", f->dir);
    static uint8_t bytes[512 * KIB];
    AUTO_BUF lines = BUF_INIT;
    unsigned tried = 0;

    fill(f);
    store_close(f->store, false);
    int fd = open(path, O_RDWR);
    size_t n = (size_t)read(fd, bytes, sizeof(bytes));
    for (size_t w = 0; w < ARRAY_LEN(written); w++) {
        size_t len = strlen(written[w]);
        uint8_t *at = memmem(bytes, n, written[w], len);
        for (size_t i = 0; at && i < len; i++, tried++) {
            uint8_t flipped = at[i] ^ (uint8_t)BIT(i % 8);
            assert_int_equal(pwrite(fd, &flipped, 1, at - bytes + (off_t)i), 1);
            if (check(f->dir, &lines) == 0)
                fail_msg("byte %zu of \"%s\" is not missed", i, written[w]);
            assert_int_equal(pwrite(fd, &at[i], 1, at - bytes + (off_t)i), 1);
        }
    }
    close(fd);
    assert_true(tried >= 20 + 2 * 10 + 4 + 5);
    assert_int_equal(check(f->dir, &lines), 0);
    open_store(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(arrays_are_short_or_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_refuses_while_a_coordinator_runs, set_up,
                                        tear_down),
        cmocka_unit_test(broken_promises_are_named),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_found, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
