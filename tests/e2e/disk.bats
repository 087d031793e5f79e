#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Disks that fail and disks that stall, by a shim between the coordinator and its files.

setup() {
    load common.bash
    common_setup
    use_coordinator
    echo 1 >first
}
teardown() { common_teardown; }

# A coordinator behind the shim: start_shimmed VARIABLE=VALUE [OPTION...]
start_shimmed() {
    export TM_SHIM_DIR=$T/state "$1"
    export ASAN_OPTIONS=verify_asan_link_order=0:quarantine_size_mb=1:$ASAN_OPTIONS
    LD_PRELOAD=$TM_BIN/../lib/diskshim.so start_coordinator "${@:2}"
    unset TM_SHIM_DIR "${1%%=*}"
}
# Jobs one after another until there is no coordinator; acked has their ids.
submit_all() {
    local i
    for i in $(seq 200); do tidemill hash -d first >>acked 2>/dev/null || return 0; done
}

# The Nth such call fails, and all after it: one line, exit 1, and what was acknowledged is there.
fails_at() {
    rm -rf state
    : >acked
    : >coord.err
    start_shimmed "TM_SHIM_FAIL=$1:$2" || true
    submit_all 3>&- &
    local client=$!
    wait_gone "$COORD"
    local code=0
    wait "$COORD" || code=$?
    kill "$client" 2>/dev/null || true
    wait "$client" 2>/dev/null || true
    [ "$code" -eq 1 ]
    [ "$(grep -c 'tidemill-coordinator: error: state directory: .*I/O error' coord.err)" -eq 1 ]
    run ! grep -Eq 'ERROR: AddressSanitizer|runtime error|bug:' coord.err
    start_coordinator
    local id
    while read -r id; do tidemill job show "$id" >/dev/null; done <acked
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
}

@test "a sync that fails ends the coordinator with one line; it recovers at its next start" {
    # Opening takes about ten; then each job is a few.
    for n in 12 13 14 17 25 40; do fails_at sync "$n"; done
    [ -s acked ]
}

@test "a write that fails does the same" {
    for n in 60 61 62 75 100 150; do fails_at write "$n"; done
    [ -s acked ]
}

@test "a store that stalls: clients wait, nobody is taken for dead, nothing is lost" {
    start_shimmed "TM_SHIM_STALL=$T/stall" --silence 3s
    start_worker
    tidemill hash first >/dev/null
    touch stall
    yes first | head -60000 >list
    tidemill hash --files-from list >out 2>err 3>&- &
    client=$!
    began=$SECONDS
    long_enough() { [ $((SECONDS - began)) -ge 10 ]; } # three times what makes a peer dead
    until_ok long_enough
    kill -0 "$client" "$COORD" "$WORKER"
    [ ! -s out ]
    rm stall
    wait "$client"
    [ "$(wc -l <out)" -eq 60000 ]
    run ! grep -Eq 'lost|reconnect' err
    [ "$(grep -c joined worker.err)" -eq 1 ]
}
