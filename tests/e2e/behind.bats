#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# --durability none: what is told of is written behind. A coordinator that is killed loses
# the last of it, and then the work is done again, or one line says what was lost.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

joined() { [ "$(tidemill node ls --json | wc -l)" -ge 1 ]; }
# A coordinator and a worker whose store does nothing more from when it is to save what
# was written behind.
start_held() {
    mkdir -p points
    TIDEMILL_FAILPOINTS=store_behind_before=hold:1 TIDEMILL_FAILPOINTS_DIR=$T/points \
        start_coordinator --durability none
    start_worker
    until_ok joined
}
kill_and_restart() {
    stop "$COORD" -9
    start_coordinator --durability none 9>&-
}
lines_are() { [ "$(wc -l <"$1")" -ge "$2" ]; }

@test "results that were told of and are lost: who read them is told so, once" {
    needs_failpoint tidemill-coordinator store_behind_before
    many 4
    start_held
    mkfifo list
    tidemill hash --files-from list >sums 2>err 3>&- &
    client=$!
    PIDS+=("$client")
    exec 9>list
    printf '%s\n' many/f00000 many/f00001 >&9
    until_ok lines_are sums 2
    until_ok test -e points/store_behind_before
    kill_and_restart
    local code=0
    wait "$client" || code=$?
    [ "$code" -eq 1 ]
    exec 9>&-
    sha256sum -c --quiet sums
    [ "$(wc -l <err)" -le 2 ] # the error, and a hint
    grep -Eq '^tidemill: error: the coordinator has lost (job 1|results)' err
    # In its log is what is there of whose job.
    grep -q 'killed_before_saving job=1 records=0 ' coord.err
    # All else goes on.
    tidemill hash -r many | sha256sum -c --quiet
    tidemill job cancel j1
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
}

@test "killed in a job that is sealed: all its inputs are there, each ends once" {
    many 2000
    start_coordinator --durability none
    start_worker
    tidemill hash -d -r many >job
    for _ in 1 2 3; do
        kill_and_restart
        until_ok joined
    done
    tidemill wait --timeout 60s "$(cat job)"
    tidemill results "$(cat job)" >sums
    [ "$(wc -l <sums)" -eq 2000 ]
    sha256sum -c --quiet sums
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
    [[ $output == *'no damage' ]]
}

@test "killed while files are put in place: each is there once, none is taken for another's" {
    tidemill key identity id >recipient
    many 1000
    start_coordinator --durability none
    start_worker
    tidemill encrypt -d -r "$(cat recipient)" --recursive -o out many >job
    for _ in 1 2 3; do
        until_ok some_temporaries out || break
        kill_and_restart
        until_ok joined
    done
    tidemill wait --timeout 60s "$(cat job)"
    [ "$(find out -name '*.age' | wc -l)" -eq 1000 ]
    until_ok no_temporaries out
    for f in f00000 f00500 f00999; do age -d -i id "out/many/$f.age" | cmp - "many/$f"; done
}

@test "ended cleanly nothing is lost: a cursor goes on where it was" {
    many 4
    start_coordinator --durability none
    start_worker
    until_ok joined
    mkfifo list
    tidemill hash --files-from list >sums 2>err 3>&- &
    client=$!
    PIDS+=("$client")
    exec 9>list
    printf '%s\n' many/f00000 many/f00001 >&9
    until_ok lines_are sums 2
    stop "$COORD"
    start_coordinator --durability none 9>&- # or it would hold the list open
    printf '%s\n' many/f00002 many/f00003 >&9
    exec 9>&-
    wait "$client"
    lines_are sums 4
    sha256sum -c --quiet sums
}
