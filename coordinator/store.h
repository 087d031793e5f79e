/* The state directory: SQLite on a thread of its own (the only user of sqlite3.h), one
 * connection that writes and checkpoints. Groups of effects are executed in order and
 * committed several at once; a group comes back to the loop's thread when it is durable.
 */
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include "base/loop.h"
#include "coordinator/fx.h"

enum durability {
    DURABILITY_FULL,   /* fsync at every commit: survives power loss */
    DURABILITY_NORMAL, /* survives kill -9; power loss may take the last commits */
    DURABILITY_NONE,   /* no fsync, and groups may be written behind (fx_group.behind):
                          kill -9 may take what was told of in the last moments */
};

struct store;

/* Opens or makes the state directory (mode 0700), locks it against a second coordinator,
 * checks schema, empties the WAL (R6), raises and commits the epoch (R5). err: one clear
 * line, code 1. Nothing runs on another thread yet. */
int store_open(const char *dir, enum durability durability, struct store **ret,
               struct err *err);
struct epoch store_epoch(const struct store *s);

/* What is known at start, without any body: every job, then all chunks in order. Calls
 * happen before store_load returns; spans and blobs are valid during the call only.
 * recorded: tasks of the chunk that have a record, pending ones too. */
struct store_load_events {
    void (*job)(void *arg, const struct job_row *row);
    void (*chunk)(void *arg, const struct chunk_row *row, uint32_t recorded);
    void (*pending)(void *arg, const struct batch_row *row); /* without values */
    /* A coordinator that wrote behind was killed: what those before this epoch told of
     * the job from this cursor on is lost. */
    void (*lost)(void *arg, uint64_t job, uint64_t cursor, uint64_t epoch);
    void (*removed)(void *arg, uint64_t job, const uint8_t key[WIRE_KEY_BYTES]);
    void (*run)(void *arg, int64_t ns);        /* the last FX_RUN */
    void (*node)(void *arg, struct span name); /* it was there at the end */
    void (*key)(void *arg, const struct key_row *row);
};
/* *ret_next_row: above every batch row there is. */
int store_load(struct store *s, const struct store_load_events *ev, void *arg,
               uint64_t *ret_next_row, struct err *err);

/* Starts the thread. committed: on the loop's thread, in the order of store_push, when
 * everything in the group is durable and its reads are answered; the group is the
 * callee's to free. Those written behind may come late: nobody is woken for them. failed:
 * the store cannot go on (anything but a full disk): the process must end; called once.
 */
struct store_events {
    void (*committed)(void *arg, struct fx_group *g);
    void (*failed)(void *arg, const struct err *err);
    /* The disk is full (true), or has room again: the same group is tried again (R2). */
    void (*full)(void *arg, bool full, const struct err *err);
};
int store_start(struct store *s, struct loop *loop, const struct store_events *ev,
                void *arg, struct err *err);
/* Before store_start: so many bytes of the disk are set aside, and let go only so that
 * removed jobs can be deleted and the log be emptied (R13). 0 = none. */
void store_reserve(struct store *s, uint64_t bytes);
uint64_t store_room_bytes(const struct store *s);     /* free on its disk; any thread */
void store_push(struct store *s, struct fx_group *g); /* takes it */
/* Bytes of memory pushed and not committed yet. The loop's thread. */
size_t store_backlog_bytes(const struct store *s);
/* Executes what was pushed, delivers it, checkpoints, closes. remove: deletes the state's
 * files and, when it is empty then, the directory. False: the store failed, or had no
 * room, and something that was written behind is lost. Takes NULL: true. */
bool store_close(struct store *s, bool remove);

#endif
