#include "client/present.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "client/cli.h"
#include "client/json.h"
#include "client/manifest.h"
#include "proto/map.h"

static struct span bytes(struct tm_bytes b)
{
    return span_of(b.data, b.len);
}

void present_pack(const struct present *p, struct buf *out)
{
    map_pack_begin(out, 4);
    map_pack_bool(out, "tag", p->tag);
    map_pack_bool(out, "stdout", p->to_stdout);
    map_pack_str(out, "dir", span_str(p->out_dir));
    map_pack_str(out, "abs", span_str(p->out_abs));
}

static char *text_or_null(struct span packed, const char *key)
{
    struct span s = map_get_str(packed, 0, key);
    return s.len ? span_dup(s) : NULL;
}

int present_of_job(const struct tm_job_spec *spec, struct present *ret,
                   struct tm_error *err)
{
    struct span packed = span_of(spec->present, spec->present_len);

    (void)err;
    *ret = (struct present){
        .tag = map_get_uint(packed, 0, "tag"),
        .to_stdout = map_get_uint(packed, 0, "stdout"),
        .out_dir = text_or_null(packed, "dir"),
        .out_abs = text_or_null(packed, "abs"),
        .command = xstrdup(spec->command ? spec->command : "map"),
        .algos = spec->algos,
        .out_algos = spec->out_algos,
    };
    return 0;
}

static void broken(struct present *p, const char *what)
{
    if (p->broken)
        return;
    p->broken = true;
    p->err.code = EXIT_ERROR;
    snprintf(p->err.text, sizeof(p->err.text), "cannot write %s: %s", what,
             strerror(errno));
}

static void refuse_binary(struct present *p)
{
    p->broken = true;
    p->err.code = EXIT_USAGE;
    snprintf(p->err.text, sizeof(p->err.text), "refusing to write binary to a terminal");
    snprintf(p->err.hint, sizeof(p->err.hint), "redirect it");
}

static void put(struct present *p, FILE *f, const struct buf *line)
{
    if (fwrite(line->data, 1, line->len, f) != line->len)
        broken(p, f == stdout ? "to standard output" : "a manifest");
}

/* ---- JSON ---- */

static void json_digests(struct buf *out, const char *key, const struct tm_digest *d,
                         uint32_t n)
{
    json_object(out, key);
    for (uint32_t i = 0; i < n; i++)
        json_hex(out, tm_algo_name(d[i].algo), bytes(d[i].bytes));
    json_close(out);
}

static void result_json(struct present *p, const struct tm_result *r)
{
    static const char *const statuses[] = {
        [TM_OK] = "ok",
        [TM_FAILED] = "failed",
        [TM_RETRIES_USED] = "failed",
        [TM_QUARANTINED] = "quarantined",
        [TM_TASK_CANCELLED] = "cancelled",
    };
    AUTO_BUF out = BUF_INIT;
    char job[32];

    snprintf(job, sizeof(job), "j%llu", (unsigned long long)r->job);
    json_open(&out);
    json_uint(&out, "v", 1);
    json_text(&out, "job", span_str(job));
    json_uint(&out, "task", r->task);
    json_text(&out, "input", bytes(r->shown));
    json_text(&out, "status", span_str(statuses[r->status]));
    if (r->status == TM_OK) {
        json_null(&out, "class");
        json_null(&out, "error");
    } else {
        json_text(&out, "class", span_str(tm_class_name(r->status)));
        json_text(&out, "error", bytes(r->error));
    }
    json_uint(&out, "bytes", r->bytes);
    json_digests(&out, "digests", r->digests, r->n_digests);
    if (r->n_out_digests)
        json_digests(&out, "output_digests", r->out_digests, r->n_out_digests);
    if (r->output.len)
        json_text(&out, "output", bytes(r->output));
    else
        json_null(&out, "output");
    json_text(&out, "node", bytes(r->node));
    json_uint(&out, "attempts", r->attempts);
    json_real(&out, "seconds", (double)r->elapsed_us / 1e6);
    json_close(&out);
    buf_add_u8(&out, '\n');
    put(p, stdout, &out);
}

/* ---- manifests ---- */

static char *manifest_path(const struct present *p, int algo)
{
    return xasprintf("%s/%s", p->manifest_dir, manifest_file_name((enum algo)algo));
}

int present_check(const struct present *p, struct tm_error *err)
{
    for (int a = 0; p->manifest_dir && !p->force && a < TM_ALGO_COUNT; a++) {
        AUTO_FREE char *path = manifest_path(p, a);
        if (!((p->algos | p->out_algos) & TM_BIT(a)) || access(path, F_OK) < 0)
            continue;
        err->code = EXIT_ERROR;
        snprintf(err->text, sizeof(err->text), "%s exists already", path);
        snprintf(err->hint, sizeof(err->hint), "--force replaces it");
        return -1;
    }
    return 0;
}

/* Under a name of its own until it is whole: what is there is not touched. */
static void manifest_open(struct present *p, enum algo algo)
{
    char *temp = xasprintf("%s/.%s.tm-XXXXXX", p->manifest_dir, manifest_file_name(algo));
    mode_t mask = umask(0);
    int fd = -1;

    umask(mask);
    if (mkdir(p->manifest_dir, 0777) == 0 || errno == EEXIST)
        fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        broken(p, p->manifest_dir);
        free(temp);
        return;
    }
    fchmod(fd, 0666 & ~mask);
    p->files[algo] = fdopen(fd, "w");
    p->temps[algo] = temp;
}

static FILE *manifest_file(struct present *p, enum algo algo)
{
    if (!p->manifest_dir)
        return stdout;
    if (!p->files[algo] && !p->broken)
        manifest_open(p, algo);
    return p->files[algo];
}

static int dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Its name is given when its bytes are on disk. */
static void manifest_publish(struct present *p, int algo)
{
    AUTO_FREE char *path = manifest_path(p, algo);
    bool whole = fflush(p->files[algo]) == 0 && fsync(fileno(p->files[algo])) == 0;
    int rc;

    if (fclose(p->files[algo]) != 0 || !whole)
        broken(p, path);
    p->files[algo] = NULL;
    if (p->broken)
        return;
    rc = p->force ? rename(p->temps[algo], path) : link(p->temps[algo], path);
    if (rc < 0 || (!p->force && unlink(p->temps[algo]) < 0) ||
        dir_sync(p->manifest_dir) < 0)
        broken(p, path);
    if (rc == 0) {
        free(p->temps[algo]);
        p->temps[algo] = NULL;
    }
}

/* The name in a manifest: the file that was stored, as the user would write it, else the
 * input as he wrote it. */
static struct span manifest_name(const struct present *p, const struct tm_result *r,
                                 struct buf *scratch)
{
    size_t abs = p->out_abs ? strlen(p->out_abs) : 0;

    if (strcmp(p->command, "fetch") != 0 || !r->output.len)
        return bytes(r->shown);
    if (!abs || r->output.len <= abs || memcmp(r->output.data, p->out_abs, abs) != 0)
        return bytes(r->output);
    buf_printf(scratch, "%s", p->out_dir);
    buf_add(scratch, r->output.data + abs, r->output.len - abs);
    return buf_span(scratch);
}

static void result_manifest(struct present *p, const struct tm_result *r)
{
    /* Of what was stored, so that the manifest checks the file that is there. */
    bool stored = r->n_out_digests > 0;
    const struct tm_digest *d = stored ? r->out_digests : r->digests;
    uint32_t n = stored ? r->n_out_digests : r->n_digests;
    AUTO_BUF name = BUF_INIT;
    struct span shown = manifest_name(p, r, &name);

    for (uint32_t i = 0; i < n; i++) {
        AUTO_BUF line = BUF_INIT;
        FILE *f = manifest_file(p, (enum algo)d[i].algo);
        manifest_line(&line, (enum algo)d[i].algo, bytes(d[i].bytes), shown,
                      p->tag && !p->manifest_dir);
        if (f)
            put(p, f, &line);
    }
}

static void put_body(struct present *p, const struct tm_result *r)
{
    struct buf body = { (uint8_t *)r->body.data, r->body.len, 0 };

    if (isatty(STDOUT_FILENO) && !span_is_text(buf_span(&body)))
        refuse_binary(p);
    else
        put(p, stdout, &body);
}

/* encrypt and decrypt make files; what they digested is in --json. */
static bool has_manifest(const struct present *p)
{
    return strcmp(p->command, "encrypt") != 0 && strcmp(p->command, "decrypt") != 0 &&
           (p->manifest_dir || !p->json);
}

void present_result(struct present *p, const struct tm_result *r)
{
    bool body = p->to_stdout && r->has_body && !p->json;

    p->printed++;
    p->failed += r->status != TM_OK;
    if (p->json) {
        result_json(p, r);
    } else if (r->status != TM_OK) {
        AUTO_FREE char *why =
            r->error.len ? span_dup(bytes(r->error)) : xstrdup(tm_status_name(r->status));
        cli_input_error(r->shown.data, r->shown.len, why);
    } else if (body) {
        put_body(p, r);
    }
    if (r->status == TM_OK && !body && has_manifest(p))
        result_manifest(p, r);
}

int present_end(struct present *p, struct tm_error *err)
{
    for (int a = 0; a < TM_ALGO_COUNT; a++)
        if (p->files[a])
            manifest_publish(p, a);
    if (fflush(stdout) != 0)
        broken(p, "to standard output");
    if (p->broken)
        *err = p->err;
    return p->broken ? -1 : 0;
}

void present_fini(struct present *p)
{
    for (int a = 0; a < TM_ALGO_COUNT; a++) {
        if (p->files[a])
            fclose(p->files[a]);
        if (p->temps[a])
            unlink(p->temps[a]);
        free(p->temps[a]);
    }
    free(p->out_dir);
    free(p->out_abs);
    free(p->command);
    free(p->manifest_dir);
}
