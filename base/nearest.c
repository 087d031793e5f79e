#include "base/nearest.h"

#include <string.h>

#include "base/macros.h"

enum { WORD_MAX = 64 };

static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], lb = strlen(b);
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[lb];
}

const char *nearest(const char *s, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t len = strlen(s), best_distance = MAX(len / 3, (size_t)1) + 1;
    for (size_t i = 0; len <= WORD_MAX && i < n; i++) {
        if (strlen(candidates[i]) > WORD_MAX)
            continue;
        size_t d = distance(s, candidates[i]);
        if (d < best_distance) {
            best_distance = d;
            best = candidates[i];
        }
    }
    return best;
}
