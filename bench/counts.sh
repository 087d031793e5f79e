#!/usr/bin/env bash
# No allocation, message, system call or row for each task: counted, for N tasks, in every process.
. "$(dirname "$0")/lib.sh"
N=$((1000000 / SCALE))

# Allocations: everything runs with a malloc that counts.
mkdir "$DISK/alloc"
export LD_PRELOAD=$BUILD/bench/libbench-alloc.so BENCH_ALLOC=$DISK/alloc
cluster full
unset LD_PRELOAD
allocs() { for f in "$DISK"/alloc/tidemill-*; do echo "$(basename "${f%.*}") $(od -An -t u8 -N 8 "$f")"; done; }
warm=$(allocs)
LD_PRELOAD=$BUILD/bench/libbench-alloc.so bench-tasks "$ENDPOINT" unchecked "$N" >/dev/null
{
    echo "$warm" | sed 's/ \+/ -/'
    allocs
    echo "bench-tasks $(od -An -t u8 -N 8 "$DISK"/alloc/bench-tasks.*)"
} | awk -v n="$N" '{ s[$1] += $2 } END { for (i in s)
    printf "counts.alloc.%s\t%.4f\t/task\tmalloc, calloc, realloc: %d for %d tasks\n", i, s[i] / n, s[i], n }' |
    full_names
cluster_end

# System calls: strace counts them, of all threads.
cluster full
calls() { awk '$NF == "total" { print $4 }' "$1"; }
pids=()
while read -r pid name; do
    case $name in tidemill*)
        strace -f -c -o "$DISK/strace.$pid" -p "$pid" 2>/dev/null &
        pids+=("$pid $! $name")
        ;;
    esac
done < <(family $$)
for entry in "${pids[@]}"; do
    set -- $entry
    until_ok grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$1/status"
done
strace -f -c -o "$DISK/strace.client" bench-tasks "$ENDPOINT" unchecked "$N" >/dev/null
for entry in "${pids[@]}"; do
    set -- $entry
    kill "$2"
    wait "$2"
    echo "$3 $(calls "$DISK/strace.$1")"
done >"$DISK/calls"
echo "bench-tasks $(calls "$DISK/strace.client")" >>"$DISK/calls"
awk -v n="$N" '{ s[$1] += $2 } END { for (i in s)
    printf "counts.syscalls.%s\t%.4f\t/task\tstrace -c: %d for %d tasks\n", i, s[i] / n, s[i], n }' "$DISK/calls" |
    full_names

# Rows: the tables of the store.
db=$(find "$CLUSTER_DIR/state" -name '*.db' -o -name '*.sqlite*' | head -1)
for pid in "${WORKERS[@]}" "$COORDINATOR"; do stop "$pid"; done
rows=$(sqlite3 "$db" 'SELECT (SELECT count(*) FROM chunk) + (SELECT count(*) FROM batch) + (SELECT count(*) FROM job)')
row counts.rows "$(awk -v r="$rows" -v n="$N" 'BEGIN { printf "%.5f", r / n }')" /task "$rows rows of jobs, chunks and batches for $N tasks"
