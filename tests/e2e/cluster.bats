#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# A cluster that stays: up, detached jobs, other processes, and parts that are killed.

setup() { load common.bash; common_setup; }
teardown() { common_teardown; }

files() {
    mkdir -p many
    for i in $(seq "$1"); do echo "$i" >"many/$i"; done
}

@test "detach, wait, results and job from other processes" {
    files 500
    start_up
    find many -type f -print0 | tidemill hash -d -0 --files-from - >id
    id=$(cat id)
    [[ $id =~ ^j[0-9]+$ ]]
    tidemill wait "$id"
    tidemill results "$id" >S
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq 500 ]
    tidemill job ls | grep -q "^$id .* 500 "
    tidemill job show last | grep -Eq '^ok +500$'
    tidemill node ls | grep -q ' up '
    tidemill results -k "$id" >K
    [ "$(wc -l <K)" -eq 500 ]
    run -9 --separate-stderr tidemill results j999
    run -2 --separate-stderr tidemill results nonsense
}

@test "failures come back from another process too: exit 3" {
    files 3
    start_up
    run -0 tidemill hash -d many/1 many/2
    ln -s /nonexistent many/dangling
    printf '%s\n' many/1 many/3 >list
    rm many/3
    run --separate-stderr tidemill hash -d --files-from list
    [ "$status" -eq 3 ]
}

@test "results survive a restart of the whole cluster" {
    files 200
    start_up
    tidemill hash -d -r many >id
    tidemill wait "$(cat id)"
    kill -TERM "$UP"
    wait_gone "$UP"
    start_up
    tidemill results "$(cat id)" >S
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq 200 ]
}

mill_of() { children "$1" '^tidemill-mill --mill' | head -1; }
has_other_mill() { [ -n "$(mill_of "$1")" ] && [ "$(mill_of "$1")" != "$2" ]; }

@test "a mill killed with -9 costs nothing: every result arrives" {
    files 3000
    start_up -j 2
    tidemill hash -r many >S 3>&- &
    pid=$!
    worker=$(children "$UP" tidemill-worker)
    killed=
    for _ in 1 2 3 4 5; do
        until_ok has_other_mill "$worker" "$killed"
        killed=$(mill_of "$worker")
        kill -9 "$killed"
    done
    wait "$pid"
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq 3000 ]
}

@test "a coordinator killed with -9 loses nothing that it had acknowledged" {
    files 1000
    start_up
    tidemill hash -d -r many >id
    kill -9 "$(children "$UP" tidemill-coordinator)"
    wait_gone "$UP"
    start_up
    tidemill wait --timeout 60s "$(cat id)"
    tidemill results "$(cat id)" >S
    sha256sum --quiet --strict -c S
    [ "$(sort -u S | wc -l)" -eq 1000 ]
    [ "$(wc -l <S)" -eq 1000 ]
}

@test "a job is cancelled" {
    mkfifo feed
    start_up
    tidemill hash --files-from feed >/dev/null 2>err 3>&- &
    pid=$!
    exec 8>feed
    echo /etc/passwd >&8
    until_ok tidemill job show last
    tidemill job cancel last
    exec 8>&-
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 8 ]
    tidemill job show last | grep -q 'cancelled'
}

@test "an unreachable coordinator is said with its origin: exit 6" {
    TIDEMILL_COORDINATOR=ipc:///nonexistent/x run -6 --separate-stderr tidemill hash /etc/passwd
    grep -q TIDEMILL_COORDINATOR <<<"$stderr"
    # On another host it would have to be encrypted: nothing is sent without a key.
    for elsewhere in tcp://10.0.0.5:7600 tcp://127.example.org:7600; do
        run -5 --separate-stderr tidemill hash --coordinator "$elsewhere" /etc/passwd
        grep -q 'no key of the coordinator' <<<"$stderr"
    done
    run -2 --separate-stderr tidemill hash -d /etc/passwd
    grep -q 'tidemill up' <<<"$stderr"
}

@test "an endpoint that was printed can be used as it stands" {
    start_up --listen tcp://127.0.0.1:0
    endpoint=$(grep -oh 'tcp://[^ ]*' up.out up.err | head -1)
    [[ $endpoint =~ ^tcp://127\.0\.0\.1:[0-9]+$ ]]
    joined() { tidemill node ls --coordinator "$endpoint" | grep -q ' up '; }
    until_ok joined
}

@test "unknown commands and options are usage errors with a hint" {
    run -2 --separate-stderr tidemill hashh x
    grep -q "did you mean 'hash'" <<<"$stderr"
    run -2 --separate-stderr tidemill hash --recursiv x
    grep -q "did you mean '--recursive'" <<<"$stderr"
    run -0 tidemill help hash
    run -0 tidemill version
}

@test "the examples of the library run" {
    files 20
    [ "$("$TM_BIN/example-submit" "$PWD/many/1" "$PWD/many/2" | wc -l)" -eq 2 ]
    seq 100 | "$TM_BIN/example-map" >out
    [ "$(wc -l <out)" -eq 100 ]
    [ "$(head -1 out | cut -c1-64)" = "$(printf 1 | sha256sum | cut -c1-64)" ]
}

@test "streams do not go through the coordinator: its worker may be on another host" {
    mkdir www
    head -c 3000000 /dev/urandom >www/large
    start_nginx
    use_coordinator
    start_coordinator # no worker: nothing would ever run there
    [ "$(timeout 60 tidemill hash - <www/large)" = "$(sha256sum - <www/large)" ]
    timeout 60 tidemill fetch "http://127.0.0.1:$PORT/large" >got
    cmp got www/large
    is_empty tmp
    run -2 --separate-stderr tidemill hash -d - <www/large
    grep -q 'cannot leave standard input behind' <<<"$stderr"
    run -2 --separate-stderr tidemill fetch -d "http://127.0.0.1:$PORT/large"
    grep -q 'nobody to take the body' <<<"$stderr"
    run -9 tidemill job show last
}

@test "standard input stands alone" {
    echo x >f
    tidemill key identity id >r
    run -2 --separate-stderr tidemill hash - f <f
    grep -q -- '- is standard input, and stands alone' <<<"$stderr"
    run -2 --separate-stderr tidemill encrypt -r "$(cat r)" --files-from f - <f
    grep -q -- 'stands alone' <<<"$stderr"
    run -2 --separate-stderr tidemill encrypt -d -r "$(cat r)" - <f
    grep -q -- 'cannot leave standard input behind' <<<"$stderr"
}

@test "strangers who take every place: others get in when they have gone" {
    start_coordinator --connections 8
    start_worker
    use_coordinator
    until_ok tidemill node show w
    /usr/bin/python3 - "ipc://$T/c" <<'PY' >strangers 3>&- &
import sys, time, zmq
ctx = zmq.Context()
socks = [ctx.socket(zmq.DEALER) for _ in range(30)]
for s in socks:
    s.connect(sys.argv[1])
time.sleep(600)
PY
    STRANGERS=$!
    PIDS+=("$STRANGERS")
    until_ok grep -q ' full ' coord.err
    [ ! -e c ]
    stop "$STRANGERS" KILL
    until_ok grep -q ' room_again ' coord.err
    tidemill hash /etc/passwd >sums
    sha256sum --quiet -c sums
    kill -0 "$COORD"
    run -2 --separate-stderr tidemill-coordinator --listen "ipc://$T/d" --state other --connections 1048576
    [[ $stderr == *"file descriptors; the limit is"*"hint: "* ]] || [ "$(ulimit -Hn)" = unlimited ]
}
