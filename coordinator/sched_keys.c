/* Keys: which may come over an encrypted link, as what and until when; invitations, and
 * those who come by them. A key that may do nothing any more stays known, so that its
 * holder can be told why. */
#include "coordinator/sched_state.h"

#include "base/text.h"
#include "proto/map.h"

enum {
    KEYS_MAX = 100000,
    NAME_BYTES_MAX = 128,
    ANSWER_KEYS_MAX =
        100, /* rows of one answer: a name that more have is told of those */
};

static const char *const role_names[] = {
    [ROLE_CLIENT] = "client",
    [ROLE_WORKER] = "worker",
    [ROLE_ADMIN] = "admin",
    [ROLE_INVITE] = "invite",
};

const char *role_name(enum peer_role role)
{
    return role_names[role];
}

void sched_set_server(struct sched *s, const struct sched_server *server)
{
    s->server = server;
}

/* ---- what is known ---- */

struct key *key_of(struct sched *s, struct span user)
{
    struct key *k;

    HASH_FIND(hh, s->keys, user.data, user.len, k);
    return k;
}

struct span sched_key_name(const struct sched *s, peer_id peer)
{
    const struct peer *p = sched_peer((struct sched *)(uintptr_t)s, peer);

    return p && p->key ? p->key->row.name : SPAN_NONE;
}

static struct key *key_with(struct sched *s, const uint8_t public_key[KEY_BYTES])
{
    char text[KEY_TEXT];

    key_text(public_key, text);
    return key_of(s, span_str(text));
}

void sched_load_key(struct sched *s, const struct key_row *row)
{
    struct key *k = xcalloc(1, sizeof(*k));

    k->row = *row;
    k->name = blob_new(row->name);
    k->owner = blob_new(row->owner);
    k->row.name = blob_span(k->name);
    k->row.owner = blob_span(k->owner);
    k->number = ++s->next_key;
    key_text(row->public_key, k->user);
    TAILQ_INSERT_TAIL(&s->key_list, k, key_node);
    HASH_ADD_KEYPTR(hh, s->keys, k->user, strlen(k->user), k);
}

void keys_free(struct sched *s)
{
    struct key *k;

    while ((k = TAILQ_FIRST(&s->key_list))) {
        TAILQ_REMOVE(&s->key_list, k, key_node);
        HASH_DEL(s->keys, k);
        blob_unref(k->name);
        blob_unref(k->owner);
        free(k);
    }
}

static void save(struct sched *s, const struct key *k)
{
    struct key_row *row = &fx_add(s->g, FX_KEY)->key;

    *row = k->row;
    row->name = fx_keep(s->g, k->row.name);
    row->owner = fx_keep(s->g, k->row.owner);
}

static void add(struct sched *s, const struct key_row *row)
{
    sched_load_key(s, row);
    save(s, TAILQ_LAST(&s->key_list, key_list));
}

struct span key_owner(const struct key *k)
{
    return k->row.owner.len ? k->row.owner : k->row.name;
}

const char *key_wrong(const struct sched *s, const struct key *k)
{
    if (k->row.revoked_wall_ns)
        return k->row.role == ROLE_INVITE ? "was withdrawn" : "was revoked";
    if (k->row.not_after_wall_ns && s->wall >= k->row.not_after_wall_ns)
        return "has expired";
    return NULL;
}

struct fx *key_error(struct sched *s, peer_id peer, const struct key *k)
{
    AUTO_FREE char *text =
        k->row.role == ROLE_INVITE
            ? xasprintf("this invitation %s", key_wrong(s, k))
            : xasprintf("the key %.*s %s", (int)k->row.name.len,
                        (const char *)k->row.name.data, key_wrong(s, k));

    return sched_denied(
        s, peer, 0, MSG_HELLO, text,
        "ask who runs the coordinator for an invitation (tidemill key invite)");
}

/* What it was promised before, and takes its time to read, it does not get any more. */
void key_refuse(struct sched *s, struct peer *p)
{
    key_error(s, p->id, p->key)->send.instead = true;
    sched_peer_leave(s, p);
}

/* ---- rows ---- */

static const char *state_of(const struct sched *s, const struct key *k)
{
    if (k->row.revoked_wall_ns)
        return "revoked";
    if (key_wrong(s, k))
        return "expired";
    return k->row.role == ROLE_INVITE && !k->row.uses ? "used" : "valid";
}

/* Without the row's beginning. */
static void pack(const struct sched *s, struct buf *out, const struct key *k)
{
    bool invite = k->row.role == ROLE_INVITE;

    map_pack_str(out, "name", k->row.name);
    map_pack_str(out, "public", span_str(k->user));
    map_pack_str(out, "role", span_str(role_name(k->row.role)));
    map_pack_str(out, "owner", key_owner(k));
    map_pack_str(out, "state", span_str(state_of(s, k)));
    map_pack_uint(out, "created_ns", (uint64_t)k->row.created_wall_ns);
    map_pack_uint(out, "not_after_ns", (uint64_t)k->row.not_after_wall_ns);
    map_pack_uint(out, "revoked_ns", (uint64_t)k->row.revoked_wall_ns);
    map_pack_str(out, "grants",
                 invite ? span_str(role_name(k->row.grants)) : SPAN_LIT(""));
    map_pack_uint(out, "uses", k->row.uses);
}
enum { PACKED_FIELDS = 10 };

void key_pack(struct sched *s, struct buf *out, const struct key *k)
{
    map_pack_begin(out, PACKED_FIELDS);
    pack(s, out, k);
}

/* Rows that are said once what was changed is on disk. */
static void answer(struct sched *s, struct peer *p, uint32_t id, uint32_t n,
                   struct buf *rows)
{
    struct fx *fx;

    if (!id)
        return;
    fx = sched_send(s, p->id, MSG_ANSWER);
    fx->send.msg.answer = (struct msg_answer){ id, n, true };
    fx->send.body = blob_new(buf_span(rows));
    fx->send.msg.body = blob_span(fx->send.body);
    bulk_said(s, fx);
}

static void answer_key(struct sched *s, struct peer *p, uint32_t id, const struct key *k)
{
    AUTO_BUF row = BUF_INIT;

    key_pack(s, &row, k);
    answer(s, p, id, 1, &row);
}

/* ---- orders of admins ---- */

static bool is_plain(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '"' || text.data[i] == '\\') /* it stands in quotes in logs */
            return false;
    return text.len <= NAME_BYTES_MAX && text_is_plain(text);
}

/* One line, not empty, and nothing that a public key could be taken for, or somebody who
 * has none. */
static bool is_name(struct span name)
{
    uint8_t key[KEY_BYTES];

    return name.len && is_plain(name) && !owner_is_local(name) &&
           key_parse(name, key, NULL) < 0;
}

/* NULL, or why there can be no such key; *ret_code then is the Error's. */
static const char *bad_order(const struct sched *s, const struct msg_key *k,
                             uint32_t *ret_code)
{
    static const uint8_t none[WIRE_PUBLIC_KEY_BYTES];

    *ret_code = 2;
    if (memcmp(k->public_key, none, sizeof(none)) == 0)
        return "no public key";
    if (k->verb == KEY_TRUST ? !is_name(k->name) : k->name.len && !is_name(k->name))
        return "a key's name is one line of 1 to 128 bytes, no key itself, and does not "
               "begin with " OWNER_LOCAL;
    if (!is_plain(k->owner) || owner_is_local(k->owner))
        return "an owner's name is one line of 128 bytes at most, and does not begin "
               "with " OWNER_LOCAL;
    if (k->not_after_wall_ns && k->not_after_wall_ns <= s->wall)
        return "it would have expired already";
    *ret_code = 1;
    if (HASH_COUNT(s->keys) >= KEYS_MAX)
        return "too many keys are known";
    return NULL;
}

static struct key_row row_of(const struct sched *s, const struct msg_key *m)
{
    struct key_row row = { .name = m->name,
                           .owner = m->owner,
                           .role = m->role,
                           .created_wall_ns = MAX(1, s->wall),
                           .not_after_wall_ns = m->not_after_wall_ns };

    memcpy(row.public_key, m->public_key, sizeof(row.public_key));
    return row;
}

/* A key that is known keeps its name, role and owner; what ended it can be taken back. */
static void trust(struct sched *s, struct peer *p, const struct msg_key *m)
{
    struct key_row row = row_of(s, m);
    struct key *k = key_with(s, m->public_key);

    if (k && (k->row.role != m->role || !span_eq(k->row.name, m->name) ||
              !span_eq(k->row.owner, m->owner))) {
        AUTO_FREE char *text =
            xasprintf("this key is known as %s %.*s", role_name(k->row.role),
                      (int)k->row.name.len, (const char *)k->row.name.data);
        sched_error(s, p->id, 1, 0, MSG_KEY, text, "make another one: tidemill key gen");
        return;
    }
    if (k) {
        k->row.not_after_wall_ns = m->not_after_wall_ns;
        k->row.revoked_wall_ns = 0;
        save(s, k);
    } else {
        add(s, &row);
        k = TAILQ_LAST(&s->key_list, key_list);
    }
    answer_key(s, p, m->id, k);
}

/* By name all that have it, invitations too. Sessions end with this turn. */
static void revoke(struct sched *s, struct peer *p, const struct msg_key *m)
{
    AUTO_BUF rows = BUF_INIT;
    uint32_t n = 0;
    struct key *k;

    TAILQ_FOREACH (k, &s->key_list, key_node) {
        if (m->name.len ? !span_eq(k->row.name, m->name)
                        : memcmp(k->row.public_key, m->public_key, KEY_BYTES) != 0)
            continue;
        if (!k->row.revoked_wall_ns) {
            k->row.revoked_wall_ns = MAX(1, s->wall);
            save(s, k);
        }
        if (n++ < ANSWER_KEYS_MAX)
            key_pack(s, &rows, k);
    }
    if (n)
        answer(s, p, m->id, MIN(n, ANSWER_KEYS_MAX), &rows);
    else
        sched_error(s, p->id, 9, 0, MSG_KEY, "no such key", "tidemill key ls");
}

/* Its row says where to go, and which coordinator is to be there. */
static void answer_invite(struct sched *s, struct peer *p, uint32_t id,
                          const struct key *k)
{
    const char *endpoint =
        s->server->endpoint[k->row.grants == ROLE_WORKER ? ROLE_WORKER : ROLE_CLIENT];
    char server[KEY_TEXT];
    AUTO_BUF row = BUF_INIT;

    key_text(s->server->public_key, server);
    map_pack_begin(&row, PACKED_FIELDS + 2);
    pack(s, &row, k);
    map_pack_str(&row, "endpoint", endpoint ? span_str(endpoint) : SPAN_LIT(""));
    map_pack_str(&row, "server", span_str(server));
    answer(s, p, id, 1, &row);
}

static void invite(struct sched *s, struct peer *p, const struct msg_key *m)
{
    struct key_row row = row_of(s, m);
    struct key *k = key_with(s, m->public_key);

    if (!s->server) {
        sched_error(s, p->id, 1, 0, MSG_KEY, "the coordinator has no encrypted endpoint",
                    "tidemill-coordinator init --state DIR, then --listen-workers and "
                    "--listen tcp://ADDRESS:PORT");
        return;
    }
    if (k && (k->row.role != ROLE_INVITE || k->row.grants != m->role)) {
        sched_error(s, p->id, 1, 0, MSG_KEY, "this key is known already", "");
        return;
    }
    if (!k) { /* else it is said again */
        row.role = ROLE_INVITE;
        row.grants = m->role;
        row.uses = MAX(1u, m->uses);
        add(s, &row);
        k = TAILQ_LAST(&s->key_list, key_list);
    }
    answer_invite(s, p, m->id, k);
}

void sched_key(struct sched *s, struct peer *p, const struct msg *m)
{
    uint32_t code;
    const char *why;

    if (m->key.verb == KEY_REVOKE) {
        revoke(s, p, &m->key);
    } else if ((why = bad_order(s, &m->key, &code))) {
        sched_error(s, p->id, code, 0, MSG_KEY, why, "");
    } else if (m->key.verb == KEY_TRUST) {
        trust(s, p, &m->key);
    } else {
        invite(s, p, &m->key);
    }
}

/* ---- who comes by an invitation ---- */

/* Who names himself may not name himself as somebody whose jobs he would see. */
static bool is_taken(struct sched *s, struct span name)
{
    const struct key *k;
    struct owner *o;

    HASH_FIND(hh, s->owners, name.data, name.len, o);
    if (o)
        return true;
    TAILQ_FOREACH (k, &s->key_list, key_node)
        if (k->row.role != ROLE_WORKER && span_eq(key_owner(k), name))
            return true;
    return false;
}

/* NULL, or why this key may not come. */
static const char *enrol_refusal(struct sched *s, const struct key *token,
                                 const struct msg_enrol *m, const struct key *known)
{
    static const uint8_t none[WIRE_PUBLIC_KEY_BYTES];
    struct span name = token->row.name.len ? token->row.name : m->name;

    /* Of one that came otherwise it is no business of his who it is. */
    if (known && memcmp(known->row.invited_by, token->row.public_key, KEY_BYTES) != 0)
        return "this key is known already, and needs no invitation";
    if (known)
        return key_wrong(s, known) ? "this key was revoked, or has expired" : NULL;
    if (!token->row.uses)
        return "this invitation is used up";
    if (memcmp(m->public_key, none, sizeof(none)) == 0 || !is_name(name))
        return "a key has a name, one line of 1 to 128 bytes";
    if (token->row.grants != ROLE_WORKER && !token->row.name.len &&
        !token->row.owner.len && is_taken(s, name))
        return "somebody else has this name";
    return HASH_COUNT(s->keys) >= KEYS_MAX ? "too many keys are known" : NULL;
}

/* Said again it is answered again: the first answer may have been lost. */
void sched_enrol(struct sched *s, struct peer *p, const struct msg *m)
{
    const struct msg_enrol *e = &m->enrol;
    struct key *token = p->key, *k = key_with(s, e->public_key);
    const char *why = enrol_refusal(s, token, e, k);

    if (why) {
        sched_denied(s, p->id, 0, MSG_ENROL, why,
                     "ask who runs the coordinator for an invitation (tidemill key "
                     "invite)");
        return;
    }
    if (!k) {
        struct key_row row = { .name = token->row.name.len ? token->row.name : e->name,
                               .owner = token->row.owner,
                               .role = token->row.grants,
                               .created_wall_ns = MAX(1, s->wall) };
        memcpy(row.public_key, e->public_key, sizeof(row.public_key));
        memcpy(row.invited_by, token->row.public_key, sizeof(row.invited_by));
        token->row.uses--;
        save(s, token);
        add(s, &row);
        k = TAILQ_LAST(&s->key_list, key_list);
    }
    answer_key(s, p, e->id, k);
}
