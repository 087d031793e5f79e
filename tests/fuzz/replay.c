/* Runs a fuzz target once on every file of the folders named: the seeds, and what was
 * once found. Without libFuzzer, so that any compiler and sanitizer will do. */
#include <dirent.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

enum { FILE_MAX_BYTES = 4 * MIB };

static void replay(const char *path)
{
    FILE *f = fopen(path, "re");
    AUTO_BUF bytes = BUF_INIT;

    CHECK(f);
    bytes.len = fread(buf_reserve(&bytes, FILE_MAX_BYTES), 1, FILE_MAX_BYTES, f);
    fclose(f);
    AUTO_FREE uint8_t *exact = xmalloc(bytes.len + !bytes.len); /* not a byte more */
    memcpy(exact, bytes.data, bytes.len);
    printf("%s\n", path); /* the last one named is the one that failed */
    fflush(stdout);
    LLVMFuzzerTestOneInput(exact, bytes.len);
}

int main(int argc, char **argv)
{
    size_t n = 0;

    for (int i = 1; i < argc; i++) {
        struct dirent **names;
        int count = scandir(argv[i], &names, NULL, alphasort);
        for (int k = 0; k < count; k++) {
            AUTO_FREE char *path = xasprintf("%s/%s", argv[i], names[k]->d_name);
            struct stat st;
            if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
                replay(path);
                n++;
            }
            free(names[k]);
        }
        if (count >= 0)
            free(names);
    }
    printf("%zu inputs\n", n);
    return n ? 0 : 1; /* an empty corpus tests nothing */
}
