#include "base/log.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

enum { LINE_MAX_BYTES = 2048 };

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const char *program_name = "tidemill";
static enum log_level max_level = LOG_WARN;

void log_init(const char *program, enum log_level max)
{
    program_name = program;
    max_level = max;
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

/* Newlines and control bytes of what a peer sent must not forge a line, nor command the
 * terminal that shows it. */
static void make_printable(char *s)
{
    while (*s) {
        size_t len = utf8_len(span_str(s));
        if (len && text_is_plain(span_of(s, len))) {
            s += len;
        } else {
            *s++ = '?';
        }
    }
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    if (level > max_level)
        return;
    char line[LINE_MAX_BYTES];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03dZ %s[%d] %s %s ",
                          (int)(now.tv_nsec / NS_PER_MS), program_name, (int)getpid(),
                          level_names[level], event);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + n, sizeof(line) - n - 1, fmt, args);
    va_end(args);
    make_printable(line);
    n = strlen(line);
    line[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
