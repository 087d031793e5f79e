#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Files that are large enough to be shared by the mills of a node: what comes out is an age
# file as any other, and what goes wrong in one part is the end of the whole attempt.

setup() {
    load common.bash
    common_setup
    tidemill key identity id >recipient
    R=$(cat recipient)
}
teardown() { common_teardown; }

# Over the 64 MiB from which a file is shared, and not a whole number of chunks.
SIZE=70000001
shared_file() {
    openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c "$SIZE" >f
}
# A cluster whose mills do so at every four chunks: with delay:MS both work for seconds.
slow_cluster() {
    needs_failpoint tidemill-worker mill_part_chunks
    use_coordinator
    start_coordinator
    TIDEMILL_FAILPOINTS=mill_part_chunks=$1 start_worker --identity id --log-level debug
}
both_mills_on() { [ "$(mills_on "$1" | wc -l)" -eq 2 ]; }

@test "age opens what several processes made, and they open what age made" {
    shared_file
    tidemill encrypt -r "$R" f
    age -d -i id f.age | cmp - f
    tidemill decrypt -i id --output back f.age
    cmp back f
    age -r "$R" -o theirs.age f
    age -a -r "$R" -o armored.age f
    tidemill encrypt --armor -r "$R" --output ours.asc f
    age -d -i id ours.asc | cmp - f
    tidemill decrypt -i id theirs.age armored.age
    cmp theirs f
    cmp armored f
    tidemill encrypt --json -r "$R" --output g.age f >row
    age -d -i id g.age | cmp - f
    grep -q "\"bytes\":$SIZE" row
    grep -q "\"sha256\":\"$(sha256sum <g.age | cut -c1-64)\"" row
    no_temporaries .
}

@test "an output has the mode of its source, be it one that nobody may write to" {
    shared_file
    echo small >g
    chmod 0444 f
    chmod 0541 g
    as_user tidemill encrypt --procs 2 -r "$R" f g
    [ "$(stat -c %a f.age g.age)" = $'444\n541' ]
    as_user tidemill decrypt --procs 2 -i id --output fback f.age
    as_user tidemill decrypt -i id --output gback g.age
    [ "$(stat -c %a fback gback)" = $'444\n541' ]
    cmp f fback
    cmp g gback
}

@test "of a source that only others may read, the output is durable all the same" {
    [ "$(id -u)" -eq 0 ] || skip "needs root for a file of another user"
    echo small >g
    as_user true
    chown 0:0 g
    chmod 0044 g
    HOME=$T setpriv --reuid 65534 --regid 65534 --clear-groups tidemill encrypt -r "$R" g
    [ "$(stat -c %a g.age)" = 44 ]
    age -d -i id g.age | cmp - g
}

@test "large and small files of one job; the bytes of a large one are counted" {
    shared_file
    mkdir in
    echo one >in/one
    mv f in/f
    echo two >in/two
    use_coordinator
    start_coordinator
    start_worker --identity id
    tidemill encrypt -d -r "$R" --recursive -o out in
    tidemill wait j1
    tidemill results --json j1 | grep '"input":"in/f"' | grep -q "\"bytes\":$SIZE,"
    tidemill decrypt -i id --recursive -o back out/in
    diff -r in back/in
}

@test "a large file that was damaged anywhere leaves nothing" {
    shared_file
    age -r "$R" -o good.age f
    rm f
    python3 - <<'PY'
data = open("good.age", "rb").read()
sealed = 65536 + 16
header = data.index(b"\n", data.index(b"\n--- ") + 1) + 1 + 16
def write(name, *parts):
    with open(name + ".age", "wb") as f:
        for part in parts:
            f.write(part)
def flip(name, at):
    write(name, data[:at], bytes([data[at] ^ 1]), data[at + 1:])
flip("first", header + 5)
flip("middle", header + 600 * sealed + 1)
flip("last", len(data) - 1)
flip("nonce", header - 1)
flip("head", 60)
write("cut", data[:-100])
write("whole", data[:header + 1025 * sealed]) # between two chunks
a, b = header + 100 * sealed, header + 900 * sealed
write("order", data[:a], data[b:b + sealed], data[a + sealed:b], data[a:a + sealed], data[b + sealed:])
write("longer", data, data[-sealed:])
PY
    names='first middle last nonce head cut whole order longer'
    run -3 --separate-stderr tidemill decrypt --retries 0 -i id $(printf '%s.age ' good $names)
    echo "$stderr"
    [ "$(stat -c %s good)" -eq "$SIZE" ]
    for name in $names; do
        [ ! -e "$name" ]
        grep -q "^tidemill: $name.age: " <<<"$stderr"
    done
    [ "$(grep -c 'not authentic' <<<"$stderr")" -ge 6 ]
    no_temporaries .
}

@test "a mill killed in its part: the attempt is done again, under another key" {
    shared_file
    slow_cluster delay:10
    tidemill encrypt -d -r "$R" f
    until_ok both_mills_on "$T/f"
    head -c 200 .f.age.tm-* >first
    kill -9 "$(mills_on "$T/f" | head -1)"
    tidemill wait --timeout 60s j1
    head -c 200 f.age >second
    [ "$(stat -c %s second)" -eq 200 ]
    run ! cmp -s first second
    age -d -i id f.age | cmp - f
    until_ok mills_idle
    no_temporaries .
}

@test "a mill killed behind its part, before it said so: that part is not made twice" {
    shared_file
    mkdir fired
    export TIDEMILL_FAILPOINTS_DIR=$T/fired
    slow_cluster delay:1,mill_report_before=kill:2
    tidemill encrypt -d -r "$R" f
    tidemill wait --timeout 60s j1
    [ -e fired/mill_report_before ]
    [ "$(grep -c ' done lease=' worker.err)" -eq 2 ] # the first said that it is lost
    age -d -i id f.age | cmp - f
    no_temporaries .
}

@test "a file that is synced behind the last of its lease is not done again" {
    shared_file
    echo small >g
    mkdir fired
    export TIDEMILL_FAILPOINTS_DIR=$T/fired
    slow_cluster hold:1,files_sync_before=hold:1
    until_ok tidemill node show w
    # A quarter of what waits is a lease: so these two are one. The others write no file.
    for i in 1 2 3 4 5 6; do echo "$i" | tee "$i" >"$i.age"; done
    tidemill encrypt -d -r "$R" f g 1 2 3 4 5 6
    until_ok test -e fired/mill_part_chunks
    until_ok test -e fired/files_sync_before # the small one's
    rm fired/mill_part_chunks
    local first=4294967297
    until_ok grep -q " done lease=$first " worker.err # the large one's
    rm fired/files_sync_before
    run -3 tidemill wait --timeout 60s j1
    [ "$(grep " done lease=$first " worker.err | grep -o 'tasks=.*')" = $'tasks=1 last=0\ntasks=1 last=1' ]
    [ "$(grep -c ' done lease=.* tasks=1 ' worker.err)" -eq 8 ]
    age -d -i id f.age | cmp - f
    age -d -i id g.age | cmp - g
    no_temporaries .
}

@test "cancelled in the middle: the parts end, nothing stays" {
    shared_file
    slow_cluster delay:50
    tidemill encrypt -d -r "$R" f
    until_ok both_mills_on "$T/f"
    tidemill job cancel j1
    until_ok mills_idle
    until_ok no_temporaries .
    [ ! -e f.age ]
    rm f
    echo small >g
    tidemill encrypt -r "$R" g # the worker goes on
    age -d -i id g.age | cmp - g
}

@test "a worker that is told to end in the middle takes its temporary away; the next one does the file" {
    shared_file
    slow_cluster delay:20
    tidemill encrypt -d -r "$R" f
    until_ok both_mills_on "$T/f"
    stop "$WORKER"
    no_temporaries .
    run ! grep -q ERROR: worker.err # of a sanitizer
    start_worker
    tidemill wait --timeout 60s j1
    age -d -i id f.age | cmp - f
}

@test "the time limit is for all parts together" {
    shared_file
    slow_cluster delay:20
    run -3 --separate-stderr tidemill encrypt --task-timeout 1s -r "$R" f
    grep -q 'f: .*over its time limit of 1000 ms' <<<"$stderr"
    [ ! -e f.age ]
    until_ok no_temporaries .
    until_ok mills_idle
}

@test "a source that changes meanwhile is read again" {
    shared_file
    slow_cluster delay:10
    tidemill encrypt -d -r "$R" f
    until_ok both_mills_on "$T/f"
    printf x | dd of=f bs=1 seek=69000000 conv=notrunc status=none
    tidemill wait --timeout 60s j1
    age -d -i id f.age | cmp - f
    no_temporaries .
}

@test "a disk that is full in the middle is said, and nothing stays" {
    [ "$(id -u)" -eq 0 ] || skip "needs root for a small file system"
    shared_file
    mkdir small
    mount -t tmpfs -o size=30m none small || skip "mounts are forbidden here"
    run --separate-stderr tidemill encrypt -r "$R" --retries 0 --output small/f.age f
    left=$(ls -A small)
    umount small
    [ "$status" -eq 3 ]
    grep -qi 'no space left' <<<"$stderr"
    [ -z "$left" ]
}
