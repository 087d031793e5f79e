#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# kill -9 of every part, in the middle of every kind of work: what was promised holds, and
# nothing half-written stays behind.

setup() {
    load common.bash
    common_setup
    mkdir spool
    export TIDEMILL_SPOOL=$T/spool
    tidemill key identity id >recipient
    R=$(cat recipient)
    use_coordinator
}
teardown() { common_teardown; }

# One started in place of another that was killed is refused until the coordinator has
# noticed; it asks again.
worker_joins() {
    rm -f w.log
    tidemill-worker --join "ipc://$T/c" --root / --name w --procs 2 --log-level debug \
        2>w.log 3>&- &
    W=$!
    PIDS+=("$W")
    until_ok grep -q joined w.log || { cat w.log coord.err >&2; return 1; }
}
mills_of() { children "$1" tidemill-mill; }

kill_worker() {
    local mills
    mills=$(mills_of "$W")
    kill -9 "$W"
    wait_gone "$W"
    local mill
    for mill in $mills; do wait_gone "$mill"; done
}

@test "worker killed in many small encryptions: all arrive, temporaries are swept" {
    many 2000
    start_coordinator
    worker_joins
    tidemill encrypt -d -r "$R" --recursive -o out many >job
    for _ in 1 2; do
        until_ok some_temporaries out
        kill_worker
        worker_joins
    done
    tidemill wait --timeout 60s "$(cat job)"
    [ "$(find out -name '*.age' | wc -l)" -eq 2000 ]
    until_ok no_temporaries out
    for f in f00000 f01500 f01999; do age -d -i id "out/many/$f.age" | cmp - "many/$f"; done
    [ "$(find out -name '*.age' -size -100c | wc -l)" -eq 0 ]
}

@test "worker killed in one large encryption: it is done again, the rest of it is swept" {
    large
    start_coordinator
    worker_joins
    tidemill encrypt -d -r "$R" --output large.age large >job
    until_ok some_temporaries .
    kill_worker
    some_temporaries .
    [ ! -e large.age ]
    worker_joins
    tidemill wait --timeout 60s "$(cat job)"
    until_ok no_temporaries .
    age -d -i id large.age | cmp - large
}

@test "won, but the worker was killed before it was in place: its successor publishes it" {
    truncate -s 300M f
    start_coordinator
    worker_joins
    tidemill encrypt -d -r "$R" f >job
    until_ok some_temporaries .
    kill -STOP "$COORD" # it reads Done only when the worker is gone
    until_ok grep -q 'done.*tasks=1' w.log
    kill_worker
    kill -CONT "$COORD"
    made=$(stat -c %i .f.age.tm-*)
    worker_joins
    tidemill wait --timeout 60s "$(cat job)"
    [ "$(stat -c %i f.age)" = "$made" ] # not made again
    age -d -i id f.age | cmp - f
    until_ok no_temporaries .
}

@test "hash of a large tree: worker, then coordinator killed; every result once" {
    many 2000
    start_coordinator
    worker_joins
    tidemill hash -d -r many >job
    kill_worker
    worker_joins
    kill -9 "$COORD"
    wait_gone "$COORD"
    start_coordinator
    tidemill wait --timeout 60s "$(cat job)"
    tidemill results "$(cat job)" >S
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq 2000 ]
    [ "$(sort -u S | wc -l)" -eq 2000 ]
}

@test "fetch of 2,000 URLs: worker and mills killed; every file whole" {
    mkdir www
    (cd www && seq 2000 | split -l 1 -a 4 -d - f)
    start_nginx
    find www -type f -printf "http://127.0.0.1:$PORT/%f\n" >urls
    start_coordinator
    worker_joins
    tidemill fetch -d -i urls -o got --hash sha256 >job
    until_ok some_temporaries got
    kill -9 "$(mills_of "$W" | head -1)" || true
    kill_worker
    worker_joins
    tidemill wait --timeout 60s "$(cat job)"
    until_ok no_temporaries got
    [ "$(find got -type f | wc -l)" -eq 2000 ]
    tidemill results "$(cat job)" >S
    [ "$(wc -l <S)" -eq 2000 ]
    sed "s,  .*/,  www/," S | sha256sum --quiet --strict -c -
}

@test "a detached client killed at once: its job goes on" {
    many 500
    start_coordinator
    worker_joins
    tidemill hash -d -r many >job
    id=$(cat job)
    tidemill results --follow "$id" >/dev/null 3>&- &
    kill -9 $!
    tidemill wait --timeout 60s "$id"
    tidemill results "$id" >S
    [ "$(wc -l <S)" -eq 500 ]
}
