#include "base/failpoint.h"

#ifdef TM_FAILPOINTS

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

enum { KILL = 1, ERROR, DELAY, HOLD };

/* Ends of the table of this program, or of this library: each has its own. */
#define HIDDEN __attribute__((visibility("hidden")))
extern struct failpoint *__start_tm_failpoints[] HIDDEN;
extern struct failpoint *__stop_tm_failpoints[] HIDDEN;

static const char *marks; /* the directory of those that fired */

static bool opens(const char *name, int flags)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", marks, name);
    fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* False: it fired already, in this process or in one before it. */
static bool mark(const char *name)
{
    return !marks || opens(name, O_WRONLY | O_CREAT | O_EXCL);
}

bool failpoint_pass(struct failpoint *p)
{
    unsigned pass = __atomic_add_fetch(&p->passes, 1, __ATOMIC_RELAXED);

    if (p->action == DELAY) {
        mark(p->name);
        usleep(p->n * 1000);
        return false;
    }
    if (pass != p->n || !mark(p->name))
        return false;
    if (p->action == HOLD) {
        while (marks && opens(p->name, O_RDONLY))
            usleep(10000);
        return false;
    }
    if (p->action == KILL) {
        kill(getpid(), SIGKILL);
        pause(); /* no instruction after this point, in no thread */
    }
    return true;
}

static void refuse(const char *text)
{
    fprintf(stderr, "TIDEMILL_FAILPOINTS: not NAME=kill|error|delay|hold:N: '%s'\n",
            text);
    _exit(2);
}

static void arm(const char *name, const char *action, const char *number)
{
    long n = number ? strtol(number, NULL, 10) : 1;
    int what = strcmp(action, "kill") == 0    ? KILL
               : strcmp(action, "error") == 0 ? ERROR
               : strcmp(action, "delay") == 0 ? DELAY
               : strcmp(action, "hold") == 0  ? HOLD
                                              : 0;

    if (!what || n < 1 || n > 1000000)
        refuse(action);
    for (struct failpoint **p = __start_tm_failpoints; p < __stop_tm_failpoints; p++) {
        if (strcmp((*p)->name, name) != 0)
            continue; /* of another program: they may share an environment */
        if (what == ERROR && !(*p)->may_error)
            refuse(name);
        (*p)->n = (unsigned)n;
        (*p)->action = what;
    }
}

static void list(void)
{
    for (struct failpoint **p = __start_tm_failpoints; p < __stop_tm_failpoints; p++)
        printf("%s %s\n", (*p)->name,
               (*p)->may_error ? "kill,delay,error" : "kill,delay");
    fflush(stdout);
    _exit(0);
}

__attribute__((constructor)) static void failpoints_init(void)
{
    const char *text = getenv("TIDEMILL_FAILPOINTS");

    if (!text || !*text)
        return;
    if (strcmp(text, "list") == 0)
        list();
    marks = getenv("TIDEMILL_FAILPOINTS_DIR");
    AUTO_FREE char *copy = xstrdup(text);
    for (char *at = copy, *one; (one = strsep(&at, ","));) {
        char *action = strchr(one, '='), *number;
        if (!action)
            refuse(one);
        *action++ = 0;
        number = strchr(action, ':');
        if (number)
            *number++ = 0;
        arm(one, action, number);
    }
}

#endif
