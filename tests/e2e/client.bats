#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The client's own part: results of jobs that run, manifests as files, hash -c gone on with,
# a cluster that goes away.

setup() { load common.bash; common_setup; }
teardown() { common_teardown; }

# A job that cannot end: its inputs come from a pipe that stays open.
open_job() {
    mkfifo feed
    "$@" --files-from feed >out 2>err 3>&- &
    JOB=$!
    PIDS+=("$JOB")
    exec 8>feed
}
# Waits for a process of this shell; its exit code is in $code.
ends() {
    code=0
    wait "$1" || code=$?
}

# ---- hash -c ----

@test "hash -c that was killed while it submitted goes on: every line has its own verdict" {
    needs_failpoint tidemill client_seal_send_before
    echo 1 >one && echo 2 >two
    {
        sha256sum one
        echo "$(printf '%064d' 0)  $(head -c 40000 /dev/zero | tr '\0' x)"
        sha256sum two
        echo "$(printf '%064d' 0)  one" # the same file, another digest
        sha256sum one two
    } >S
    sha256sum -c S 2>/dev/null | sort >want
    run -137 env TIDEMILL_FAILPOINTS=client_seal_send_before=kill:1 tidemill hash -c S --state st
    run -4 --separate-stderr tidemill hash -c S --state st
    diff want <(sort <<<"$output")
    run -4 --separate-stderr tidemill hash -c S # without having been killed
    diff want <(sort <<<"$output")
    # Elsewhere the same lines mean other files.
    mkdir other && cd other
    run -3 --separate-stderr tidemill hash -c ../S --state ../st
    [ "$(grep -c ': FAILED open or read$' <<<"$output")" -eq 6 ]
}

# ---- results of a job that runs ----

@test "results of a running job are those that are there, in either order" {
    use_coordinator
    start_coordinator
    mkdir in
    tidemill-worker --join "ipc://$T/c" --root "$T/in" --name w --procs 2 2>>worker.err 3>&- &
    PIDS+=("$!")
    truncate -s 200M in/large # it ends last
    for i in 1 2 3; do echo "$i" >"in/f$i"; done
    open_job tidemill hash
    printf '%s\n' in/large in/f3 /etc/passwd in/f1 in/f2 >&8
    until_ok eval '[ "$(job_number ok j1)" -eq 4 ] && [ "$(job_number failed j1)" -eq 1 ]'
    sha256sum in/large in/f3 in/f1 in/f2 >want
    run -3 --separate-stderr timeout 60 tidemill results j1
    diff <(sort want) <(sort <<<"$output")
    grep -q '^tidemill: /etc/passwd: outside' <<<"$stderr"
    run -3 --separate-stderr timeout 60 tidemill results -k j1
    diff want - <<<"$output"
    run -3 --separate-stderr timeout 60 tidemill results -k --json j1
    [ "$(grep -o '"task":[0-9]*' <<<"$output" | cut -d: -f2 | xargs)" = '0 1 2 3 4' ]
    for order in '' -k; do
        # shellcheck disable=SC2086
        run -3 --separate-stderr timeout 60 tidemill results --failed $order j1
        [ -z "$output" ]
        [ "$(grep -c ^tidemill: <<<"$stderr")" -eq 1 ]
    done
    tidemill job cancel j1
}

@test "watch shows the job at once, by its command's name and with its counts" {
    use_coordinator
    start_coordinator
    start_worker
    echo 1 >f1
    open_job tidemill hash
    printf '%s\n' f1 f1 >&8
    until_ok eval '[ "$(job_number ok j1)" -eq 2 ]'
    tidemill watch j1 2>plain 3>&- 8>&- &
    watch=$!
    until_ok grep -q '^tidemill: j1 hash: 2 of 2$' plain
    kill -INT "$watch"
    ends "$watch"
    [ "$code" -eq 7 ]
    grep -q 'to come back: tidemill watch j1' plain
    tidemill watch --progress json j1 2>json 3>&- 8>&- &
    watch=$!
    until_ok grep -q '"job":"j1","tasks":2,"ok":2,' json
    exec 8>&-
    ends "$watch"
    [ "$code" -eq 0 ]
}

# ---- manifests as files ----

@test "-o: a manifest that exists stays, unless --force; a killed run leaves it whole" {
    echo 1 >f1
    mkdir sums
    echo old >sums/SHA256SUMS
    run -1 --separate-stderr tidemill hash -o sums f1
    grep -q 'sums/SHA256SUMS exists already' <<<"$stderr"
    [ "$(cat sums/SHA256SUMS)" = old ]
    tidemill hash -a md5 -o sums f1 # another one
    md5sum --quiet -c sums/MD5SUMS
    open_job tidemill hash --force -o sums
    echo f1 >&8
    until_ok some_temporaries sums
    kill -9 "$JOB"
    ends "$JOB"
    [ "$code" -eq 137 ]
    [ "$(cat sums/SHA256SUMS)" = old ]
    rm sums/.SHA256SUMS.tm-*
    (umask 027 && tidemill hash --force -o sums f1)
    sha256sum --quiet --strict -c sums/SHA256SUMS
    [ "$(stat -c %a sums/SHA256SUMS)" = 640 ]
    no_temporaries sums
}

@test "results -o writes as hash -o does" {
    use_coordinator
    start_coordinator
    start_worker
    echo 1 >f1
    tidemill hash f1
    tidemill results -o sums last
    sha256sum --quiet --strict -c sums/SHA256SUMS
    echo old >sums/SHA256SUMS
    run -1 --separate-stderr tidemill results -o sums last
    [ "$(cat sums/SHA256SUMS)" = old ]
    tidemill results --force -o sums last
    sha256sum --quiet --strict -c sums/SHA256SUMS
    no_temporaries sums
}

# ---- a cluster that goes away ----

@test "the private coordinator killed: one error, not one for every input" {
    echo 1 >f1
    open_job tidemill hash
    echo f1 >&8
    until_ok grep -q f1 out
    kill -9 "$(children "$JOB" tidemill-coordinator)"
    yes f1 | head -100000 >&8 2>/dev/null || true
    exec 8>&-
    ends "$JOB"
    [ "$code" -ne 3 ]
    [ "$(grep -c . err)" -le 3 ]
    grep -q 'tidemill-coordinator' err
}
