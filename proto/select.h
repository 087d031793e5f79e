/* Which nodes a job is for: selectors, '\n' between two, all of which have to hold. A
 * selector is a node's name, a label K=V, or "each", which selects nothing but says that
 * each input is a task of every selected node. Labels of a node: K=V, '\n' between. Pure.
 */
#ifndef PROTO_SELECT_H
#define PROTO_SELECT_H

#include "base/buf.h"
#include "base/err.h"

/* The next selector (or label) of a text from *pos on, which moves behind it; false at
 * the end. */
bool select_next(struct span text, size_t *pos, struct span *ret);
bool select_each(struct span on);
bool select_fits(struct span on, struct span name, struct span labels);
/* Can this be a label: K=V, K of letters, digits and . _ - /, V without white space,
 * control characters and commas? -1 with err code 2. */
int select_check_label(struct span label, struct err *err);
/* Can a node be called so? Not when it could be taken for a label or for "each". */
int select_check_name(struct span name, struct err *err);

#endif
