#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# fetch: a server that bears little holds up nobody but itself (R11).

setup() {
    load common.bash
    common_setup
    mkdir www
    start_bad_server
    start_nginx
    use_coordinator
    start_coordinator
    start_worker --coroutines 4 --log-level debug
    until_ok tidemill node show w
}
teardown() { common_teardown; }

fetched() { find got -type f -name 'fast*' | wc -l; }
asked() { grep -c GET server.log; }
# Tasks in Dones: of those that are not fetched, each was sent back.
sent_back() { awk -F 'tasks=' '/ done lease=/ { n += $2 } END { print n + 0 }' worker.err; }

# What waits for one server comes first in the list, and is ten times what the worker's
# coroutines can wait for.
urls() {
    for i in $(seq 40); do echo "http://127.0.0.1:$BAD_PORT/$1/$i"; done
    for i in $(seq "$2"); do
        echo "$i" >"www/fast$i"
        echo "http://127.0.0.1:$PORT/fast$i"
    done
}

@test "a server whose places are all taken has no coroutines beyond them" {
    urls hang 40 >urls
    tidemill fetch -i urls -o got --per-host 2 --retries 0 >out 2>err 3>&- &
    local fetch=$!
    PIDS+=("$fetch")
    until_ok eval '[ "$(fetched)" -eq 40 ]'
    [ "$(asked)" -eq 2 ] # they hang still, and the 38 others wait
    [ "$(job_number ok j1)" -eq 40 ]
    [ "$(job_number failed j1)" -eq 0 ]
    # Those are sent back for a second and more each time: that is no busy loop, however
    # long it takes to see each of them twice.
    local before began
    before=$(sent_back)
    began=$SECONDS
    until_ok eval '[ "$(sent_back)" -ge $((before + 2 * 38)) ]'
    local many=$(($(sent_back) - before)) seconds=$((SECONDS - began + 2))
    [ "$many" -le $((38 * seconds)) ] || { echo "$many times in $seconds s"; return 1; }
}

@test "a server under a rate is asked at that rate, and others meanwhile" {
    urls ok 4 >urls
    local began
    began=$(python3 -c 'import time; print(time.monotonic())')
    tidemill fetch -i urls -o got --rate 2/s --retries 0 >out 2>err 3>&- &
    local fetch=$!
    PIDS+=("$fetch")
    until_ok eval '[ "$(fetched)" -eq 4 ]'
    local then
    then=$(asked)
    [ "$then" -lt 40 ]
    wait "$fetch"
    [ "$(asked)" -eq 40 ]
    # Two a second: what was sent back came in its turn, none too early, and none twice.
    # How late each is noted is the machine's business.
    awk -v began="$began" '$1 == "GET" && $3 < began + 0.5 * n++ { exit 1 }' server.log
    [ "$(cut -d' ' -f2 server.log | sort -u | wc -l)" -eq 40 ]
}
