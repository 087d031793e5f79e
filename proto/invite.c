#include "proto/invite.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const char prefix[] = "tidemill-invite:";
enum { RAW_MAX = INVITE_ENDPOINT_MAX + 2 * KEY_BYTES };

bool invite_is(const char *text)
{
    return strncmp(text, prefix, sizeof(prefix) - 1) == 0;
}

/* What is left is printed, and given to the library. */
static bool is_endpoint(struct span s)
{
    static const char scheme[] = "tcp://";

    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] <= 0x20 || s.data[i] >= 0x7f)
            return false;
    return s.len > sizeof(scheme) - 1 && s.len < INVITE_ENDPOINT_MAX &&
           memcmp(s.data, scheme, sizeof(scheme) - 1) == 0;
}

/* ret->token: in place already. */
static int unpack(struct span raw, struct invite *ret)
{
    const uint8_t *nl = memchr(raw.data, '\n', raw.len);
    size_t len = nl ? (size_t)(nl - raw.data) : 0;

    if (!nl || raw.len != len + 1 + 2 * KEY_BYTES || !is_endpoint(span_of(raw.data, len)))
        return -1;
    memcpy(ret->endpoint, raw.data, len);
    ret->endpoint[len] = 0;
    memcpy(ret->server, nl + 1, KEY_BYTES);
    ret->token = keypair_of(nl + 1 + KEY_BYTES);
    return 0;
}

int invite_parse(struct span text, struct invite *ret, struct err *err)
{
    uint8_t *raw = crypto_secret_alloc(RAW_MAX);
    ssize_t n = -1;

    *ret = (struct invite){ .token = NULL };
    text = span_trim(text);
    if (text.len > sizeof(prefix) - 1 &&
        memcmp(text.data, prefix, sizeof(prefix) - 1) == 0)
        n = crypto_text_parse(
            span_of(text.data + sizeof(prefix) - 1, text.len - (sizeof(prefix) - 1)), raw,
            RAW_MAX);
    int rc = n < 0 ? -1 : unpack(span_of(raw, (size_t)n), ret);
    crypto_secret_free(raw);
    if (rc == 0)
        return 0;
    err_set(err, 2, "not an invitation, or not the whole of one");
    return err_hint(err, "tidemill key invite prints one line, which begins with %s",
                    prefix);
}

void invite_fini(struct invite *i)
{
    keypair_free(i->token);
    i->token = NULL;
}

int invite_text(const char *endpoint, const uint8_t server[KEY_BYTES],
                const struct keypair *token, char ret[INVITE_TEXT], struct err *err)
{
    size_t len = strlen(endpoint);

    if (!is_endpoint(span_of(endpoint, len)))
        return err_set(err, 2, "an invitation cannot name this endpoint: '%s'", endpoint);
    uint8_t *raw = crypto_secret_alloc(RAW_MAX);
    memcpy(raw, endpoint, len);
    raw[len] = '\n';
    memcpy(raw + len + 1, server, KEY_BYTES);
    memcpy(raw + len + 1 + KEY_BYTES, token->secret, KEY_BYTES);
    strcpy(ret, prefix);
    crypto_text(raw, len + 1 + 2 * KEY_BYTES, ret + sizeof(prefix) - 1);
    crypto_secret_free(raw);
    return 0;
}

int invite_read(const char *word, struct invite *ret, struct err *err)
{
    if (word[0] != '@')
        return invite_parse(span_str(word), ret, err);
    *ret = (struct invite){ .token = NULL };
    int fd = open(word + 1, O_RDONLY | O_CLOEXEC), rc;
    if (fd < 0)
        return err_sys(err, 2, "%s", word + 1);
    uint8_t *text = crypto_secret_alloc(2 * INVITE_TEXT);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, text + len, 2 * INVITE_TEXT - len)) > 0)
        len += (size_t)n;
    rc = n < 0 ? err_sys(err, 2, "%s", word + 1)
               : invite_parse(span_of(text, len), ret, err);
    if (n >= 0 && rc < 0)
        err_prefix(err, "%s", word + 1);
    crypto_secret_free(text);
    close(fd);
    return rc;
}
