#include "client/dry.h"

#include <unistd.h>

#include "client/json.h"

static void print_json(struct span input, struct span output)
{
    AUTO_BUF line = BUF_INIT;

    json_open(&line);
    json_uint(&line, "v", 1);
    json_text(&line, "input", input);
    if (output.len)
        json_text(&line, "output", output);
    json_close(&line);
    printf("%s\n", buf_str(&line));
}

void dry_print(struct span input, struct span output)
{
    if (cli_common_now()->json) {
        print_json(input, output);
        return;
    }
    fwrite(input.data, 1, input.len, stdout);
    if (output.len) {
        fputs(" -> ", stdout);
        fwrite(output.data, 1, output.len, stdout);
    }
    fputc('\n', stdout);
}

static struct span text(const char *s, size_t len)
{
    return s && len ? span_of(s, len) : span_str(s);
}

void dry_add(const struct run *run, const struct tm_input *in)
{
    struct span name = in->shown  ? text(in->shown, in->shown_len)
                       : in->path ? text(in->path, in->path_len)
                                  : text(in->url, in->url_len);
    bool to_stdout = run->present.to_stdout;

    dry_print(name, to_stdout ? SPAN_LIT("-") : text(in->out, in->out_len));
}

int dry_run(struct run *run, int (*feed)(void *arg), void *arg)
{
    int code;

    run->dry = true;
    feed(arg);
    code = run->stop ? run->stop : run->refused ? EXIT_SOME_FAILED : EXIT_OK;
    present_fini(&run->present);
    if (fflush(stdout) != 0) {
        struct err err = { 0 };
        err_sys(&err, EXIT_ERROR, "cannot write to standard output");
        code = cli_error(&err);
    }
    memset(run, 0, sizeof(*run));
    return code;
}
