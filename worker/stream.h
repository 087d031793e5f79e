/* One stream from standard input to standard output, encrypted or decrypted by the same
 * code as files are, in bounded memory and without a cluster. */
#ifndef WORKER_STREAM_H
#define WORKER_STREAM_H

#include "worker/ops/age.h"

/* err code of what is wrong with the input: a task that failed. */
enum { STREAM_FAILED = 3 };

int stream_encrypt(const struct span *recipients, size_t n, bool armor, struct err *err);
/* Writes authentic chunks as they come; -1 says that what came out is not whole. */
int stream_decrypt(const struct age_identities *ids, struct err *err);

#endif
