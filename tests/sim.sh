#!/usr/bin/env bash
# sim.sh [N]: N seeds (default a million) that no earlier call has run, in a release build,
# on all processors. Stops at the first broken promise.
set -euo pipefail
cd "$(dirname "$0")/.."
n=${1:-1000000}
jobs=$(nproc)
from=$(($(date +%s) * 1000000))

cmake --preset release >/dev/null
cmake --build --preset release --target sim >/dev/null
pids=()
for ((i = 0; i < jobs; i++)); do
    build/release/bin/sim --seeds $((n / jobs)) --from $((from + i * (n / jobs))) &
    pids+=($!)
done
rc=0
for pid in "${pids[@]}"; do wait "$pid" || rc=1; done
exit $rc
