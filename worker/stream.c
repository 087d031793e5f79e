#include "worker/stream.h"

#include <errno.h>
#include <unistd.h>

#include "worker/ops/task.h"

enum { STREAM_READ = 256 * KIB };

static int write_out(struct buf *out, struct err *err)
{
    size_t at = 0;

    if (isatty(STDOUT_FILENO) && !span_is_text(buf_span(out))) {
        err_set(err, 2, "refusing to write binary to a terminal");
        return err_hint(err, "redirect it, or --output FILE");
    }

    while (at < out->len) {
        ssize_t n = write(STDOUT_FILENO, out->data + at, out->len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, 1, "cannot write to standard output");
        at += (size_t)n;
    }
    buf_clear(out);
    return 0;
}

/* What is wrong with the input itself: exit code 3, as of any other input. */
static int input_failed(struct err *err)
{
    err->code = STREAM_FAILED;
    return -1;
}

static ssize_t read_in(uint8_t *to, struct err *err)
{
    ssize_t n;

    do
        n = read(STDIN_FILENO, to, STREAM_READ);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        err_sys(err, 1, "cannot be read");
        input_failed(err);
    }
    return n;
}

int stream_encrypt(const struct span *recipients, size_t n, bool armor, struct err *err)
{
    AUTO_FREE uint8_t *in = task_pages(STREAM_READ);
    AUTO_BUF out = BUF_INIT;
    struct age_enc *e = NULL;
    ssize_t got = -1;

    if (age_enc_new(recipients, n, armor, &out, &e, err) < 0)
        return -1;
    while (write_out(&out, err) == 0 && (got = read_in(in, err)) > 0)
        age_enc_update(e, span_of(in, (size_t)got), &out);
    if (got == 0 && out.len == 0) {
        age_enc_end(e, SPAN_NONE, &out);
        got = write_out(&out, err);
    }
    age_enc_free(e);
    return got == 0 ? 0 : -1;
}

int stream_decrypt(const struct age_identities *ids, struct err *err)
{
    AUTO_FREE uint8_t *in = task_pages(STREAM_READ);
    AUTO_BUF out = BUF_INIT;
    struct age_dec *d = age_dec_new(ids);
    ssize_t got;
    int rc = 0;

    while (rc == 0 && (got = read_in(in, err)) != 0) {
        if (got < 0)
            rc = -1;
        else if (age_dec_update(d, span_of(in, (size_t)got), &out, err) < 0)
            rc = input_failed(err);
        if (write_out(&out, rc < 0 ? NULL : err) < 0)
            rc = -1;
    }
    if (rc == 0 && age_dec_end(d, &out, err) < 0)
        rc = input_failed(err);
    if (rc == 0)
        rc = write_out(&out, err);
    age_dec_free(d);
    return rc;
}
