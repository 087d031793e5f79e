#include "client/present.h"

#include <errno.h>
#include <unistd.h>

#include "base/err.h"
#include "client/cli.h"
#include "client/json.h"
#include "client/manifest.h"
#include "client/sums.h"
#include "proto/map.h"

static struct span bytes(struct tm_bytes b)
{
    return span_of(b.data, b.len);
}

void present_pack(const struct present *p, struct buf *out)
{
    map_pack_begin(out, 5);
    map_pack_bool(out, "tag", p->tag);
    map_pack_bool(out, "stdout", p->to_stdout);
    map_pack_bool(out, "each", p->by_node);
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
        .by_node = map_get_uint(packed, 0, "each"),
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

/* encrypt and decrypt make files; what they digested is in --json. */
static bool has_manifest(const struct present *p)
{
    const char *command = p->command ? p->command : "hash";

    return strcmp(command, "encrypt") != 0 && strcmp(command, "decrypt") != 0 &&
           (p->manifest_dir || !p->json);
}

static int cannot_name_nodes(struct tm_error *err)
{
    err->code = EXIT_USAGE;
    snprintf(err->text, sizeof(err->text),
             "the lines of a manifest cannot say which node a file is on");
    snprintf(
        err->hint, sizeof(err->hint),
        "--json names the node; hash and results write DIR/NODE/SHA256SUMS with -o DIR");
    return -1;
}

int present_check(const struct present *p, struct tm_error *err)
{
    if (p->by_node && !p->manifest_dir && has_manifest(p) && (p->algos | p->out_algos))
        return cannot_name_nodes(err);
    return p->by_node ? 0 : present_check_nodes(p, (const char *[]){ NULL }, 1, err);
}

int present_check_nodes(const struct present *p, const char *const *nodes, size_t n,
                        struct tm_error *err)
{
    struct sums *s;
    int rc = 0;

    if (!p->manifest_dir)
        return 0;
    if (p->by_node &&
        sums_room(n * (size_t)__builtin_popcount(p->algos | p->out_algos), err) < 0)
        return -1;
    s = sums_new(p->manifest_dir, p->force, p->by_node);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = sums_check(s, nodes[i], p->algos | p->out_algos, err);
    sums_free(s);
    return rc;
}

static FILE *manifest_file(struct present *p, struct span node, enum tm_algo algo)
{
    FILE *f;

    if (!p->manifest_dir)
        return stdout;
    if (!p->sums)
        p->sums = sums_new(p->manifest_dir, p->force, p->by_node);
    f = p->broken ? NULL : sums_file(p->sums, node, algo, &p->err);
    p->broken |= !f;
    return f;
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
        FILE *f = manifest_file(p, bytes(r->node), d[i].algo);
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

static void failed(const struct present *p, const struct tm_result *r)
{
    AUTO_FREE char *why =
        r->error.len ? span_dup(bytes(r->error)) : xstrdup(tm_status_name(r->status));
    AUTO_FREE char *on =
        p->by_node && r->node.len
            ? xasprintf("on %.*s: %s", (int)r->node.len, (const char *)r->node.data, why)
            : NULL;

    cli_input_error(r->shown.data, r->shown.len, on ? on : why);
}

void present_result(struct present *p, const struct tm_result *r)
{
    bool body = p->to_stdout && r->has_body && !p->json;

    p->printed++;
    p->failed += r->status != TM_OK;
    if (p->json) {
        result_json(p, r);
    } else if (r->status != TM_OK) {
        failed(p, r);
    } else if (body) {
        put_body(p, r);
    }
    if (r->status == TM_OK && !body && has_manifest(p))
        result_manifest(p, r);
}

int present_end(struct present *p, struct tm_error *err)
{
    if (p->sums && !p->broken && sums_publish(p->sums, &p->err) < 0)
        p->broken = true;
    if (fflush(stdout) != 0)
        broken(p, "to standard output");
    if (p->broken)
        *err = p->err;
    return p->broken ? -1 : 0;
}

void present_fini(struct present *p)
{
    sums_free(p->sums);
    free(p->out_dir);
    free(p->out_abs);
    free(p->command);
    free(p->manifest_dir);
}
