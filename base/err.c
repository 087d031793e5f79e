#include "base/err.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <string.h>

/* A message quotes what strangers wrote: it stays one line, and drives no terminal. */
static void one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

static void set_text(struct err *err, int code, const char *fmt, va_list args)
{
    err->code = code;
    err->hint[0] = '\0';
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    one_line(err->text);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        set_text(err, code, fmt, args);
        va_end(args);
    }
    return -1;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, fmt);
        set_text(err, code, fmt, args);
        va_end(args);
        size_t len = strlen(err->text);
        snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
    }
    errno = saved;
    return -1;
}

int err_hint(struct err *err, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->hint, sizeof(err->hint), fmt, args);
        va_end(args);
        one_line(err->hint);
    }
    return -1;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char text[sizeof(err->text)];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    one_line(text);
    AUTO_FREE char *whole = xasprintf("%s: %s", text, err->text);
    size_t len = MIN(strlen(whole), sizeof(err->text) - 1);
    memcpy(err->text, whole, len);
    err->text[len] = '\0';
    return -1;
}

static void *or_abort(void *p, size_t size)
{
    if (!p && size > 0) {
        fprintf(stderr, "out of memory: %zu bytes\n", size);
        abort();
    }
    return p;
}

void memory_keep(void)
{
    mallopt(M_MMAP_THRESHOLD, 4 * MIB);
    mallopt(M_TRIM_THRESHOLD, 16 * MIB);
}

void *xmalloc(size_t size)
{
    return or_abort(malloc(size), size);
}

void *xcalloc(size_t n, size_t size)
{
    return or_abort(calloc(n, size), n && size ? 1 : 0);
}

void *xrealloc(void *p, size_t size)
{
    return or_abort(realloc(p, size), size);
}

char *xstrdup(const char *s)
{
    return or_abort(strdup(s), 1);
}

char *xasprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    return or_abort(n < 0 ? NULL : s, 1);
}
