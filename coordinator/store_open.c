/* Opening the database: its schema, its log, the epoch; and what is known at start. */
#include "coordinator/store_sql.h"

#include "base/crypto.h"
#include "base/failpoint.h"

static const char schema[] =
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, key BLOB UNIQUE, spec BLOB, name BLOB,"
    " owner BLOB, priority INT, retries INT, task_timeout INT, deadline INT,"
    " detached INT, created INT, ended INT, state INT, chunks INT, tasks INT, ok INT,"
    " failed INT, poison INT, cancelled INT, digest BLOB, ended_run INT, paused INT,"
    " bytes INT);"
    /* Keys of removed jobs; rows: chunks and batches of it may be left. */
    "CREATE TABLE removed(id INTEGER PRIMARY KEY, key BLOB, rows INT);"
    "CREATE INDEX removed_rows ON removed(id) WHERE rows = 1;"
    "CREATE TABLE node(node BLOB PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE key(public_key BLOB PRIMARY KEY, name BLOB, owner BLOB, role INT,"
    " grants INT, uses INT, created INT, not_after INT, revoked INT, invited_by BLOB,"
    " digest BLOB) WITHOUT ROWID;"
    /* id: job << 32 | seq */
    "CREATE TABLE chunk(id INTEGER PRIMARY KEY, first INT, n INT, digest BLOB,"
    " node BLOB, lens BLOB, body BLOB, at INT, size INT,"
    " place BLOB);"
    "CREATE TABLE batch(row INTEGER PRIMARY KEY, job INT, chunk INT, cursor INT,"
    " epoch INT, lease INT, n INT, head BLOB, digest BLOB, node BLOB, tasks BLOB,"
    " statuses BLOB, attempts BLOB, lens BLOB, vals BLOB, at INT, size INT, place BLOB);"
    "CREATE INDEX batch_cursor ON batch(job, cursor);"
    /* With n and cursor, a start counts records without reading a single one. */
    "CREATE INDEX batch_chunk ON batch(job, chunk, n, cursor);"
    "INSERT INTO meta VALUES('epoch', 0), ('run', 0);";
/* What coordinators before this epoch told of this job from this cursor on is not here:
 * note_lost. Of schema 6 some have the table, and some not. */
static const char schema_lost[] =
    "CREATE TABLE IF NOT EXISTS lost(job INT, cursor INT, epoch INT,"
    " PRIMARY KEY(job, cursor)) WITHOUT ROWID;";
/* Bodies of 16 KiB and more are in segments (store_body.c); in rows of schemas before 8
 * these columns are NULL, as in those of small bodies. The indexes have rows of large
 * ones alone. */
static const char schema_place[] =
    "ALTER TABLE chunk ADD COLUMN at INT; ALTER TABLE chunk ADD COLUMN size INT;"
    "ALTER TABLE chunk ADD COLUMN place BLOB;"
    "ALTER TABLE batch ADD COLUMN at INT; ALTER TABLE batch ADD COLUMN size INT;"
    "ALTER TABLE batch ADD COLUMN place BLOB;";
static const char schema_segments[] =
    "CREATE INDEX chunk_at ON chunk(at, size) WHERE at IS NOT NULL;"
    "CREATE INDEX batch_at ON batch(at, size) WHERE at IS NOT NULL;";

/* ---- opening ---- */

static int connect_db(const char *dir, int flags, struct sql **ret, struct err *err)
{
    AUTO_FREE char *path = xasprintf("%s/tidemill.db", dir);
    struct sql *q = xcalloc(1, sizeof(*q));
    int rc = sqlite3_open_v2(path, &q->db, flags | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK) {
        sql_fail(q, err, "open its database");
        sql_close(q);
        return -1;
    }
    sqlite3_extended_result_codes(q->db, 1);
    *ret = q;
    return 0;
}

static int check_version(struct sql *q, int64_t *ret, struct err *err)
{
    if (sql_scalar(q, "PRAGMA user_version", ret, err) < 0)
        return -1;
    if (*ret != 0 && (*ret < SCHEMA_OLDEST || *ret > SCHEMA_VERSION))
        return err_set(err, 1, "state directory: schema %lld, this release knows %d",
                       (long long)*ret, SCHEMA_VERSION);
    return 0;
}

/* A database that some coordinator has begun. */
static int check_begun(struct sql *q, struct err *err)
{
    int64_t version = 0;

    if (check_version(q, &version, err) < 0)
        return -1;
    return version ? 0 : err_set(err, 1, "state directory: its database is empty");
}

static int empty_log(struct sql *q, struct err *err)
{
    int64_t busy = 1;

    if (sql_scalar(q, "PRAGMA wal_checkpoint(TRUNCATE)", &busy, err) < 0)
        return -1;
    return busy ? err_set(err, 1, "state directory: its log cannot be emptied") : 0;
}

static const char *const synchronous[] = {
    [DURABILITY_FULL] = "PRAGMA synchronous=FULL",
    [DURABILITY_NORMAL] = "PRAGMA synchronous=NORMAL",
    [DURABILITY_NONE] = "PRAGMA synchronous=OFF",
};

/* Up to a state of some schema and an empty log. *ret_new: nothing was here before. */
static int set_up(struct sql *q, enum durability durability, bool *ret_new,
                  struct err *err)
{
    int64_t version = 0;

    AUTO_FREE char *page_size = xasprintf("PRAGMA page_size=%d", PAGE_BYTES);

    /* Exclusive before anything is read: the log's index is then in memory, and not a
     * file that a full disk has no room for. */
    if (sql_exec(q, "PRAGMA locking_mode=EXCLUSIVE", err) < 0 ||
        sql_exec(q, page_size, err) < 0 ||
        sql_exec(q, "PRAGMA auto_vacuum=INCREMENTAL", err) < 0 ||
        sql_exec(q, synchronous[durability], err) < 0 ||
        sql_exec(q, "PRAGMA journal_mode=WAL", err) < 0 ||
        sql_exec(q, "PRAGMA secure_delete=OFF", err) < 0 ||
        sql_exec(q, "PRAGMA cache_size=-16384", err) < 0 ||
        check_version(q, &version, err) < 0)
        return -1;
    *ret_new = version == 0;
    if (*ret_new && bodies_refuse(q, err) < 0)
        return -1;
    if ((version && sql_exec(q, synchronous[DURABILITY_FULL], err) < 0) ||
        empty_log(q, err) < 0)
        return -1;
    sql_limit_log(q, LOG_MAX_BYTES);
    if (version == SCHEMA_VERSION)
        return 0;
    AUTO_FREE char *text = xasprintf("BEGIN;%s%s%sPRAGMA user_version=%d;COMMIT",
                                     version ? schema_place : schema, schema_lost,
                                     schema_segments, SCHEMA_VERSION);
    return sql_exec(q, text, err);
}

/* R5: a counter that grows with each start, and a nonce of this boot. */
static int raise_epoch(struct sql *q, struct epoch *ret, struct err *err)
{
    int64_t counter = 0;

    FAILPOINT("store_epoch_before");
    if (sql_exec(q, "UPDATE meta SET v = v + 1 WHERE k = 'epoch'", err) < 0 ||
        sql_scalar(q, "SELECT v FROM meta WHERE k = 'epoch'", &counter, err) < 0)
        return -1;
    FAILPOINT("store_epoch_after");
    ret->counter = (uint64_t)counter;
    crypto_random(ret->nonce, sizeof(ret->nonce));
    return 0;
}

/* A coordinator that writes behind leaves a mark for as long as it runs: when it is
 * killed, the last it told of is not here. The start that finds it takes it away, and
 * notes how much there is of each job that has not ended (of one that has, all is here):
 * a cursor of an epoch before this one that counts more counts what is lost. */
static int note_lost(struct sql *q, enum durability durability, struct err *err)
{
    AUTO_FREE char *text = xasprintf(
        "BEGIN;"
        "INSERT OR REPLACE INTO lost SELECT id, ok + failed + poison + cancelled, epoch.v"
        " FROM job, meta AS epoch, meta AS behind"
        " WHERE ended = 0 AND epoch.k = 'epoch' AND behind.k = 'behind';"
        "DELETE FROM meta WHERE k = 'behind';"
        "%s"
        "COMMIT",
        durability == DURABILITY_NONE ? "INSERT INTO meta VALUES('behind', 1);" : "");

    return sql_exec(q, text, err);
}

/* The epoch and what is lost are on disk before anything is answered, and so are all
 * pages that a coordinator with --durability none has left to the system: the log that
 * has them is copied with syncs. A state that is new has nothing that could be lost. */
static int begin(struct sql *q, enum durability durability, struct epoch *ret,
                 struct err *err)
{
    bool new;

    if (set_up(q, durability, &new, err) < 0 || raise_epoch(q, ret, err) < 0 ||
        note_lost(q, durability, err) < 0)
        return -1;
    if (new)
        return 0;
    return empty_log(q, err) < 0 ? -1 : sql_exec(q, synchronous[durability], err);
}

int sql_settle(struct sql *q, struct err *err)
{
    return sql_exec(q, "DELETE FROM meta WHERE k = 'behind'", err);
}

static int prepare_all(struct sql *q, struct err *err)
{
    for (int i = 0; i < ST_COUNT; i++)
        if (sqlite3_prepare_v3(q->db, sql_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &q->st[i], NULL) != SQLITE_OK)
            return sql_fail(q, err, "read its tables");
    return 0;
}

int sql_open(const char *dir, enum durability durability, struct epoch *ret_epoch,
             struct sql **ret, struct err *err)
{
    struct sql *q;

    if (connect_db(dir, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &q, err) < 0)
        return -1;
    /* Bodies are on disk before the rows that the log has of them. */
    if (bodies_open(q, dir, durability, err) < 0 ||
        begin(q, durability, ret_epoch, err) < 0 || prepare_all(q, err) < 0) {
        sql_close(q);
        return -1;
    }
    q->trim = q->deleting =
        true; /* an earlier coordinator may not have come to the end of it */
    *ret = q;
    return 0;
}

/* The log is read but stays as it is, so that a check destroys no evidence. */
int sql_open_readonly(const char *dir, struct sql **ret, struct err *err)
{
    struct sql *q;

    /* A connection that may not write cannot read a log that was left behind. */
    if (connect_db(dir, SQLITE_OPEN_READWRITE, &q, err) < 0)
        return -1;
    sqlite3_db_config(q->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (sql_exec(q, "PRAGMA locking_mode=EXCLUSIVE", err) < 0 ||
        sql_exec(q, "PRAGMA wal_autocheckpoint=0", err) < 0 ||
        sql_exec(q, "PRAGMA query_only=1", err) < 0 || check_begun(q, err) < 0 ||
        bodies_read(q, dir, err) < 0) {
        sql_close(q);
        return -1;
    }
    *ret = q;
    return 0;
}

int sql_empty_log(const char *dir, struct err *err)
{
    struct sql *q;
    int rc = -1;

    if (connect_db(dir, SQLITE_OPEN_READWRITE, &q, err) < 0)
        return -1;
    if (sql_exec(q, "PRAGMA locking_mode=EXCLUSIVE", err) == 0 &&
        check_begun(q, err) == 0)
        rc = empty_log(q, err);
    sql_close(q);
    return rc;
}

void sql_close(struct sql *q)
{
    if (!q)
        return;
    sql_cache_drop(q);
    bodies_close(q);
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(q->st[i]);
    sqlite3_close(q->db); /* the last connection checkpoints */
    free(q);
}

void job_row_take(sqlite3_stmt *st, struct job_row *r)
{
    *r = (struct job_row){
        .id = column_u64(st, 0),
        .spec = column_span(st, 2),
        .name = column_span(st, 3),
        .owner = column_span(st, 4),
        .priority = sqlite3_column_int(st, 5),
        .retries = (uint32_t)column_u64(st, 6),
        .task_timeout_ns = sqlite3_column_int64(st, 7),
        .deadline_ns = sqlite3_column_int64(st, 8),
        .detached = sqlite3_column_int(st, 9),
        .created_wall_ns = sqlite3_column_int64(st, 10),
        .ended_wall_ns = sqlite3_column_int64(st, 11),
        .state = (enum job_state)sqlite3_column_int(st, 12),
        .chunks = (uint32_t)column_u64(st, 13),
        .tasks = column_u64(st, 14),
        .ok = column_u64(st, 15),
        .failed = column_u64(st, 16),
        .poison = column_u64(st, 17),
        .cancelled = column_u64(st, 18),
        .ended_run_ns = sqlite3_column_int64(st, 20),
        .paused = sqlite3_column_int(st, 21),
        .bytes = column_u64(st, 22),
    };
    struct span key = column_span(st, 1);
    if (key.len == sizeof(r->key))
        memcpy(r->key, key.data, sizeof(r->key));
}

bool job_row_whole(sqlite3_stmt *st, const struct job_row *r)
{
    uint8_t digest[WIRE_DIGEST_BYTES];

    digest_job(r, digest);
    return column_span(st, 1).len == sizeof(r->key) &&
           span_eq(column_span(st, 19), span_of(digest, sizeof(digest)));
}

/* ---- loading ---- */

/* The index of what there is must be whole, or nothing can be promised (R6): every job
 * as it was written, its chunks without a gap, no more records than tasks. */
struct known {
    uint64_t id, tasks, records;
    uint32_t chunks;
    uint64_t seen_tasks, seen_records;
    uint32_t seen_chunks;
};
struct loading {
    const struct store_load_events *ev;
    void *arg;
    struct known *jobs; /* in order of id */
    size_t n, cap, at;
};

static int not_whole(struct err *err, uint64_t job, const char *what)
{
    err_set(err, 1, "state directory: %s of job %llu", what, (unsigned long long)job);
    return err_hint(err, "tidemill-coordinator check --state DIR names all that is "
                         "damaged; restore the directory from a copy");
}

static int load_job(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct job_row r;

    job_row_take(st, &r);
    if (!job_row_whole(st, &r))
        return not_whole(err, r.id, "the description");
    if (l->n == l->cap) {
        l->cap = MAX(64, l->cap * 2);
        l->jobs = xrealloc(l->jobs, l->cap * sizeof(*l->jobs));
    }
    l->jobs[l->n++] =
        (struct known){ .id = r.id,
                        .tasks = r.tasks,
                        .chunks = r.chunks,
                        .records = r.ok + r.failed + r.poison + r.cancelled };
    l->ev->job(l->arg, &r);
    return 0;
}

/* The job in the order of jobs, as chunks and sums come. */
static struct known *known_at(struct loading *l, uint64_t job)
{
    while (l->at < l->n && l->jobs[l->at].id < job)
        l->at++;
    return l->at < l->n && l->jobs[l->at].id == job ? &l->jobs[l->at] : NULL;
}

static int load_chunk(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct chunk_row r = { .job = column_u64(st, 0) >> 32,
                           .seq = (uint32_t)column_u64(st, 0),
                           .first = column_u64(st, 1),
                           .n = (uint32_t)column_u64(st, 2),
                           .node = column_span(st, 5) };
    struct span digest = column_span(st, 3);
    uint32_t recorded = (uint32_t)column_u64(st, 4);
    struct known *k = known_at(l, r.job);

    if (!k)
        return 0; /* of a job that is being removed */
    if (r.seq != k->seen_chunks || r.first != k->seen_tasks || r.n == 0 ||
        r.n > WIRE_CHUNK_TASKS_MAX || recorded > r.n || digest.len != sizeof(r.digest))
        return not_whole(err, r.job, "the list of chunks");
    memcpy(r.digest, digest.data, sizeof(r.digest));
    k->seen_chunks++;
    k->seen_tasks += r.n;
    l->ev->chunk(l->arg, &r, recorded);
    return 0;
}

static int load_shown(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct known *k = known_at(l, column_u64(st, 0));

    (void)err;
    if (k)
        k->seen_records = column_u64(st, 1);
    return 0;
}

static int load_pending(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct batch_row r = { .row = column_u64(st, 0),
                           .job = column_u64(st, 1),
                           .chunk = (uint32_t)column_u64(st, 2),
                           .pending = true,
                           .epoch = column_u64(st, 3),
                           .lease = column_u64(st, 4),
                           .n = (uint32_t)column_u64(st, 5),
                           .node = column_span(st, 7),
                           .bytes = column_u64(st, 8) };
    const struct known *k = known_at(l, r.job);

    if (!k)
        return 0;
    r.tasks = tasks_taken(column_span(st, 6), r.n);
    r.attempts = numbers_taken(column_span(st, 9), r.n);
    bool fits = r.tasks->len == r.n * sizeof(uint32_t) && r.chunk < k->chunks &&
                batch_head_whole(&r, column_span(st, 10));
    if (fits)
        l->ev->pending(l->arg, &r);
    blob_unref(r.tasks);
    blob_unref(r.attempts);
    return fits ? 0 : not_whole(err, r.job, "a batch that waits for its files");
}

static int load_lost(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    (void)err;
    if (known_at(l, column_u64(st, 0)))
        l->ev->lost(l->arg, column_u64(st, 0), column_u64(st, 1), column_u64(st, 2));
    return 0;
}

static int load_removed(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct span key = column_span(st, 1);

    if (key.len != WIRE_KEY_BYTES)
        return not_whole(err, column_u64(st, 0), "the key that is left");
    l->ev->removed(l->arg, column_u64(st, 0), key.data);
    return 0;
}

static int load_run(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    (void)err;
    l->ev->run(l->arg, sqlite3_column_int64(st, 0));
    return 0;
}

static int load_node(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    (void)err;
    l->ev->node(l->arg, column_span(st, 0));
    return 0;
}

static int load_key(struct loading *l, sqlite3_stmt *st, struct err *err)
{
    struct key_row r;

    if (!key_row_take(st, &r)) {
        err_set(err, 1, "state directory: the key %.*s is not what was written",
                (int)r.name.len, (const char *)r.name.data);
        return err_hint(err, "restore the directory from a copy");
    }
    l->ev->key(l->arg, &r);
    return 0;
}

static int check_known(const struct loading *l, struct err *err)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct known *k = &l->jobs[i];
        if (k->chunks != k->seen_chunks || k->tasks != k->seen_tasks)
            return not_whole(err, k->id, "the list of chunks");
        if (k->records != k->seen_records || k->records > k->tasks)
            return not_whole(err, k->id, "the list of records");
    }
    return 0;
}

static int load_all(struct sql *q, struct loading *l, struct err *err)
{
    static const struct {
        const char *text;
        int (*row)(struct loading *l, sqlite3_stmt *st, struct err *err);
    } parts[] = {
        { "SELECT " JOB_COLUMNS " FROM job ORDER BY id", load_job },
        { "SELECT c.id, c.first, c.n, c.digest, coalesce(b.n, 0), c.node FROM chunk c "
          "LEFT JOIN"
          " (SELECT job << 32 | chunk AS id, sum(n) AS n FROM batch GROUP BY job, chunk) "
          "b"
          " ON b.id = c.id ORDER BY c.id",
          load_chunk },
        { "SELECT job, sum(n) FROM batch WHERE cursor IS NOT NULL GROUP BY job"
          " ORDER BY job",
          load_shown },
        { "SELECT row, job, chunk, epoch, lease, n, tasks, node,"
          " coalesce(size, length(vals)), attempts, head FROM batch WHERE cursor IS NULL "
          "ORDER BY job, row",
          load_pending },
        { "SELECT job, cursor, epoch FROM lost ORDER BY job, cursor", load_lost },
        { "SELECT id, key FROM removed ORDER BY id", load_removed },
        { "SELECT v FROM meta WHERE k = 'run'", load_run },
        { "SELECT node FROM node ORDER BY node", load_node },
        { "SELECT " KEY_COLUMNS " FROM key ORDER BY created, public_key", load_key },
    };

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        sqlite3_stmt *st;
        int rc = sqlite3_prepare_v2(q->db, parts[i].text, -1, &st, NULL), taken = 0;
        l->at = 0;
        while (taken == 0 && (rc == SQLITE_OK || rc == SQLITE_ROW)) {
            rc = sqlite3_step(st);
            if (rc == SQLITE_ROW)
                taken = parts[i].row(l, st, err);
        }
        sqlite3_finalize(st);
        if (taken < 0)
            return -1;
        if (rc != SQLITE_DONE)
            return sql_fail(q, err, "read its tables");
    }
    return check_known(l, err);
}

int sql_load(struct sql *q, const struct store_load_events *ev, void *arg,
             uint64_t *ret_next_row, struct err *err)
{
    struct loading l = { .ev = ev, .arg = arg };
    int64_t last = 0;
    int rc = load_all(q, &l, err);

    free(l.jobs);
    if (rc < 0 ||
        sql_scalar(q, "SELECT coalesce(max(row), 0) FROM batch", &last, err) < 0 ||
        bodies_sweep(q, err) < 0)
        return -1;
    *ret_next_row = (uint64_t)last + 1;
    return 0;
}
