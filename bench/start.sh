#!/usr/bin/env bash
# How long a command without a cluster takes to start one, and what a cluster costs that has nothing to do.
. "$(dirname "$0")/lib.sh"
PAIRS=$((PAIRS * 4)) # these are short
echo one >"$SHM/one"
ours() { seconds start.ours tidemill hash "$SHM/one"; }
sha256sum_one() { seconds start.sha256sum sha256sum "$SHM/one"; }
turns ours sha256sum_one
figure start.ours ms "tidemill hash of one small file: coordinator, worker and mills start and end" 1000
figure start.sha256sum ms "sha256sum of the same" 1000
target start.target "$(median <"$DISK/samples/start.ours" | awk '{ printf "%.1f", $1 * 1000 }')" ms '<=' 60

cluster full
sleep 1
idle_ns() {
    local pid name
    while read -r pid name; do case $name in tidemill*) cpu_ns "$pid" ;; esac; done < <(family $$) | awk '{ s += $1 } END { printf "%.0f", s }'
}
before=$(idle_ns)
from=$EPOCHREALTIME
sleep 10
after=$(idle_ns)
target start.idle "$(awk -v a="$before" -v b="$after" -v f="$from" -v t="$EPOCHREALTIME" \
    'BEGIN { printf "%.3f", (b - a) / 1e7 / (t - f) }')" "% of a core" '<=' 0.5 "coordinator, worker and mills over 10 s"
cluster_end
