#!/usr/bin/env bash
# Tasks of 64 bytes, SHA-256, every digest back at the submitter and checked.
. "$(dirname "$0")/lib.sh"
N=$((1000000 / SCALE))
cluster full

port=$(free_port)
start nats-server -a 127.0.0.1 -p "$port" -js -sd "$DISK/jetstream"
until_ok port_open "$port"
nats=nats://127.0.0.1:$port
until_ok bench-jetstream "$nats" stream file
gearman=$(free_port)
start gearmand -p "$gearman" -L 127.0.0.1 -l none -P "$DISK/gearmand.pid" -t 1
until_ok port_open "$gearman"

# Workers of a peer run only while it is measured.
with_workers() { # PROGRAM ADDRESS RATE-ARGUMENTS...
    local program=$1 address=$2 workers=() i
    shift 2
    for i in 1 2; do
        start "$program" "$address" worker 256
        workers+=("$STARTED_PID")
    done
    sleep 0.2
    "$program" "$address" rate "$@" | samples
    for i in "${workers[@]}"; do stop "$i"; done
}
ours() { bench-tasks "$ENDPOINT" rate "$N" | samples; }
jetstream() { with_workers bench-jetstream "$nats" $((N / 10)) 4000; }
gearmand() { with_workers bench-gearman "$gearman" "$N" 2000; }
bare() { bench-bare small "$N" | samples; }

ours 2>/dev/null # once, so that every process has its memory
rm -f "$DISK/samples/tasks.rate"
turns ours jetstream gearmand bare
figure tasks.rate tasks/s "$N in one job, committed with fsync"
figure tasks.jetstream tasks/s "NATS JetStream, file storage, synced every 2 min"
figure tasks.gearmand tasks/s "gearmand, raw protocol pipelined on both sides, nothing stored"
figure tasks.bare tasks/s "SHA-256 of 64 bytes, one thread, nothing else"
target tasks.rate_target "$(median <"$DISK/samples/tasks.rate")" tasks/s '>=' 1500000
ratio tasks.vs_jetstream tasks.rate tasks.jetstream '>=' 12 ""
ratio tasks.vs_gearmand tasks.rate tasks.gearmand '>=' 1.2 ""

# CPU of each process for a task: what is left once the wall clock is forgotten.
declare -A cpu
names() { family $$ | awk '$2 ~ /^tidemill/'; }
while read -r pid name; do cpu[$pid]=$(cpu_ns "$pid"); done < <(names)
bench-tasks "$ENDPOINT" rate "$N" >/dev/null
while read -r pid name; do
    echo "$name $(($(cpu_ns "$pid") - ${cpu[$pid]:-0}))"
done < <(names) | awk -v n="$N" '{ s[$1] += $2 } END { for (i in s) printf "tasks.cpu.%s\t%.1f\tns/task\tof all its processes\n", i, s[i] / n }' |
    full_names
cluster_end
