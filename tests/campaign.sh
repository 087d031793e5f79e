#!/usr/bin/env bash
# The fault campaign (docs/faults.md): injects, then compares what was submitted with what
# was delivered. The last line is "lost 0, duplicated 0, stale 0"; anything else exits 1.
# TM_BIN: the programs (default: build/campaign/bin, a release with failpoints).
set -euo pipefail
usage="usage: tests/campaign.sh [--injections N] [--seed S] [--minutes M] [--gap SECONDS] [--scale X] [--keep]"
here=$(cd "$(dirname "$0")" && pwd)
seed=$((RANDOM * 32768 + RANDOM)) keep='' args=()
while [ $# -gt 0 ]; do
    case $1 in
        --seed) seed=$2 && shift 2 ;;
        --injections | --minutes | --gap | --scale) args+=("$1" "$2") && shift 2 ;;
        --keep) keep=1 && shift ;;
        *) echo "$usage" >&2 && exit 2 ;;
    esac
done
TM_BIN=${TM_BIN:-$here/../build/campaign/bin}
[ -x "$TM_BIN/tidemill" ] || { echo "no programs in $TM_BIN: cmake --preset campaign && cmake --build --preset campaign" >&2; exit 2; }

T=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-campaign.XXXXXX")
mkdir "$T/state" "$T/proto"
tmpfs=()
# A file system of its own for the state, small enough to be filled. It takes root.
if mount -t tmpfs -o size=384m tidemill-campaign "$T/state" 2>/dev/null; then
    tmpfs=(--tmpfs)
else
    echo "no tmpfs could be mounted: no full disks in this run" >&2
fi
end() {
    [ -z "${tmpfs[*]}" ] || umount "$T/state"
    if [ -n "$keep" ]; then echo "kept: $T" >&2; else rm -rf "$T"; fi
}
trap end EXIT

protoc -I "$here/../proto" --python_out="$T/proto" tidemill.proto
export PYTHONPATH=$T/proto:$here/e2e PYTHONDONTWRITEBYTECODE=1
TM_BIN=$(cd "$TM_BIN" && pwd)
status=0
trap 'kill -INT "$python" 2>/dev/null; wait "$python"; exit 1' INT TERM
/usr/bin/python3 "$here/campaign/campaign.py" --dir "$T" --bin "$TM_BIN" --state "$T/state/s" --seed "$seed" \
    "${tmpfs[@]}" "${args[@]}" &
python=$!
wait "$python" || status=1
trap - INT TERM
"$TM_BIN/tidemill-coordinator" check --state "$T/state/s" || status=1
/usr/bin/python3 "$here/campaign/check.py" --dir "$T" --state "$T/state/s" || status=1
[ "$status" -eq 0 ] || { keep=1; echo "failed; to run it again: $0 --seed $seed ${args[*]}" >&2; }
exit "$status"
