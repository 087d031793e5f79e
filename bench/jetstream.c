/* The peer NATS JetStream, with libnats: tasks are stored in a work queue of the server,
 * workers fetch them in batches, answer on a subject and acknowledge.
 *     bench-jetstream URL stream file|memory
 *     bench-jetstream URL worker BATCH
 *     bench-jetstream URL rate N WINDOW
 *     bench-jetstream URL latency N
 * BENCH_ASAP=1: libnats writes at once instead of gathering for up to 1 ms. */
#include <nats/nats.h>
#include <stdatomic.h>
#include <unistd.h>

#include "bench/common.h"

#define TRY(call)                                                                        \
    do {                                                                                 \
        natsStatus status_ = (call);                                                     \
        if (status_ != NATS_OK)                                                          \
            die("%s: %s", #call, natsStatus_GetText(status_));                           \
    } while (0)

static natsConnection *connection;
static jsCtx *js;
static atomic_ullong done;
static uint8_t sum[DIGEST];

static void open_connection(const char *url, int64_t window)
{
    natsOptions *options;
    jsOptions js_options;
    TRY(natsOptions_Create(&options));
    TRY(natsOptions_SetURL(options, url));
    TRY(natsOptions_SetMaxPendingMsgs(options, 1000000));
    TRY(natsOptions_SetSendAsap(options, getenv("BENCH_ASAP") != NULL));
    TRY(natsConnection_Connect(&connection, options));
    TRY(jsOptions_Init(&js_options));
    js_options.PublishAsync.MaxPending = window;
    TRY(natsConnection_JetStream(&js, connection, &js_options));
}

static void make_stream(const char *storage)
{
    const char *subjects[] = { "work" };
    jsStreamConfig config;
    TRY(jsStreamConfig_Init(&config));
    config.Name = "WORK";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Retention = js_WorkQueuePolicy;
    config.Storage = strcmp(storage, "file") == 0 ? js_FileStorage : js_MemoryStorage;
    TRY(js_AddStream(NULL, js, &config, NULL, NULL));
}

static void work(int batch)
{
    natsSubscription *tasks;
    jsSubOptions options;
    TRY(jsSubOptions_Init(&options));
    options.Config.MaxAckPending = 100000;
    TRY(js_PullSubscribe(&tasks, js, "work", "mills", NULL, &options, NULL));
    for (;;) {
        natsMsgList list;
        if (natsSubscription_Fetch(&list, tasks, batch, 30000, NULL) != NATS_OK)
            continue;
        for (int i = 0; i < list.Count; i++) {
            natsMsg *m = list.Msgs[i];
            uint8_t digest[DIGEST];
            sha256(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), digest);
            TRY(natsConnection_Publish(connection, "result", digest, DIGEST));
            TRY(natsMsg_Ack(m, NULL));
        }
        natsMsgList_Destroy(&list);
    }
}

static void on_result(natsConnection *c, natsSubscription *s, natsMsg *m, void *arg)
{
    (void)c, (void)s, (void)arg;
    if (natsMsg_GetDataLength(m) != DIGEST)
        die("a result is no digest");
    digest_xor(sum, (const uint8_t *)natsMsg_GetData(m));
    natsMsg_Destroy(m);
    atomic_fetch_add(&done, 1);
}

static void rate(uint64_t n, uint64_t window)
{
    natsSubscription *results;
    uint8_t data[PAYLOAD];
    TRY(natsConnection_Subscribe(&results, connection, "result", on_result, NULL));
    TRY(natsSubscription_SetPendingLimits(results, -1, -1));
    TRY(natsConnection_Flush(connection));
    double start = now_s();
    for (uint64_t i = 0; i < n; i++) {
        while (i - atomic_load(&done) >= window)
            usleep(20);
        payload(data, i);
        TRY(js_PublishAsync(js, "work", data, PAYLOAD, NULL));
    }
    TRY(natsConnection_Flush(connection));
    while (atomic_load(&done) < n) {
        usleep(50);
        if (now_s() - start > 120)
            die("only %llu results", (unsigned long long)atomic_load(&done));
    }
    double took = now_s() - start;
    TRY(js_PublishAsyncComplete(js, NULL));
    check_xor(sum, 0, n);
    emit("tasks.jetstream", (double)n / took, "tasks/s", "written, synced every 2 min");
}

static void latency(uint64_t n)
{
    natsSubscription *results;
    uint8_t data[PAYLOAD];
    double *took = calloc(n, sizeof(*took));
    TRY(natsConnection_SubscribeSync(&results, connection, "result"));
    TRY(natsConnection_Flush(connection));
    for (uint64_t i = 0; i < n; i++) {
        natsMsg *m;
        payload(data, i);
        double start = now_s();
        TRY(js_PublishAsync(js, "work", data, PAYLOAD, NULL));
        TRY(natsConnection_Flush(connection));
        TRY(natsSubscription_NextMsg(&m, results, 5000));
        took[i] = now_s() - start;
        digest_xor(sum, (const uint8_t *)natsMsg_GetData(m));
        natsMsg_Destroy(m);
    }
    check_xor(sum, 0, n);
    emit_latency("latency.jetstream", took, n, "written, synced every 2 min");
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage: bench-jetstream URL MODE ARGUMENT [WINDOW]");
    open_connection(argv[1], argc > 4 ? (int64_t)number(argv[4]) : 4000);
    if (strcmp(argv[2], "stream") == 0)
        make_stream(argv[3]);
    else if (strcmp(argv[2], "worker") == 0)
        work((int)number(argv[3]));
    else if (strcmp(argv[2], "rate") == 0)
        rate(number(argv[3]), argc > 4 ? number(argv[4]) : 4000);
    else if (strcmp(argv[2], "latency") == 0)
        latency(number(argv[3]));
    else
        die("unknown mode: %s", argv[2]);
    return 0;
}
