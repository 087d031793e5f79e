/* An expected failure, told in words: what failed, why, and what to do.
 * Functions return 0 or -1 and fill a struct err; the text is written where the failure
 * is noticed, prefixed on the way up, and printed once at the top. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/macros.h"

struct err {
    int code;       /* the program's exit code for it, 0 = none chosen (then 1) */
    char text[768]; /* one line, no newline */
    char hint[384]; /* what to do about it, may be empty */
};

/* Control characters become '?': a text is one line whatever it quotes. */

/* Writes the text; returns -1, so that `return err_set(...)` reads well. err may be NULL.
 */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As err_set, with ": strerror(errno)" appended. */
int err_sys(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Adds the hint; returns -1. */
int err_hint(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts "prefix: " before the text; returns -1. */
int err_prefix(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* For programs that run for long and take and free buffers of many pages all the time: of
 * what was freed at the end of a thread's arena up to 16 MiB are kept. The kernel, if it
 * got them back, would clear each page of them that is taken again. */
void memory_keep(void);
/* Allocation that never returns NULL: prints one line and aborts (crash-only). */
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
