#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# What an operator does to jobs: pause, resume, retry, cancel; their time limits; and inputs
# that kill the process that works on them.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

# A file that no process gets through.
endless() { truncate -s 1T "$1"; }

# Six files, of which half are gone when the worker comes: j1 has three failures.
half_fails() {
    echo one >1 && echo two >2 && echo three >3 && echo four >4 && echo five >5 && echo six >6
    tidemill hash -d --name half --priority 7 --retries 2 "$@" 1 2 3 4 5 6
    rm 2 4 6
    start_worker
    run -3 --separate-stderr tidemill wait j1
}

@test "a job's name commands no terminal" {
    echo 1 >first
    start_coordinator
    tidemill hash -d --name $'a\e[2J\xc2\x9b' first
    for sub in "job ls" "job show j1"; do
        run -0 tidemill $sub
        [[ $output == *'a\x1b[2J\xc2\x9b'* ]]
    done
}

@test "pause stops leasing, also over a restart of the coordinator; resume goes on" {
    echo 1 >first
    start_coordinator
    tidemill hash -d first
    tidemill job pause j1
    start_worker
    tidemill hash -d first
    tidemill wait j2
    [ "$(job_number ok j1)" -eq 0 ]
    tidemill job ls | grep -Eq '^j1 +hash +paused '
    stop "$COORD" -KILL
    start_coordinator
    tidemill hash -d first
    tidemill wait j3
    tidemill job ls | grep -Eq '^j1 +hash +paused '
    [ "$(job_number ok j1)" -eq 0 ]
    run -7 tidemill wait --timeout 1ms j1
    tidemill job resume j1
    tidemill wait j1
    tidemill results j1 | sha256sum -c --quiet
    run -1 --separate-stderr tidemill job pause j1
    grep -q 'the job has ended' <<<"$stderr"
    run -9 --separate-stderr tidemill job resume all # none runs
    run -9 --separate-stderr tidemill job pause j99
}

@test "retry --failed: a new job over what failed; both jobs keep their records" {
    start_coordinator
    half_fails
    tidemill results j1 2>/dev/null >before || [ $? -eq 3 ]
    echo two >2 && echo four >4 && echo six >6
    [ "$(tidemill job retry j1 --failed)" = j2 ]
    tidemill wait j2
    tidemill results j2 >S
    sha256sum -c --quiet S
    [ "$(cut -c67- S | sort | xargs)" = '2 4 6' ]
    for pair in name:half command:hash state:done; do
        tidemill job show j2 --json | grep -q "\"${pair%:*}\":\"${pair#*:}\""
    done
    [ "$(job_number priority j2)" -eq 7 ]
    [ "$(job_number retries j2)" -eq 2 ]
    [ "$(job_number failed j1)" -eq 3 ]
    tidemill results j1 2>/dev/null >after || [ $? -eq 3 ]
    cmp before after
    # Said again, it is the same retry; of what did not fail there is none.
    [ "$(tidemill job retry j1)" = j2 ]
    run -9 --separate-stderr tidemill job retry j2
    grep -q 'nothing to retry' <<<"$stderr"
    [ "$(tidemill job ls --json | wc -l)" -eq 2 ]
    # One that was removed is made anew.
    tidemill job rm j2
    [ "$(tidemill job retry all)" = j3 ]
    tidemill wait j3
}

@test "retry is for jobs that have ended, and takes one selection" {
    start_coordinator
    echo 1 >first
    tidemill hash -d first
    run -1 --separate-stderr tidemill job retry j1
    grep -q 'j1 has not ended' <<<"$stderr"
    grep -q 'tidemill wait j1' <<<"$stderr"
    run -2 --separate-stderr tidemill job retry j1 --failed --class poison
    run -2 --separate-stderr tidemill job retry j1 --class bad
    run -2 --separate-stderr tidemill job retry
    run -2 --separate-stderr tidemill job show j1 --failed
    run -2 --separate-stderr tidemill job retr j1
    grep -q "did you mean 'job retry'" <<<"$stderr"
    run -0 tidemill help job
    grep -q 'tidemill job retry JOB' <<<"$output"
}

@test "retry --class: of a job with several kinds of failure, one" {
    start_nginx
    start_coordinator
    start_worker
    printf '%s\n' "http://127.0.0.1:$PORT/missing" http://127.0.0.1:1/refused >urls
    tidemill fetch -d --retries 0 --hash sha256 -i urls
    run -3 --separate-stderr tidemill wait last
    [ "$(tidemill job retry last --class retryable --json | grep -o '"tasks":[0-9]*')" = '"tasks":1' ]
    run -3 --separate-stderr tidemill wait j2
    run -3 --separate-stderr tidemill results --json j2
    [ "${#lines[@]}" -eq 1 ]
    grep -q '"input":"http://127.0.0.1:1/refused"' <<<"$output"
    [ "$(tidemill job retry j1 --class permanent)" = j3 ]
    run -3 --separate-stderr tidemill wait j3
    run -3 --separate-stderr tidemill results --json j3
    grep -q "\"input\":\"http://127.0.0.1:$PORT/missing\"" <<<"$output"
    run -9 --separate-stderr tidemill job retry j1 --class poison
}

@test "a retry that was killed is gone on with by the same command" {
    local deep=$T/d part
    part=$(printf 'x%.0s' {1..200})
    for _ in {1..17}; do deep=$deep/$part; done
    mkdir -p "$deep"
    (cd "$deep" && seq 4000 | xargs touch)
    start_coordinator
    find d -type f >list
    tidemill hash -d --files-from list
    rm -r d
    start_worker
    run -3 --separate-stderr tidemill wait j1
    tidemill node drain w # so that the new job is only submitted
    tidemill job retry j1 3>&- &
    pid=$!
    until_ok eval '[ "$(job_number tasks j2)" -gt 0 ]' # in the middle: it is large
    kill -9 "$pid"
    wait "$pid" || true
    tidemill job show j2 | grep -Eq '^state +open$'
    had=$(job_number tasks j2)
    [ "$had" -lt 4000 ]
    [ "$(tidemill job retry j1)" = j2 ]
    [ "$(job_number tasks j2)" -eq 4000 ]
    tidemill node undrain w
    run -3 --separate-stderr tidemill wait j2
    tidemill results j2 2>&1 | sort >got || true
    [ "$(sort -u got | wc -l)" -eq "$(wc -l <got)" ] # each input once
    [ "$(grep -c '^tidemill: d/x' got)" -eq 4000 ]
}

@test "--task-timeout ends a process that is too slow, and its task after three" {
    start_coordinator
    start_worker
    endless slow
    echo 1 >quick
    run -3 --separate-stderr tidemill hash --json --task-timeout 300ms slow quick
    grep -q '"input":"quick","status":"ok"' <<<"$output"
    grep -q '"input":"slow","status":"quarantined","class":"poison"' <<<"$output"
    grep -q 'over its time limit of 300 ms' <<<"$output"
    until_ok mills_idle
    [ "$(children "$WORKER" | wc -l)" -eq 2 ]
    tidemill hash quick | sha256sum -c --quiet # the new ones work
}

@test "--deadline ends a job as cancelled: exit 8" {
    start_coordinator
    start_worker
    endless slow
    echo 1 >quick
    run -8 --separate-stderr tidemill hash --deadline 1s quick slow
    [ "$(cut -c67- <<<"$output")" = quick ]
    tidemill job show last | grep -Eq '^state +cancelled$'
    [ "$(job_number cancelled last)" -eq 1 ]
    until_ok mills_idle
    run -8 tidemill wait last
}

@test "cancel stops a long task in the middle" {
    start_coordinator
    start_worker
    endless slow
    tidemill hash -d slow
    until_ok some_mill_on "$T/slow"
    tidemill job cancel j1
    run -8 tidemill wait j1
    until_ok eval '! some_mill_on "$T/slow"'
    until_ok mills_idle
    [ "$(tidemill job cancel j1 --json)" = '{"v":1,"job":1,"done":"cancelled"}' ]
}

@test "an input that kills its process three times is quarantined, and named" {
    start_coordinator
    start_worker
    endless killer
    echo 1 >first
    echo 2 >second
    tidemill hash -d first killer second
    for _ in 1 2 3; do
        until_ok some_mill_on "$T/killer"
        mill=$(mills_on "$T/killer")
        kill -SEGV "$mill"
        wait_gone "$mill"
    done
    run -3 --separate-stderr tidemill wait j1
    tidemill results j1 2>err | sha256sum -c --quiet || true
    [ "$(job_number ok j1)" -eq 2 ]
    [ "$(job_number quarantined j1)" -eq 1 ]
    grep -q '^tidemill: killer: its process died' err
    run -3 --separate-stderr tidemill results j1 --failed --json
    [ "${#lines[@]}" -eq 1 ]
    grep -q '"input":"killer","status":"quarantined","class":"poison"' <<<"$output"
    grep -q '"attempts":3' <<<"$output"
    [ "$(tidemill job retry j1 --class poison)" = j2 ]
    tidemill job cancel j2
}

@test "a process killed five times from outside costs its task nothing" {
    start_coordinator
    start_worker
    endless slow
    echo 1 >first
    ln -s slow link
    tidemill hash -d link
    for i in 1 2 3 4 5; do
        until_ok some_mill_on "$T/slow"
        [ "$i" -lt 5 ] || ln -sf first link
        mill=$(mills_on "$T/slow")
        kill -KILL "$mill"
        wait_gone "$mill"
    done
    tidemill wait j1
    tidemill results j1 --json >out
    grep -q '"status":"ok"' out
    grep -q '"attempts":1' out
}
