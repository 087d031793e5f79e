#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The coordinator's state directory: checked, damaged, full, failing, shrinking.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

# flip FILE TEXT: one bit of every occurrence of TEXT.
flip() {
    local at byte
    for at in $(grep -abo "$2" "$1" | cut -d: -f1); do
        byte=$(od -An -tu1 -j "$at" -N1 "$1")
        printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
    done
}

@test "check: whole, refused while a coordinator runs, then a flipped bit is named" {
    echo 1 >first
    echo 2 >second
    start_coordinator
    tidemill hash -d first second
    run -1 tidemill-coordinator check --state state
    [[ $output == *"another coordinator (pid $COORD)"* ]]
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
    [ "$output" = '1 jobs, 2 tasks in 1 chunks, 0 records: no damage' ]
    flip state/tidemill.db "$T/second"
    run -1 tidemill-coordinator check --state state
    [ "${lines[0]}" = 'job 1: chunk 0: its inputs are not what was accepted' ]
    [ "${lines[1]}" = '1 jobs, 2 tasks in 1 chunks, 0 records: 1 findings' ]
    run -1 tidemill-coordinator check --state nowhere
    run -2 tidemill-coordinator check
}

@test "a damaged chunk costs its own tasks, said in one line; all else goes on" {
    echo 1 >first
    echo 2 >second
    start_coordinator
    tidemill hash -d first
    tidemill hash -d second
    stop "$COORD"
    flip state/tidemill.db "$T/first"
    start_coordinator
    start_worker
    run -3 --separate-stderr tidemill wait j1
    tidemill wait j2
    tidemill results j2 | sha256sum -c --quiet
    [ "$(grep -c 'damaged.*job=1 chunk=0' coord.err)" -eq 1 ]
    # What is left of the job is a record like any other.
    tidemill job show j1 | grep -Eq '^failed +1$'
    run -1 --separate-stderr tidemill results j1
    grep -q 'damaged' <<<"$stderr"
}

@test "job rm: ended jobs only, all that was theirs goes, the state directory shrinks" {
    start_coordinator
    mkfifo feed
    tidemill hash --files-from feed >open.out 2>open.err 3>&- &
    open=$!
    exec 8>feed
    until_ok tidemill job show j1
    run -1 --separate-stderr tidemill job rm j1
    grep -q 'has not ended' <<<"$stderr"
    grep -q 'tidemill job cancel j1' <<<"$stderr"
    exec 8>&-
    wait "$open"
    start_worker
    echo 1 >first
    yes first | head -100000 >list
    tidemill hash -d --files-from list
    tidemill wait j2
    # With its log: how much of it is in the database file by now is a matter of time.
    kib() { du -kc state/tidemill.db* state/segment.* 2>/dev/null | tail -1 | cut -f1; }
    [ "$(kib)" -gt 10000 ]
    tidemill job rm j2
    run -9 --separate-stderr tidemill job show j2
    run -9 --separate-stderr tidemill results j2
    grep -q 'removed: job 2' <<<"$stderr"
    run -9 --separate-stderr tidemill job rm j2
    tidemill job show j1
    shrunk() { [ "$(kib)" -lt 3000 ]; }
    until_ok shrunk
    stop "$COORD"
    run -0 tidemill-coordinator check --state state
}

@test "--keep removes ended jobs after their time" {
    echo 1 >first
    start_coordinator --keep 400ms
    start_worker
    tidemill hash first
    gone() { [ "$(tidemill job ls --json | wc -l)" -eq 0 ]; }
    until_ok gone
}
