/* Small macros that the whole project shares. No functions, no types. */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stdio.h>
#include <stdlib.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define BIT(n)       (1u << (n))
/* Arguments are evaluated twice: no calls in them. */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* The struct of type `type` whose member `member` is at `ptr`. */
#define CONTAINER_OF(ptr, type, member)                                                  \
    ((type *)((char *)(ptr) - __builtin_offsetof(type, member)))

/* A bug check, kept in release builds: prints where and aborts. Never for input. */
#define CHECK(cond)                                                                      \
    do {                                                                                 \
        if (__builtin_expect(!(cond), 0)) {                                              \
            fprintf(stderr, "%s:%d: bug: %s\n", __FILE__, __LINE__, #cond);              \
            abort();                                                                     \
        }                                                                                \
    } while (0)

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* AUTO_FREE char *p = ...: freed when p leaves scope; STEAL(p) hands it out. */
static inline void auto_free_impl(void *p)
{
    free(*(void **)p);
}
#define AUTO_FREE __attribute__((cleanup(auto_free_impl)))
#define STEAL(p)                                                                         \
    ({                                                                                   \
        __typeof__(p) stolen_ = (p);                                                     \
        (p) = NULL;                                                                      \
        stolen_;                                                                         \
    })

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
};
#define NS_PER_US 1000ll
#define NS_PER_MS 1000000ll
#define NS_PER_S  1000000000ll

#endif
