#!/usr/bin/env bash
# The fault campaign (docs/faults.md): injects, then compares what was submitted with what
# was delivered. The last line is "lost 0, duplicated 0, stale 0"; anything else exits 1.
# Many injections are done in rounds, each with a cluster and a seed (the next number) of
# its own. TM_BIN: the programs (default: build/campaign/bin, a release with failpoints).
set -euo pipefail
usage="usage: tests/campaign.sh [--failpoints [--only PREFIX]] [--injections N] [--seed S] [--minutes M] [--gap SECONDS]
                         [--scale X] [--kinds LIST] [--keep] [--go-on]"
ROUND=250
here=$(cd "$(dirname "$0")" && pwd)
seed=$((RANDOM * 32768 + RANDOM)) injections=200 minutes=60 keep='' go_on='' each=() program=campaign.py
while [ $# -gt 0 ]; do
    case $1 in
        --failpoints) program=failpoints.py && shift ;; # each of them once, nothing else
        --only) each+=("$2") && shift 2 ;;             # with --failpoints: those that begin so
        --injections) injections=$2 && shift 2 ;;
        --seed) seed=$2 && shift 2 ;;
        --minutes) minutes=$2 && shift 2 ;;
        --gap | --scale | --kinds) each+=("$1" "$2") && shift 2 ;;
        --keep) keep=1 && shift ;;
        --go-on) go_on=1 && shift ;; # more rounds after one that failed
        *) echo "$usage" >&2 && exit 2 ;;
    esac
done
keep_all=$keep
TM_BIN=${TM_BIN:-$here/../build/campaign/bin}
[ -x "$TM_BIN/tidemill" ] || {
    echo "no programs in $TM_BIN: cmake --preset campaign && cmake --build --preset campaign" >&2
    exit 2
}
TM_BIN=$(cd "$TM_BIN" && pwd)
export PYTHONDONTWRITEBYTECODE=1
python() { /usr/bin/python3 "$here/campaign/$1" --dir "$T" --state "$T/state/s" "${@:2}"; }

# A file system of its own for the state, small enough to be filled. It takes root.
mount_state() {
    mkdir "$T/state"
    tmpfs=
    if mount -t tmpfs -o size=384m tidemill-campaign "$T/state" 2>/dev/null; then
        tmpfs=1
    else
        echo "no tmpfs could be mounted: no full disks in this run" >&2
    fi
}

end_round() {
    trap - EXIT INT TERM
    # What a file system in memory holds is gone with it.
    if [ -n "$keep" ] && [ -n "$tmpfs" ]; then cp -r "$T/state/s" "$T/kept-state"; fi
    [ -z "$tmpfs" ] || umount "$T/state"
    if [ -n "$keep" ]; then echo "kept: $T" >&2; else rm -rf "$T"; fi
}

# round SEED ARGUMENT...: one cluster, one check. Adds to the totals.
round() {
    local status=0 seed=$1 report said
    shift
    T=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-campaign.XXXXXX")
    mount_state
    trap end_round EXIT
    report=$T/report
    mkdir "$T/proto"
    protoc -I "$here/../proto" --python_out="$T/proto" tidemill.proto
    export PYTHONPATH=$T/proto:$here/e2e
    [ -z "$tmpfs" ] || [ "$program" != campaign.py ] || set -- --tmpfs "$@"
    python "$program" --bin "$TM_BIN" --seed "$seed" "$@" >"$report" 2>&1 &
    running=$!
    trap 'kill "$running"; wait "$running"; exit 1' INT TERM
    wait "$running" || status=1
    trap - INT TERM
    "$TM_BIN/tidemill-coordinator" check --state "$T/state/s" >>"$report" 2>&1 || status=1
    python check.py >>"$report" 2>&1 || status=1
    said=$(sed -n 's/^lost \([0-9]*\), duplicated \([0-9]*\), stale \([0-9]*\)$/\1 \2 \3/p' "$report")
    [ -n "$said" ] || status=1
    read -r a b c <<<"${said:-0 0 0}"
    lost=$((lost + a)) duplicated=$((duplicated + b)) stale=$((stale + c))
    done=$((done + $(sed -n 's/^seed [0-9]*: \([0-9]*\) injections.*/\1/p' "$report" | grep . || echo 0)))
    tasks=$((tasks + $(sed -n 's/^checked: .* jobs of \([0-9]*\) tasks.*/\1/p' "$report" | grep . || echo 0)))
    grep -v '^lost ' "$report" || true
    if [ "$status" -ne 0 ]; then
        failed=$((failed + 1)) keep=1
        echo "seed $seed failed; again: tests/campaign.sh --seed $seed --injections $ROUND ${each[*]}" >&2
    fi
    end_round
    keep=$keep_all
}

lost=0 duplicated=0 stale=0 done=0 tasks=0 failed=0
if [ "$program" = failpoints.py ]; then
    round "$seed" "${each[@]}"
else
    until [ "$injections" -le "$done" ] || [ "$minutes" -le $((SECONDS / 60)) ] || { [ "$failed" -ne 0 ] && [ -z "$go_on" ]; }; do
        left=$((injections - done))
        round "$seed" --injections $((left < ROUND ? left : ROUND)) --minutes "$minutes" "${each[@]}"
        seed=$((seed + 1))
    done
fi
echo "$done injections, $tasks tasks in $((SECONDS / 60)) min $((SECONDS % 60)) s"
[ "$failed" -eq 0 ] || echo "$failed rounds failed"
echo "lost $lost, duplicated $duplicated, stale $stale"
[ "$failed" -eq 0 ]
