/* age v1 files as streams: bytes in, bytes out, memory bounded whatever the length.
 * Format: C2SP age.md; the payload is in chunks of 64 KiB, each sealed on its own. Every
 * encryption has a fresh file key (R19). One stream belongs to one thread. */
#ifndef WORKER_OPS_AGE_H
#define WORKER_OPS_AGE_H

#include "worker/ops/age_payload.h"

struct age_enc;

/* Writes the header to out. */
int age_enc_new(const struct span *recipients, size_t n, bool armor, struct buf *out,
                struct age_enc **ret, struct err *err);
void age_enc_update(struct age_enc *e, struct span plain, struct buf *out);
/* plain: the last bytes, sealed where they lie, if who calls knows that they are. */
void age_enc_end(struct age_enc *e, struct span plain, struct buf *out);
void age_enc_free(struct age_enc *e); /* takes NULL */

struct age_dec;

/* ids: borrowed. Binary and armored input are both taken. */
struct age_dec *age_dec_new(const struct age_identities *ids);
/* Appends plain bytes of chunks that are authentic, and of nothing else. -1 with one line
 * why: not an age file, nobody here opens it, damaged. */
int age_dec_update(struct age_dec *d, struct span bytes, struct buf *out,
                   struct err *err);
/* -1 when the file is truncated: what update gave before must then be thrown away. */
int age_dec_end(struct age_dec *d, struct buf *out, struct err *err);
void age_dec_free(struct age_dec *d); /* takes NULL */

#endif
