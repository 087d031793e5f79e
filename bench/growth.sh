#!/usr/bin/env bash
# What becomes of throughput and of the coordinator's memory as things grow: pending tasks, jobs, nodes.
# With SCALE=1 the plots docs/growth.png and docs/growth.svg are made anew.
. "$(dirname "$0")/lib.sh"
tasks=$((1000000 / SCALE))
value() { awk -F'\t' -v k="$1" '$1 == k { print $2 }'; }
rss() { status_kib "$COORDINATOR" VmRSS; }
note_rate() { row "growth.$1.$2.rate" "$3" tasks/s "$4"; }
note_memory() { row "growth.$1.$2.memory" "$3" MiB "resident, coordinator"; }

# Pending: put there while no node is, then done by one.
for pending in 10000 100000 1000000 10000000; do
    n=$((pending / SCALE))
    quiet
    cluster full 0
    bench-tasks "$ENDPOINT" queue 1000 >/dev/null # what the first job costs is not growth
    idle=$(rss)
    first=$(bench-tasks "$ENDPOINT" queue $n | value queue.first)
    full=$(rss)
    join n0 0
    drained=$(bench-tasks "$ENDPOINT" drain "$first")
    [ "$(value queue.drained <<<"$drained")" = $n ] || fail "not all of $n tasks came back: $drained"
    note_rate pending $pending "$(value queue.drain <<<"$drained")" "queued without a node, then done by one"
    note_memory pending $pending $((full / 1024))
    per_task=$(awk -v a="$idle" -v b="$full" -v n="$n" 'BEGIN { printf "%.1f", (b - a) * 1024 / n }')
    if [ $pending -eq 10000000 ]; then
        target growth.pending.bytes_per_task "$per_task" bytes '<=' 16 "at $n pending"
    fi
    cluster_end
done

for jobs in 1 10 100 1000; do
    quiet
    cluster full
    note_rate jobs $jobs "$(bench-tasks "$ENDPOINT" jobs "$tasks" $jobs | value tasks.jobs)" "$tasks tasks in $jobs jobs at once"
    note_memory jobs $jobs $(($(status_kib "$COORDINATOR" VmHWM) / 1024))
    cluster_end
done

for nodes in 1 2 4 16 64; do
    quiet
    cluster full $nodes 1
    note_rate nodes $nodes "$(bench-tasks "$ENDPOINT" rate "$tasks" | value tasks.rate)" "$nodes nodes of one process each, on this host"
    note_memory nodes $nodes $(($(status_kib "$COORDINATOR" VmHWM) / 1024))
    cluster_end
done
