/* Invariant: a coroutine's context is made once; its stack then runs coro_main's loop, a
 * turn of it for each function. So a reused coroutine costs two switches, no set-up. */
#include "worker/coro.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(CORO_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define CORO_UCONTEXT 1
#endif
#ifdef CORO_UCONTEXT
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define CORO_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define CORO_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CORO_ASAN 1
#elif __has_feature(thread_sanitizer)
#define CORO_TSAN 1
#endif
#endif
#ifdef CORO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CORO_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define CORO_VALGRIND 1
#endif

/* Larger than a page: code built without stack-clash protection may step over one page
 * with a single frame. Address space only. */
enum { CORO_GUARD_BYTES = 16 * KIB };

struct coro {
    struct coro *next_idle;
    coro_fn *fn; /* NULL = leave the stack for good */
    void *arg;
    bool ended, running;
    char *map; /* owned: guard, then stack */
    size_t map_bytes;
#ifdef CORO_UCONTEXT
    ucontext_t self, resumer;
#else
    void *self_sp, *resumer_sp;
#endif
#ifdef CORO_ASAN
    void *fake_self, *fake_resumer;
    const void *resumer_bottom;
    size_t resumer_bytes;
#endif
#ifdef CORO_TSAN
    void *fiber, *resumer_fiber;
#endif
#ifdef CORO_VALGRIND
    unsigned valgrind_id;
#endif
};

#ifndef CORO_UCONTEXT
void coro_switch(void **ret_save_sp, void *load_sp);
void coro_trampoline(void);
#endif

static char *stack_low(const struct coro *coro)
{
    return coro->map + CORO_GUARD_BYTES;
}

static size_t stack_bytes(const struct coro *coro)
{
    return coro->map_bytes - CORO_GUARD_BYTES;
}

/* Told to ASan after each arrival on the coroutine's stack. */
static void arrived_inside(struct coro *coro)
{
#ifdef CORO_ASAN
    __sanitizer_finish_switch_fiber(coro->fake_self, &coro->resumer_bottom,
                                    &coro->resumer_bytes);
#endif
    (void)coro;
}

/* last: the stack is never entered again. */
static void leave(struct coro *coro, bool last)
{
    (void)last;
#ifdef CORO_ASAN
    __sanitizer_start_switch_fiber(last ? NULL : &coro->fake_self, coro->resumer_bottom,
                                   coro->resumer_bytes);
#endif
#ifdef CORO_TSAN
    __tsan_switch_to_fiber(coro->resumer_fiber, 0);
#endif
#ifdef CORO_UCONTEXT
    swapcontext(&coro->self, &coro->resumer);
#else
    coro_switch(&coro->self_sp, coro->resumer_sp);
#endif
    arrived_inside(coro);
}

static void coro_main(void *arg)
{
    struct coro *coro = arg;
    arrived_inside(coro);
    while (coro->fn) {
        coro->fn(coro->arg);
        coro->ended = true;
        leave(coro, false);
    }
    leave(coro, true);
    CHECK(!"a coroutine that left was entered");
}

#ifdef CORO_UCONTEXT
/* makecontext passes ints only (POSIX.1-2001): the pointer comes in two halves. */
static void ucontext_entry(unsigned high, unsigned low)
{
    coro_main((void *)(((uintptr_t)high << 16 << 16) | (uintptr_t)low));
}

static void context_make(struct coro *coro)
{
    uintptr_t p = (uintptr_t)coro;
    CHECK(getcontext(&coro->self) == 0);
    coro->self.uc_stack.ss_sp = stack_low(coro);
    coro->self.uc_stack.ss_size = stack_bytes(coro);
    coro->self.uc_link = NULL;
    makecontext(&coro->self, (void (*)(void))ucontext_entry, 2, (unsigned)(p >> 16 >> 16),
                (unsigned)p);
}
#elif defined(__x86_64__)
static void context_make(struct coro *coro)
{
    /* coro_switch's frame from low to high: control words, r15, r14, r13, r12, rbx, rbp,
     * return address; then a zero that keeps rsp at a multiple of 16 in the trampoline.
     */
    uint64_t *sp = (uint64_t *)(stack_low(coro) + stack_bytes(coro)) - 10;
    uint32_t mxcsr;
    uint16_t x87;
    memset(sp, 0, 10 * sizeof(*sp));
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    memcpy(sp, &mxcsr, sizeof(mxcsr));
    memcpy((char *)sp + 4, &x87, sizeof(x87));
    sp[3] = (uint64_t)(uintptr_t)coro;
    sp[4] = (uint64_t)(uintptr_t)coro_main;
    sp[7] = (uint64_t)(uintptr_t)coro_trampoline;
    coro->self_sp = sp;
}
#else
static void context_make(struct coro *coro)
{
    /* coro_switch's frame of 176 bytes: x29, x30, x19, x20 … d15, fpcr. */
    uint64_t *sp = (uint64_t *)(stack_low(coro) + stack_bytes(coro)) - 22;
    uint64_t fpcr;
    memset(sp, 0, 22 * sizeof(*sp));
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    sp[1] = (uint64_t)(uintptr_t)coro_trampoline;
    sp[2] = (uint64_t)(uintptr_t)coro_main;
    sp[3] = (uint64_t)(uintptr_t)coro;
    sp[20] = fpcr;
    coro->self_sp = sp;
}
#endif

static struct coro *coro_make(struct coro_cache *cache)
{
    size_t bytes = cache->stack_bytes + CORO_GUARD_BYTES;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map, CORO_GUARD_BYTES, PROT_NONE) < 0) {
        int saved = errno;
        munmap(map, bytes);
        errno = saved;
        return NULL;
    }
    struct coro *coro = xcalloc(1, sizeof(*coro));
    coro->map = map;
    coro->map_bytes = bytes;
    coro->ended = true;
    context_make(coro);
#ifdef CORO_TSAN
    coro->fiber = __tsan_create_fiber(0);
#endif
#ifdef CORO_VALGRIND
    coro->valgrind_id =
        VALGRIND_STACK_REGISTER(stack_low(coro), stack_low(coro) + stack_bytes(coro) - 1);
#endif
    cache->nmade++;
    return coro;
}

static void coro_unmake(struct coro *coro)
{
#ifdef CORO_ASAN
    coro->fn = NULL; /* lets ASan free the fake stack it may hold */
    coro_resume(coro);
#endif
#ifdef CORO_TSAN
    __tsan_destroy_fiber(coro->fiber);
#endif
#ifdef CORO_VALGRIND
    VALGRIND_STACK_DEREGISTER(coro->valgrind_id);
#endif
    munmap(coro->map, coro->map_bytes);
    free(coro);
}

void coro_cache_init(struct coro_cache *cache, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes == 0)
        bytes = CORO_STACK_BYTES;
    *cache = (struct coro_cache){ .stack_bytes = (bytes + page - 1) / page * page };
}

int coro_cache_fill(struct coro_cache *cache, size_t n, struct err *err)
{
    while (cache->nidle < n) {
        struct coro *coro = coro_make(cache);
        if (!coro) {
            err_sys(err, 0, "cannot map a stack for coroutine %zu of %zu",
                    cache->nmade + 1, n);
            return err_hint(err, "each needs two mappings: raise vm.max_map_count, or "
                                 "set fewer coroutines");
        }
        coro_put(cache, coro);
    }
    return 0;
}

void coro_cache_fini(struct coro_cache *cache)
{
    CHECK(cache->nidle == cache->nmade);
    while (cache->idle) {
        struct coro *coro = cache->idle;
        cache->idle = coro->next_idle;
        coro_unmake(coro);
    }
    cache->nidle = cache->nmade = 0;
}

struct coro *coro_take(struct coro_cache *cache, coro_fn *fn, void *arg)
{
    struct coro *coro = cache->idle;
    if (coro) {
        cache->idle = coro->next_idle;
        cache->nidle--;
    } else {
        coro = coro_make(cache);
        if (!coro)
            return NULL;
    }
    coro->fn = fn;
    coro->arg = arg;
    coro->ended = false;
    return coro;
}

void coro_put(struct coro_cache *cache, struct coro *coro)
{
    CHECK(coro->ended && !coro->running);
    coro->next_idle = cache->idle;
    cache->idle = coro;
    cache->nidle++;
}

void coro_resume(struct coro *coro)
{
    CHECK(!coro->running);
    coro->running = true;
#ifdef CORO_ASAN
    __sanitizer_start_switch_fiber(&coro->fake_resumer, stack_low(coro),
                                   stack_bytes(coro));
#endif
#ifdef CORO_TSAN
    coro->resumer_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(coro->fiber, 0);
#endif
#ifdef CORO_UCONTEXT
    swapcontext(&coro->resumer, &coro->self);
#else
    coro_switch(&coro->resumer_sp, coro->self_sp);
#endif
#ifdef CORO_ASAN
    __sanitizer_finish_switch_fiber(coro->fake_resumer, NULL, NULL);
#endif
    coro->running = false;
}

void coro_suspend(struct coro *coro)
{
    CHECK(coro->running);
    leave(coro, false);
}

bool coro_ended(const struct coro *coro)
{
    return coro->ended;
}

const char *coro_backend(void)
{
#if defined(CORO_UCONTEXT)
    return "ucontext";
#elif defined(__x86_64__)
    return "x86_64";
#else
    return "aarch64";
#endif
}
