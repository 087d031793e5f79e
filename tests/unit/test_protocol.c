/* The example of proto/PROTOCOL.md is what the programs say: its messages are compared,
 * byte for byte, with what the encoders and the scheduler make. A mismatch prints the
 * right block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/checksum.h"
#include "base/crypto.h"
#include "coordinator/sched.h"
#include "proto/pack.h"

enum { CLIENT = 1, WORKER = 2 }; /* peers */
enum { LINE_BYTES = 32 };        /* of a hex line, when a block is printed */
#define LEASE ((1ull << 32) + 1)

static const struct epoch epoch = { 1,
                                    { 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7,
                                      0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef } };

/* ---- the page ---- */

struct block {
    char title[64];
    struct buf envelope, body;
};
struct page {
    struct block blocks[32];
    size_t n, at;
};

static void hex_add(struct buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned byte;
        if (*s == ' ' || *s == '\n')
            continue;
        if (sscanf(s, "%2x", &byte) != 1 || !s[1])
            fail_msg("PROTOCOL.md: not hex: %s", s);
        buf_add_u8(out, (uint8_t)byte);
        s++;
    }
}

/* Blocks are fenced as `hex`: a title, lines of "envelope HEX" and "body HEX". */
static void page_read(struct page *p)
{
    const char *source = getenv("TM_SOURCE");
    AUTO_FREE char *path = xasprintf("%s/proto/PROTOCOL.md", source ? source : ".");
    FILE *f = fopen(path, "re");
    struct block *b = NULL;
    char line[512];

    if (!f)
        fail_msg("%s: cannot be opened", path);
    while (fgets(line, sizeof(line), f)) {
        if (strcmp(line, "```hex\n") == 0) {
            assert_true(p->n < ARRAY_LEN(p->blocks));
            b = &p->blocks[p->n++];
        } else if (line[0] == '`') {
            b = NULL;
        } else if (b && strncmp(line, "envelope ", 9) == 0) {
            hex_add(&b->envelope, line + 9);
        } else if (b && strncmp(line, "body ", 5) == 0) {
            hex_add(&b->body, line + 5);
        } else if (b) {
            snprintf(b->title, sizeof(b->title), "%.*s", (int)strcspn(line, "\n"), line);
        }
    }
    fclose(f);
}

static void page_free(struct page *p)
{
    for (size_t i = 0; i < p->n; i++) {
        buf_fini(&p->blocks[i].envelope);
        buf_fini(&p->blocks[i].body);
    }
}

static void print_hex(const char *what, struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (i % LINE_BYTES == 0)
            fprintf(stderr, "%s%s", i ? "\n" : "", what);
        fprintf(stderr, "%s%02x", i % 4 ? "" : " ", s.data[i]);
    }
    if (s.len)
        fprintf(stderr, "\n");
}

/* The next block of the page is this message. */
static void page_expect(struct page *p, const char *from, const struct msg *m)
{
    static const struct block none;
    const struct block *b = p->at < p->n ? &p->blocks[p->at] : &none;
    AUTO_FREE char *title = xasprintf("%s %s", from, msg_type_name(m->type));
    AUTO_BUF envelope = BUF_INIT;

    p->at++;
    wire_encode(m, &envelope);
    if (strcmp(b->title, title) == 0 &&
        span_eq(buf_span(&b->envelope), buf_span(&envelope)) &&
        span_eq(buf_span(&b->body), m->body))
        return;
    fprintf(stderr, "PROTOCOL.md should say:\n```hex\n%s\n", title);
    print_hex("envelope", buf_span(&envelope));
    print_hex("body", m->body);
    fprintf(stderr, "```\n");
    p->at += 1000; /* counted at the end, so that all wrong ones are printed */
}

/* ---- the exchange ---- */

struct exchange {
    struct page *page;
    struct sched *sched;
    int64_t now_ns;
};

static void expect_sent(struct exchange *x, struct fx_group *g, enum fx_type type)
{
    struct fx *fx;

    STAILQ_FOREACH (fx, &g->list, node)
        if (fx->type == type)
            page_expect(x->page, "coordinator", &fx->send.msg);
}

/* One turn, then its commit, as coord.c does it; `m` NULL: only what is due. */
static void turn(struct exchange *x, peer_id peer, const struct msg *m)
{
    struct fx_group *g = fx_group_new();
    struct arena arena;
    struct msg got;

    arena_init(&arena, MIB);
    sched_turn_begin(x->sched, x->now_ns += NS_PER_MS, 0, g);
    if (m) {
        AUTO_BUF envelope = BUF_INIT;
        page_expect(x->page, peer == CLIENT ? "client" : "worker", m);
        wire_encode(m, &envelope);
        assert_int_equal(wire_decode(buf_span(&envelope), m->body, &arena, &got, NULL),
                         0);
        sched_message(x->sched, peer, SPAN_NONE, &got);
    }
    sched_turn_end(x->sched);
    expect_sent(x, g, FX_SEND_NOW);
    expect_sent(x, g, FX_SEND);
    struct fx_group *after = fx_group_new();
    sched_turn_begin(x->sched, x->now_ns += NS_PER_MS, 0, after);
    sched_committed(x->sched, g);
    sched_turn_end(x->sched);
    expect_sent(x, after, FX_SEND_NOW);
    expect_sent(x, after, FX_SEND);
    fx_group_free(g);
    fx_group_free(after);
    arena_fini(&arena);
}

static void say_hello(struct exchange *x, peer_id peer)
{
    bool worker = peer == WORKER;
    struct msg m = { .type = MSG_HELLO };

    m.hello = (struct msg_hello){ .role = worker ? ROLE_WORKER : ROLE_CLIENT,
                                  .version_min = WIRE_VERSION,
                                  .version_max = WIRE_VERSION,
                                  .name = worker ? SPAN_LIT("n1") : SPAN_LIT("me"),
                                  .cpu_slots = worker,
                                  .pid = worker ? 8 : 7 };
    memset(m.hello.nonce, worker ? 0xb0 : 0xa0, sizeof(m.hello.nonce));
    turn(x, peer, &m);
}

static void say_submit(struct exchange *x)
{
    struct job_spec spec = { .command = SPAN_LIT("map"), .algos = BIT(ALGO_SHA256) };
    struct msg m = { .type = MSG_SUBMIT };
    AUTO_BUF packed = BUF_INIT;

    spec_pack(&packed, &spec);
    m.submit = (struct msg_submit){ .spec = buf_span(&packed),
                                    .name = SPAN_LIT("ex"),
                                    .retries = 3 };
    for (uint8_t i = 0; i < WIRE_KEY_BYTES; i++)
        m.submit.key[i] = i;
    turn(x, CLIENT, &m);
}

static void chunk_digest(const uint32_t *lens, uint32_t n, struct span body, uint8_t *ret)
{
    AUTO_BUF le = BUF_INIT;

    for (uint32_t i = 0; i < n; i++) {
        buf_add_u8(&le, (uint8_t)lens[i]);
        buf_add_u8(&le, (uint8_t)(lens[i] >> 8));
        buf_add_u8(&le, (uint8_t)(lens[i] >> 16));
        buf_add_u8(&le, (uint8_t)(lens[i] >> 24));
    }
    struct span parts[] = { buf_span(&le), body };
    checksum(parts, ARRAY_LEN(parts), ret);
}

/* Two inputs: "hello" and, with a name, no bytes at all. */
static void say_chunk(struct exchange *x, uint8_t *ret_digest)
{
    struct task_input in[] = {
        { .data = SPAN_LIT("hello"), .has_data = true },
        { .has_data = true, .shown = SPAN_LIT("empty") },
    };
    struct msg m = { .type = MSG_CHUNK };
    uint32_t lens[ARRAY_LEN(in)];
    AUTO_BUF body = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(in); i++) {
        size_t before = body.len;
        input_pack(&body, &in[i]);
        lens[i] = (uint32_t)(body.len - before);
    }
    m.body = buf_span(&body);
    m.chunk = (struct msg_chunk){ .job = 1, .n = ARRAY_LEN(in), .lens = lens };
    chunk_digest(lens, ARRAY_LEN(in), m.body, m.chunk.digest);
    memcpy(ret_digest, m.chunk.digest, WIRE_DIGEST_BYTES);
    turn(x, CLIENT, &m);
}

static void say_seal_and_follow(struct exchange *x)
{
    struct msg seal = { .type = MSG_SEAL, .seal = { 1, 1, 2 } };
    struct msg follow = { .type = MSG_FOLLOW,
                          .follow = { .job = 1, .credit_bytes = MIB } };

    turn(x, CLIENT, &seal);
    turn(x, CLIENT, &follow);
}

/* The worker's answer to one leased task. */
static void say_done(struct exchange *x, uint32_t task, const uint8_t *digest)
{
    static const char *const inputs[] = { "hello", "" };
    uint8_t sum[32];
    uint8_t status = TASK_OK;
    struct msg m = { .type = MSG_DONE };
    AUTO_BUF value = BUF_INIT;
    struct crypto_hash_state *h = crypto_hash_new(CRYPTO_SHA256);
    struct task_value v = { .bytes = strlen(inputs[task]), .n_digests = 1 };

    crypto_hash_update(h, inputs[task], strlen(inputs[task]));
    crypto_hash_final(h, sum);
    v.digests[0] = (struct digest){ ALGO_SHA256, span_of(sum, sizeof(sum)) };
    value_pack(&value, &v);
    uint32_t len = (uint32_t)value.len;
    m.body = buf_span(&value);
    m.done = (struct msg_done){ .lease = LEASE,
                                .job = 1,
                                .epoch = epoch,
                                .batch = { 1, &task, &status, &len },
                                .last = task == 1 };
    memcpy(m.done.digest, digest, WIRE_DIGEST_BYTES);
    turn(x, WORKER, &m);
}

static void the_example_is_what_is_said(void **state)
{
    struct page page = { .n = 0 };
    struct sched_config config = { .epoch = epoch };
    struct exchange x = { .page = &page, .now_ns = NS_PER_S };
    uint8_t digest[WIRE_DIGEST_BYTES];

    (void)state;
    crypto_init();
    page_read(&page);
    x.sched = sched_new(&config);
    sched_loaded(x.sched, 1);
    say_hello(&x, CLIENT);
    say_submit(&x);
    say_chunk(&x, digest);
    say_seal_and_follow(&x);
    say_hello(&x, WORKER);
    say_done(&x, 0, digest);
    say_done(&x, 1, digest);
    sched_free(x.sched);
    page_free(&page);
    assert_int_equal(page.at, page.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_what_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
