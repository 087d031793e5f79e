#include <assert.h>
#include <float.h>
#include "proto/pack.h"

#include "proto/map.h"

/* ---- msgpack-c's templates, over a buf ---- */

/* Into a buf with room for all that is packed: reserved once, not for each piece. */
static inline int append(struct buf *b, const void *data, size_t len)
{
    CHECK(b->cap - b->len >= len);
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

/* What pack.h makes of them calls through a pointer for every header, key and text: three
 * quarters of what packing a digest or a small input takes. */
#define msgpack_pack_inline_func(name)         static inline int msgpack_pack##name
#define msgpack_pack_inline_func_cint(name)    static inline int msgpack_pack##name
#define msgpack_pack_inline_func_fixint(name)  static inline int msgpack_pack_fix##name
#define msgpack_pack_user                      struct buf *
#define msgpack_pack_append_buffer(b, at, len) return append(b, at, len)
#include <msgpack/pack_define.h>
#include <msgpack/timestamp.h>
#include <msgpack/pack_template.h>

/* ---- names ---- */

#define NAME(literal) literal, sizeof(literal) - 1

static const struct {
    const char *name;
    size_t name_len, bytes;
} algos[ALGO_COUNT] = {
    [ALGO_MD5] = { NAME("md5"), 16 },         [ALGO_SHA1] = { NAME("sha1"), 20 },
    [ALGO_SHA256] = { NAME("sha256"), 32 },   [ALGO_SHA512] = { NAME("sha512"), 64 },
    [ALGO_BLAKE2B] = { NAME("blake2b"), 64 },
};

const char *algo_name(enum algo a)
{
    return algos[a].name;
}

size_t algo_bytes(enum algo a)
{
    return algos[a].bytes;
}

int algo_parse(struct span name, enum algo *ret)
{
    for (int a = 0; a < ALGO_COUNT; a++)
        if (span_eq(name, span_of(algos[a].name, algos[a].name_len))) {
            *ret = (enum algo)a;
            return 0;
        }
    if (!span_eq(name, SPAN_LIT("b2")))
        return -1;
    *ret = ALGO_BLAKE2B;
    return 0;
}

/* ---- writing ---- */

enum { HEADERS_MAX = 256 }; /* of a map: what is packed besides bytes and digests */

static size_t digests_room(const struct digest *d, uint32_t n)
{
    size_t room = 0;

    for (uint32_t i = 0; i < n; i++)
        room += d[i].bytes.len + sizeof("blake2b..");
    return room;
}

/* Inlined, so that the length of a key is known where it is written. */
#define INLINE static inline __attribute__((always_inline))

INLINE void str(struct buf *out, const char *s, size_t len)
{
    msgpack_pack_str(out, len);
    append(out, s, len);
}

INLINE void key(struct buf *out, const char *name)
{
    str(out, name, strlen(name));
}

static void raw(struct buf *out, struct span s)
{
    msgpack_pack_bin(out, s.len);
    append(out, s.data, s.len);
}

INLINE void bin(struct buf *out, const char *name, struct span s)
{
    if (s.len == 0)
        return;
    key(out, name);
    raw(out, s);
}

INLINE void number(struct buf *out, const char *name, uint64_t v)
{
    if (v == 0)
        return;
    key(out, name);
    msgpack_pack_uint64(out, v);
}

INLINE void digests(struct buf *out, const char *name, const struct digest *d, uint32_t n)
{
    if (n == 0)
        return;
    key(out, name);
    msgpack_pack_map(out, n);
    for (uint32_t i = 0; i < n; i++) {
        str(out, algos[d[i].algo].name, algos[d[i].algo].name_len);
        raw(out, d[i].bytes);
    }
}

size_t input_pack(struct buf *out, const struct task_input *in)
{
    size_t before = out->len;
    size_t n = !!in->path.len + !!in->url.len + !!in->has_data + !!in->shown.len +
               !!in->out.len + !!in->size + !!in->after.len + !!in->named;

    buf_reserve(out, HEADERS_MAX + in->path.len + in->url.len + in->data.len +
                         in->shown.len + in->out.len + in->after.len);
    msgpack_pack_map(out, n);
    bin(out, "p", in->path);
    bin(out, "u", in->url);
    if (in->has_data) {
        key(out, "b");
        raw(out, in->data);
    }
    bin(out, "n", in->shown);
    bin(out, "o", in->out);
    number(out, "z", in->size);
    bin(out, "m", in->after);
    number(out, "l", in->named);
    return out->len - before;
}

void value_pack(struct buf *out, const struct task_value *v)
{
    size_t n = !!v->bytes + !!v->out_bytes + !!v->n_digests + !!v->n_out_digests +
               !!v->error.len + !!v->output.len + v->has_body + !!v->http_status +
               !!v->retry_after_s + !!v->elapsed_us + !!v->skipped + v->more + v->is_file;

    buf_reserve(out, HEADERS_MAX + digests_room(v->digests, v->n_digests) +
                         digests_room(v->out_digests, v->n_out_digests) + v->error.len +
                         v->output.len + v->body.len);
    msgpack_pack_map(out, n);
    number(out, "s", v->bytes);
    number(out, "w", v->out_bytes);
    digests(out, "d", v->digests, v->n_digests);
    digests(out, "D", v->out_digests, v->n_out_digests);
    bin(out, "e", v->error);
    bin(out, "o", v->output);
    if (v->has_body) {
        key(out, "b");
        raw(out, v->body);
    }
    number(out, "h", v->http_status);
    number(out, "r", v->retry_after_s);
    number(out, "t", v->elapsed_us);
    number(out, "q", v->skipped);
    number(out, "m", v->more);
    number(out, "y", v->is_file);
}

void spec_pack(struct buf *out, const struct job_spec *s)
{
    size_t room =
        HEADERS_MAX + s->command.len + s->ca_file.len + s->present.len + s->on.len;
    uint32_t flags = (s->armor ? 1 : 0) | (s->force ? 2 : 0) | (s->no_sync ? 4 : 0);
    size_t n = !!s->command.len + !!s->source + !!s->algos + !!s->transform +
               !!s->out_algos + !!s->n_recipients + !!s->sink + !!flags +
               !!s->connect_timeout_ns + !!s->stall_ns + !!s->timeout_ns +
               !!s->max_bytes + !!s->per_host + (s->rate > 0) + !!s->ca_file.len +
               !!s->on.len + !!s->present.len;

    CHECK(s->n_recipients <= SPEC_RECIPIENTS_MAX);
    for (uint32_t i = 0; i < s->n_recipients; i++)
        room += s->recipients[i].len + 1;
    buf_reserve(out, room);
    msgpack_pack_map(out, n);
    bin(out, "c", s->command);
    number(out, "i", s->source);
    number(out, "a", s->algos);
    number(out, "x", s->transform);
    number(out, "A", s->out_algos);
    if (s->n_recipients) {
        size_t len = s->n_recipients - 1;
        for (uint32_t i = 0; i < s->n_recipients; i++)
            len += s->recipients[i].len;
        key(out, "R"); /* as one text, a space between two */
        msgpack_pack_bin(out, len);
        for (uint32_t i = 0; i < s->n_recipients; i++) {
            if (i)
                buf_add_u8(out, ' ');
            buf_add_span(out, s->recipients[i]);
        }
    }
    number(out, "k", s->sink);
    number(out, "f", flags);
    number(out, "tc", s->connect_timeout_ns);
    number(out, "ts", s->stall_ns);
    number(out, "tt", s->timeout_ns);
    number(out, "mb", s->max_bytes);
    number(out, "ph", s->per_host);
    if (s->rate > 0) {
        key(out, "pr");
        msgpack_pack_double(out, s->rate);
    }
    bin(out, "ca", s->ca_file);
    bin(out, "on", s->on);
    bin(out, "P", s->present);
}

/* ---- reading ---- */

/* One map is read by one table: its key decides where the value goes. */
struct field {
    const char *key;
    size_t key_len;
    enum { AS_SPAN, AS_U64, AS_U32, AS_REAL, AS_BOOL, AS_CALL } as;
    size_t off;
    int (*call)(void *to, const struct map_value *v, struct err *err);
};

static int wrong(const struct field *f, struct err *err)
{
    return err_set(err, 1, "MessagePack: '%s' has the wrong type", f->key);
}

static int store(const struct field *f, void *to, const struct map_value *v,
                 struct err *err)
{
    void *at = (char *)to + f->off;

    switch (f->as) {
    case AS_SPAN:
        if (v->kind != MAP_STR && v->kind != MAP_BIN)
            return wrong(f, err);
        *(struct span *)at = v->text;
        return 0;
    case AS_U64:
    case AS_U32:
        if (v->kind != MAP_UINT || (f->as == AS_U32 && v->uint > UINT32_MAX))
            return wrong(f, err);
        if (f->as == AS_U64)
            *(uint64_t *)at = v->uint;
        else
            *(uint32_t *)at = (uint32_t)v->uint;
        return 0;
    case AS_BOOL: /* as a number: 0 or not */
        if (v->kind != MAP_UINT)
            return wrong(f, err);
        *(bool *)at = v->uint != 0;
        return 0;
    case AS_REAL:
        if (v->kind == MAP_UINT)
            *(double *)at = (double)v->uint;
        else if (v->kind == MAP_FLOAT && v->real >= 0 && v->real <= DBL_MAX)
            *(double *)at = v->real;
        else
            return wrong(f, err);
        return 0;
    case AS_CALL:
        return f->call(to, v, err) < 0 ? wrong(f, err) : 0;
    }
    return 0;
}

/* The first byte tells nearly all keys apart, without a call for each. */
static inline bool is_key(struct span k, const struct field *f)
{
    return k.len == f->key_len && (k.len == 0 || k.data[0] == f->key[0]) &&
           (k.len <= 1 || memcmp(k.data, f->key, k.len) == 0);
}

static int read_map(struct span bytes, const struct field *fields, void *to,
                    struct err *err)
{
    struct map_value v;
    struct span k;
    size_t pos = 0;
    uint32_t n;

    if (map_unpack_begin(bytes, &pos, &n, err) < 0)
        return -1;
    while (n--) {
        if (map_unpack_next(bytes, &pos, &k, &v, err) < 0)
            return -1;
        for (const struct field *f = fields; f->key; f++) {
            if (!is_key(k, f))
                continue;
            if (store(f, to, &v, err) < 0)
                return -1;
            break;
        }
    }
    if (pos != bytes.len)
        return err_set(err, 1, "MessagePack: bytes after the map");
    return 0;
}

static int take_data(void *to, const struct map_value *v, struct err *err)
{
    struct task_input *in = to;

    (void)err;
    if (v->kind != MAP_BIN && v->kind != MAP_STR)
        return -1;
    in->data = v->text;
    in->has_data = true;
    return 0;
}

int input_unpack(struct span bytes, struct task_input *ret, struct err *err)
{
    static const struct field fields[] = {
        { NAME("p"), AS_SPAN, offsetof(struct task_input, path), NULL },
        { NAME("u"), AS_SPAN, offsetof(struct task_input, url), NULL },
        { NAME("b"), AS_CALL, 0, take_data },
        { NAME("n"), AS_SPAN, offsetof(struct task_input, shown), NULL },
        { NAME("o"), AS_SPAN, offsetof(struct task_input, out), NULL },
        { NAME("z"), AS_U64, offsetof(struct task_input, size), NULL },
        { NAME("m"), AS_SPAN, offsetof(struct task_input, after), NULL },
        { NAME("l"), AS_BOOL, offsetof(struct task_input, named), NULL },
        { NULL, 0, AS_SPAN, 0, NULL },
    };

    *ret = (struct task_input){ 0 };
    if (read_map(bytes, fields, ret, err) < 0)
        return -1;
    if (!!ret->path.len + !!ret->url.len + ret->has_data != 1)
        return err_set(err, 1, "an input needs exactly one of path, URL and bytes");
    return 0;
}

struct span input_shown(const struct task_input *in)
{
    if (in->shown.len)
        return in->shown;
    return in->path.len ? in->path : in->url;
}

static int take_digest_map(struct digest *to, uint32_t *n, const struct map_value *v)
{
    struct map_value d;
    struct span name;
    size_t pos = 0;
    uint32_t left;

    if (v->kind != MAP_NESTED || map_unpack_begin(v->text, &pos, &left, NULL) < 0)
        return -1;
    *n = 0;
    while (left--) {
        enum algo a;
        if (map_unpack_next(v->text, &pos, &name, &d, NULL) < 0)
            return -1;
        if (algo_parse(name, &a) < 0)
            continue; /* of a later release */
        if (d.kind != MAP_BIN || d.text.len != algo_bytes(a) || *n == PACK_DIGESTS_MAX)
            return -1;
        to[(*n)++] = (struct digest){ a, d.text };
    }
    return 0;
}

static int take_digests(void *to, const struct map_value *v, struct err *err)
{
    struct task_value *val = to;
    (void)err;
    return take_digest_map(val->digests, &val->n_digests, v);
}

static int take_out_digests(void *to, const struct map_value *v, struct err *err)
{
    struct task_value *val = to;
    (void)err;
    return take_digest_map(val->out_digests, &val->n_out_digests, v);
}

static int take_body(void *to, const struct map_value *v, struct err *err)
{
    struct task_value *val = to;

    (void)err;
    if (v->kind != MAP_BIN && v->kind != MAP_STR)
        return -1;
    val->body = v->text;
    val->has_body = true;
    return 0;
}

int value_unpack(struct span bytes, struct task_value *ret, struct err *err)
{
    static const struct field fields[] = {
        { NAME("s"), AS_U64, offsetof(struct task_value, bytes), NULL },
        { NAME("w"), AS_U64, offsetof(struct task_value, out_bytes), NULL },
        { NAME("d"), AS_CALL, 0, take_digests },
        { NAME("D"), AS_CALL, 0, take_out_digests },
        { NAME("e"), AS_SPAN, offsetof(struct task_value, error), NULL },
        { NAME("o"), AS_SPAN, offsetof(struct task_value, output), NULL },
        { NAME("b"), AS_CALL, 0, take_body },
        { NAME("h"), AS_U32, offsetof(struct task_value, http_status), NULL },
        { NAME("r"), AS_U32, offsetof(struct task_value, retry_after_s), NULL },
        { NAME("t"), AS_U64, offsetof(struct task_value, elapsed_us), NULL },
        { NAME("q"), AS_U64, offsetof(struct task_value, skipped), NULL },
        { NAME("m"), AS_BOOL, offsetof(struct task_value, more), NULL },
        { NAME("y"), AS_BOOL, offsetof(struct task_value, is_file), NULL },
        { NULL, 0, AS_SPAN, 0, NULL },
    };

    value_clear(ret);
    return read_map(bytes, fields, ret, err);
}

static int take_recipients(void *to, const struct map_value *v, struct err *err)
{
    struct job_spec *s = to;
    size_t start = 0;

    (void)err;
    if (v->kind != MAP_BIN && v->kind != MAP_STR)
        return -1;
    for (size_t i = 0; i <= v->text.len; i++) {
        if (i < v->text.len && v->text.data[i] != ' ')
            continue;
        if (s->n_recipients == SPEC_RECIPIENTS_MAX)
            return -1;
        s->recipients[s->n_recipients++] = span_of(v->text.data + start, i - start);
        start = i + 1;
    }
    return 0;
}

static int take_flags(void *to, const struct map_value *v, struct err *err)
{
    struct job_spec *s = to;

    (void)err;
    if (v->kind != MAP_UINT)
        return -1;
    s->armor = v->uint & 1;
    s->force = v->uint & 2;
    s->no_sync = v->uint & 4;
    return 0;
}

int spec_unpack(struct span bytes, struct job_spec *ret, struct err *err)
{
    static const struct field fields[] = {
        { NAME("c"), AS_SPAN, offsetof(struct job_spec, command), NULL },
        { NAME("i"), AS_U32, offsetof(struct job_spec, source), NULL },
        { NAME("a"), AS_U32, offsetof(struct job_spec, algos), NULL },
        { NAME("x"), AS_U32, offsetof(struct job_spec, transform), NULL },
        { NAME("A"), AS_U32, offsetof(struct job_spec, out_algos), NULL },
        { NAME("R"), AS_CALL, 0, take_recipients },
        { NAME("k"), AS_U32, offsetof(struct job_spec, sink), NULL },
        { NAME("f"), AS_CALL, 0, take_flags },
        { NAME("tc"), AS_U64, offsetof(struct job_spec, connect_timeout_ns), NULL },
        { NAME("ts"), AS_U64, offsetof(struct job_spec, stall_ns), NULL },
        { NAME("tt"), AS_U64, offsetof(struct job_spec, timeout_ns), NULL },
        { NAME("mb"), AS_U64, offsetof(struct job_spec, max_bytes), NULL },
        { NAME("ph"), AS_U32, offsetof(struct job_spec, per_host), NULL },
        { NAME("pr"), AS_REAL, offsetof(struct job_spec, rate), NULL },
        { NAME("ca"), AS_SPAN, offsetof(struct job_spec, ca_file), NULL },
        { NAME("on"), AS_SPAN, offsetof(struct job_spec, on), NULL },
        { NAME("P"), AS_SPAN, offsetof(struct job_spec, present), NULL },
        { NULL, 0, AS_SPAN, 0, NULL },
    };
    static_assert(sizeof(ret->source) == sizeof(uint32_t), "enums are read as u32");

    memset(ret, 0, sizeof(*ret));
    if (read_map(bytes, fields, ret, err) < 0)
        return -1;
    if (ret->source > SOURCE_DIR || ret->sink > SINK_FILE ||
        ret->transform > TRANSFORM_DECRYPT || ret->algos >= BIT(ALGO_COUNT) ||
        ret->out_algos >= BIT(ALGO_COUNT))
        return err_set(err, 1, "the job's pipeline is of an unknown kind");
    if (ret->transform == TRANSFORM_ENCRYPT && ret->n_recipients == 0)
        return err_set(err, 2, "encrypting needs a recipient");
    if (ret->source == SOURCE_DIR && (ret->transform || ret->sink != SINK_NONE))
        return err_set(err, 1, "a walk has neither transform nor sink");
    return 0;
}
