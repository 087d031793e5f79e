#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# kill -9 in a private cluster: of the client, the worker, a mill. Nothing is left behind: no
# process, no temporary, no file in the directories of the system.

setup() {
    load common.bash
    common_setup
    mkdir spool
    export TIDEMILL_SPOOL=$T/spool
    tidemill key identity id >recipient
    R=$(cat recipient)
}
teardown() { common_teardown; }

# Runs a command in the background; once $1 (a test) holds, kills it with -9; then no
# process of it lives, and nothing but what is whole remains.
kill_embedded() {
    local when=$1 kids='' kid more=''
    shift
    "$@" <"${STDIN:-/dev/null}" >out.txt 2>err.txt 3>&- &
    local pid=$!
    until_ok eval "$when"
    kids=$(children "$pid")
    for kid in $kids; do more+=" $(children "$kid")"; done
    [ -n "$kids" ]
    kill -9 "$pid" || { cat err.txt >&2; false; }
    for kid in $kids $more; do wait_gone "$kid"; done
    until_ok is_empty run
    until_ok is_empty tmp
    until_ok is_empty spool
}

@test "embedded client killed: hash of a tree, standard input" {
    many 2000
    truncate -s 16G many/long # so that it is still at it
    kill_embedded '[ -s out.txt ]' tidemill hash -r many
    mkfifo feed
    exec 8<>feed
    STDIN=feed kill_embedded 'ls tmp | grep -q stdin && [ "$(children "$pid")" ]' tidemill hash -
}

@test "embedded client killed: encrypt of many and of one large file" {
    many 2000
    large
    kill_embedded 'some_temporaries out' tidemill encrypt -r "$R" --recursive -o out many
    no_temporaries out
    [ "$(find out -name '*.age' -size -100c | wc -l)" -eq 0 ]
    kill_embedded 'some_temporaries .' tidemill encrypt -r "$R" --output large.age large
    no_temporaries .
    [ ! -e large.age ]
}

@test "embedded client killed: fetch of 2,000 URLs, and of one to standard output" {
    mkdir www
    (cd www && seq 2000 | split -l 1 -a 4 -d - f)
    start_nginx
    find www -type f -printf "http://127.0.0.1:$PORT/%f\n" >urls
    kill_embedded 'some_temporaries got' tidemill fetch -i urls -o got
    no_temporaries got
    [ "$(find got -type f -empty | wc -l)" -eq 0 ]
    start_bad_server
    kill_embedded 'grep -q hang server.log' tidemill fetch "http://127.0.0.1:$BAD_PORT/hang"
}

@test "embedded worker killed: it is said, nothing half-written stays" {
    large
    tidemill encrypt -r "$R" --output large.age large 2>err 3>&- &
    pid=$!
    until_ok some_temporaries .
    kill -9 "$(children "$pid" tidemill-worker)"
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 1 ]
    grep -q 'tidemill-worker ended: killed by signal 9' err
    no_temporaries .
    [ ! -e large.age ]
    is_empty spool
    is_empty tmp
}

@test "a mill killed in a large encryption leaves no temporary of its attempt" {
    large
    tidemill encrypt -r "$R" -j 1 --output large.age large 2>err 3>&- &
    pid=$!
    until_ok some_temporaries .
    worker=$(children "$pid" tidemill-worker)
    kill -9 "$(children "$worker" tidemill-mill)"
    wait "$pid"
    no_temporaries .
    age -d -i id large.age | cmp - large
}
