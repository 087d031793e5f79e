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
# A coordinator whose store does nothing more from when it is to save what was written
# behind.
start_held() {
    mkdir -p points
    TIDEMILL_FAILPOINTS=store_behind_before=hold:1 TIDEMILL_FAILPOINTS_DIR=$T/points \
        start_coordinator --durability none
}
start_joined_worker() {
    start_worker
    until_ok joined
}
# A client whose inputs come from descriptor 9. It has told of two, and nothing is saved.
feed_two() {
    start_held
    start_joined_worker
    mkfifo list
    tidemill hash --files-from list >sums 2>err 3>&- &
    client=$!
    PIDS+=("$client")
    exec 9>list
    printf '%s\n' many/f00000 many/f00001 >&9
    until_ok lines_are sums 2
    until_ok test -e points/store_behind_before
}
kill_and_restart() {
    stop "$COORD" -9
    start_coordinator --durability none 9>&-
}
lines_are() { [ "$(wc -l <"$1")" -ge "$2" ]; }
ended() { timeout 5 tidemill wait --timeout 1ms "$1"; }

@test "inputs that were taken and are lost: their submitter is told so, once" {
    needs_failpoint tidemill-coordinator store_behind_before
    many 4
    feed_two
    kill_and_restart
    local code=0
    wait "$client" || code=$?
    [ "$code" -eq 1 ]
    exec 9>&-
    sha256sum -c --quiet sums
    [ "$(wc -l <err)" -le 2 ] # the error, and a hint
    grep -q '^tidemill: error: the coordinator has lost job 1$' err
    # In its log is what is there of whose job.
    grep -q 'killed_before_saving job=1 records=0 ' coord.err
    # All else goes on.
    tidemill hash -r many | sha256sum -c --quiet
    cancelled() { tidemill job show j1 | grep -Eq '^state +cancelled$'; }
    until_ok cancelled # nobody can add the rest of its inputs
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
}

@test "results that were told of and are lost: who read them is told so, once" {
    needs_failpoint tidemill-coordinator store_behind_before
    needs_failpoint tidemill-worker done_send_after
    many 5000 # more than a chunk: not all of it is in one Done
    start_coordinator --durability none
    [ "$(tidemill hash -d -r many)" = j1 ] # sealed: its inputs are on disk
    stop "$COORD"
    start_held
    tidemill results --follow j1 >seen 2>err 3>&- &
    client=$!
    PIDS+=("$client")
    TIDEMILL_FAILPOINTS=done_send_after=hold:1 TIDEMILL_FAILPOINTS_DIR=$T/points start_worker
    until_ok lines_are seen 1
    until_ok test -e points/store_behind_before
    kill_and_restart
    local code=0
    wait "$client" || code=$?
    [ "$code" -eq 1 ]
    sha256sum -c --quiet seen
    [ "$(wc -l <err)" -le 2 ] # the error, and a hint
    grep -q '^tidemill: error: the coordinator has lost results it had told of$' err
    grep -q 'killed_before_saving job=1 records=0 ' coord.err
    # Their tasks are done again, and read anew all are there.
    rm points/done_send_after
    tidemill wait --timeout 110s j1
    tidemill results j1 >sums
    [ "$(wc -l <sums)" -eq 5000 ]
    sha256sum -c --quiet sums
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
    [[ $output == *'no damage' ]]
}

@test "killed in a job that is sealed: all its inputs are there, each ends once" {
    needs_failpoint tidemill-coordinator store_behind_before
    many 5000
    start_coordinator --durability none
    [ "$(tidemill hash -d -r many)" = j1 ]
    stop "$COORD" -9
    start_worker
    local hits=0
    for nth in 1 1 2; do
        TIDEMILL_FAILPOINTS=store_behind_before=kill:$nth start_coordinator --durability none
        until_ok eval 'not_running $COORD || ended j1'
        ! not_running "$COORD" || hits=$((hits + 1))
        stop "$COORD" -9 || true
    done
    [ "$hits" -ge 1 ]
    start_coordinator --durability none
    tidemill wait --timeout 110s j1
    tidemill results j1 >sums
    [ "$(wc -l <sums)" -eq 5000 ]
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
    local hits=0
    for _ in 1 2 3; do
        until_ok eval 'some_temporaries out || ended "$(cat job)"'
        some_temporaries out || break
        kill_and_restart
        hits=$((hits + 1))
        until_ok joined
    done
    [ "$hits" -ge 1 ]
    tidemill wait --timeout 60s "$(cat job)"
    [ "$(find out -name '*.age' | wc -l)" -eq 1000 ]
    until_ok no_temporaries out
    for f in f00000 f00500 f00999; do age -d -i id "out/many/$f.age" | cmp - "many/$f"; done
}

@test "ended cleanly what is still to be saved is saved: a cursor goes on where it was" {
    needs_failpoint tidemill-coordinator store_behind_before
    many 6
    feed_two
    printf '%s\n' many/f00002 many/f00003 >&9 # these wait behind what is held
    until_ok lines_are sums 4
    kill "$COORD"
    rm points/store_behind_before # its store is seldom so quick as to be done before it stops
    wait "$COORD" # it says 0: all was saved
    start_coordinator --durability none 9>&- # or it would hold the list open
    printf '%s\n' many/f00004 many/f00005 >&9
    exec 9>&-
    wait "$client"
    [ "$(wc -l <sums)" -eq 6 ]
    sha256sum -c --quiet sums
    run ! grep -q killed_before_saving coord.err
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
}
