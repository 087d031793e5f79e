# shellcheck shell=bash disable=SC2034
# What the measuring scripts share; sourced. A figure goes to stdout as
#     name<TAB>value<TAB>unit<TAB>note
# and everything else to stderr. The environment may set
#     PAIRS   runs of each thing in turn (5)       BENCH_DISK  a directory on the disk (/var/tmp)
#     SCALE   divides sizes and counts, to try (1)   BENCH_SHM   a directory in a tmpfs (/dev/shm)
#     QUIET   seconds to wait for an idle machine before each run (5)
set -u
BENCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${TM_BUILD:-$BENCH/../build/release}
PATH=$BUILD/bin:$BUILD/bench:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
unset TIDEMILL_COORDINATOR TIDEMILL_STATE
PAIRS=${PAIRS:-5}
SCALE=${SCALE:-1}
QUIET=${QUIET:-5}

DISK=$(mktemp -d "${BENCH_DISK:-/var/tmp}/bench.XXXXXX")
SHM=$(mktemp -d "${BENCH_SHM:-/dev/shm}/bench.XXXXXX")
# Where the page cache has all memory, a tmpfs gets each new page by an eviction: what the script before has read would
# take up to three times as long to be encrypted.
if [ -w /proc/sys/vm/drop_caches ]; then
    sync
    echo 1 >/proc/sys/vm/drop_caches
fi
export XDG_RUNTIME_DIR=$DISK/run XDG_CONFIG_HOME=$DISK/config
mkdir -m 700 "$DISK/run" "$DISK/config" "$DISK/samples"
STARTED=() # processes of ours that have to end

log() { echo "bench: $*" >&2; }
fail() {
    log "error: $*"
    exit 1
}
finish() {
    local pid
    for pid in ${STARTED[@]+"${STARTED[@]}"}; do stop "$pid"; done
    if [ -n "${BENCH_TRASH:-}" ]; then mv "$DISK" "$BENCH_TRASH"; else rm -rf "$DISK"; fi
    rm -rf "$SHM"
}
# Files of the last turn leave the way of the next, but are removed in the end only. An ext4 without a journal does not
# give an inode away within a minute after it was freed, and looks past each such one whenever a file is made: with
# 20,000 of them a new file takes twenty times as long, whoever makes it.
set_aside() { [ ! -e "$1" ] || mv "$1" "$(mktemp -d "$DISK/aside.XXXXXX")"; }
trap finish EXIT
trap 'exit 130' INT TERM

# ---- processes ----

# Starts a program in the background; its id is in STARTED_PID.
start() {
    "$@" >>"$DISK/log" 2>&1 &
    STARTED_PID=$!
    STARTED+=("$STARTED_PID")
}
stop() {
    local pid left=()
    kill "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    for pid in "${STARTED[@]}"; do [ "$pid" = "$1" ] || left+=("$pid"); done
    STARTED=(${left[@]+"${left[@]}"})
}
# Waits until a command succeeds, 20 s at most.
until_ok() {
    local end=$((SECONDS + 20))
    until "$@" 2>/dev/null >&2; do
        [ $SECONDS -lt $end ] || { tail -5 "$DISK/log" >&2; fail "never came true: $*"; }
        sleep 0.02
    done
}
free_port() {
    local port
    while port=$((20000 + RANDOM % 20000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

# The process and all below it, one "pid name" a line.
family() {
    local child
    echo "$1 $(cat "/proc/$1/comm" 2>/dev/null)"
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do family "$child"; done
}
# The kernel keeps 15 letters of a name.
full_names() { sed 's/tidemill-coordi\b/tidemill-coordinator/'; }
# CPU of a process in nanoseconds, of all its threads that live.
cpu_ns() { cat /proc/"$1"/task/*/schedstat 2>/dev/null | awk '{ s += $1 } END { printf "%.0f\n", s }'; }
status_kib() { awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"; }

# A cluster on this host: cluster DURABILITY [NODES [PROCS]]. Sets ENDPOINT, COORDINATOR, WORKERS.
cluster() {
    local i nodes=${2:-1}
    CLUSTER_DIR=$(mktemp -d "$DISK/cluster.XXXXXX")
    ENDPOINT=ipc://$CLUSTER_DIR/c
    start tidemill-coordinator --listen "$ENDPOINT" --state "$CLUSTER_DIR/state" --durability "$1" --log-level warn
    COORDINATOR=$STARTED_PID
    WORKERS=()
    until_ok test -S "$CLUSTER_DIR/c"
    for ((i = 0; i < nodes; i++)); do join "n$i" "${3:-0}"; done
    [ "$nodes" -eq 0 ] || until_ok nodes_are "$nodes"
}
# One more node of that cluster: join NAME PROCS.
join() {
    start tidemill-worker --join "$ENDPOINT" --root / --name "$1" --procs "$2" --log-level warn \
        ${IDENTITY:+--identity "$IDENTITY"}
    WORKERS+=("$STARTED_PID")
}
nodes_are() { [ "$(tidemill node ls --json --coordinator "$ENDPOINT" | wc -l)" -ge "$1" ]; }
cluster_end() {
    local pid
    for pid in ${WORKERS[@]+"${WORKERS[@]}"} "$COORDINATOR"; do stop "$pid"; done
    rm -rf "$CLUSTER_DIR"
}

# ---- samples ----

# Sleeps until 9 tenths of the machine were idle for a tenth of a second, QUIET seconds at most.
quiet() {
    local end=$((SECONDS + QUIET)) before after
    [ "$QUIET" -gt 0 ] || return 0
    while [ $SECONDS -lt $end ]; do
        before=$(head -1 /proc/stat)
        sleep 0.1
        after=$(head -1 /proc/stat)
        if awk -v a="$before" -v b="$after" 'BEGIN { split(a, x); n = split(b, y);
            for (i = 2; i <= n && i <= 9; i++) all += y[i] - x[i];
            exit !(all > 0 && (y[5] + y[6] - x[5] - x[6]) / all > 0.9) }'; then
            return 0
        fi
    done
    log "the machine is busy with something else: measuring anyway"
}
# In turn: turns FUNCTION...; each is called PAIRS times and calls sample.
turns() {
    local i what
    for ((i = 0; i < PAIRS; i++)); do
        for what; do
            quiet
            "$what"
        done
    done
}
sample() { echo "$2" >>"$DISK/samples/$1"; }
# Samples every "name value unit note" line that comes in.
samples() {
    local name value unit note
    while IFS=$'\t' read -r name value unit note; do sample "$name" "$value"; done
}
# Seconds that a command takes: seconds NAME COMMAND...; its output is dropped.
seconds() {
    local name=$1 from
    shift
    from=$EPOCHREALTIME
    "$@" >/dev/null 2>>"$DISK/log" || { tail -5 "$DISK/log" >&2; fail "failed: $*"; }
    sample "$name" "$(awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.6f", b - a }')"
}
median() { sort -g | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }

# ---- figures ----

# Four digits say all there is to say; no exponents.
short() { awk '{ if ($1 >= 1000) printf "%.0f", $1; else printf "%.4g", $1 }'; }

row() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4"; }
# Median of samples: figure NAME UNIT NOTE [FACTOR].
figure() {
    row "$1" "$(median <"$DISK/samples/$1" | awk -v f="${4:-1}" '{ print $1 * f }' | short)" "$2" "$3"
}
# Work done by time: speed NAME WORK UNIT NOTE; the samples are seconds.
speed() {
    row "$1" "$(median <"$DISK/samples/$1" | awk -v w="$2" '{ print w / $1 }' | short)" "$3" "$4"
}
# Says whether a value keeps its target, ">=" or "<=".
verdict() {
    awk -v v="$1" -v op="$2" -v t="$3" 'BEGIN { met = op == ">=" ? v >= t : v <= t;
        printf "target %s %s: %s", op == ">=" ? "at least" : "at most", t, met ? "met" : "MISSED" }'
}
target() { row "$1" "$2" "$3" "$(verdict "$2" "$4" "$5")${6:+; $6}"; }
# The median of the paired quotients A/B of two samples: ratio NAME A B OP TARGET NOTE.
ratio() {
    local value
    value=$(paste "$DISK/samples/$2" "$DISK/samples/$3" | awk '{ print $1 / $2 }' | median | awk '{ printf "%.3f", $1 }')
    target "$1" "$value" x "$4" "$5" "$6"
}
