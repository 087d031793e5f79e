#!/usr/bin/env bash
# kill -9 of the coordinator again and again while `tidemill hash -r` runs over tcp: the
# manifest is whole, has every file once, and sha256sum -c accepts it.
# usage: tests/killloop.sh [DIRECTORY [SECONDS]]   (/usr, every 2 s)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(realpath "${1:-/usr}") every=${2:-2}
TM_BIN=${TM_BIN:-$here/../build/release/bin}
PATH=$(cd "$TM_BIN" && pwd):$PATH
unset TIDEMILL_COORDINATOR TIDEMILL_STATE
T=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-killloop.XXXXXX")
port=$((18000 + RANDOM % 14000))
export TIDEMILL_COORDINATOR=tcp://127.0.0.1:$port
coordinator='' worker='' client=''
end() {
    for pid in $client $worker $coordinator; do kill -9 "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$T"
}
trap end EXIT

start() {
    tidemill-coordinator --listen "$TIDEMILL_COORDINATOR" --plain --state "$T/state" 2>>"$T/coordinator.log" &
    coordinator=$!
}
start
tidemill-worker --join "$TIDEMILL_COORDINATOR" --name w --root /:ro --spool "$T" 2>>"$T/worker.log" &
worker=$!
tidemill hash -r "$tree" >"$T/SHA256SUMS" 2>"$T/err" &
client=$!
kills=0
began=$SECONDS
until ! kill -0 "$client" 2>/dev/null; do
    sleep "$every"
    kill -0 "$client" 2>/dev/null || break
    kill -9 "$coordinator"
    wait "$coordinator" 2>/dev/null || true
    kills=$((kills + 1))
    start
done
status=0
wait "$client" || status=$?
client=''
took=$((SECONDS - began))
# 3: some files could not be read, which find says too; their names are on standard error.
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || { cat "$T/err" >&2; exit 1; }
sha256sum -c --quiet "$T/SHA256SUMS" || { echo "sha256sum does not accept the manifest" >&2; exit 1; }

# Every file once: as many lines as files, and no line twice. A name with a newline is one
# line here too, since sha256sum escapes it.
files=$(find "$tree" -type f -printf x | wc -c)
lines=$(wc -l <"$T/SHA256SUMS")
unique=$(sort -u "$T/SHA256SUMS" | wc -l)
failed=$(grep -c '^tidemill: /' "$T/err" || true)
echo "$kills kills in $took s; $files files, $lines lines, $failed failed; $((lines - unique)) twice"
[ "$lines" -eq "$unique" ] && [ "$((lines + failed))" -eq "$files" ]
