/* A part of one task, when several mills share a large file (worker/split.h): the head
 * makes or reads the age header, ranges seal or open chunks and write them where they
 * belong. What a mill does with it; blocking. Who makes parts and who runs them are one
 * program: the struct is the format. */
#ifndef WORKER_OPS_PART_H
#define WORKER_OPS_PART_H

#include "worker/ops/age_payload.h"
#include "worker/ops/task.h"

enum part_kind { PART_HEAD = 1, PART_RANGE };

/* A file as it was when its head was run: at another time it may be another one. */
struct part_source {
    uint64_t dev, ino, size;
    int64_t mtime_s, mtime_ns, ctime_s, ctime_ns;
};
struct stat;
struct part_source part_source_of(const struct stat *st);

/* A head needs its kind alone; what it returns as value.body is the range of all chunks.
 * A range's value has out_bytes and elapsed_us. */
struct part {
    enum part_kind kind;
    uint8_t seal;  /* 0 or 1 */
    uint32_t mode; /* of the output, once all ranges are written */
    struct part_source source;
    uint64_t header;              /* bytes before the payload, of the age file */
    uint64_t first, n;            /* chunks */
    uint8_t key[AGE_PAYLOAD_KEY]; /* of this attempt and no other (R19) */
};

/* Files of fewer bytes are not worth it: 40 ms of one core. */
enum { PART_FILE_MIN = 64 * MIB };

/* Can this be the value of that part, done? Who says it may have gone mad. */
bool part_answer_ok(const struct part *part, struct span value);

/* *ret_shared false, TASK_OK: the file cannot be shared (small, armored, no age file at
 * all), and nothing was written. Else TASK_OK and *ret, or why it failed. */
enum task_status part_head(const struct task_env *env, const struct job_spec *spec,
                           int in, int out, struct part *ret, bool *ret_shared,
                           struct err *err);
/* out: the attempt's temporary, in which other parts may be at work. */
enum task_status part_range(const struct task_env *env, const struct part *part, int in,
                            int out, uint64_t *ret_out_bytes, struct err *err);

#endif
