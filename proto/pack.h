/* MessagePack bodies: task inputs and result values (only user of msgpack). The
 * coordinator never looks inside them; clients and workers do. Decoding borrows from the
 * given bytes, checks every count against the bytes that remain, ignores unknown keys,
 * never allocates. */
#ifndef PROTO_PACK_H
#define PROTO_PACK_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { PACK_DIGESTS_MAX = 8, INPUT_MAX_BYTES = 64 * KIB, VALUE_MAX_BYTES = 256 * KIB };

/* Digest algorithms: bit numbers of algos masks, and names in manifests and JSON. */
enum algo { ALGO_MD5, ALGO_SHA1, ALGO_SHA256, ALGO_SHA512, ALGO_BLAKE2B, ALGO_COUNT };
const char *algo_name(enum algo a); /* "md5" "sha1" "sha256" "sha512" "blake2b" */
size_t algo_bytes(enum algo a);     /* 16 20 32 64 64 */
int algo_parse(struct span name, enum algo *ret); /* also "b2"; -1 if unknown */

/* One task's input: a map. Exactly one of path, url, data is the source. */
struct task_input {
    struct span path;  /* "p": absolute path on the node */
    struct span url;   /* "u" */
    struct span data;  /* "b": inline bytes */
    struct span shown; /* "n": the name as the user gave it; absent = path or url */
    struct span out;   /* "o": absolute path of the output file; absent = none */
    struct span after; /* "m": of a walk: only names behind this one; empty = all */
    uint64_t size;     /* "z": bytes, a hint; 0 = unknown */
    bool has_data;     /* data may be present and empty */
    bool named;        /* "l": of a walk: the user named it, so a link is followed */
};
size_t input_pack(struct buf *out, const struct task_input *in); /* returns its bytes */
int input_unpack(struct span bytes, struct task_input *ret, struct err *err);
struct span input_shown(const struct task_input *in);

struct digest {
    enum algo algo;
    struct span bytes; /* raw */
};
/* One task's result value: a map. The arrays stand last: no more of them is set than is
 * used, and value_clear leaves them alone. */
struct task_value {
    uint64_t bytes;     /* "s": plain bytes read */
    uint64_t out_bytes; /* "w": bytes of the output */
    uint32_t n_digests, n_out_digests;
    struct span error;  /* "e": one line, when the task failed */
    struct span output; /* "o": path of the published file */
    struct span body;   /* "b": returned bytes */
    bool has_body;
    uint32_t http_status;   /* "h" */
    uint32_t retry_after_s; /* "r": a server's Retry-After, or when a turn at it comes */
    uint64_t elapsed_us;    /* "t" */
    /* Of a walk, whose page of entries (proto/page.h) is the body: */
    uint64_t skipped; /* "q": entries that are neither files nor directories */
    bool more;        /* "m": names follow behind the page's last */
    bool is_file;     /* "y": it is no directory but a regular file, of so many bytes */
    struct digest digests[PACK_DIGESTS_MAX]; /* "d": of the source's bytes */
    /* "D": of the bytes after encrypt or decrypt */
    struct digest out_digests[PACK_DIGESTS_MAX];
};
static inline void value_clear(struct task_value *v)
{
    memset(v, 0, offsetof(struct task_value, digests));
}
void value_pack(struct buf *out, const struct task_value *v);
int value_unpack(struct span bytes, struct task_value *ret, struct err *err);

/* The pipeline of a job and its parameters: a map, carried in Submit and Lease. */
enum source_kind {
    SOURCE_BYTES,
    SOURCE_PATH,
    SOURCE_URL,
    SOURCE_DIR, /* a directory on the node, whose entries are the value (a walk) */
};
enum sink_kind { SINK_NONE, SINK_RETURN, SINK_FILE };
enum transform_kind { TRANSFORM_NONE, TRANSFORM_ENCRYPT, TRANSFORM_DECRYPT };
enum { SPEC_RECIPIENTS_MAX = 64 };

struct job_spec {
    struct span command;     /* "c": hash, encrypt, decrypt, fetch, map */
    enum source_kind source; /* "i" */
    uint32_t algos; /* "a": mask of BIT(enum algo), digests of the source's bytes */
    enum transform_kind transform;               /* "x" */
    uint32_t out_algos;                          /* "A": digests after the transform */
    struct span recipients[SPEC_RECIPIENTS_MAX]; /* "R": age1..., a space between two; for
                                                    decrypt: the identities' */
    uint32_t n_recipients;
    enum sink_kind sink; /* "k" */
    bool armor, force;   /* "f": bits 0 and 1 */
    bool no_sync;        /* bit 2: outputs need not be durable before their record */
    uint64_t connect_timeout_ns, stall_ns, timeout_ns,
        max_bytes;       /* "tc" "ts" "tt" "mb"; 0 none */
    uint32_t per_host;   /* "ph": transfers at once to one host, 0 = default */
    double rate;         /* "pr": new transfers a second to one host, 0 = no limit */
    struct span ca_file; /* "ca": extra CA file on the node; empty = system */
    struct span on;      /* "on": which nodes (proto/select.h); empty = all */
    struct span present; /* "P": opaque to all but the client that prints results */
};
void spec_pack(struct buf *out, const struct job_spec *spec);
int spec_unpack(struct span bytes, struct job_spec *ret, struct err *err);

#endif
