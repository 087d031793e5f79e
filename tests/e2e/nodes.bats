#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Nodes taken out of work and back.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

state_of() { tidemill node show w | grep -q "^state  *$1\$"; }

@test "drain --wait: what the node has it finishes, and no more; restarted, it works again" {
    mkdir many
    for i in $(seq 60); do truncate -s 50M "many/$i"; done # more than is leased at once
    start_coordinator --silence 3s
    start_worker --procs 1
    until_ok state_of up
    tidemill hash -d -r many
    until_ok eval '[ "$(node_number tasks)" -gt 0 ]'
    tidemill node drain --wait w
    state_of draining
    [ "$(node_number tasks)" -eq 0 ]
    [ "$(node_number publishing)" -eq 0 ]
    until_ok mills_idle
    got=$(job_number ok j1)
    [ "$got" -gt 0 ]
    [ "$got" -lt 60 ]
    [ "$(job_number running j1)" -eq 0 ]
    restart_worker -TERM --procs 2
    tidemill wait j1
    state_of up
    [ "$(job_number ok j1)" -eq 60 ]
    [ "$(tidemill results j1 | sort -u | wc -l)" -eq 60 ]
    [ "$(node_number done)" -eq $((60 - got)) ] # none was done twice
}

@test "drain --wait waits for files too; the worker can then be killed" {
    mkdir many
    for i in $(seq 1500); do echo "$i" >"many/$i"; done
    tidemill key identity key.txt >recipient
    start_coordinator --silence 3s
    start_worker
    tidemill encrypt -d -r "$(cat recipient)" --recursive -o safe many
    until_ok eval '[ "$(node_number done)" -gt 0 ]'
    tidemill node drain --wait w
    stop "$WORKER" -KILL
    [ -z "$(find safe -name '.*.tm-*')" ]
    [ "$(find safe -name '*.age' | wc -l)" -eq "$(job_number ok j1)" ]
    restart_worker -KILL
    tidemill wait j1
    [ "$(find safe -name '*.age' | wc -l)" -eq 1500 ]
    for i in 1 700 1500; do
        age -d -i key.txt "safe/many/$i.age" | cmp - "many/$i"
    done
}

@test "drain: a time limit is exit 7, undrain ends it, a restart of the coordinator does not" {
    truncate -s 1T slow
    echo 1 >first
    start_coordinator
    start_worker
    tidemill hash -d slow
    until_ok some_mill_on "$T/slow"
    run -7 --separate-stderr tidemill node drain --wait --timeout 300ms w
    grep -q 'w: still has 1 tasks' <<<"$stderr"
    stop "$COORD" -KILL
    start_coordinator
    until_ok state_of draining
    tidemill hash -d first
    tidemill node undrain w
    tidemill wait j2
    state_of up
    run -2 --separate-stderr tidemill node drain --timeout 1s w
    run -9 --separate-stderr tidemill node drain nowhere
    grep -q 'no such node' <<<"$stderr"
    run -9 --separate-stderr tidemill node show nowhere
    # Undrained behind the back of who waits.
    tidemill node drain --wait w 2>err 3>&- &
    pid=$!
    until_ok state_of draining
    tidemill node undrain w --json | grep -q '"state":"up"'
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 1 ]
    grep -q 'takes work again' err
    tidemill job cancel j1
}

@test "node ls: who has not come back after a restart of the coordinator is away" {
    start_coordinator
    start_worker
    until_ok state_of up
    stop "$COORD" -KILL
    stop "$WORKER" -KILL
    start_coordinator
    tidemill node ls | grep -Eq '^w +away '
    tidemill node ls --json | grep -q '"name":"w","state":"away"'
    start_worker
    until_ok state_of up
}
