/* Stackful coroutines: stacks and the switch, nothing else. Who runs when is coropool's
 * business; this file knows no loop.
 *
 * A coroutine keeps its mapped stack for its whole life and runs one function after
 * another on it. coro_resume switches to it from the thread's own stack and returns when
 * the function called coro_suspend or returned. A coroutine stays on one thread.
 *
 * Running over the end of a stack hits a PROT_NONE guard: the process dies by SIGSEGV.
 * Backends: our assembly on x86-64 (System V psABI) and aarch64 (AAPCS64), ucontext
 * elsewhere or with CORO_UCONTEXT defined. ASan, TSan and Valgrind are told. */
#ifndef WORKER_CORO_H
#define WORKER_CORO_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

/* 64 KiB: deep enough for libc and our own code (libcurl never runs here); only touched
 * pages cost memory. Sanitizers' frames are several times larger. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CORO_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CORO_SANITIZED 1
#endif
#endif
#ifdef CORO_SANITIZED
enum { CORO_STACK_BYTES = 256 * KIB };
#else
enum { CORO_STACK_BYTES = 64 * KIB };
#endif

typedef void coro_fn(void *arg);
struct coro;

/* Idle coroutines with their stacks, reused last in first out. */
struct coro_cache {
    struct coro *idle; /* owned */
    size_t nidle;
    size_t nmade;       /* alive, idle or not */
    size_t stack_bytes; /* usable, without the guard; a multiple of the page */
};

/* stack_bytes: rounded up to pages; 0 = CORO_STACK_BYTES. */
void coro_cache_init(struct coro_cache *cache, size_t stack_bytes);
/* Makes coroutines until n are idle. -1 when the system has no more mappings. */
int coro_cache_fill(struct coro_cache *cache, size_t n, struct err *err);
/* Frees the idle ones; every other one must have been put back. */
void coro_cache_fini(struct coro_cache *cache);

/* A coroutine that will run fn(arg) at its first coro_resume. NULL with errno when the
 * system has no more memory or mappings. Give it back with coro_put once it ended. */
struct coro *coro_take(struct coro_cache *cache, coro_fn *fn, void *arg);
void coro_put(struct coro_cache *cache, struct coro *coro);

/* Not from inside a coroutine. */
void coro_resume(struct coro *coro);
/* Back to the resumer; only on `coro`'s own stack. */
void coro_suspend(struct coro *coro);
/* The function returned. */
bool coro_ended(const struct coro *coro);
/* "x86_64", "aarch64" or "ucontext". */
const char *coro_backend(void);

#endif
