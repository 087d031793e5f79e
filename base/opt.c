#include "base/opt.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/nearest.h"

enum { USAGE = 2, NAME_MAX_BYTES = 64, CANDIDATES_MAX = 128 };

/* What a parse keeps until opt_fini: where a row's value came from, and strings that are
 * not argv's. */
struct kept {
    const void *target;
    const struct opt *row;
    const void *source; /* argv, the environment's prefix or a file's name */
    char *origin;       /* owned */
    char *text;         /* owned, or NULL */
    struct kept *next;
};
static struct kept *kept_first;

struct parse {
    const struct opt *const *tables;
    void *target;
    const void *source; /* the one being read: a higher one's values stay */
    struct err *err;
};

static struct kept *kept_find(const struct opt *row, const void *target)
{
    for (struct kept *k = kept_first; k; k = k->next)
        if (k->row == row && k->target == target)
            return k;
    return NULL;
}

const char *opt_origin(const struct opt *row, const void *target)
{
    struct kept *k = kept_find(row, target);
    return k ? k->origin : "default";
}

static char *keep(const struct parse *p, const struct opt *row, const char *origin,
                  const char *text)
{
    struct kept *k = xcalloc(1, sizeof(*k));
    *k = (struct kept){
        p->target, row, p->source, xstrdup(origin), text ? xstrdup(text) : NULL,
        kept_first
    };
    kept_first = k;
    return k->text;
}

static void *field(const struct parse *p, const struct opt *row)
{
    return (char *)p->target + row->off;
}

void opt_fini(const struct opt *const *tables, void *target)
{
    for (; *tables; tables++) {
        for (const struct opt *row = *tables; row->name; row++) {
            if (row->type != OPT_LIST)
                continue;
            struct opt_list *list = (struct opt_list *)((char *)target + row->off);
            free(list->items);
            *list = (struct opt_list){ 0 };
        }
    }
    for (struct kept **at = &kept_first; *at;) {
        struct kept *k = *at;
        if (k->target != target) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        free(k->origin);
        free(k->text);
        free(k);
    }
}

/* ---- values ---- */

struct unit {
    const char *name;
    int64_t factor;
};

/* Digits, then a unit of the table (which ends with a NULL name). */
static int quantity_parse(const char *s, const struct unit *units, int64_t *ret)
{
    if (!isdigit((unsigned char)*s))
        return -1;
    char *end;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    int64_t value;
    for (; units->name; units++) {
        if (strcmp(end, units->name) != 0)
            continue;
        if (errno || __builtin_mul_overflow((int64_t)n, units->factor, &value))
            return -1;
        *ret = value;
        return 0;
    }
    return -1;
}

int duration_parse(const char *s, int64_t *ret_ns)
{
    static const struct unit units[] = { { "us", NS_PER_US },
                                         { "ms", NS_PER_MS },
                                         { "s", NS_PER_S },
                                         { "m", 60 * NS_PER_S },
                                         { "h", 3600 * NS_PER_S },
                                         { "d", 86400 * NS_PER_S },
                                         { NULL, 0 } };
    return quantity_parse(s, units, ret_ns);
}

int size_parse(const char *s, int64_t *ret_bytes)
{
    static const struct unit units[] = { { "B", 1 },
                                         { "KiB", 1ll << 10 },
                                         { "MiB", 1ll << 20 },
                                         { "GiB", 1ll << 30 },
                                         { "TiB", 1ll << 40 },
                                         { "kB", 1000 },
                                         { "KB", 1000 },
                                         { "MB", 1000000 },
                                         { "GB", 1000000000ll },
                                         { "TB", 1000000000000ll },
                                         { NULL, 0 } };
    if (strcmp(s, "0") == 0) {
        *ret_bytes = 0;
        return 0;
    }
    return quantity_parse(s, units, ret_bytes);
}

static int int_parse(const char *s, int64_t *ret)
{
    char *end;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (errno || end == s || *end || isspace((unsigned char)*s))
        return -1;
    *ret = n;
    return 0;
}

static int rate_parse(const char *s, double *ret)
{
    char *end;
    if (!isdigit((unsigned char)*s))
        return -1;
    double n = strtod(s, &end);
    double per = strcmp(end, "/s") == 0   ? 1
                 : strcmp(end, "/m") == 0 ? 60
                 : strcmp(end, "/h") == 0 ? 3600
                                          : 0;
    if (per == 0 || !isfinite(n))
        return -1;
    *ret = n / per;
    return 0;
}

static int flag_parse(const char *s, bool *ret)
{
    static const char *const yes[] = { "1", "true", "yes", "on" };
    static const char *const no[] = { "0", "false", "no", "off", "" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        if (strcmp(s, yes[i]) == 0) {
            *ret = true;
            return 0;
        }
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        if (strcmp(s, no[i]) == 0) {
            *ret = false;
            return 0;
        }
    return -1;
}

static bool is_choice(const char *choices, const char *s)
{
    size_t len = strlen(s);
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (len > 0 && strncmp(at, s, len) == 0 && (at[len] == '|' || !at[len]))
            return true;
    }
    return false;
}

/* What a value of the type looks like, for the two lines of an error. */
static const struct {
    const char *what, *example;
} types[] = {
    [OPT_FLAG] = { "yes or no", "yes or no" },
    [OPT_STR] = { "text", "" },
    [OPT_LIST] = { "text", "" },
    [OPT_INT] = { "a whole number", "a whole number" },
    [OPT_DURATION] = { "a duration", "with a unit: 250ms 10s 5m 2h 1d" },
    [OPT_SIZE] = { "a size", "with a unit: 64KiB 10MB 1GiB" },
    [OPT_RATE] = { "a rate", "as in 5/s, 100/m, 30/h" },
    [OPT_CHOICE] = { "one of its values", "" },
};

static int bad_value(const struct parse *p, const struct opt *row, const char *value,
                     const char *origin)
{
    err_set(p->err, USAGE, "%s: '%s' is not %s", origin, value, types[row->type].what);
    if (row->type == OPT_CHOICE) {
        char list[256];
        snprintf(list, sizeof(list), "%s", row->choices);
        for (char *c = list; *c; c++)
            if (*c == '|')
                *c = ' ';
        return err_hint(p->err, "one of: %s", list);
    }
    return err_hint(p->err, "%s", types[row->type].example);
}

static int check_bounds(const struct parse *p, const struct opt *row, int64_t n,
                        const char *value, const char *origin)
{
    if ((row->min == 0 && row->max == 0) || (n >= row->min && n <= row->max))
        return 0;
    err_set(p->err, USAGE, "%s: '%s' is too %s", origin, value,
            n < row->min ? "small" : "large");
    if (row->type == OPT_INT)
        err_hint(p->err, "from %lld to %lld", (long long)row->min, (long long)row->max);
    return -1;
}

static void list_add(struct opt_list *list, const char *item)
{
    list->items = xrealloc(list->items, (list->n + 1) * sizeof(*list->items));
    list->items[list->n++] = item;
}

/* text lives as long as the target. */
static int set_value(const struct parse *p, const struct opt *row, const char *text,
                     const char *origin)
{
    int64_t n;
    int rc = 0;
    switch (row->type) {
    case OPT_FLAG:
        rc = flag_parse(text, field(p, row));
        break;
    case OPT_STR:
        *(const char **)field(p, row) = text;
        break;
    case OPT_LIST:
        list_add(field(p, row), text);
        break;
    case OPT_RATE:
        rc = rate_parse(text, field(p, row));
        break;
    case OPT_CHOICE:
        if (!is_choice(row->choices, text))
            return bad_value(p, row, text, origin);
        *(const char **)field(p, row) = text;
        break;
    case OPT_INT:
    case OPT_DURATION:
    case OPT_SIZE:
        rc = row->type == OPT_INT        ? int_parse(text, &n)
             : row->type == OPT_DURATION ? duration_parse(text, &n)
                                         : size_parse(text, &n);
        if (rc == 0 && check_bounds(p, row, n, text, origin) < 0)
            return -1;
        if (rc == 0)
            *(int64_t *)field(p, row) = n;
        break;
    }
    return rc < 0 ? bad_value(p, row, text, origin) : 0;
}

/* ---- argv ---- */

static const struct opt *row_by_name(const struct parse *p, struct span name)
{
    for (const struct opt *const *t = p->tables; *t; t++)
        for (const struct opt *row = *t; row->name; row++)
            if (span_eq(span_str(row->name), name))
                return row;
    return NULL;
}

static const struct opt *row_by_letter(const struct parse *p, char letter)
{
    for (const struct opt *const *t = p->tables; *t; t++)
        for (const struct opt *row = *t; row->name; row++)
            if (row->letter == letter)
                return row;
    return NULL;
}

static int unknown(const struct parse *p, struct span name)
{
    const char *names[CANDIDATES_MAX];
    size_t n = 0;
    for (const struct opt *const *t = p->tables; *t; t++)
        for (const struct opt *row = *t; row->name && n < CANDIDATES_MAX; row++)
            names[n++] = row->name;
    AUTO_FREE char *typed = span_dup(name);
    err_set(p->err, USAGE, "unknown option '--%s'", typed);
    const char *near = nearest(typed, names, n);
    return near ? err_hint(p->err, "did you mean '--%s'?", near) : -1;
}

static int set_from_argv(const struct parse *p, const struct opt *row, const char *value)
{
    char origin[NAME_MAX_BYTES];
    snprintf(origin, sizeof(origin), "--%s", row->name);
    if (!kept_find(row, p->target))
        keep(p, row, origin, NULL);
    return set_value(p, row, value, origin);
}

static int needs_value(const struct parse *p, const char *dashes, struct span name,
                       const struct opt *row)
{
    return err_set(p->err, USAGE, "option '%s%.*s' needs %s", dashes, (int)name.len,
                   (const char *)name.data, row->arg ? row->arg : "a value");
}

/* argv[*at] is "--name", "--name=value"; the value may be the next word. */
static int parse_long(const struct parse *p, int argc, char **argv, int *at)
{
    const char *word = argv[*at] + 2;
    struct span name = span_of(word, strcspn(word, "="));
    const struct opt *row = row_by_name(p, name);
    if (!row)
        return unknown(p, name);
    if (word[name.len] == '=')
        return set_from_argv(p, row, word + name.len + 1);
    if (row->type == OPT_FLAG)
        return set_from_argv(p, row, "yes");
    if (*at + 1 >= argc)
        return needs_value(p, "--", name, row);
    return set_from_argv(p, row, argv[++*at]);
}

/* argv[*at] is "-abc": flags, the last of which may be an option with its value behind it
 * or in the next word. */
static int parse_short(const struct parse *p, int argc, char **argv, int *at)
{
    for (const char *c = argv[*at] + 1; *c; c++) {
        const struct opt *row = row_by_letter(p, *c);
        if (!row)
            return err_set(p->err, USAGE, "unknown option '-%c'", *c);
        if (row->type == OPT_FLAG) {
            if (set_from_argv(p, row, "yes") < 0)
                return -1;
            continue;
        }
        if (c[1])
            return set_from_argv(p, row, c + 1);
        if (*at + 1 >= argc)
            return needs_value(p, "-", span_of(c, 1), row);
        return set_from_argv(p, row, argv[++*at]);
    }
    return 0;
}

static int parse_argv(const struct parse *p, int argc, char **argv, const char **args,
                      size_t *n)
{
    bool options = true;
    for (int i = 1; i < argc; i++) {
        int rc = 0;
        if (!options || argv[i][0] != '-' || !argv[i][1])
            args[(*n)++] = argv[i];
        else if (strcmp(argv[i], "--") == 0)
            options = false;
        else if (argv[i][1] == '-')
            rc = parse_long(p, argc, argv, &i);
        else
            rc = parse_short(p, argc, argv, &i);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ---- environment, files, defaults ---- */

static bool set_higher(const struct parse *p, const struct opt *row)
{
    const struct kept *k = kept_find(row, p->target);
    return k && k->source != p->source;
}

static int set_items(const struct parse *p, const struct opt *row, const char *value,
                     const char *origin)
{
    static const char space[] = " \t\n";
    for (const char *at = value + strspn(value, space); *at;) {
        size_t len = strcspn(at, space);
        AUTO_FREE char *item = span_dup(span_of(at, len));
        if (set_value(p, row, keep(p, row, origin, item), origin) < 0)
            return -1;
        at += len;
        at += strspn(at, space);
    }
    return 0;
}

static int parse_environment(const struct parse *p, const char *prefix)
{
    for (const struct opt *const *t = p->tables; *t; t++) {
        for (const struct opt *row = *t; row->name; row++) {
            char name[NAME_MAX_BYTES];
            snprintf(name, sizeof(name), "%s_%s", prefix, row->name);
            for (char *c = name; *c; c++)
                *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
            const char *value = getenv(name);
            if (!value || !*value || set_higher(p, row))
                continue;
            int rc = row->type == OPT_LIST
                         ? set_items(p, row, value, name)
                         : set_value(p, row, keep(p, row, name, value), name);
            if (rc < 0)
                return -1;
        }
    }
    return 0;
}

static int parse_line(const struct parse *p, struct span line, const char *where)
{
    line = span_trim(line);
    if (line.len == 0 || line.data[0] == '#' || line.data[0] == '[')
        return 0;
    const uint8_t *eq = memchr(line.data, '=', line.len);
    if (!eq)
        return err_set(p->err, USAGE, "%s: not a line of the form 'key = value'", where);
    size_t key_len = (size_t)(eq - line.data);
    struct span value = span_trim(span_of(eq + 1, line.len - key_len - 1));
    AUTO_FREE char *key = span_dup(span_trim(span_of(line.data, key_len)));
    for (char *c = key; *c; c++)
        if (*c == '_')
            *c = '-';
    const struct opt *row = row_by_name(p, span_str(key));
    if (!row || set_higher(p, row))
        return 0;
    AUTO_FREE char *text = span_dup(value);
    AUTO_FREE char *origin = xasprintf("%s: %s", where, key);
    return set_value(p, row, keep(p, row, where, text), origin);
}

static int parse_file(const struct parse *p, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (!f)
        return err_sys(p->err, USAGE, "%s", path);
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;
    ssize_t len;
    for (int n = 1; rc == 0 && (len = getline(&line, &cap, f)) >= 0; n++) {
        AUTO_FREE char *where = xasprintf("%s:%d", path, n);
        rc = parse_line(p, span_of(line, (size_t)len), where);
    }
    if (rc == 0 && ferror(f))
        rc = err_sys(p->err, USAGE, "%s", path);
    free(line);
    fclose(f);
    return rc;
}

static int parse_defaults(const struct parse *p)
{
    for (const struct opt *const *t = p->tables; *t; t++)
        for (const struct opt *row = *t; row->name; row++)
            if (row->dflt && !kept_find(row, p->target) &&
                set_value(p, row, row->dflt, row->name) < 0)
                return -1;
    return 0;
}

int opt_parse(const struct opt *const *tables, const struct opt_sources *sources,
              int argc, char **argv, void *target, const char ***ret_args,
              size_t *ret_nargs, struct err *err)
{
    static const struct opt_sources none;
    struct parse p = { tables, target, argv, err };
    AUTO_FREE const char **args = xcalloc((size_t)argc + 1, sizeof(*args));
    size_t n = 0;
    if (!sources)
        sources = &none;
    if (parse_argv(&p, argc, argv, args, &n) < 0)
        return -1;
    p.source = sources->env_prefix;
    if (sources->env_prefix && parse_environment(&p, sources->env_prefix) < 0)
        return -1;
    for (const char *const *file = sources->files; file && *file; file++) {
        p.source = *file;
        if (parse_file(&p, *file) < 0)
            return -1;
    }
    if (parse_defaults(&p) < 0)
        return -1;
    *ret_args = STEAL(args);
    *ret_nargs = n;
    return 0;
}

void opt_help(const struct opt *table, FILE *f)
{
    for (; table->name; table++) {
        char letter[5] = "    ", left[96];
        if (table->letter)
            snprintf(letter, sizeof(letter), "-%c, ", table->letter);
        const char *arg = table->type == OPT_CHOICE ? table->choices : table->arg;
        bool value = table->type != OPT_FLAG;
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, table->name, value ? " " : "",
                 value ? (arg ? arg : "VALUE") : "");
        bool wide = strlen(left) > 27;
        fprintf(f, "  %-27s%s%s", left, wide ? "\n" : " ", wide ? "" : table->help);
        if (wide)
            fprintf(f, "%30s%s", "", table->help);
        if (table->dflt)
            fprintf(f, " (default %s)", table->dflt);
        fputc('\n', f);
    }
}
