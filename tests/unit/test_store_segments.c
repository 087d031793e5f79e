/* Bodies of 16 KiB and more are in segments: read back, checked, counted, and given back
 * when nobody has them any more. */
#include "tests/unit/store_rows.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "coordinator/segment.h"
#include "coordinator/store_check.h"
#include "coordinator/store_state.h"

enum { LARGE = 100 * KIB };

/* One task with so long an input, all of its bytes its chunk's number. */
static void add_large_chunk(struct fx_group *g, uint64_t job, uint32_t seq)
{
    struct chunk_row *c = &fx_add(g, FX_CHUNK)->chunk;

    *c = (struct chunk_row){
        .job = job, .seq = seq, .first = seq, .n = 1, .node = node_of(seq)
    };
    c->lens = blob_new(span_of(&(uint32_t){ LARGE }, sizeof(uint32_t)));
    c->body = blob_alloc(LARGE);
    memset(c->body->data, (int)seq, LARGE);
    struct span parts[] = { blob_span(c->lens), blob_span(c->body), c->node };
    checksum(parts, ARRAY_LEN(parts), c->digest);
}

/* The values of a row become one letter each, so long that a segment has them. */
static void make_large(struct blob **values, struct blob **lens, uint32_t n, char letter)
{
    blob_unref(*values);
    *values = blob_alloc((size_t)n * LARGE);
    memset((*values)->data, letter, (*values)->len);
    blob_unref(*lens);
    *lens = blob_alloc(n * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        ((uint32_t *)(*lens)->data)[i] = LARGE;
}

static void add_large_batch(struct fx_group *g, uint64_t row, uint64_t cursor,
                            uint32_t task, bool pending)
{
    struct batch_row *b = add_batch(g, row, cursor, task, task, 1, 1, pending);

    make_large(&b->values, &b->lens, 1, 'v');
}

/* A job of two chunks, the first of which has a record. */
static void fill_large(struct fixture *f)
{
    struct fx_group *g = fx_group_new();

    add_job(g, 1);
    add_large_chunk(g, 1, 0);
    add_large_chunk(g, 1, 1);
    push(f, g);
    g = fx_group_new();
    add_large_batch(g, 1, 0, 0, false);
    push(f, g);
}

static bool chunk_is_damaged(struct fixture *f, uint64_t job, uint32_t seq)
{
    struct fx_group *g = fx_group_new();

    fx_add(g, FX_READ_CHUNK)->read_chunk =
        (struct fx_read_chunk){ .job = job, .seq = seq, .first = seq, .n = 1 };
    push(f, g);
    const struct fx_read_chunk *r = &STAILQ_FIRST(&f->back->list)->read_chunk;
    if (!r->damaged) {
        assert_int_equal(r->ret.body->len, LARGE);
        assert_int_equal(r->ret.body->data[LARGE - 1], seq);
    }
    return r->damaged;
}

/* The letter of the value at that cursor; 0: damaged. */
static char value_at(struct fixture *f, uint64_t cursor)
{
    struct fx_group *g = fx_group_new();

    fx_add(g, FX_READ_RESULTS)->read_results = (struct fx_read_results){
        .job = 1, .cursor = cursor, .limit = cursor + 1, .inputs = true, .max_bytes = KIB
    };
    push(f, g);
    const struct fx_read_results *r = &STAILQ_FIRST(&f->back->list)->read_results;
    if (r->damaged)
        return 0;
    assert_int_equal(r->ret.values->len, LARGE);
    return (char)r->ret.values->data[LARGE - 1];
}

/* The segments in the directory; *ret_bytes: what they take up. */
static unsigned segments_in(const struct fixture *f, uint64_t *ret_bytes)
{
    DIR *d = opendir(f->dir);
    unsigned n = 0;
    struct stat st;

    *ret_bytes = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (segment_number(e->d_name) && fstatat(dirfd(d), e->d_name, &st, 0) == 0) {
            n++;
            *ret_bytes += (uint64_t)st.st_blocks * 512;
        }
    closedir(d);
    return n;
}

static void wait_for_segments(const struct fixture *f, unsigned n, uint64_t most_bytes)
{
    uint64_t bytes;

    for (int i = 0; segments_in(f, &bytes) != n || bytes > most_bytes; i++) {
        if (i == 2000)
            fail_msg("%u segments of %llu bytes", segments_in(f, &bytes),
                     (unsigned long long)bytes);
        usleep(10000);
    }
}

static uint64_t findings(const struct fixture *f, const char *says)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct check_totals t;
    struct err err = { 0 };

    assert_int_equal(store_check(f->dir, out, &t, &err), 0);
    fclose(out);
    if (!strstr(text, says))
        fail_msg("%s", text);
    free(text);
    return t.findings;
}

static void reopen(struct fixture *f)
{
    assert_true(store_close(f->store, false));
    open_store(f);
}

static void large_bodies_are_in_segments(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes;

    fill_large(f);
    for (int i = 0; i < 2; i++) {
        assert_false(chunk_is_damaged(f, 1, 0));
        assert_false(chunk_is_damaged(f, 1, 1));
        assert_int_equal(value_at(f, 0), 'v');
        reopen(f);
        assert_int_equal(f->job_bytes, 2 * (LARGE + 4) + 2 + LARGE);
    }
    assert_true(store_close(f->store, false));
    assert_int_equal(findings(f, ""), 0);
    assert_int_equal(segments_in(f, &bytes), 1);
    assert_true(bytes >= 3 * LARGE);
    open_store(f);
}

static void small_bodies_are_not(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes;

    fill(f);
    assert_int_equal(segments_in(f, &bytes), 0);
}

static void remove_job(struct fixture *f, uint64_t id)
{
    struct fx_group *g = fx_group_new();

    fx_add(g, FX_REMOVE)->remove.job = id;
    push(f, g);
}

/* Changes a byte of the only segment, or its length. */
static void spoil(const struct fixture *f, off_t at, bool cut)
{
    AUTO_FREE char *path = xasprintf("%s/segment.00000001", f->dir);
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    if (cut)
        assert_int_equal(ftruncate(fd, at), 0);
    else
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void damage_is_one_bodys(void **state)
{
    struct fixture *f = *state;

    fill_large(f);
    spoil(f, LARGE + 5, false);
    assert_false(chunk_is_damaged(f, 1, 0));
    assert_true(chunk_is_damaged(f, 1, 1));
    assert_int_equal(value_at(f, 0), 'v');
    spoil(f, 2 * LARGE + 5, false);
    assert_int_equal(value_at(f, 0), 0);
    assert_string_equal(f->failed.text, "");
    store_close(f->store, false);
    assert_int_equal(findings(f, "job 1: chunk 1: its inputs are not what was accepted"),
                     2);
    assert_int_equal(findings(f, "batch 1: statuses or values are not what was"), 2);
    open_store(f);
    spoil(f, 2 * LARGE + 5, true);
    assert_int_equal(value_at(f, 0), 0);
    spoil(f, 0, true);
    assert_true(chunk_is_damaged(f, 1, 0));
    store_close(f->store, false);
    findings(f, "batch 1: its bytes are not in their segment");
    AUTO_FREE char *path = xasprintf("%s/segment.00000001", f->dir);
    unlink(path);
    findings(f, "chunk 0: its bytes are not in their segment");
    open_store(f);
    assert_true(chunk_is_damaged(f, 1, 1));
    assert_string_equal(f->failed.text, "");
}

static void what_belongs_to_no_row_goes_at_the_start(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *path = xasprintf("%s/segment.000000ff", f->dir);
    uint64_t bytes;

    fill_large(f);
    assert_true(store_close(f->store, false));
    close(open(path, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(segments_in(f, &bytes), 2);
    assert_int_equal(findings(f, ""), 0);
    open_store(f);
    assert_int_equal(segments_in(f, &bytes), 1);
    assert_false(chunk_is_damaged(f, 1, 1));
}

/* A row whose place is damaged costs itself; of what is there nothing is given back. */
static void a_damaged_place_takes_no_others(void **state)
{
    static const char *const damage[] = {
        "UPDATE chunk SET size = 0 WHERE at & 4294967295 = 0",
        "UPDATE chunk SET size = size + (1 << 30) WHERE at & 4294967295 = 0",
        "UPDATE chunk SET at = at + 102400 WHERE at & 4294967295 = 0",
        "UPDATE chunk SET place = NULL WHERE at & 4294967295 = 0",
    };

    for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
        struct fixture *f = *state;
        struct fx_group *g = fx_group_new();
        add_job(g, 1);
        add_job(g, 2);
        add_large_chunk(g, 1, 0);
        add_large_chunk(g, 2, 0);
        add_large_chunk(g, 2, 1);
        push(f, g);
        assert_true(store_close(f->store, false));
        change(f, damage[i]);
        findings(f, "job 1: chunk 0: the place of its bytes is not what was written");
        open_store(f);
        remove_job(f, 1);
        g = fx_group_new(); /* between two groups comes a slice of the removal */
        fx_add(g, FX_RUN)->run.ns = 7;
        push(f, g);
        assert_false(chunk_is_damaged(f, 2, 0));
        assert_false(chunk_is_damaged(f, 2, 1));
        tear_down(state);
        set_up(state);
    }
}

/* The index of bodies is there without what was written: the start believes the rows. */
static void an_old_index_removes_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = { 0 };
    uint64_t bytes;

    fill_large(f);
    assert_true(store_close(f->store, false));
    change(f, "DROP INDEX chunk_at; DROP INDEX batch_at;"
              "CREATE INDEX chunk_at ON chunk(at, size) WHERE at > 1 << 60;"
              "CREATE INDEX batch_at ON batch(at, size) WHERE at > 1 << 60;"
              "PRAGMA writable_schema = 1;"
              "UPDATE sqlite_schema SET sql = replace(sql, '> 1 << 60', 'IS NOT NULL');");
    assert_true(findings(f, "missing from index chunk_at") > 0);
    assert_int_equal(store_open(f->dir, DURABILITY_FULL, &f->store, &err), 0);
    assert_int_equal(store_load(f->store, &loads, f, &f->next_row, &err), -1);
    assert_non_null(strstr(err.text, "the index of bodies in segment 1"));
    assert_int_equal(segments_in(f, &bytes), 1);
}

static void two_rows_with_the_same_bytes_are_named(void **state)
{
    struct fixture *f = *state;

    fill_large(f);
    assert_true(store_close(f->store, false));
    change(f, "UPDATE batch SET at = (SELECT max(at) FROM chunk)");
    findings(f, "segment 1: two rows have the bytes at 102400");
    open_store(f);
}

/* Nothing is removed on the word of a database that is not theirs. */
static void segments_of_another_database_stay(void **state)
{
    struct fixture *f = *state;
    AUTO_FREE char *db = xasprintf("%s/tidemill.db", f->dir);
    AUTO_FREE char *aside = xasprintf("%s/aside", f->dir);
    struct store *other = NULL;
    struct err err = { 0 };
    uint64_t bytes;

    fill_large(f);
    assert_true(store_close(f->store, false));
    assert_int_equal(rename(db, aside), 0);
    assert_int_equal(store_open(f->dir, DURABILITY_FULL, &other, &err), -1);
    assert_non_null(strstr(err.text, "1 segments of a database that is not here"));
    assert_int_equal(segments_in(f, &bytes), 1);
    assert_int_equal(rename(aside, db), 0);
    open_store(f);
    assert_false(chunk_is_damaged(f, 1, 1));
    assert_int_equal(value_at(f, 0), 'v');
}

static void large_and_small_bodies_take_turns(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();

    add_job(g, 1);
    add_large_chunk(g, 1, 0);
    add_chunk(g, 1, 1, 1, 1);
    add_large_chunk(g, 1, 2);
    push(f, g);
    g = fx_group_new();
    add_large_batch(g, 1, 0, 0, false);
    add_batch(g, 2, 1, 1, 1, 1, 1, false);
    add_large_batch(g, 3, 2, 2, false);
    push(f, g);
    assert_int_equal(value_at(f, 0), 'v');
    assert_int_equal(value_at(f, 2), 'v');
    assert_true(store_close(f->store, false));
    assert_int_equal(findings(f, ""), 0);
    open_store(f);
    assert_int_equal(f->recorded, 3);
}

/* ---- transactions by hand ---- */

/* All of a group, committed or rolled back. */
static void transact(struct sql *q, struct fx_group *g, bool commit)
{
    struct err err = { 0 };
    struct fx *fx;
    enum sql_result rc = sql_begin(q, &err);

    STAILQ_FOREACH (fx, &g->list, node)
        if (rc == SQL_OK)
            rc = sql_save(q, fx, &err);
    if (commit && rc == SQL_OK)
        rc = sql_commit(q, &err);
    else
        sql_rollback(q);
    fx_group_free(g);
    if (rc != SQL_OK)
        fail_msg("%s", err.text);
}

static void show_other_values(struct fx_group *g, uint64_t row)
{
    struct fx *fx = fx_add(g, FX_SHOW);

    fx->show.row = row;
    fx->show.job = 1;
    fx->show.cursor = 1;
    fx->show.n = 1;
    fx->show.bytes = LARGE;
    fx->show.statuses = blob_new(span_of(&(uint8_t){ TASK_FAILED }, 1));
    make_large(&fx->show.values, &fx->show.lens, 1, 'w');
}

/* What is rolled back was neither put nor dropped, and what was there stays. */
static void what_is_rolled_back_has_not_been(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    struct err err = { 0 };
    struct epoch epoch;
    struct sql *q;

    fill_large(f);
    add_large_batch(g, 2, 0, 1, true);
    push(f, g);
    assert_true(store_close(f->store, false));
    assert_int_equal(sql_open(f->dir, DURABILITY_FULL, &epoch, &q, &err), 0);
    g = fx_group_new();
    add_large_chunk(g, 1, 2);
    transact(q, g, true);
    g = fx_group_new();
    add_large_chunk(g, 1, 3);
    show_other_values(g, 2);
    transact(q, g, false);
    g = fx_group_new();
    fx_add(g, FX_RUN)->run.ns = 7;
    transact(q, g, true);
    sql_close(q);
    assert_int_equal(findings(f, ""), 0);
    /* And once more, to the end. */
    assert_int_equal(sql_open(f->dir, DURABILITY_FULL, &epoch, &q, &err), 0);
    g = fx_group_new();
    add_large_chunk(g, 1, 3);
    show_other_values(g, 2);
    transact(q, g, true);
    sql_close(q);
    assert_int_equal(findings(f, ""), 0);
    open_store(f);
    for (uint32_t seq = 0; seq < 4; seq++)
        assert_false(chunk_is_damaged(f, 1, seq));
    assert_int_equal(value_at(f, 0), 'v');
    assert_int_equal(value_at(f, 1), 'w');
}

/* A batch that gets other values when its files could not be published. */
static void other_values_take_the_place_of_those(void **state)
{
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    uint64_t before, after;

    fill_large(f);
    add_large_batch(g, 2, 0, 1, true);
    push(f, g);
    reopen(f);
    segments_in(f, &before);
    g = fx_group_new();
    show_other_values(g, 2);
    push(f, g);
    assert_int_equal(segments_in(f, &after), 2); /* a process, a segment */
    assert_true(after < before + 16 * KIB);
    assert_int_equal(value_at(f, 1), 'w');
    assert_int_equal(value_at(f, 0), 'v');
    assert_true(store_close(f->store, false));
    assert_int_equal(findings(f, ""), 0);
    open_store(f);
    assert_int_equal(value_at(f, 1), 'w');
}

/* Of two jobs in one segment the removed one's room is given back, and the segment when
 * it has nobody's bodies; whatever the durability. */
static void a_removed_jobs_bodies_go(void **state)
{
    enum { CHUNKS = 20 };
    struct fixture *f = *state;
    uint64_t bytes;

    for (int durability = DURABILITY_FULL; durability <= DURABILITY_NONE; durability++) {
        uint64_t one = 1 + 2 * (uint64_t)durability, two = one + 1;
        assert_true(store_close(f->store, false));
        f->durability = (enum durability)durability;
        open_store(f);
        struct fx_group *g = fx_group_new();
        add_job(g, one);
        add_job(g, two);
        for (uint32_t i = 0; i < CHUNKS; i++) {
            add_large_chunk(g, one, i);
            add_large_chunk(g, two, i);
        }
        push(f, g);
        assert_int_equal(segments_in(f, &bytes), 1);
        assert_true(bytes >= 2 * CHUNKS * LARGE);
        remove_job(f, one);
        wait_for_segments(f, 1, CHUNKS * LARGE + 64 * KIB);
        for (uint32_t i = 0; i < CHUNKS; i++)
            assert_false(chunk_is_damaged(f, two, i));
        reopen(f); /* the next is not the one that is written */
        assert_false(chunk_is_damaged(f, two, 0));
        remove_job(f, two);
        wait_for_segments(f, 0, 0);
        assert_true(store_close(f->store, false));
        assert_int_equal(findings(f, ""), 0);
        open_store(f);
    }
}

/* From now on, or no more, SQLite finds no room for anything it writes. */
static ssize_t no_room_at(int fd, const void *data, size_t len, off_t at)
{
    (void)fd, (void)data, (void)len, (void)at;
    errno = ENOSPC;
    return -1;
}
static ssize_t no_room(int fd, const void *data, size_t len)
{
    return no_room_at(fd, data, len, 0);
}
static void be_full(bool full)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    vfs->xSetSystemCall(vfs, "write", full ? (sqlite3_syscall_ptr)no_room : NULL);
    vfs->xSetSystemCall(vfs, "pwrite", full ? (sqlite3_syscall_ptr)no_room_at : NULL);
    vfs->xSetSystemCall(vfs, "pwrite64", full ? (sqlite3_syscall_ptr)no_room_at : NULL);
}

/* A slice of a removal that finds no room is not taken for done. */
static void a_removal_without_room_goes_on(void **state)
{
    enum { CHUNKS = 30 };
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    struct err err = { 0 };
    struct epoch epoch;
    struct sql *q;
    uint64_t bytes;

    assert_true(store_close(f->store, false));
    f->store = NULL;
    assert_int_equal(sql_open(f->dir, DURABILITY_FULL, &epoch, &q, &err), 0);
    add_job(g, 1);
    for (uint32_t i = 0; i < CHUNKS; i++)
        add_large_chunk(g, 1, i);
    transact(q, g, true);
    g = fx_group_new();
    fx_add(g, FX_REMOVE)->remove.job = 1;
    transact(q, g, true);
    be_full(true);
    for (int i = 0; i < 4; i++)
        assert_int_not_equal(sql_trim(q, &err), SQL_FAILED);
    be_full(false);
    assert_non_null(strstr(err.text, "no space left"));
    assert_true(sql_trim_due(q, false));
    segments_in(f, &bytes);
    assert_true(bytes >= CHUNKS * LARGE);
    while (sql_trim_due(q, false))
        assert_int_equal(sql_trim(q, &err), SQL_OK);
    assert_int_equal(segments_in(f, &bytes), 1);
    assert_int_equal(bytes, 0);
    sql_close(q);
    open_store(f);
}

/* Over the end of a segment: all is there, and goes; the one that is written stays. */
static void a_full_segment_is_followed_by_another(void **state)
{
    enum { CHUNKS = SEGMENT_BYTES / LARGE + 2 };
    struct fixture *f = *state;
    struct fx_group *g = fx_group_new();
    uint64_t bytes;

    add_job(g, 1);
    for (uint32_t i = 0; i < CHUNKS; i++)
        add_large_chunk(g, 1, i);
    add_job(g, 2);
    push(f, g);
    assert_int_equal(segments_in(f, &bytes), 2);
    assert_false(chunk_is_damaged(f, 1, 0));
    assert_int_equal(f->failed.text[0], 0);
    remove_job(f, 1);
    wait_for_segments(f, 1, 64 * KIB);
    g = fx_group_new();
    add_large_chunk(g, 2, 0);
    push(f, g);
    assert_int_equal(segments_in(f, &bytes), 1);
    reopen(f);
    assert_false(chunk_is_damaged(f, 2, 0));
    assert_true(store_close(f->store, false));
    assert_int_equal(findings(f, ""), 0);
    open_store(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(large_bodies_are_in_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_bodies_are_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_one_bodys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_belongs_to_no_row_goes_at_the_start, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_place_takes_no_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_old_index_removes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_rows_with_the_same_bytes_are_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(segments_of_another_database_stay, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(large_and_small_bodies_take_turns, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_rolled_back_has_not_been, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removal_without_room_goes_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_segment_is_followed_by_another, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(other_values_take_the_place_of_those, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removed_jobs_bodies_go, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
