#include "worker/cores.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"

/* Two numbers from a file: "QUOTA PERIOD", or one of them. 0 = not there, or no limit. */
static int numbers(const char *path, long long *a, long long *b)
{
    FILE *f = fopen(path, "re");
    int n = 0;

    if (!f)
        return 0;
    n = fscanf(f, "%lld %lld", a, b); /* "max 100000" gives 0: no limit */
    fclose(f);
    return n < 0 ? 0 : n;
}

/* The quota of one cgroup directory, in cores rounded up; 0 = none. */
static unsigned quota_v2(const char *group)
{
    char path[512];
    long long quota = 0, period = 0;

    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group);
    if (numbers(path, &quota, &period) == 2 && quota > 0 && period > 0)
        return (unsigned)((quota + period - 1) / period);
    return 0;
}

static unsigned quota_v1(const char *group)
{
    char path[512];
    long long quota = 0, period = 0, unused;

    snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
    if (numbers(path, &quota, &unused) < 1 || quota <= 0)
        return 0;
    snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
    if (numbers(path, &period, &unused) < 1 || period <= 0)
        return 0;
    return (unsigned)((quota + period - 1) / period);
}

/* The least quota of a cgroup and of those above it. */
static unsigned least(unsigned (*quota)(const char *group), char *group)
{
    unsigned best = 0, q;

    for (;;) {
        char *slash = strrchr(group, '/');
        q = quota(strcmp(group, "/") == 0 ? "" : group);
        if (q && (!best || q < best))
            best = q;
        if (!slash)
            return best;
        *slash = 0;
    }
}

static unsigned cgroup_quota(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[512];
    unsigned best = 0;

    /* "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1. */
    while (f && fgets(line, sizeof(line), f)) {
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        unsigned q = 0;
        if (!group)
            continue;
        *group++ = 0;
        group[strcspn(group, "\n")] = 0;
        if (controllers[1] == 0)
            q = least(quota_v2, group);
        else if (strcmp(controllers + 1, "cpu") == 0 ||
                 strncmp(controllers + 1, "cpu,", 4) == 0)
            q = least(quota_v1, group);
        if (q && (!best || q < best))
            best = q;
    }
    if (f)
        fclose(f);
    return best;
}

unsigned cores_usable(void)
{
    cpu_set_t set;
    unsigned n = 1, quota = cgroup_quota();

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    return quota && quota < n ? quota : n;
}
