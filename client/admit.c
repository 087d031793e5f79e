#include "client/admit.h"

#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/keyfile.h"
#include "client/keys.h"
#include "client/rows.h"
#include "proto/invite.h"

/* An invitation that nobody took is of no use after a day. */
#define INVITE_NS (24 * 3600 * NS_PER_S)

static int role_of(const struct key_options *o, enum tm_role *ret, struct err *err)
{
    static const char *const names[] = { "client", "worker", "admin" };

    for (size_t i = 0; o->role && i < ARRAY_LEN(names); i++)
        if (strcmp(o->role, names[i]) == 0) {
            *ret = (enum tm_role)i;
            return 0;
        }
    err_set(err, EXIT_USAGE, "whose key is it?");
    return err_hint(err, "--role client, worker or admin");
}

static int64_t ends(int64_t after_ns)
{
    return after_ns ? clock_wall_ns() + after_ns : 0;
}

/* "2026-11-28 00:41", or what there is instead of it. */
static const char *time_text(uint64_t wall_ns, const char *none, char text[32])
{
    time_t t = (time_t)(wall_ns / NS_PER_S);

    if (!wall_ns)
        return none;
    strftime(text, 32, "%Y-%m-%d %H:%M", localtime(&t));
    return text;
}

static void line(const struct tm_rows *rows)
{
    AUTO_FREE char *name = row_shown(rows, "name");
    AUTO_FREE char *key = row_shown(rows, "public");
    AUTO_FREE char *role = row_shown(rows, "role");
    AUTO_FREE char *owner = row_shown(rows, "owner");
    AUTO_FREE char *state = row_shown(rows, "state");
    AUTO_FREE char *grants = row_text(rows, "grants");
    AUTO_FREE char *what = grants[0] ? xasprintf("%s %s", role, grants) : xstrdup(role);
    char end[32];

    printf("%-16s %-13s %-8s %-16s %-16s %s\n", name[0] ? name : "-", what, state,
           owner[0] ? owner : "-",
           time_text(tm_rows_uint(rows, "not_after_ns"), "never", end), key);
}

/* What became of the keys that an order was about. */
static void say_each(const struct call *call, struct tm_rows *rows, const char *what)
{
    while (tm_rows_next(rows)) {
        AUTO_FREE char *name = row_shown(rows, "name");
        AUTO_FREE char *role = row_shown(rows, "role");
        if (call->json)
            row_json(rows);
        else
            cli_note("%s, %s: %s", name[0] ? name : "-", role, what);
    }
    tm_rows_free(rows);
}

int admit_trust(const struct call *call, const char *const *args, size_t n)
{
    const struct key_options *o = call->options;
    uint8_t public_key[KEY_BYTES];
    struct tm_key key = { .public_key = public_key,
                          .name = args[0],
                          .owner = o->owner,
                          .not_after_ns = ends(o->expires_ns) };
    struct opened opened = { 0 };
    struct tm_error terr = { 0 };
    struct err err = { 0 };
    struct tm_rows *rows;
    int code = EXIT_OK;

    (void)n;
    if (key_parse(span_str(args[1]), public_key, &err) < 0 ||
        role_of(o, &key.role, &err) < 0)
        return cli_error(&err);
    if (cli_open_cluster("tidemill key trust", &opened, &terr) < 0 ||
        tm_key_trust(opened.tm, &key, &rows, &terr) < 0)
        code = cli_tm_error(&terr);
    else
        say_each(call, rows, "trusted");
    cli_close(&opened);
    return code;
}

int admit_revoke(const struct call *call, const char *const *args, size_t n)
{
    int code = EXIT_OK;

    for (size_t i = 0; i < n; i++) {
        uint8_t public_key[KEY_BYTES];
        bool is_key = key_parse(span_str(args[i]), public_key, NULL) == 0;
        struct tm_key key = { .public_key = is_key ? public_key : NULL,
                              .name = is_key ? NULL : args[i] };
        struct tm_error err = { 0 };
        struct tm_rows *rows;
        if (tm_key_revoke(call->tm, &key, &rows, &err) < 0) {
            int rc = cli_tm_error(&err);
            code = code ? code : rc;
            continue;
        }
        say_each(call, rows, "revoked");
    }
    return code;
}

int admit_list(const struct call *call, const char *const *args, size_t n)
{
    (void)args, (void)n;
    return sub_table(
        call, "keys",
        "NAME             ROLE          STATE    OWNER            ENDS             KEY",
        line);
}

/* Past the buffer of stdio, which nobody clears. */
static int say(bool json, const char *text, struct err *err)
{
    const char *parts[] = { json ? "{\"v\":1,\"invite\":\"" : "", text,
                            json ? "\"}\n" : "\n" };
    struct iovec iov[ARRAY_LEN(parts)];
    ssize_t whole = 0;

    fflush(stdout);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        iov[i] = (struct iovec){ (char *)(uintptr_t)parts[i], strlen(parts[i]) };
        whole += (ssize_t)iov[i].iov_len;
    }
    if (writev(STDOUT_FILENO, iov, ARRAY_LEN(parts)) != whole)
        return err_sys(err, EXIT_ERROR, "cannot write to standard output");
    return 0;
}

/* What is printed is a secret: who has it may come. */
static int print_invite(const struct call *call, struct tm_rows *rows,
                        const struct keypair *token)
{
    const struct key_options *o = call->options;
    AUTO_FREE char *told = row_text(rows, "endpoint");
    AUTO_FREE char *server = row_text(rows, "server");
    const char *endpoint = o->endpoint ? o->endpoint : told;
    uint8_t server_key[KEY_BYTES];
    struct err err = { 0 };
    char *text, end[32];
    int rc;

    if (!endpoint[0]) {
        err_set(&err, EXIT_ERROR, "the coordinator has no encrypted endpoint for a %s",
                o->role);
        err_hint(&err, "tidemill-coordinator --listen%s tcp://ADDRESS:PORT",
                 strcmp(o->role, "worker") == 0 ? "-workers" : "");
        return cli_error(&err);
    }
    text = crypto_secret_alloc(INVITE_TEXT);
    rc = key_parse(span_str(server), server_key, &err);
    if (rc == 0)
        rc = invite_text(endpoint, server_key, token, text, &err);
    if (rc == 0)
        rc = say(call->json, text, &err);
    if (rc == 0) {
        cli_note("for %s at %s, until %s", o->role, endpoint,
                 time_text(tm_rows_uint(rows, "not_after_ns"), "it is used", end));
    }
    crypto_secret_free(text);
    return rc < 0 ? cli_error(&err) : EXIT_OK;
}

int admit_invite(const struct call *call, const char *const *args, size_t n)
{
    const struct key_options *o = call->options;
    struct tm_key key = { .name = o->common.name,
                          .owner = o->owner,
                          .not_after_ns = ends(o->expires_ns ? o->expires_ns : INVITE_NS),
                          .uses = (uint32_t)o->uses };
    struct tm_error terr = { 0 };
    struct err err = { 0 };
    struct tm_rows *rows;
    struct keypair *token;
    int code = EXIT_ERROR;

    (void)args, (void)n;
    crypto_no_core();
    if (role_of(o, &key.role, &err) < 0)
        return cli_error(&err);
    token = keypair_new(); /* the coordinator hears of its public half alone */
    key.public_key = token->public_key;
    if (tm_key_invite(call->tm, &key, &rows, &terr) < 0) {
        code = cli_tm_error(&terr);
    } else {
        if (tm_rows_next(rows))
            code = print_invite(call, rows, token);
        tm_rows_free(rows);
    }
    keypair_free(token);
    return code;
}
