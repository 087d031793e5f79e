/* "Did you mean": the candidate nearest to what was typed. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* By edit distance (Levenshtein), at most a third of s's length and at least 1; NULL when
 * none is that near. Borrowed from candidates. Words over 64 bytes are never near. */
const char *nearest(const char *s, const char *const *candidates, size_t n);

#endif
