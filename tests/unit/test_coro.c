/* The switch: values survive it, stacks are reused, an overflow dies at the guard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fenv.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "worker/coro.h"

struct counter {
    struct coro *coro;
    int turns, seen;
};

static void count(void *arg)
{
    struct counter *c = arg;
    for (int i = 0; i < c->turns; i++) {
        c->seen++;
        coro_suspend(c->coro);
    }
}

static void test_resume_and_suspend(void **state)
{
    (void)state;
    struct coro_cache cache;
    struct counter c[3] = { { .turns = 1 }, { .turns = 5 }, { .turns = 9 } };
    coro_cache_init(&cache, 0);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        c[i].coro = coro_take(&cache, count, &c[i]);
    for (int turn = 0; turn < 10; turn++)
        for (size_t i = 0; i < ARRAY_LEN(c); i++)
            if (!coro_ended(c[i].coro))
                coro_resume(c[i].coro);
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        assert_true(coro_ended(c[i].coro));
        assert_int_equal(c[i].seen, c[i].turns);
        coro_put(&cache, c[i].coro);
    }
    assert_int_equal(cache.nidle, 3);
    coro_cache_fini(&cache);
}

static void test_stacks_are_reused(void **state)
{
    (void)state;
    struct coro_cache cache;
    struct err err = { 0 };
    coro_cache_init(&cache, 20000);
    assert_int_equal(cache.stack_bytes % (size_t)sysconf(_SC_PAGESIZE), 0);
    assert_int_equal(coro_cache_fill(&cache, 4, &err), 0);
    for (int i = 0; i < 1000; i++) {
        struct counter c = { .turns = 1 };
        c.coro = coro_take(&cache, count, &c);
        coro_resume(c.coro);
        coro_resume(c.coro);
        assert_true(coro_ended(c.coro));
        assert_int_equal(c.seen, 1);
        coro_put(&cache, c.coro);
    }
    assert_int_equal(cache.nmade, 4);
    coro_cache_fini(&cache);
}

/* Keeps more values alive over the switch than there are callee-saved registers. */
struct mix {
    struct coro *coro;
    uint64_t seed, sum;
    double fsum;
};

static void mix(void *arg)
{
    struct mix *m = arg;
    uint64_t a = m->seed, b = a * 3, c = a * 5, d = a * 7, e = a * 11, f = a * 13;
    uint64_t g = a * 17, h = a * 19;
    double x = (double)a, y = x / 3;
    for (int i = 0; i < 100; i++) {
        a += b, b += c, c += d, d += e, e += f, f += g, g += h, h += a;
        x += y, y *= 1.0001;
        coro_suspend(m->coro);
    }
    m->sum = a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
    m->fsum = x + y;
}

static void test_registers_survive(void **state)
{
    (void)state;
    struct coro_cache cache;
    struct mix m[2] = { { .seed = 12345 }, { .seed = 12345 } };
    coro_cache_init(&cache, 0);
    m[0].coro = coro_take(&cache, mix, &m[0]);
    while (!coro_ended(m[0].coro))
        coro_resume(m[0].coro);
    struct mix other = { .seed = 999 };
    m[1].coro = coro_take(&cache, mix, &m[1]);
    other.coro = coro_take(&cache, mix, &other);
    while (!coro_ended(m[1].coro)) {
        coro_resume(m[1].coro);
        coro_resume(other.coro);
    }
    assert_true(m[0].sum == m[1].sum && m[0].fsum == m[1].fsum);
    assert_true(other.sum != m[1].sum);
    coro_put(&cache, m[0].coro);
    coro_put(&cache, m[1].coro);
    coro_put(&cache, other.coro);
    coro_cache_fini(&cache);
}

static void round_up(void *arg)
{
    struct counter *c = arg;
    fesetround(FE_UPWARD);
    coro_suspend(c->coro);
    c->seen = fegetround();
    fesetround(FE_TONEAREST);
}

static void test_rounding_mode_is_each_ones_own(void **state)
{
    (void)state;
    struct coro_cache cache;
    struct counter c = { 0 };
    coro_cache_init(&cache, 0);
    c.coro = coro_take(&cache, round_up, &c);
    coro_resume(c.coro);
    assert_int_equal(fegetround(), FE_TONEAREST);
    coro_resume(c.coro);
    assert_int_equal(c.seen, FE_UPWARD);
    coro_put(&cache, c.coro);
    coro_cache_fini(&cache);
}

/* Variadic double calls need a stack aligned to 16 bytes. */
static void format(void *arg)
{
    snprintf(arg, 32, "%.3f %Lf", 1.5, 2.5L);
}

static void test_stack_is_aligned(void **state)
{
    (void)state;
    struct coro_cache cache;
    char text[32];
    coro_cache_init(&cache, 0);
    struct coro *coro = coro_take(&cache, format, text);
    coro_resume(coro);
    assert_string_equal(text, "1.500 2.500000");
    coro_put(&cache, coro);
    coro_cache_fini(&cache);
}

static volatile int sink;

__attribute__((noinline)) static int recurse(int depth)
{
    volatile char frame[512];
    frame[0] = (char)depth;
    if (depth == 0)
        return 0;
    int below = recurse(depth - 1);
    return below + frame[0];
}

static void use_half(void *arg)
{
    (void)arg;
    sink = recurse(CORO_STACK_BYTES / 2 / 1024);
}

static void use_too_much(void *arg)
{
    (void)arg;
    sink = recurse(CORO_STACK_BYTES);
}

/* The child's end when it runs fn on a coroutine: 0 = it returned. */
static int child_signal(coro_fn *fn)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct coro_cache cache;
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        coro_cache_init(&cache, 0);
        coro_resume(coro_take(&cache, fn, NULL));
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_overflow_hits_the_guard(void **state)
{
    (void)state;
    assert_int_equal(child_signal(use_half), 0);
    assert_int_equal(child_signal(use_too_much), SIGSEGV);
}

static void test_backend_has_a_name(void **state)
{
    (void)state;
#ifdef CORO_UCONTEXT
    assert_string_equal(coro_backend(), "ucontext");
#elif defined(__x86_64__)
    assert_string_equal(coro_backend(), "x86_64");
#else
    assert_true(strlen(coro_backend()) > 0);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_and_suspend),
        cmocka_unit_test(test_stacks_are_reused),
        cmocka_unit_test(test_registers_survive),
        cmocka_unit_test(test_rounding_mode_is_each_ones_own),
        cmocka_unit_test(test_stack_is_aligned),
        cmocka_unit_test(test_overflow_hits_the_guard),
        cmocka_unit_test(test_backend_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
