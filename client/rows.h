/* Rows of the coordinator's answers, printed: as a JSON object, or a line a key. */
#ifndef CLIENT_ROWS_H
#define CLIENT_ROWS_H

#include "base/buf.h"
#include "client/tidemill.h"

/* Of the row moved to. What is no text (a packed spec, a key) is left out of both. */
void row_json(const struct tm_rows *rows);
void row_json_job(const struct tm_rows *rows, uint64_t job); /* 0 = of none */
void row_show(const struct tm_rows *rows);
/* A text of the row as a string; caller frees. */
char *row_text(const struct tm_rows *rows, const char *key);
/* The same, for a person's eyes: what a terminal would obey is escaped. */
char *row_shown(const struct tm_rows *rows, const char *key);

#endif
