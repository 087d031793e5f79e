/* What the store's files share. Threads and queue (store.c) and directory (store_dir.c)
 * know no SQL; that is in the files that include store_sql.h. */
#ifndef COORDINATOR_STORE_STATE_H
#define COORDINATOR_STORE_STATE_H

#include "coordinator/store.h"

struct sql;

enum sql_result { SQL_OK, SQL_NO_SPACE, SQL_FAILED };

/* Opens DIR/tidemill.db, checks its schema, empties the WAL, raises the epoch. */
int sql_open(const char *dir, enum durability durability, struct epoch *ret_epoch,
             struct sql **ret, struct err *err);
/* All that was told of is saved: the next start need not note that something is lost. */
int sql_settle(struct sql *q, struct err *err);
/* Copies all of the log into DIR/tidemill.db, which is the whole state then. */
int sql_empty_log(const char *dir, struct err *err);
/* Checkpoints and closes. Takes NULL. */
void sql_close(struct sql *q);
int sql_load(struct sql *q, const struct store_load_events *ev, void *arg,
             uint64_t *ret_next_row, struct err *err);

/* One transaction: begin, any number of effects that save, commit. After anything but
 * SQL_OK: rollback. */
enum sql_result sql_begin(struct sql *q, struct err *err);
enum sql_result sql_save(struct sql *q, const struct fx *fx, struct err *err);
enum sql_result sql_commit(struct sql *q, struct err *err);
void sql_rollback(struct sql *q);
/* The log is copied into the database by itself when it is so long: 12 MiB at most. */
void sql_limit_log(struct sql *q, uint64_t bytes);
/* Copies it now, so that it begins anew. */
enum sql_result sql_checkpoint(struct sql *q, struct err *err);
/* store_trim.c: what removed jobs leave behind goes in slices between groups (R7). Due:
 * there is more of it; idle: nothing waits, so that pages may be moved too. */
bool sql_trim_due(const struct sql *q, bool idle);
enum sql_result sql_trim(struct sql *q, struct err *err);
/* Answers an effect that reads, outside of a transaction. */
int sql_read(struct sql *q, struct fx *fx, struct err *err);

enum read_result {
    READ_OK,
    READ_DAMAGED, /* what was asked for is not what was written; all else goes on */
    READ_FAILED,
};
/* One input of a stored chunk; valid until the next call. */
enum read_result sql_chunk_input(struct sql *q, uint64_t job, uint32_t seq, uint64_t task,
                                 struct span *ret, struct err *err);
void sql_cache_drop(struct sql *q); /* of what sql_chunk_input keeps */

/* store_page.c: rows to one page of results. All rows' heads first, then which records
 * make the page, then the values of those rows alone that it wants. */
struct page;
struct page *page_new(struct sql *sql, struct fx_read_results *r);
/* Its arrays fit one another; how long its values must be then. */
bool batch_row_fits(const struct batch_row *b, size_t *ret_values_len);
/* Takes what may be wanted of a row that fits, but its values. True = the next one is
 * wanted too. Rows are numbered from 0 as they come. */
bool page_row(struct page *p, const struct batch_row *b, const char *node);
/* After the last row: cuts the page, and says in the effect how far it goes. */
void page_choose(struct page *p);
/* Has this row records that the page gives, or leaves out because they are filtered? */
bool page_wants(const struct page *p, uint32_t row);
void page_values(struct page *p, uint32_t row, struct span values);
/* Writes the answer into the effect. */
enum read_result page_end(struct page *p, struct err *err);
void page_free(struct page *p);

#endif
