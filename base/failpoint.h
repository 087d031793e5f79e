/* Failpoints: named places where a test makes this process die, wait, or be told of an
 * error that did not happen. They exist only where the build says TM_FAILPOINTS; in a
 * release FAILPOINT is the constant false and no name of one is in the program.
 *
 *     FAILPOINT("store_commit_before");          here it may die or wait
 *     if (FAILPOINT_ERROR("file_sync")) ...      and here an error is made of it
 *
 * Environment, read when the program starts:
 *   TIDEMILL_FAILPOINTS      "NAME=ACTION[:N],...", or "list", which prints the names of
 *     the program and ends it. Actions: kill:N, SIGKILL of itself at the N-th pass;
 *     error:N, at the N-th pass only; hold:N, waits there until its file is removed;
 *     delay:MS, at each pass
 *   TIDEMILL_FAILPOINTS_DIR  a point that fires makes a file with its name here, and one
 *     that has its file does nothing more: so a process that is started again with the
 *     same environment lives */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

#include <stdbool.h>

#ifdef TM_FAILPOINTS

struct failpoint {
    const char *name;
    bool may_error;
    int action; /* 0 = not armed */
    unsigned n, passes;
};

/* True: the caller is to behave as if what comes here had failed. */
bool failpoint_pass(struct failpoint *p);

/* Each use has an entry in a table that the linker puts together. */
#define FAILPOINT_OF(text, errors)                                                       \
    ({                                                                                   \
        static struct failpoint point_ = { text, errors, 0, 0, 0 };                      \
        static struct failpoint *const entry_                                            \
            __attribute__((section("tm_failpoints"), used)) = &point_;                   \
        __builtin_expect(__atomic_load_n(&point_.action, __ATOMIC_RELAXED), 0) &&        \
            failpoint_pass(&point_);                                                     \
    })
#define FAILPOINT(text)       ((void)FAILPOINT_OF(text, false))
#define FAILPOINT_ERROR(text) FAILPOINT_OF(text, true)

#else

#define FAILPOINT(text)       ((void)0)
#define FAILPOINT_ERROR(text) false

#endif

#endif
