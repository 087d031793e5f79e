#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: runs each fuzz target for SECONDS (60), or those named. What it
# finds lies in build/fuzz/found; once understood it belongs into tests/fuzz/corpus/TARGET, where
# every test run tries it again.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true

deploy/packages.sh fuzz

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzzers

if [ $# -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        source=${source##*/fuzz_}
        set -- "$@" "${source%.c}"
    done
fi
failed=0
mkdir -p build/fuzz/found
for target; do
    grown=build/fuzz/corpus/$target
    log=build/fuzz/found/$target.log
    mkdir -p "$grown"
    status=0
    build/fuzz/bin/fuzz-"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix=build/fuzz/found/"$target"- \
        "$grown" tests/fuzz/corpus/"$target" >"$log" 2>&1 || status=$?
    printf '%-10s %9s executions, exit %d\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" "$status"
    if [ "$status" -ne 0 ]; then
        tail -40 "$log"
        failed=1
    fi
done
exit $failed
