/* Invitations, key files and known_keys. Input: which of them (1 byte), its text. What
 * was understood is written as it was read; nothing of a secret is in a message. */
#include "base/pins.h"
#include "proto/invite.h"
#include "tests/fuzz/fuzz.h"

static void try_invite(struct span text)
{
    struct err err = { 0 };
    struct invite i, again;

    if (invite_parse(text, &i, &err) < 0) {
        fuzz_check_err(&err);
        CHECK(!i.token);
        return;
    }
    char *made = crypto_secret_alloc(INVITE_TEXT);
    CHECK(invite_is("tidemill-invite:") && strlen(i.endpoint) > 6);
    CHECK(invite_text(i.endpoint, i.server, i.token, made, &err) == 0);
    CHECK(invite_parse(span_str(made), &again, &err) == 0);
    CHECK(strcmp(again.endpoint, i.endpoint) == 0);
    CHECK(memcmp(again.server, i.server, KEY_BYTES) == 0);
    CHECK(memcmp(again.token, i.token, sizeof(*i.token)) == 0);
    crypto_secret_free(made);
    invite_fini(&i);
    invite_fini(&again);
}

static void try_keyfile(struct span text)
{
    struct err err = { 0 };
    struct keypair *k, *same;

    if (keyfile_parse(text, &k, &err) < 0) {
        fuzz_check_err(&err);
        return;
    }
    same = keypair_of(k->secret);
    CHECK(memcmp(k, same, sizeof(*k)) == 0);
    keypair_free(k);
    keypair_free(same);
}

static void try_pins(struct span text)
{
    struct pin pins[PINS_MAX];
    struct err err = { 0 };
    size_t n = 0;

    if (pins_parse(text, "tcp://h:1", pins, &n, &err) < 0) {
        fuzz_check_err(&err);
        return;
    }
    CHECK(n <= PINS_MAX);
    for (size_t i = 1; i < n; i++)
        CHECK(pins[i].line > pins[i - 1].line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    uint64_t which = fuzz_number(&in, 1);

    crypto_init();
    if (which == 'i')
        try_invite(in);
    else if (which == 'k')
        try_keyfile(in);
    else
        try_pins(in);
    return 0;
}
