/* Rows of the key table. Secret keys are not here. */
#include "coordinator/store_sql.h"

static bool take_bytes(sqlite3_stmt *st, int i, uint8_t to[WIRE_PUBLIC_KEY_BYTES])
{
    struct span s = column_span(st, i);

    if (s.len != WIRE_PUBLIC_KEY_BYTES)
        return false;
    memcpy(to, s.data, s.len);
    return true;
}

bool key_row_take(sqlite3_stmt *st, struct key_row *r)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    int role = sqlite3_column_int(st, 3), grants = sqlite3_column_int(st, 4);

    *r = (struct key_row){
        .name = column_span(st, 1),
        .owner = column_span(st, 2),
        .uses = (uint32_t)column_u64(st, 5),
        .created_wall_ns = sqlite3_column_int64(st, 6),
        .not_after_wall_ns = sqlite3_column_int64(st, 7),
        .revoked_wall_ns = sqlite3_column_int64(st, 8),
    };
    if (role < 0 || role >= ROLE_COUNT || grants < 0 || grants >= ROLE_INVITE ||
        !take_bytes(st, 0, r->public_key) || !take_bytes(st, 9, r->invited_by))
        return false;
    r->role = (enum peer_role)role;
    r->grants = (enum peer_role)grants;
    digest_key(r, digest);
    return span_eq(column_span(st, 10), span_of(digest, sizeof(digest)));
}

int save_key(struct sql *q, const struct fx *fx)
{
    const struct key_row *k = &fx->key;
    sqlite3_stmt *st =
        BOUND(q, ST_KEY, 0, 0, 0, k->role, k->grants, k->uses, k->created_wall_ns,
              k->not_after_wall_ns, k->revoked_wall_ns);
    uint8_t digest[WIRE_DIGEST_BYTES];

    digest_key(k, digest);
    bind_span(st, 1, span_of(k->public_key, sizeof(k->public_key)));
    bind_span(st, 2, k->name);
    bind_span(st, 3, k->owner);
    bind_span(st, 10, span_of(k->invited_by, sizeof(k->invited_by)));
    bind_span(st, 11, span_of(digest, sizeof(digest)));
    return sql_run(st);
}
