#!/usr/bin/env bash
# Measures tidemill against the limits of this machine and against its peers, in turn, in one run:
#     bench/run.sh [NAME...] >results.tsv     NAME: a script of this directory; all by default
# Installs what it needs (Debian), builds the release, prints `name value unit note`, separated by tabs. How
# to read it is in README.md; what the environment may set is in lib.sh.
set -euo pipefail
cd "$(dirname "$0")"
all=(tasks counts latency links tree bigfile small fetch store start growth)
[ $# -gt 0 ] || set -- "${all[@]}"
for name; do
    case " ${all[*]} " in *" $name "*) ;; *) echo "run.sh: no such measurement: $name (${all[*]})" >&2; exit 2 ;; esac
done
if [ -z "${TM_BUILD:-}" ]; then
    ../deploy/packages.sh bench >&2
    (cd .. && cmake --preset release && cmake --build --preset release --target bench) >&2
    TM_BUILD=$(cd ../build/release && pwd)
    export TM_BUILD
fi
ulimit -n "$(ulimit -Hn)"
sync # what was built and installed is not written back while something is measured

BENCH_TRASH=$(mktemp -d "${BENCH_DISK:-/var/tmp}/bench.XXXXXX") # see set_aside
export BENCH_TRASH
trap 'rm -rf "$BENCH_TRASH"' EXIT
trap 'exit 130' INT TERM

results=$TM_BUILD/bench/results.tsv
: >"$results"
printf 'machine\t%s\tcores\t%s, Linux %s, %s\n' "$(nproc)" \
    "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)" "$(uname -r)" "$(date -u +%F)" | tee -a "$results"
failed=()
for name; do
    from=$SECONDS
    ./"$name".sh | tee -a "$results" || failed+=("$name")
    echo "bench: $name: $((SECONDS - from)) s" >&2
done

if [ "${SCALE:-1}" = 1 ] && grep -q '^growth\.' "$results"; then
    data=$(mktemp -d)
    for what in pending jobs nodes; do
        awk -F'[.\t]' -v w="$what" '$1 == "growth" && $2 == w' "$results" | awk -F'\t' '{ split($1, k, ".");
            if (k[4] == "rate") r[k[3]] = $2; else if (k[4] == "memory") print k[3], r[k[3]], $2 }' >"$data/$what"
    done
    for kind in png svg; do gnuplot -e "out='../docs/growth.$kind'; data='$data'" growth.gnuplot >&2; done
    rm -rf "$data"
fi

grep -c ': met' "$results" | sed 's/$/ targets met/' >&2 || true
grep ': MISSED' "$results" >&2 || true
[ ${#failed[@]} -eq 0 ] || { echo "bench: did not end well: ${failed[*]}" >&2; exit 1; }
