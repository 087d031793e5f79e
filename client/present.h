/* How a job's results are printed, by its own command and by `results` from another
 * process: what that needs to know travels in the job's spec (its `present` bytes). */
#ifndef CLIENT_PRESENT_H
#define CLIENT_PRESENT_H

#include "base/buf.h"
#include "client/tidemill.h"

struct present {
    /* Travel with the job: */
    bool tag;       /* manifest lines with the algorithm's name */
    char *out_dir;  /* owned; as the user gave it; NULL = none */
    char *out_abs;  /* owned; the same, absolute */
    bool to_stdout; /* fetch: the body goes to standard output */
    bool by_node;   /* each input is a task of several nodes: results name theirs */
    /* This process's: */
    char *command; /* owned */
    uint32_t algos, out_algos;
    bool json;
    char *manifest_dir; /* owned; manifests go to files here; NULL = to stdout, if not
                           json */
    bool force;         /* replace manifests that exist */
    struct sums *sums;  /* owned; those files, once there is a line */
    uint64_t failed, printed;
    bool broken; /* stdout or a manifest cannot be written: why is in err */
    struct tm_error err;
};

/* The travelling part as bytes for tm_job_spec.present. */
void present_pack(const struct present *p, struct buf *out);
/* From a job as described by the coordinator. */
int present_of_job(const struct tm_job_spec *spec, struct present *ret,
                   struct tm_error *err);
/* -1: a manifest is there already, and force is not said; or lines of the same file on
 * several nodes would look alike. */
int present_check(const struct present *p, struct tm_error *err);
/* The same of manifests that are by node, once it is known which; and that they can be
 * written. */
int present_check_nodes(const struct present *p, const char *const *nodes, size_t n,
                        struct tm_error *err);
/* Prints one result: data to stdout, a failure to stderr (or JSON). */
void present_result(struct present *p, const struct tm_result *r);
/* Flushes; manifests get their names, whole and on disk. -1 when something could not be
 * written. */
int present_end(struct present *p, struct tm_error *err);
void present_fini(struct present *p);

#endif
