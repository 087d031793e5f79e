/* What others have written, and what of it a terminal would take for a command. Pure. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/buf.h"

/* Length of the UTF-8 sequence at s (RFC 3629), which is not empty; 0 when it is none. */
size_t utf8_len(struct span s);
/* UTF-8 without control characters, C0 and C1. */
bool text_is_plain(struct span s);
/* Adds s; each byte of what is not plain becomes \xNN. */
void text_show(struct buf *out, struct span s);

#endif
