/* Counts what a process allocates, for LD_PRELOAD. Each process has a file of its own in
 * the directory BENCH_ALLOC, mapped, so that counting is an addition and the counts are
 * there to be read while it runs and after it was killed:
 *     calls (malloc, calloc, realloc, aligned), bytes asked for   two uint64_t
 * The file's name is the program's and the process's id. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* glibc's own, by the names under which it exports them for this purpose. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

struct counts {
    atomic_uint_fast64_t calls, bytes;
};
static struct counts early;
static struct counts *counts = &early;

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("BENCH_ALLOC");
    char path[4096];
    if (!dir)
        return;
    snprintf(path, sizeof(path), "%s/%s.%d", dir, program_invocation_short_name,
             (int)getpid());
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct counts)) < 0)
        return;
    void *at =
        mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        counts = at;
}

static void count(size_t size)
{
    atomic_fetch_add_explicit(&counts->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->bytes, size, memory_order_relaxed);
}

void *malloc(size_t size)
{
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count(n * size);
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    count(size);
    return __libc_realloc(old, size);
}

void *memalign(size_t align, size_t size)
{
    count(size);
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
    *ret = memalign(align, size);
    return *ret ? 0 : ENOMEM;
}
