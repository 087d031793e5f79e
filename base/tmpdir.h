/* Where things lie that may be large and are gone with the command: on a disk, not in
 * memory as the runtime directory is. */
#ifndef BASE_TMPDIR_H
#define BASE_TMPDIR_H

#include <stddef.h>

/* TMPDIR, else /var/tmp, else /tmp: the first that may be written to and whose path has
 * at most max_len bytes. Absolute; borrowed from the environment. */
const char *tmpdir(size_t max_len);

#endif
