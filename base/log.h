/* Log lines on stderr: time, level, event name, then key=value pairs.
 *     log_info("shard_requeued", "job=%u shard=%u why=%s", job, shard, why);
 * Thread-safe: one write(2) per line. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/macros.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* program: shown in each line; not copied. Lines above `max` are dropped. Default: WARN.
 */
void log_init(const char *program, enum log_level max);
/* "error", "warn", "info", "debug" -> level; -1 if unknown. */
int log_level_parse(const char *name, enum log_level *ret_level);
void log_line(enum log_level level, const char *event, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
#define log_error(event, ...) log_line(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)  log_line(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)  log_line(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_line(LOG_DEBUG, event, __VA_ARGS__)

#endif
