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
    start_worker --coroutines 4
    until_ok tidemill node show w
}
teardown() { common_teardown; }

fetched() { find got -type f -name 'fast*' | wc -l; }
asked() { grep -c GET server.log; }

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
    # Those are sent back for a second and more each time: that is no busy loop.
    local ticks before
    before=$(awk '{ print $14 + $15 }' "/proc/$COORD/stat")
    sleep 2
    ticks=$(($(awk '{ print $14 + $15 }' "/proc/$COORD/stat") - before))
    [ "$ticks" -lt 100 ] || { echo "$ticks ticks in 2 s"; return 1; }
}

@test "a server under a rate is asked at that rate, and others meanwhile" {
    urls ok 4 >urls
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
    awk '$1 == "GET" { if (last && $3 - last < 0.3) bad = 1; if (!first) first = $3; last = $3; n++ }
         END { if (bad || last - first < (n - 1) / 2 - 0.3) exit 1 }' server.log
    [ "$(cut -d' ' -f2 server.log | sort -u | wc -l)" -eq 40 ]
}
