#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# fetch: from an nginx on loopback; bad URLs are named, the others are stored.

setup() {
    load common.bash
    common_setup
    mkdir www
}
teardown() { common_teardown; }

@test "many URLs to files, with a manifest that sha256sum accepts" {
    for i in $(seq 100); do head -c $((i * 777)) /dev/urandom >"www/f$i"; done
    head -c 3000000 /dev/urandom >www/huge
    start_nginx
    local base=http://127.0.0.1:$PORT
    { echo '# a list'; echo; for i in $(seq 100); do echo "$base/f$i"; done; } >urls
    echo "$base/huge" >>urls
    tidemill fetch -i urls -o got --hash sha256 >S
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq 101 ]
    for i in $(seq 100); do cmp "www/f$i" "got/127.0.0.1:$PORT/f$i"; done
    cmp www/huge "got/127.0.0.1:$PORT/huge"
}

@test "missing, refused, endless, too large and malformed ones are named; exit 3" {
    echo good >www/good
    head -c 100000 /dev/zero >www/large
    start_nginx
    local base=http://127.0.0.1:$PORT
    printf '%s\n' "$base/good" "$base/missing" http://127.0.0.1:1/refused "$base/loop" \
        "$base/large" 'ht!tp://bad' >urls
    run -3 --separate-stderr tidemill fetch -i urls -o got --retries 0 --max-size 50KiB
    [ "$(cat "got/127.0.0.1:$PORT/good")" = good ]
    grep -q '/missing: HTTP 404' <<<"$stderr"
    grep -q '/refused: connection refused' <<<"$stderr"
    grep -q '/loop: more than 10 redirects' <<<"$stderr"
    grep -q '/large: larger than 50 KiB' <<<"$stderr"
    grep -q "urls:6: not an http or https URL: 'ht!tp://bad'" <<<"$stderr"
    [ "$(find got -type f | wc -l)" -eq 1 ]
}

@test "a NUL in a list of URLs is no URL, and nothing behind it is lost in silence" {
    echo good >www/good
    start_nginx
    printf 'http://127.0.0.1:%s/bad\0                                \n' "$PORT" >urls
    printf 'http://127.0.0.1:%s/good\n' "$PORT" >>urls
    run -3 --separate-stderr tidemill fetch -i urls -o got --retries 0
    grep -q 'urls:1: not an http or https URL' <<<"$stderr"
    [ "$(cat "got/127.0.0.1:$PORT/good")" = good ]
    [ "$(find got -type f | wc -l)" -eq 1 ]
}

@test "one URL goes to standard output, redirects followed, compression undone" {
    yes text | head -10000 >www/small
    mkdir www/zip && cp www/small www/zip/small
    start_nginx
    tidemill fetch "http://127.0.0.1:$PORT/moved" | cmp - www/small
    tidemill fetch "http://127.0.0.1:$PORT/zip/small" | cmp - www/small
}

@test "stored encrypted in the same pass; digests of both" {
    head -c 300000 /dev/urandom >www/f
    start_nginx
    tidemill key identity id >r
    tidemill fetch -o got -r "$(cat r)" --hash sha256 --json "http://127.0.0.1:$PORT/f" >J
    age -d -i id "got/127.0.0.1:$PORT/f.age" | cmp - www/f
    grep -q "$(sha256sum <www/f | cut -d' ' -f1)" J
    grep -q "$(sha256sum <"got/127.0.0.1:$PORT/f.age" | cut -d' ' -f1)" J
}

@test "two URLs with one output name: the second is named, also with --force" {
    echo first >www/f
    start_nginx
    local base=http://127.0.0.1:$PORT
    mkdir -p "got/127.0.0.1:$PORT"
    echo old >"got/127.0.0.1:$PORT/f"
    run -3 --separate-stderr tidemill fetch --force -o got --hash sha256 "$base/f" "$base/f#part"
    grep -qF "$base/f#part: another URL goes to got/127.0.0.1:$PORT/f too" <<<"$stderr"
    [ "$(wc -l <<<"$output")" -eq 1 ]
    [ "$(cat "got/127.0.0.1:$PORT/f")" = first ]
}

@test "without a place for the bodies it is a usage error" {
    run -2 --separate-stderr tidemill fetch http://127.0.0.1:1/a http://127.0.0.1:1/b
    grep -q 'hint: -o DIR' <<<"$stderr"
}

spooled() { find "/proc/$WORKER/fd" -lname "$T/spool/*" 2>/dev/null | wc -l; }

@test "with few descriptors there are fewer transfers at once, and none fails" {
    mkdir -p www spool
    head -c 100000 /dev/urandom >www/f1 # too long for memory: each has a file of its own
    tidemill key identity key.txt >recipient
    for i in $(seq 2 500); do ln www/f1 "www/f$i"; done
    start_nginx
    use_coordinator
    start_coordinator
    ulimit -Sn 700
    (ulimit -Hn 700; exec tidemill-worker --join "ipc://$T/c" --root / --name w --procs 2 --coroutines 217) \
        2>refused && return 1
    grep -q '217 coroutines need 702 file descriptors; the limit is 700' refused
    grep -q 'hint: .*--coroutines 216' refused
    (ulimit -Hn 700; exec tidemill-worker --join "ipc://$T/c" --root / --name w --procs 2 --spool "$T/spool") \
        2>worker.err 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
    until_ok tidemill node show w
    [ "$(node_number coroutines)" -eq 216 ]
    mapfile -t mills < <(children "$WORKER")
    [ "${#mills[@]}" -eq 2 ]
    kill -STOP "${mills[@]}" # bodies gather, each with its connection and its file
    for i in $(seq 500); do echo "http://127.0.0.1:$PORT/f$i"; done >urls
    tidemill fetch -i urls -o got -r "$(cat recipient)" --per-host 1024 --retries 0 >fetch.out 2>fetch.err 3>&- &
    fetch=$!
    PIDS+=("$fetch")
    until_ok eval '[ "$(spooled)" -ge 216 ]' || { kill -CONT "${mills[@]}"; cat fetch.err; return 1; }
    kill -CONT "${mills[@]}"
    wait "$fetch"
    [ "$(find got -type f | wc -l)" -eq 500 ]
    # Without encryption bodies go to their files at once, by the threads.
    tidemill fetch -i urls -o plain --per-host 1024 --retries 0
    [ "$(find plain -type f | wc -l)" -eq 500 ]
}

@test "the library's futures" {
    echo body >www/f
    start_nginx
    "$TM_BIN/example-future" "http://127.0.0.1:$PORT/f" "http://127.0.0.1:$PORT/no" >out
    grep -q '/f: HTTP 200, 5 bytes' out
    grep -q '/no: HTTP 404' out
}
