/* The ring: records of all lengths arrive whole and in order, sleepers are woken, and a
 * peer that writes nonsense is found out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "worker/ring.h"

enum { CAP = 4096, RECORDS = 200 * 1000 };

struct pair {
    struct ring_shared shared;
    alignas(64) uint8_t bytes[CAP];
    struct ring writer, reader;
    int to_reader, to_writer;
};

static void pair_init(struct pair *p)
{
    memset(p, 0, sizeof(*p));
    ring_init(&p->writer, &p->shared, p->bytes, CAP);
    ring_init(&p->reader, &p->shared, p->bytes, CAP);
}

static bool put(struct ring *ring, const void *data, size_t len)
{
    void *at = ring_reserve(ring, len);
    if (!at)
        return false;
    memcpy(at, data, len);
    ring_push(ring);
    return true;
}

static void test_records_of_every_length_come_out_as_they_went_in(void **state)
{
    (void)state;
    static struct pair p;
    static uint8_t data[CAP];
    pair_init(&p);
    for (size_t i = 0; i < CAP; i++)
        data[i] = (uint8_t)(i * 7);
    for (int round = 0; round < 3; round++)
        for (size_t len = 0; len <= ring_record_max(&p.writer); len++) {
            struct span got;
            assert_true(put(&p.writer, data, len));
            assert_int_equal(ring_next(&p.reader, &got), 1);
            assert_true(span_eq(got, span_of(data, len)));
            assert_int_equal((uintptr_t)got.data % 8, 0);
            ring_release(&p.reader);
            assert_int_equal(ring_next(&p.reader, &got), 0);
        }
}

static void test_a_full_ring_refuses_and_loses_nothing(void **state)
{
    (void)state;
    static struct pair p;
    uint64_t in = 0, out = 0;
    pair_init(&p);
    for (int round = 0; round < 1000; round++) {
        uint64_t data[3];
        struct span got;
        for (data[0] = in; put(&p.writer, data, 8 + in % 17); data[0] = ++in)
            ;
        assert_true(in - out >= CAP / 32 - 2);
        for (size_t i = 0; i < 5 + in % 100 && ring_next(&p.reader, &got) == 1; i++) {
            assert_int_equal(got.len, 8 + out % 17);
            assert_memory_equal(got.data, &out, 8);
            ring_release(&p.reader);
            out++;
        }
    }
}

static void ring_bell(int fd)
{
    assert_int_equal(eventfd_write(fd, 1), 0);
}

static void wait_bell(int fd)
{
    eventfd_t n;
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    /* A lost wake-up would end here. */
    assert_int_equal(poll(&pfd, 1, 60 * 1000), 1);
    assert_int_equal(eventfd_read(fd, &n), 0);
}

static void *write_all(void *arg)
{
    struct pair *p = arg;
    uint8_t data[600];
    for (uint32_t i = 0; i < RECORDS; i++) {
        size_t len = 4 + i % 590;
        memset(data, (int)i, sizeof(data));
        memcpy(data, &i, 4);
        while (!put(&p->writer, data, len)) {
            if (ring_push_notify(&p->writer))
                ring_bell(p->to_reader);
            if (ring_wait_room(&p->writer, len))
                wait_bell(p->to_writer);
        }
        if (i % 37 == 0 && ring_push_notify(&p->writer))
            ring_bell(p->to_reader);
    }
    if (ring_push_notify(&p->writer))
        ring_bell(p->to_reader);
    return NULL;
}

static void test_two_threads_wake_each_other_and_lose_nothing(void **state)
{
    (void)state;
    static struct pair p;
    pthread_t thread;
    pair_init(&p);
    p.to_reader = eventfd(0, EFD_CLOEXEC);
    p.to_writer = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&thread, NULL, write_all, &p), 0);
    for (uint32_t i = 0; i < RECORDS;) {
        struct span got;
        int rc = ring_next(&p.reader, &got);
        assert_int_not_equal(rc, -1);
        if (rc == 0) {
            if (ring_release_notify(&p.reader))
                ring_bell(p.to_writer);
            if (ring_sleep(&p.reader))
                wait_bell(p.to_reader);
            continue;
        }
        uint8_t last = got.len > 4 ? got.data[got.len - 1] : (uint8_t)i;
        if (got.len != 4 + i % 590 || memcmp(got.data, &i, 4) != 0 || last != (uint8_t)i)
            fail_msg("record %u came as %zu bytes", i, got.len);
        ring_release(&p.reader);
        i++;
    }
    pthread_join(thread, NULL);
    close(p.to_reader);
    close(p.to_writer);
}

static void test_a_mad_writer_is_found_out(void **state)
{
    (void)state;
    static const struct {
        uint64_t start, head; /* the reader's position, what the writer claims */
        uint32_t len;         /* header found at start */
    } t[] = {
        { 0, CAP + 8, 8 },            /* more than there can be */
        { 0, 12, 4 },                 /* not aligned */
        { 64, 56, 8 },                /* backwards */
        { 0, 16, 9 },                 /* a record longer than what was written */
        { 0, CAP, UINT32_MAX - 1 },   /* nearly 4 GiB */
        { 0, CAP, UINT32_MAX },       /* a marker at the start */
        { 64, CAP, UINT32_MAX },      /* a marker and nothing behind it */
        { CAP - 16, CAP + 2048, 16 }, /* over the end */
        { CAP - 16, CAP - 8, 16 },    /* and with too little written */
        { CAP - 8, CAP + 1024, 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct span got;
        static struct pair p;
        pair_init(&p);
        p.reader.own = p.reader.other = t[i].start;
        memcpy(p.bytes + t[i].start % CAP, &t[i].len, 4);
        p.shared.head = t[i].head;
        if (ring_next(&p.reader, &got) != -1 || !p.reader.broken)
            fail_msg("row %zu was believed", i);
        assert_int_equal(ring_next(&p.reader, &got), -1);
        assert_false(ring_sleep(&p.reader));
    }
}

static void test_random_bytes_never_lead_outside(void **state)
{
    (void)state;
    static struct pair p;
    uint64_t x = 88172645463325252ull; /* xorshift64 */
    for (int round = 0; round < 20000; round++) {
        struct span got;
        pair_init(&p);
        for (size_t i = 0; i < CAP; i += 8) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            uint32_t len = x % 3 == 0 ? UINT32_MAX : (uint32_t)(x >> 32) % 300;
            memcpy(p.bytes + i, &len, 4);
        }
        p.reader.own = p.reader.other = x % 512 * 8;
        p.shared.head = p.reader.own + (x >> 9) % (CAP / 8 + 1) * 8;
        while (ring_next(&p.reader, &got) == 1) {
            assert_true(got.data >= p.bytes && got.data + got.len <= p.bytes + CAP);
            ring_release(&p.reader);
        }
    }
}

static void test_a_mad_reader_is_found_out(void **state)
{
    (void)state;
    static const uint64_t tails[] = { 1, 4096 + 8, UINT64_MAX - 7, 3000 * 8 };
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        static struct pair p;
        uint8_t data[1000] = { 0 };
        pair_init(&p);
        while (put(&p.writer, data, sizeof(data)))
            ;
        assert_false(p.writer.broken);
        p.shared.tail = tails[i];
        assert_null(ring_reserve(&p.writer, 1000));
        assert_true(p.writer.broken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_of_every_length_come_out_as_they_went_in),
        cmocka_unit_test(test_a_full_ring_refuses_and_loses_nothing),
        cmocka_unit_test(test_two_threads_wake_each_other_and_lose_nothing),
        cmocka_unit_test(test_a_mad_writer_is_found_out),
        cmocka_unit_test(test_random_bytes_never_lead_outside),
        cmocka_unit_test(test_a_mad_reader_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
