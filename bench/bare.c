/* The limits: what OpenSSL and the kernel do on this machine when nothing else is done.
 *     bench-bare small N          SHA-256 of N payloads of 64 bytes, one thread
 *     bench-bare tree LIST        SHA-256 of the files in LIST (NUL-ended), two threads
 *     bench-bare file PATH        SHA-256 of one file over mmap, one thread
 *     bench-bare seal IN OUT      ChaCha20-Poly1305 of 64 KiB pieces, two threads
 *     bench-bare open IN OUT      the way back
 *     bench-bare write N SIZE DIR N files of SIZE bytes, two threads, one syncfs */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/common.h"

enum { THREADS = 2, PIECE = 64 << 10, TAG = 16, READ = 256 << 10, PIECES_AT_ONCE = 16 };

static atomic_size_t next_item;
static atomic_ullong all_bytes;

/* At the beginning of a page: the kernel copies to and from it at full speed. */
static uint8_t *pages(size_t len)
{
    return aligned_alloc(4096, (len + 4095) / 4096 * 4096);
}

static double in_threads(void *(*run)(void *), void *arg)
{
    pthread_t threads[THREADS];
    double start = now_s();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run, arg);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return now_s() - start;
}

static void small(uint64_t n)
{
    uint8_t data[PAYLOAD], digest[DIGEST];
    payload(data, 0);
    double start = now_s();
    for (uint64_t i = 0; i < n; i++) {
        memcpy(data, &i, sizeof(i));
        sha256(data, PAYLOAD, digest);
    }
    emit("tasks.bare", (double)n / (now_s() - start), "tasks/s", "one thread");
}

/* ---- a tree ---- */

struct list {
    char **names;
    size_t n;
};

static struct list read_list(const char *path)
{
    struct list list = { NULL, 0 };
    char *name = NULL;
    size_t cap = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        die("cannot open %s", path);
    while (getdelim(&name, &cap, '\0', f) > 0) {
        if ((list.n & (list.n - 1)) == 0)
            list.names = realloc(list.names, (list.n * 2 + 1) * sizeof(char *));
        list.names[list.n++] = strdup(name);
    }
    fclose(f);
    return list;
}

static void hash_file(EVP_MD_CTX *ctx, EVP_MD *md, const char *name, uint8_t *buffer)
{
    uint8_t digest[DIGEST];
    ssize_t n;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    EVP_DigestInit_ex2(ctx, md, NULL);
    while ((n = read(fd, buffer, READ)) > 0) {
        EVP_DigestUpdate(ctx, buffer, (size_t)n);
        all_bytes += (unsigned long long)n;
    }
    EVP_DigestFinal_ex(ctx, digest, NULL);
    close(fd);
}

static void *hash_files(void *arg)
{
    const struct list *list = arg;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_MD *md = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    uint8_t *buffer = pages(READ);
    size_t i;
    while ((i = next_item++) < list->n)
        hash_file(ctx, md, list->names[i], buffer);
    return NULL;
}

static void tree(const char *path)
{
    struct list list = read_list(path);
    double took = in_threads(hash_files, &list);
    emit("tree.bare", (double)all_bytes / took / 1e9, "GB/s", "two threads, EVP");
}

/* ---- one big file ---- */

static uint8_t *map_whole(const char *path, size_t *ret_len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        die("cannot open %s", path);
    *ret_len = (size_t)st.st_size;
    void *at = mmap(NULL, *ret_len, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        die("cannot map %s", path);
    madvise(at, *ret_len, MADV_SEQUENTIAL);
    close(fd);
    return at;
}

static void big(const char *path)
{
    size_t len;
    uint8_t digest[DIGEST];
    double start = now_s();
    const uint8_t *at = map_whole(path, &len);
    sha256(at, len, digest);
    emit("file.bare", (double)len / (now_s() - start) / 1e9, "GB/s", "EVP over mmap");
}

/* ---- encryption ---- */

struct crypt {
    int in, out;
    size_t len; /* of the input */
    bool seal;
};

static const uint8_t key[32] = "a key that only this program has";

static size_t crypt_piece(EVP_CIPHER_CTX *ctx, bool seal, uint64_t i, const uint8_t *in,
                          size_t len, uint8_t *out)
{
    uint8_t nonce[12] = { 0 };
    int n = 0, last = 0;
    memcpy(nonce, &i, sizeof(i));
    size_t text = seal ? len : len - TAG;
    if (EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL) != 1 ||
        (!seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG,
                                      (void *)(in + text)) != 1) ||
        EVP_CipherUpdate(ctx, out, &n, in, (int)text) != 1 ||
        EVP_CipherFinal_ex(ctx, out + n, &last) != 1 ||
        (seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out + text) != 1))
        die("piece %llu is not what was sealed", (unsigned long long)i);
    return seal ? len + TAG : text;
}

/* Each thread takes the next run of pieces, reads, works and writes it in its place. */
static void *crypt_runs(void *arg)
{
    const struct crypt *c = arg;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t in_piece = c->seal ? PIECE : PIECE + TAG;
    size_t out_piece = c->seal ? PIECE + TAG : PIECE;
    size_t run = PIECES_AT_ONCE * in_piece, i;
    uint8_t *in = pages(run), *out = pages(PIECES_AT_ONCE * out_piece);
    if (EVP_CipherInit_ex2(ctx, cipher, key, NULL, c->seal, NULL) != 1)
        die("no ChaCha20-Poly1305");
    while ((i = next_item++) * run < c->len) {
        size_t done = 0;
        ssize_t len = pread(c->in, in, run, (off_t)(i * run));
        for (ssize_t at = 0; at < len; at += (ssize_t)in_piece) {
            size_t left = (size_t)(len - at);
            done += crypt_piece(ctx, c->seal, i * PIECES_AT_ONCE + (size_t)at / in_piece,
                                in + at, left < in_piece ? left : in_piece, out + done);
        }
        if (len < 0 || pwrite(c->out, out, done,
                              (off_t)(i * PIECES_AT_ONCE * out_piece)) != (ssize_t)done)
            die("reading or writing failed");
    }
    return NULL;
}

static void crypt_file(bool seal, const char *in, const char *out)
{
    struct stat st;
    struct crypt c = { .in = open(in, O_RDONLY | O_CLOEXEC),
                       .out = open(out, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600),
                       .seal = seal };
    if (c.in < 0 || c.out < 0 || fstat(c.in, &st) < 0)
        die("cannot open %s or %s", in, out);
    c.len = (size_t)st.st_size;
    double took = in_threads(crypt_runs, &c);
    emit(seal ? "encrypt.bare" : "decrypt.bare", (double)c.len / took / 1e9, "GB/s",
         "two threads, EVP ChaCha20-Poly1305");
}

/* ---- many small files ---- */

struct writing {
    size_t n, size;
    int dir;
    const uint8_t *bytes;
};

static void *write_files(void *arg)
{
    const struct writing *w = arg;
    size_t i;
    while ((i = next_item++) < w->n) {
        char name[32];
        snprintf(name, sizeof(name), "%zu", i);
        int fd = openat(w->dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, w->bytes, w->size) != (ssize_t)w->size)
            die("cannot write %s", name);
        close(fd);
    }
    return NULL;
}

static void write_dir(size_t n, size_t size, const char *path)
{
    uint8_t *bytes = pages(size);
    struct writing w = { n, size, open(path, O_DIRECTORY | O_CLOEXEC), bytes };
    if (w.dir < 0 || !bytes)
        die("cannot open %s", path);
    memset(bytes, 'x', size);
    double start = now_s();
    in_threads(write_files, &w);
    if (syncfs(w.dir) < 0)
        die("syncfs");
    emit("small.bare", (double)n / (now_s() - start), "files/s",
         "two threads, one syncfs");
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    if (strcmp(mode, "small") == 0)
        small(number(argv[2]));
    else if (strcmp(mode, "tree") == 0)
        tree(argv[2]);
    else if (strcmp(mode, "file") == 0)
        big(argv[2]);
    else if (strcmp(mode, "seal") == 0 && argc > 3)
        crypt_file(true, argv[2], argv[3]);
    else if (strcmp(mode, "open") == 0 && argc > 3)
        crypt_file(false, argv[2], argv[3]);
    else if (strcmp(mode, "write") == 0 && argc > 4)
        write_dir(number(argv[2]), number(argv[3]), argv[4]);
    else
        die("usage: bench-bare small N | tree LIST | file PATH | seal|open IN OUT | "
            "write N SIZE DIR");
    return 0;
}
