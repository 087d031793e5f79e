/* Manifest lines: the formats of GNU sha256sum and of its --tag, written and read.
 * Pure: no file is opened here. Format: coreutils manual, "cksum output modes": a name
 * with '\', newline or carriage return is escaped and the line starts with '\'. */
#ifndef CLIENT_MANIFEST_H
#define CLIENT_MANIFEST_H

#include "base/buf.h"
#include "proto/pack.h"

/* "SHA256SUMS", "B2SUMS" ...: the file that a digest of this algorithm goes to. */
const char *manifest_file_name(enum algo algo);
const char *manifest_algo_name(enum algo algo); /* as typed after -a: "sha256" */
size_t manifest_digest_bytes(enum algo algo);
/* Reads "sha256,b2" into a mask of BIT(algo); err code 2 with a hint. */
int manifest_algos_parse(const char *list, uint32_t *ret_mask, struct err *err);

/* Appends one line with its newline. digest is raw. */
void manifest_line(struct buf *out, enum algo algo, struct span digest, struct span name,
                   bool tag);
/* "\name: what" with its newline, as sha256sum -c prints it: one line whatever the name.
 */
void manifest_verdict(struct buf *out, struct span name, const char *what);

struct manifest_entry {
    enum algo algo;
    uint8_t digest[64];
    size_t digest_len;
    struct buf name; /* owned by the caller: buf_fini */
};
/* Reads one line (without newline). default_algo: of a GNU line with a digest of its
 * size; -1 = guessed from the digest's length (128 digits mean sha512). Returns 0, or -1
 * when it is no manifest line. */
int manifest_parse(struct span line, int default_algo, struct manifest_entry *ret);

#endif
