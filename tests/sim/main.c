/* sim --seeds N [--from S] [--seed S] [--trace] [--twice]: runs seeds, prints how fast,
 * and on the first broken promise the seed, the promise, and how to see it again. */
#include <getopt.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "tests/sim/scenario.h"

/* The seed that runs: shared with the parent, which tells it when the child dies of a
 * CHECK of the product or of a sanitizer. */
static volatile uint64_t *current;
static const char *program;
enum { FOUND = 3 }; /* exit of the child: a promise was broken; sanitizers use 1 */

struct options {
    uint64_t seeds, from;
    bool trace, twice, go_on;
};

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        { "seeds", required_argument, NULL, 'n' },
        { "from", required_argument, NULL, 'f' },
        { "seed", required_argument, NULL, 's' },
        { "trace", no_argument, NULL, 't' },
        { "twice", no_argument, NULL, '2' },
        { "go-on", no_argument, NULL, 'g' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    *o = (struct options){ .seeds = 1000 };
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
        switch (c) {
        case 'n':
            o->seeds = strtoull(optarg, NULL, 10);
            break;
        case 's':
            o->seeds = 1; /* fall through */
        case 'f':
            o->from = strtoull(optarg, NULL, 10);
            break;
        case 't':
            o->trace = true;
            break;
        case '2':
            o->twice = true;
            break;
        case 'g':
            o->go_on = true;
            break;
        default:
            return -1;
        }
    return optind == argc ? 0 : -1;
}

static bool one(const struct options *o, uint64_t seed, struct outcome *out)
{
    struct outcome again;

    *current = seed;
    scenario_run(seed, o->trace, out);
    if (o->twice && !out->failure[0]) {
        scenario_run(seed, false, &again);
        if (again.hash != out->hash || again.events != out->events)
            snprintf(out->failure, sizeof(out->failure),
                     "replay: the same seed went another way");
    }
    if (!out->failure[0])
        return true;
    printf("sim: seed %" PRIu64 ": %s\nreplay: %s --seed %" PRIu64 " --trace\n", seed,
           out->failure, program, seed);
    fflush(stdout);
    return false;
}

static int run(const struct options *o)
{
    struct outcome out;
    uint64_t failed = 0, events = 0, hash = 0, i = 0;
    int64_t start = clock_mono_ns();
    double virtual_s = 0;

    for (; i < o->seeds && (!failed || o->go_on); i++) {
        failed += !one(o, o->from + i, &out);
        events += out.events;
        hash = mix64(hash ^ out.hash);
        virtual_s += (double)out.virtual_ns / NS_PER_S;
    }
    double s = (double)(clock_mono_ns() - start) / NS_PER_S;
    printf("sim: %" PRIu64 " seeds, %" PRIu64 " failed, %.0f seeds/s, %.0f events and "
           "%.0f virtual s a seed, hash %016" PRIx64 "\n",
           i, failed, (double)i / s, (double)events / (double)i, virtual_s / (double)i,
           hash);
    fflush(stdout);
    return failed ? FOUND : 0;
}

int main(int argc, char **argv)
{
    struct options o;
    int status = 0;

    program = argv[0];
    if (parse(argc, argv, &o) < 0) {
        fprintf(stderr,
                "usage: %s [--seeds N] [--from S] [--seed S] [--trace] [--twice]"
                " [--go-on]\n",
                argv[0]);
        return 2;
    }
    crypto_init();
    current = mmap(NULL, sizeof(*current), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(current != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0)
        exit(run(&o));
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FOUND))
        return WEXITSTATUS(status) != 0;
    printf("sim: seed %" PRIu64 ": the program died\nreplay: %s --seed %" PRIu64
           " --trace\n",
           *current, program, *current);
    return 1;
}
