#!/usr/bin/env bash
# What a link costs: the same cluster over ipc, over plain tcp and over tcp with CURVE, all on this host; then CURVE by
# itself, for a byte and for a message, with one thread for the server's I/O, with 2, and with 4 where there are as many cores.
. "$(dirname "$0")/lib.sh"
N=$((500000 / SCALE))
ONE_BY_ONE=$((500 / SCALE))
PEERS=4
THREADS="1 2"
[ "$(nproc)" -lt 4 ] || THREADS="1 2 4"
SMALL=64 SMALL_N=$((200000 / SCALE))
LARGE=65536 LARGE_N=$((4000 / SCALE))
declare -A endpoints

# over KIND: a cluster whose client and worker both come over ipc, tcp or curve.
over() {
    local dir=$DISK/$1 listen
    mkdir "$dir"
    case $1 in
    ipc) listen=(--listen "ipc://$dir/c") ;;
    tcp) listen=(--listen "tcp://127.0.0.1:$(free_port)" --plain) ;;
    curve)
        listen=(--listen "tcp://127.0.0.1:$(free_port)" --listen-workers "tcp://127.0.0.1:$(free_port)" --listen "ipc://$dir/c")
        tidemill-coordinator init --state "$dir/state" >>"$DISK/log"
        ;;
    esac
    start tidemill-coordinator "${listen[@]}" --state "$dir/state" --log-level warn
    ENDPOINT=${listen[1]}
    endpoints[$1]=$ENDPOINT
    if [ "$1" != curve ]; then
        until_ok tidemill node ls --coordinator "$ENDPOINT"
        join "$1" 0
    else
        until_ok tidemill node ls --coordinator "ipc://$dir/c"
        for role in worker client; do
            (umask 077 && tidemill key invite --role $role --coordinator "ipc://$dir/c" >"$dir/$role" 2>>"$DISK/log")
        done
        tidemill key join "@$dir/client" >>"$DISK/log" 2>&1
        start tidemill-worker --join "@$dir/worker" --root / --name curve --log-level warn
    fi
    until_ok nodes_are 1
}
for kind in ipc tcp curve; do over $kind; done

rate() { bench-tasks "${endpoints[$1]}" rate "$N" | sed "s/tasks.rate/links.rate.$1/" | samples; }
latency() { bench-tasks "${endpoints[$1]}" latency "$ONE_BY_ONE" | sed "s/latency.task/links.latency.$1/" | samples; }
for kind in ipc tcp curve; do
    eval "rate_$kind() { rate $kind; }; latency_$kind() { latency $kind; }"
    rate $kind 2>/dev/null # once, so that every process has its memory
    rm -f "$DISK/samples/links.rate.$kind"
done
turns rate_ipc rate_tcp rate_curve latency_ipc latency_tcp latency_curve
for kind in ipc tcp curve; do figure links.rate.$kind tasks/s "$N of 64 bytes in one job"; done
for kind in ipc tcp curve; do
    for p in p50 p99; do figure links.latency.$kind.$p us "one task at a time"; done
done
ratio links.rate.curve_vs_ipc links.rate.curve links.rate.ipc '>=' 0.7 "what is left of it with encryption"
ratio links.latency.curve_vs_tcp links.latency.curve.p50 links.latency.tcp.p50 '<=' 1.2 "p50"

# ---- CURVE alone ----

# bare MODE SIZE N THREADS
bare() {
    bench-curve "$1" rate "$2" "$3" $PEERS "$4" | sed "s/^curve/links.$1.$2.$4/" | samples
}
alone=()
for threads in $THREADS; do
    for mode in plain curve; do
        eval "small_${mode}_$threads() { bare $mode $SMALL $SMALL_N $threads; }"
        eval "large_${mode}_$threads() { bare $mode $LARGE $LARGE_N $threads; }"
        alone+=("small_${mode}_$threads" "large_${mode}_$threads")
    done
done
hop_plain() { bench-curve plain latency $SMALL "$ONE_BY_ONE" | sed 's/^curve.latency/links.hop.plain/' | samples; }
hop_curve() { bench-curve curve latency $SMALL "$ONE_BY_ONE" | sed 's/^curve.latency/links.hop.curve/' | samples; }
turns hop_plain hop_curve "${alone[@]}"

for mode in plain curve; do figure links.hop.$mode.p50 us "$SMALL bytes there and back, ZeroMQ alone"; done
of() { median <"$DISK/samples/links.$1"; }
for threads in $THREADS; do
    for mode in plain curve; do
        figure links.$mode.$SMALL.$threads.rate messages/s "$SMALL bytes, $PEERS peers, $threads I/O threads"
        row links.$mode.$LARGE.$threads.bytes "$(of $mode.$LARGE.$threads.rate | awk -v b=$LARGE '{ print $1 * b / 1e6 }' | short)" MB/s \
            "$LARGE bytes, $PEERS peers, $threads I/O threads"
    done
done
# Both ends encrypt, or decrypt; the receiving one is what has many peers.
for end in server peer; do
    awk -v s0="$(of plain.$SMALL.1.${end}_cpu)" -v s1="$(of curve.$SMALL.1.${end}_cpu)" -v l0="$(of plain.$LARGE.1.${end}_cpu)" \
        -v l1="$(of curve.$LARGE.1.${end}_cpu)" -v small=$SMALL -v large=$LARGE -v end=$end 'BEGIN {
            byte = ((l1 - l0) - (s1 - s0)) / (large - small)
            printf "links.curve.%s.byte\t%.3f\tns\tCPU more than plain, for each byte\n", end, byte
            printf "links.curve.%s.message\t%.0f\tns\tCPU more than plain, for each message besides\n", end, (s1 - s0) - byte * small }'
done
# Who encrypts at the other end needs cores as well: where there are no more than two, that is what a second thread lacks.
row links.curve.threads "$(paste "$DISK/samples/links.curve.$LARGE.2.rate" "$DISK/samples/links.curve.$LARGE.1.rate" | awk '{ print $1 / $2 }' |
    median | short)" x "2 I/O threads against 1, $LARGE bytes"
