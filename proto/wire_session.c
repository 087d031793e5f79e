/* Messages of a session: Hello, Welcome, Beat, Error. */
#include "proto/wire_pb.h"

void wire_put_hello(const struct msg *m, union any *a)
{
    const struct msg_hello *h = &m->hello;
    Tidemill__HeldLease *held = xcalloc(h->n_held + 1, sizeof(*held));
    Tidemill__HeldLease **list = xcalloc(h->n_held + 1, sizeof(*list));

    for (uint32_t i = 0; i < h->n_held; i++) {
        tidemill__held_lease__init(&held[i]);
        held[i].lease = h->held[i].lease;
        held[i].job = h->held[i].job;
        held[i].chunk = h->held[i].chunk;
        held[i].digest = bytes(h->held[i].digest, WIRE_DIGEST_BYTES);
        LIST(held[i].n_ranges, held[i].ranges, h->held[i].n_ranges * 2,
             h->held[i].ranges);
        list[i] = &held[i];
    }
    list[h->n_held] = held; /* kept for freeing */
    tidemill__hello__init(&a->hello);
    a->hello.role = (Tidemill__Role)h->role;
    a->hello.version_min = h->version_min;
    a->hello.version_max = h->version_max;
    a->hello.epoch_counter = h->epoch.counter;
    a->hello.epoch_nonce = bytes(h->epoch.nonce, 16);
    a->hello.name = bytes_of(h->name);
    a->hello.cpu_slots = h->cpu_slots;
    a->hello.io_slots = h->io_slots;
    a->hello.nonce = bytes(h->nonce, 16);
    a->hello.pid = h->pid;
    a->hello.identities = bytes_of(h->identities);
    a->hello.draining = h->draining;
    a->hello.files = h->files;
    a->hello.labels = bytes_of(h->labels);
    LIST(a->hello.n_held, a->hello.held, h->n_held, list);
}

int wire_take_hello(struct in *in)
{
    const Tidemill__Hello *h = in->e->hello;
    struct msg_hello *r = &in->m->hello;
    struct held_lease *held;

    if ((int)h->role != ROLE_CLIENT && (int)h->role != ROLE_WORKER)
        return bad(in, "role");
    if (h->cpu_slots > WIRE_SLOTS_MAX || h->io_slots > WIRE_SLOTS_MAX)
        return bad(in, "slots");
    if (h->n_held > WIRE_LIST_MAX)
        return bad(in, "leases");
    held = arena_alloc(in->arena, (h->n_held + 1) * sizeof(*held));
    if (!held)
        return bad(in, "size");
    for (size_t i = 0; i < h->n_held; i++) {
        const Tidemill__HeldLease *from = h->held[i];
        held[i] = (struct held_lease){ .lease = from->lease,
                                       .job = from->job,
                                       .chunk = from->chunk,
                                       .ranges = (const struct range *)from->ranges,
                                       .n_ranges = (uint32_t)(from->n_ranges / 2) };
        if (ranges(in, from->n_ranges, from->ranges, NULL) < 0 ||
            fixed(in, from->digest, held[i].digest, "digest") < 0)
            return bad(in, "lease");
    }
    r->role = (enum peer_role)h->role;
    r->version_min = h->version_min;
    r->version_max = h->version_max;
    r->cpu_slots = h->cpu_slots;
    r->io_slots = h->io_slots;
    r->pid = h->pid;
    r->draining = h->draining;
    r->files = h->files;
    r->held = held;
    r->n_held = (uint32_t)h->n_held;
    if (epoch(in, h->epoch_counter, h->epoch_nonce, &r->epoch) < 0 ||
        fixed(in, h->nonce, r->nonce, "nonce") < 0 ||
        text(in, h->identities, WIRE_SPEC_BYTES_MAX, &r->identities, "identities") < 0 ||
        text(in, h->labels, WIRE_LABELS_MAX, &r->labels, "labels") < 0)
        return -1;
    return text(in, h->name, WIRE_TEXT_MAX, &r->name, "name");
}

void wire_put_welcome(const struct msg *m, union any *a)
{
    const struct msg_welcome *w = &m->welcome;

    tidemill__welcome__init(&a->welcome);
    a->welcome.version = w->version;
    a->welcome.epoch_counter = w->epoch.counter;
    a->welcome.epoch_nonce = bytes(w->epoch.nonce, 16);
    a->welcome.session = w->session;
    a->welcome.frame_max = w->frame_max;
    a->welcome.chunk_tasks_max = w->chunk_tasks_max;
    a->welcome.chunk_bytes_max = w->chunk_bytes_max;
    a->welcome.input_max = w->input_max;
    a->welcome.value_max = w->value_max;
    a->welcome.beat_ms = w->beat_ms;
    a->welcome.silence_ms = w->silence_ms;
    a->welcome.next_server = bytes_of(w->next_server);
}

int wire_take_welcome(struct in *in)
{
    const Tidemill__Welcome *w = in->e->welcome;

    in->m->welcome = (struct msg_welcome){ .version = w->version,
                                           .session = w->session,
                                           .frame_max = w->frame_max,
                                           .chunk_tasks_max = w->chunk_tasks_max,
                                           .chunk_bytes_max = w->chunk_bytes_max,
                                           .input_max = w->input_max,
                                           .value_max = w->value_max,
                                           .beat_ms = w->beat_ms,
                                           .silence_ms = w->silence_ms };
    if (w->next_server.len && w->next_server.len != WIRE_PUBLIC_KEY_BYTES)
        return bad(in, "public key");
    in->m->welcome.next_server = span_pb(w->next_server);
    return epoch(in, w->epoch_counter, w->epoch_nonce, &in->m->welcome.epoch);
}

void wire_put_beat(const struct msg *m, union any *a)
{
    tidemill__beat__init(&a->beat);
    a->beat.session = m->beat.session;
    a->beat.cpu_busy = m->beat.cpu_busy;
    a->beat.io_busy = m->beat.io_busy;
    LIST(a->beat.n_progressing, a->beat.progressing, m->beat.n_progressing,
         m->beat.progressing);
    a->beat.leaving = m->beat.leaving;
}

int wire_take_beat(struct in *in)
{
    const Tidemill__Beat *b = in->e->beat;

    if (b->n_progressing > WIRE_LIST_MAX)
        return bad(in, "leases");
    in->m->beat = (struct msg_beat){
        b->session, b->cpu_busy, b->io_busy, b->progressing, (uint32_t)b->n_progressing,
        b->leaving
    };
    return 0;
}

void wire_put_error(const struct msg *m, union any *a)
{
    tidemill__error__init(&a->error);
    a->error.code = m->error.code;
    a->error.text = bytes_of(m->error.text);
    a->error.hint = bytes_of(m->error.hint);
    a->error.job = m->error.job;
    a->error.about = (Tidemill__Type)m->error.about;
}

int wire_take_error(struct in *in)
{
    const Tidemill__Error *e = in->e->error;
    struct msg_error *r = &in->m->error;

    *r = (struct msg_error){ .code = e->code, .job = e->job };
    if ((unsigned)e->about < (unsigned)MSG_TYPE_COUNT)
        r->about = (enum msg_type)e->about;
    if (text(in, e->text, WIRE_TEXT_MAX, &r->text, "text") < 0)
        return -1;
    return text(in, e->hint, WIRE_TEXT_MAX, &r->hint, "hint");
}

void wire_put_taken(const struct msg *m, union any *a)
{
    tidemill__taken__init(&a->taken);
    a->taken.bytes = m->taken.bytes;
}

int wire_take_taken(struct in *in)
{
    in->m->taken = (struct msg_taken){ in->e->taken->bytes };
    return 0;
}
