/* Segments: bodies beside the database, in files DIR/segment.XXXXXXXX (8 hex digits) that
 * are only ever appended to, so that a body is written once; in the database it is
 * written to the log and again to its pages. A body is a range of one segment; where it
 * is, and that it is whole, a row of the database says. A process begins a segment of its
 * own: it appends to none that it found. The idea is that of the segments of a
 * log-structured file system (Rosenblum and Ousterhout, 1992). No SQL here.
 *
 * One thread. Errors are errno. */
#ifndef COORDINATOR_SEGMENT_H
#define COORDINATOR_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "coordinator/blob.h"

enum {
    SEGMENT_BYTES = 64 * MIB, /* one that is so long gets no more bodies */
    SEGMENT_BLOCK = 4 * KIB,  /* a body begins at a multiple of it */
    SEGMENT_NUMBER_MAX = INT32_MAX - 1,
    SEGMENT_NAME_BYTES = 17 /* with its zero */
};

/* Where a body is: its segment's number << 32, and its offset in it. */
static inline uint32_t segment_of(uint64_t at)
{
    return (uint32_t)(at >> 32);
}
static inline uint64_t segment_begin(uint32_t number)
{
    return (uint64_t)number << 32;
}
void segment_name(uint32_t number, char ret[SEGMENT_NAME_BYTES]);
uint32_t segment_number(const char *name); /* 0 = no segment has that name */

struct segments;

/* Of that directory. sync: what was put is on disk when segments_sync returns. NULL:
 * errno. */
struct segments *segments_new(const char *dir, bool sync);
void segments_free(struct segments *g); /* takes NULL */
/* The numbers of those that are there; the caller frees. */
int segments_found(const struct segments *g, uint32_t **ret, size_t *ret_n);
/* What earlier processes have left to the system is on disk. */
int segments_sync_found(const struct segments *g);

/* Appends a body. After segments_back its place is the next one's; what was put before
 * segments_keep stays. */
int segment_put(struct segments *g, struct span body, uint64_t *ret_at);
int segments_sync(struct segments *g);
void segments_keep(struct segments *g);
void segments_back(struct segments *g);
/* The one that bodies are appended to; 0 = none yet. */
uint32_t segments_current(const struct segments *g);

/* 1: *ret is the caller's to free; 0: so many bytes are not there; -1: errno. */
int segment_read(const struct segments *g, uint64_t at, uint64_t size, struct blob **ret);

/* What follows the body there: the next one, where both were put one after the other. */
static inline uint64_t segment_after(uint64_t at, uint64_t size)
{
    return (at + size + SEGMENT_BLOCK - 1) / SEGMENT_BLOCK * SEGMENT_BLOCK;
}
/* Nobody asks for the bodies there again: their room is given back, where the file system
 * can do that. */
void segment_punch(const struct segments *g, uint64_t from, uint64_t to);
/* All of it was given back so. */
bool segment_is_hole(const struct segments *g, uint32_t number);
void segment_unlink(const struct segments *g, uint32_t number);

#endif
