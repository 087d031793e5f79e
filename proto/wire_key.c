/* Keys: an admin's orders about them, and how who was invited brings one. */
#include "proto/wire_pb.h"

void wire_put_key(const struct msg *m, union any *a)
{
    const struct msg_key *k = &m->key;

    tidemill__key__init(&a->key);
    a->key.id = k->id;
    a->key.verb = (Tidemill__Key__Verb)k->verb;
    a->key.public_key = bytes(k->public_key, WIRE_PUBLIC_KEY_BYTES);
    a->key.name = bytes_of(k->name);
    a->key.role = (Tidemill__Role)k->role;
    a->key.owner = bytes_of(k->owner);
    a->key.not_after_wall_ns = k->not_after_wall_ns;
    a->key.uses = k->uses;
}

int wire_take_key(struct in *in)
{
    const Tidemill__Key *k = in->e->key;
    struct msg_key *r = &in->m->key;

    if ((int)k->verb < 0 || (int)k->verb >= KEY_VERB_COUNT)
        return bad(in, "verb");
    if ((int)k->role < 0 ||
        (int)k->role > ROLE_ADMIN) /* invitations are not for others */
        return bad(in, "role");
    *r = (struct msg_key){ .id = k->id,
                           .verb = (enum key_verb)k->verb,
                           .role = (enum peer_role)k->role,
                           .not_after_wall_ns = MAX(0, k->not_after_wall_ns),
                           .uses = k->uses };
    if (public_key(in, k->public_key, r->public_key) < 0 ||
        text(in, k->name, WIRE_TEXT_MAX, &r->name, "name") < 0)
        return -1;
    return text(in, k->owner, WIRE_TEXT_MAX, &r->owner, "owner");
}

void wire_put_enrol(const struct msg *m, union any *a)
{
    tidemill__enrol__init(&a->enrol);
    a->enrol.id = m->enrol.id;
    a->enrol.public_key = bytes(m->enrol.public_key, WIRE_PUBLIC_KEY_BYTES);
    a->enrol.name = bytes_of(m->enrol.name);
}

int wire_take_enrol(struct in *in)
{
    const Tidemill__Enrol *e = in->e->enrol;

    in->m->enrol = (struct msg_enrol){ .id = e->id };
    if (public_key(in, e->public_key, in->m->enrol.public_key) < 0)
        return -1;
    return text(in, e->name, WIRE_TEXT_MAX, &in->m->enrol.name, "name");
}
