#include "proto/enrol.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "proto/link.h"
#include "proto/map.h"

enum { ENROL_ID = 1 };
#define GREET_AGAIN_NS (2 * NS_PER_S)

struct session {
    const struct enrol *e;
    const struct keypair *key;
    struct loop *loop;
    struct link *link;
    struct loop_timer *again, *limit;
    char *name; /* what the coordinator calls the key; owned; NULL = not enrolled yet */
    struct err why; /* code 0: none */
};

static void end(struct session *s)
{
    loop_stop(s->loop);
}

/* ---- what is said ---- */

/* Whatever it is to be: with this key it may say nothing but this and Enrol. */
static void say_hello(struct session *s)
{
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = ROLE_CLIENT,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = span_str(s->e->name),
                                  .pid = (uint32_t)getpid() };
    crypto_random(m.hello.nonce, sizeof(m.hello.nonce));
    link_send(s->link, 0, &m);
}

static void say_enrol(struct session *s)
{
    struct msg m = { .type = MSG_ENROL };

    m.enrol.id = ENROL_ID;
    m.enrol.name = span_str(s->e->name);
    memcpy(m.enrol.public_key, s->key->public_key, KEY_BYTES);
    link_send(s->link, 0, &m);
}

static void on_error(struct session *s, const struct msg_error *e)
{
    if (span_eq(e->text, SPAN_LIT(WIRE_NO_SESSION))) {
        say_hello(s);
        return;
    }
    err_set(&s->why, e->code ? (int)e->code : 1, "%.*s", (int)e->text.len,
            (const char *)e->text.data);
    err_hint(&s->why, "%.*s", (int)e->hint.len, (const char *)e->hint.data);
    end(s);
}

static void on_message(void *arg, peer_id peer, struct span user, const struct msg *m)
{
    struct session *s = arg;

    (void)peer, (void)user;
    if (s->name || s->why.code)
        return;
    switch (m->type) {
    case MSG_WELCOME:
        say_enrol(s);
        break;
    case MSG_ANSWER:
        if (m->answer.id == ENROL_ID) {
            s->name = span_dup(map_get_str(m->body, 0, "name"));
            end(s);
        }
        break;
    case MSG_ERROR:
        on_error(s, &m->error);
        break;
    default:
        break;
    }
}

static void on_garbage(void *arg, peer_id peer, const char *why)
{
    (void)arg, (void)peer, (void)why; /* said again, if it was an answer */
}

static void on_connected(void *arg)
{
    say_hello(arg);
}

static void on_refused(void *arg, enum link_refusal why)
{
    struct session *s = arg;
    const char *endpoint = s->e->invite->endpoint;

    if (why == LINK_KEY_UNKNOWN) {
        err_set(&s->why, 5, "the coordinator %s does not know this invitation", endpoint);
        err_hint(&s->why, "an admin makes another: tidemill key invite");
    } else {
        err_set(&s->why, 5, "%s is not the coordinator that invited: it %s", endpoint,
                why == LINK_IS_PLAIN ? "does not encrypt" : "has another key");
        err_hint(&s->why, "if it was re-keyed since, an admin makes another invitation. "
                          "Nothing was sent.");
    }
    end(s);
}

static void on_again(void *arg)
{
    struct session *s = arg;

    loop_timer_arm(s->again, GREET_AGAIN_NS);
    link_reset(s->link);
}

static void on_limit(void *arg)
{
    struct session *s = arg;

    err_set(&s->why, 6, "cannot reach coordinator %s (no answer in %.3g s)",
            s->e->invite->endpoint, (double)s->e->timeout_ns / NS_PER_S);
    err_hint(&s->why, "is it running there?");
    end(s);
}

static int run(struct session *s, struct err *err)
{
    static const struct link_events events = { .message = on_message,
                                               .garbage = on_garbage,
                                               .connected = on_connected,
                                               .refused = on_refused };
    const struct invite *i = s->e->invite;
    struct link_curve curve = { .own = i->token,
                                .servers = (const uint8_t(*)[KEY_BYTES])i->server,
                                .n_servers = 1 };
    struct link_ctx *ctx;
    int rc;

    if (loop_new(LOOP_AUTO, &s->loop, err) < 0)
        return -1;
    ctx = link_ctx_new(1);
    s->again = loop_timer_new(s->loop, on_again, s);
    s->limit = loop_timer_new(s->loop, on_limit, s);
    rc = link_connect(ctx, s->loop, i->endpoint, &curve, WIRE_CLIENT_FRAME_MAX, &events,
                      s, &s->link, err);
    if (rc == 0) {
        loop_timer_arm(s->again, GREET_AGAIN_NS);
        if (s->e->timeout_ns)
            loop_timer_arm(s->limit, s->e->timeout_ns);
        loop_run(s->loop);
        if (!s->name) {
            *err = s->why;
            rc = -1;
        }
    }
    link_free(s->link);
    link_ctx_free(ctx);
    loop_timer_free(s->again);
    loop_timer_free(s->limit);
    loop_free(s->loop);
    return rc;
}

/* ---- the files ---- */

/* The key that is being enrolled: the same one until it is. */
static int fresh_key(const char *path, struct keypair **ret, struct err *err)
{
    if (keyfile_there(path))
        return keyfile_read(path, ret, err);
    *ret = keypair_new();
    if (keyfile_write(path, *ret, err) == 0)
        return 0;
    keypair_free(*ret);
    return -1;
}

static int pin(const struct enrol *e, struct err *err)
{
    return pins_add(e->pins_path, e->invite->endpoint, e->invite->server, err);
}

int enrol(const struct enrol *e, char **ret_name, struct err *err)
{
    AUTO_FREE char *fresh = xasprintf("%s.new", e->key_path);
    struct keypair *key;
    struct session s = { .e = e };

    *ret_name = NULL;
    if (keyfile_there(e->key_path))
        return pin(e, err);
    if (fresh_key(fresh, &key, err) < 0)
        return -1;
    s.key = key;
    int rc = run(&s, err);
    keypair_free(key);
    if (rc < 0)
        return -1;
    AUTO_FREE char *name = s.name;
    FAILPOINT("enrolled");
    if (pin(e, err) < 0)
        return -1;
    if (rename(fresh, e->key_path) < 0)
        return err_sys(err, 1, "cannot rename %s", fresh);
    if (keyfile_sync(e->key_path, err) < 0)
        return -1;
    *ret_name = STEAL(name);
    return 0;
}
