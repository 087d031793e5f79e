/* The mill: this program once more, told by --mill. Options come from the pool, never
 * from a user: --identities, --root DIR... */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crypto.h"
#include "worker/millshm.h"
#include "worker/millwork.h"

static int read_identities(struct age_identities **ret, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    ssize_t n;
    int rc;

    /* By offset: the descriptor is shared with the pool and the other mills. */
    while ((n = pread(MILL_FD_IDENTITIES, buf_reserve(&text, 64 * KIB), 64 * KIB,
                      (off_t)text.len)) > 0 &&
           text.len < MIB)
        text.len += (size_t)n;
    close(MILL_FD_IDENTITIES);
    rc = age_identities_new(buf_span(&text), ret, err);
    crypto_zero(text.data, text.cap);
    return rc;
}

int mill_main(int argc, char **argv)
{
    struct age_identities *identities = NULL;
    struct files_roots *roots = NULL;
    const char **dirs = xcalloc((size_t)argc + 1, sizeof(*dirs));
    struct err err = { 0 };
    size_t n = 0;
    int rc = 0;

    millwork_enter();
    crypto_init();
    for (int i = 1; i < argc && rc == 0; i++) {
        if (strcmp(argv[i], "--identities") == 0)
            rc = read_identities(&identities, &err);
        else if (strcmp(argv[i], "--root") == 0 && i + 1 < argc)
            dirs[n++] = argv[++i];
    }
    if (rc == 0)
        rc = files_roots_new(dirs, n, &roots, &err);
    if (rc < 0) {
        fprintf(stderr, "tidemill-mill: error: %s\n", err.text);
        return 1;
    }
    struct task_env env = { .roots = roots, .identities = identities };
    millwork_loop(task_run, &env);
}
