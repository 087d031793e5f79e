/* Names of output files: where an encrypted, decrypted or fetched thing goes. Pure. */
#ifndef CLIENT_NAMES_H
#define CLIENT_NAMES_H

#include "base/buf.h"
#include "base/err.h"

/* The last part of a path, without slashes at its end ("a/b/" -> "b", "/" -> ""). */
struct span names_base(const char *path);

/* Where a path's output goes. out_dir NULL: beside the input. root: what the user named,
 * below: the part under it, "" when root is the file itself. Caller frees. */
char *names_target(const char *out_dir, const char *root, const char *below);

/* name with ".age" added, or taken off (NULL when it has none). Caller frees. */
char *names_add_age(const char *name);
char *names_drop_age(const char *name);

/* The URL in a line of a list: without white space at its end; empty when the line is
 * blank or a comment ('#'). Not checked. */
struct span names_list_url(struct span line);

/* HOST[:PORT]/PATH of an http or https URL, as wget -x has it: an empty last part is
 * index.html, the query stays, unsafe bytes are percent-escaped, "." and ".." do not
 * survive, a part over 255 bytes is cut and gets a digest. `suffix` (".age" or "") fits
 * too. -1 when it is no such URL. Caller frees *ret. */
int names_of_url(struct span url, const char *suffix, char **ret);

#endif
