#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# A state directory moves: what was in it goes on elsewhere, and never in two places.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

# A state with a job that has ended and one that nobody has worked on, whose names are so long that
# their chunk is in a segment.
make_state() {
    local deep
    deep=$(printf "$(printf 'd%.0s' {1..200})/%.0s" {1..17})
    mkdir -p "$deep"
    tee "$deep"/{1..6} <<<2
    echo 1 >first
    start_coordinator
    start_worker
    tidemill hash -d first
    tidemill wait j1
    stop "$WORKER"
    tidemill hash -d "$deep"/{1..6}
    stop "$COORD"
    [ -s state/segment.00000001 ]
}
WHOLE='2 jobs, 7 tasks in 2 chunks, 1 records'

# A coordinator on a directory; ends when it was told why it may not be.
try_start() { timeout 60 tidemill-coordinator --listen "ipc://$T/other" --state "$1"; }
epoch() { python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT v FROM meta WHERE k = ?", ("epoch",)).fetchone()[0])' "$1"; }

# refused DIR TEXT HINT: by everything that takes a state, with one line and a hint.
refused() {
    local try
    for try in try_start 'tidemill-coordinator check --state' 'tidemill-coordinator move --to third --state'; do
        run -1 --separate-stderr $try "$1"
        [ -z "$output" ]
        [ "${#stderr_lines[@]}" -eq 2 ]
        [[ ${stderr_lines[0]} == "tidemill-coordinator: error: $2"* ]]
        [ "${stderr_lines[1]}" = "  hint: $3" ]
    done
    [ ! -e third ]
}
# What make_state made goes on in a directory.
goes_on_in() {
    STATE=$1 start_coordinator
    start_worker
    tidemill wait j1 j2
    tidemill results j1 | sha256sum -c --quiet
    tidemill results j2 | sha256sum -c --quiet
    stop "$WORKER"
    stop "$COORD"
    run -0 tidemill-coordinator check --state "$1"
    [ "$output" = '2 jobs, 7 tasks in 2 chunks, 7 records: no damage' ]
}

@test "move: jobs and results go on in the new directory, the old one is refused" {
    make_state
    before=$(epoch state/tidemill.db)
    run -0 tidemill-coordinator move --state state --to deep/new
    [ "$output" = "$WHOLE: moved to deep/new" ]
    [ ! -e deep/new/moving-from ]
    [ ! -s deep/new/tidemill.db-wal ]
    [ "$(sed -n 2p state/moved-to)" = "$T/deep/new" ]
    sed -n 1p state/moved-to | grep -Eqx '[0-9-]{10}T[0-9:]{8}Z'
    cmp state/tidemill.db.moved deep/new/tidemill.db
    cmp state/segment.00000001.moved deep/new/segment.00000001
    [ ! -e state/segment.00000001 ]
    refused "$T/state" "the state in $T/state was moved to $T/deep/new (" "go on with --state $T/deep/new"
    goes_on_in deep/new
    [ "$(epoch deep/new/tidemill.db)" -gt "$before" ]
    # And on from there; not back into what is left of it.
    run -1 tidemill-coordinator move --state deep/new --to state
    [[ $output == *"$T/state is not empty: "* ]]
    run -0 tidemill-coordinator move --state deep/new --to third
    goes_on_in third
}

@test "move: a worker that runs meanwhile goes on with the coordinator of the new place" {
    echo 1 >first
    yes first | head -20000 >list
    start_coordinator
    start_worker
    tidemill hash -d --files-from list
    stop "$COORD"
    tidemill-coordinator move --state state --to new
    STATE=new start_coordinator
    tidemill wait j1
    [ "$(tidemill results j1 | wc -l)" -eq 20000 ]
    not_running "$WORKER" && return 1
    stop "$COORD"
    tidemill-coordinator check --state new
}

@test "move: what a removed job has given back takes no room in the new directory" {
    echo 1 >first
    start_coordinator
    start_worker
    yes first | head -100000 >list
    tidemill hash -d --files-from list
    tidemill hash -d --files-from <(head -4000 list)
    tidemill wait j1 j2
    tidemill job rm j1
    kib() { du -k "$1/segment.00000001" | cut -f1; }
    shrunk() { [ "$(kib state)" -lt 1000 ]; }
    until_ok shrunk
    stop "$WORKER"
    stop "$COORD"
    [ "$(stat -c %s state/segment.00000001)" -gt 2000000 ]
    tidemill-coordinator move --state state --to new
    cmp state/segment.00000001.moved new/segment.00000001
    [ "$(kib new)" -lt 1000 ]
}

@test "move: what cannot be moved, and where it cannot go" {
    run -1 tidemill-coordinator move --state nowhere --to new
    [[ $output == *'no state of a coordinator: nowhere/tidemill.db'* ]]
    start_coordinator
    run -1 tidemill-coordinator move --state state --to new
    [[ $output == *"another coordinator (pid $COORD)"* ]]
    stop "$COORD"
    mkdir full
    echo mine >full/mine
    run -1 tidemill-coordinator move --state state --to full
    [[ $output == *"$T/full is not empty: 'mine' is in it"* ]]
    run -1 tidemill-coordinator move --state state --to full/mine
    run -1 tidemill-coordinator move --state state --to state
    run -2 tidemill-coordinator move --state state
    [[ $output == *'no --to DIR'* ]]
    run -2 tidemill-coordinator move --to new
    run -2 tidemill-coordinator check --state state --to new
    [ "$(ls full)" = mine ]
    [ ! -e new ]
    tidemill-coordinator check --state state
}

@test "move: a damaged state stays where it is, and of the copy nothing is left" {
    make_state
    python3 - <<'P'
import sqlite3
with sqlite3.connect("state/tidemill.db") as db:
    db.execute("UPDATE job SET priority = 7 WHERE id = 2")
P
    mkdir there
    for to in new there; do
        run -1 --separate-stderr tidemill-coordinator move --state state --to "$to"
        [ "$output" = 'job 2: its description is not what was submitted' ]
        [ "${stderr_lines[0]}" = "tidemill-coordinator: error: $T/state is damaged: 1 findings" ]
        [ "${stderr_lines[1]}" = '  hint: nothing was moved' ]
    done
    [ ! -e new ]
    [ "$(ls there)" = lock ]
    [ ! -e state/moved-to ]
    run -1 tidemill-coordinator check --state state
    [[ $output == *'1 findings' ]]
}

points() { TIDEMILL_FAILPOINTS=list tidemill-coordinator --version | sed -n 's/^\(move_[a-z]*\) .*/\1/p'; }
need_points() { [ -n "$(points)" ] || skip 'these programs have no failpoints'; }

@test "move: a disk that has no room for the copy leaves everything as it was" {
    need_points
    make_state
    TIDEMILL_FAILPOINTS=move_copy=error:1 run -1 tidemill-coordinator move --state state --to new
    [[ $output == *"cannot copy $T/state/segment.00000001 to $T/new/segment.00000001: No space left on device"* ]]
    [ ! -e new ]
    goes_on_in state
}

@test "move: cut off at any step, never two states that can be used; the same again finishes it" {
    need_points
    make_state
    cp -a state kept
    n=0
    for point in $(points); do
        rm -rf state new
        cp -a kept state
        # Not run: what the shell says of a killed program is no output of it.
        TIDEMILL_FAILPOINTS=$point=kill:1 tidemill-coordinator move --state state --to new && return 1
        case $point in
        move_guarded | move_copy | move_copied)
            tidemill-coordinator check --state state
            refused "$T/new" "the move of the state in $T/state to $T/new has not finished" \
                "tidemill-coordinator move --state $T/state --to $T/new finishes it"
            ;;
        move_marked | move_aside)
            refused "$T/state" "the state in $T/state was moved to $T/new (" \
                "tidemill-coordinator move --state $T/state --to $T/new finishes it"
            refused "$T/new" "the move of the state in $T/state to $T/new has not finished" \
                "tidemill-coordinator move --state $T/state --to $T/new finishes it"
            # Into another directory it cannot be finished, nor from another state.
            run -1 tidemill-coordinator move --state kept --to new
            [[ $output == *"$T/new is not empty"* ]]
            ;;
        move_done)
            run -1 try_start state
            [[ $output == *"hint: go on with --state $T/new" ]]
            run -1 tidemill-coordinator move --state state --to new
            [[ $output == *"hint: go on with --state $T/new" ]]
            tidemill-coordinator check --state new
            ;;
        *) return 1 ;;
        esac
        if [ "$point" != move_done ]; then
            run -0 tidemill-coordinator move --state state --to new
            [ "$output" = "$WHOLE: moved to new" ]
        fi
        run -1 try_start state
        [[ $output == *"hint: go on with --state $T/new" ]]
        goes_on_in new
        n=$((n + 1))
    done
    [ "$n" -eq 6 ]
}

@test "move: what the old state did after an interrupted move is not lost" {
    need_points
    make_state
    TIDEMILL_FAILPOINTS=move_copied=kill:1 tidemill-coordinator move --state state --to new && return 1
    start_coordinator
    echo 3 >third-file
    tidemill hash -d third-file
    stop "$COORD"
    run -0 tidemill-coordinator move --state state --to new
    [ "$output" = '3 jobs, 8 tasks in 3 chunks, 1 records: moved to new' ]
}

@test "move: a copy that was damaged before the move is finished is not taken into use" {
    need_points
    make_state
    TIDEMILL_FAILPOINTS=move_aside=kill:1 tidemill-coordinator move --state state --to new && return 1
    truncate -s 40000 new/tidemill.db
    run -1 tidemill-coordinator move --state state --to new
    [[ $output == *"hint: the database as it was is still in $T/state" ]]
    run -1 try_start new
    [[ $output == *'has not finished'* ]]
}
