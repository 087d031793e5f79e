#include "client/progress.h"

#include <unistd.h>

#include "base/clock.h"
#include "client/json.h"

enum { BAR_WIDTH = 20 };
#define BAR_NS   (100 * NS_PER_MS)
#define PLAIN_NS (10 * NS_PER_S)
#define FIRST_NS (500 * NS_PER_MS) /* short jobs show no bar unasked */

enum how { HOW_BAR, HOW_PLAIN, HOW_JSON };

struct progress {
    enum how how;
    char *command;
    int64_t began_ns, next_ns;
    bool drawn;
};

struct progress *progress_new(const struct common *c, const char *command)
{
    const char *term = getenv("TERM");
    bool tty = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    struct progress *p;
    enum how how = tty ? HOW_BAR : HOW_PLAIN;

    if (strcmp(c->progress, "none") == 0 ||
        (c->quiet && strcmp(c->progress, "auto") == 0))
        return NULL;
    if (strcmp(c->progress, "bar") == 0)
        how = HOW_BAR;
    else if (strcmp(c->progress, "plain") == 0)
        how = HOW_PLAIN;
    else if (strcmp(c->progress, "json") == 0)
        how = HOW_JSON;
    p = xcalloc(1, sizeof(*p));
    p->how = how;
    p->command = xstrdup(command);
    p->began_ns = clock_mono_ns();
    p->next_ns = p->began_ns + (how == HOW_PLAIN                   ? PLAIN_NS
                                : strcmp(c->progress, "auto") == 0 ? FIRST_NS
                                                                   : 0);
    return p;
}

void progress_at_once(struct progress *p)
{
    if (p)
        p->next_ns = 0;
}

static uint64_t done(const struct tm_counts *c)
{
    return c->ok + c->failed + c->quarantined + c->cancelled;
}

static void show_bar(const struct progress *p, const struct tm_job *job,
                     const struct tm_counts *c)
{
    uint64_t n = done(c);
    unsigned percent = c->tasks ? (unsigned)(n * 100 / c->tasks) : 0;
    unsigned full = percent * BAR_WIDTH / 100;
    double rate = (double)n * NS_PER_S / (double)(clock_mono_ns() - p->began_ns + 1);
    char a[32], b[32], r[32];

    fprintf(stderr, "\r\033[Kj%llu %s  ", (unsigned long long)tm_job_id(job), p->command);
    for (unsigned i = 0; i < BAR_WIDTH; i++)
        fputs(i < full ? "█" : "·", stderr);
    fprintf(stderr, "  %u%%  %s/%s  %s/s", percent, cli_count(n, a),
            cli_count(c->tasks, b), cli_count((uint64_t)rate, r));
    if (c->failed + c->quarantined)
        fprintf(stderr, "  %s failed", cli_count(c->failed + c->quarantined, a));
    fflush(stderr);
}

static void show_json(const struct tm_job *job, const struct tm_counts *c)
{
    AUTO_BUF out = BUF_INIT;

    char id[32];

    snprintf(id, sizeof(id), "j%llu", (unsigned long long)tm_job_id(job));
    json_open(&out);
    json_uint(&out, "v", 1);
    json_text(&out, "job", span_str(id));
    json_uint(&out, "tasks", c->tasks);
    json_uint(&out, "ok", c->ok);
    json_uint(&out, "failed", c->failed + c->quarantined);
    json_uint(&out, "cancelled", c->cancelled);
    json_close(&out);
    fprintf(stderr, "%s\n", buf_str(&out));
}

void progress_show(struct progress *p, const struct tm_job *job, bool ended)
{
    int64_t now = clock_mono_ns();
    struct tm_job_status st;
    char a[32], b[32];

    if (!p || (now < p->next_ns && !(ended && p->how == HOW_JSON)))
        return;
    tm_job_heard(job, &st);
    p->next_ns = now + (p->how == HOW_PLAIN ? PLAIN_NS : BAR_NS);
    switch (p->how) {
    case HOW_BAR:
        show_bar(p, job, &st.counts);
        p->drawn = true;
        break;
    case HOW_PLAIN:
        fprintf(stderr, "tidemill: j%llu %s: %s of %s\n",
                (unsigned long long)tm_job_id(job), p->command,
                cli_count(done(&st.counts), a), cli_count(st.counts.tasks, b));
        break;
    case HOW_JSON:
        show_json(job, &st.counts);
        break;
    }
}

void progress_clear(struct progress *p)
{
    if (p && p->drawn) {
        fputs("\r\033[K", stderr);
        p->drawn = false;
    }
}

void progress_free(struct progress *p)
{
    if (!p)
        return;
    progress_clear(p);
    free(p->command);
    free(p);
}
