#!/usr/bin/env bash
# One task at a time: submit to result, against the hand-overs and syncs alone, in the same run.
. "$(dirname "$0")/lib.sh"
N=$((1000 / SCALE))
cluster full
full=$ENDPOINT
cluster none
none=$ENDPOINT
mkdir "$DISK/floor"
port=$(free_port)
start nats-server -a 127.0.0.1 -p "$port" -js -sd "$DISK/jetstream"
until_ok port_open "$port"
nats=nats://127.0.0.1:$port
until_ok bench-jetstream "$nats" stream file
export BENCH_ASAP=1
start bench-jetstream "$nats" worker 1

ours() { bench-tasks "$full" latency "$N" | samples; }
ours_future() { bench-tasks "$full" futures "$N" | samples; }
floor() { bench-floor "$DISK/floor" "$N" | samples; }
ours_none() { bench-tasks "$none" latency "$N" | sed 's/latency.task/latency.task_none/' | samples; }
floor_none() { bench-floor "$DISK/floor" "$N" nosync | samples; }
jetstream() { bench-jetstream "$nats" latency "$N" | samples; }
turns ours floor ours_future ours_none floor_none jetstream

for what in task future floor task_none floor_nosync jetstream; do
    case $what in
    task) note="in one job, committed twice with fsync" ;;
    future) note="a job for each task" ;;
    floor) note="4 processes: 2 ZeroMQ round trips, 1 eventfd round trip, 2 fdatasyncs" ;;
    task_none) note="with --durability none" ;;
    floor_nosync) note="the same without the fdatasyncs" ;;
    jetstream) note="NATS JetStream, file storage, synced every 2 min" ;;
    esac
    figure "latency.$what.p50" us "$note"
    figure "latency.$what.p99" us "$note"
done
ratio latency.vs_floor latency.task.p50 latency.floor.p50 '<=' 1.2 "p50"
ratio latency.vs_floor_none latency.task_none.p50 latency.floor_nosync.p50 '<=' 1.2 "p50, --durability none"
ratio latency.vs_jetstream latency.task.p50 latency.jetstream.p50 '<=' 1 "p50"
