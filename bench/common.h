/* What the programs of bench/ share: time, payloads, the check of digests, output lines.
 * Nothing of tidemill is in here, so that a peer or a limit owes it nothing. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD = 64, DIGEST = 32 };

static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void die(const char *fmt,
                                                                       ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

/* Prints one line of the contract. */
static inline void emit(const char *name, double value, const char *unit,
                        const char *note)
{
    printf("%s\t", name);
    printf(value >= 1000 ? "%.0f" : "%.6g", value);
    printf("\t%s\t%s\n", unit, note);
    fflush(stdout);
}

/* The 64 bytes of task i: every task has its own. */
static inline void payload(uint8_t *to, uint64_t i)
{
    memset(to, 'x', PAYLOAD);
    memcpy(to, &i, sizeof(i));
}

/* SHA-256 with a context that is made once a thread. */
static inline void sha256(const void *data, size_t len, uint8_t out[DIGEST])
{
    static _Thread_local EVP_MD_CTX *ctx;
    static _Thread_local EVP_MD *md;
    if (!ctx) {
        ctx = EVP_MD_CTX_new();
        md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    }
    if (EVP_DigestInit_ex2(ctx, md, NULL) != 1 || EVP_DigestUpdate(ctx, data, len) != 1 ||
        EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        die("SHA-256 failed");
}

/* A peer's results come in no order and without a number: it is the XOR of all digests
 * that is compared, after the clock has stopped. */
static inline void digest_xor(uint8_t sum[DIGEST], const uint8_t *digest)
{
    for (int i = 0; i < DIGEST; i++)
        sum[i] ^= digest[i];
}

static inline void check_xor(const uint8_t sum[DIGEST], uint64_t from, uint64_t n)
{
    uint8_t want[DIGEST] = { 0 }, data[PAYLOAD], digest[DIGEST];
    for (uint64_t i = from; i < from + n; i++) {
        payload(data, i);
        sha256(data, PAYLOAD, digest);
        digest_xor(want, digest);
    }
    if (memcmp(sum, want, DIGEST) != 0)
        die("digests are wrong");
}

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts seconds; prints the median and the 99th percentile in microseconds. */
static inline void emit_latency(const char *name, double *s, size_t n, const char *note)
{
    char line[64];
    qsort(s, n, sizeof(*s), by_value);
    snprintf(line, sizeof(line), "%s.p50", name);
    emit(line, s[n / 2] * 1e6, "us", note);
    snprintf(line, sizeof(line), "%s.p99", name);
    emit(line, s[n * 99 / 100] * 1e6, "us", note);
}

static inline uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (*end || end == text)
        die("not a number: %s", text);
    return n;
}

#endif
