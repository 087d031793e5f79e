#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# A state directory whose disk is full: nothing is lost, nothing ends, all is well again when
# there is room. The disk is a small tmpfs, so these tests need root.

setup() {
    load common.bash
    common_setup
    use_coordinator
    mkdir disk
    mount -t tmpfs -o size=96m tmpfs disk 2>/dev/null || { rmdir disk; skip "cannot mount a tmpfs"; }
    STATE=$T/disk/state
}
teardown() {
    local pid dir
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${PIDS[@]}"; do wait_gone "$pid" || kill -9 "$pid"; done
    for dir in disk run; do ! mountpoint -q $dir || umount $dir; done
    common_teardown
}

free_kib() { df -k --output=avail disk | tail -1; }
# fill KIB: all but so much of the disk is taken by somebody else.
fill() {
    local much=$(($(free_kib) - $1))
    [ "$much" -le 0 ] || head -c "${much}K" /dev/zero >>disk/filler 2>/dev/null || true
}
# job_of_100000 [NAME]: of one file's NAME, 100,000 times.
job_of_100000() {
    echo 1 >"${1:-first}"
    yes "${1:-first}" | head -100000 >list
    tidemill hash -d --files-from list
}
# start_small RESERVE
start_small() {
    start_coordinator --reserve "$1"
    start_worker
}

# A client whose inputs come from descriptor 8.
open_feed() {
    mkfifo feed
    tidemill hash --files-from feed >out 2>err 3>&- &
    client=$!
    PIDS+=("$client")
    exec 8>feed
}

@test "below the first mark jobs are refused with a hint; what was taken runs, and can be read" {
    start_small 16MiB
    job_of_100000
    tidemill wait j1
    fill 30000
    until_ok grep -q disk_low coord.err
    run -1 --separate-stderr tidemill hash first
    grep -q "disk is nearly full: no job is taken" <<<"$stderr"
    grep -q "hint: .*tidemill job rm" <<<"$stderr"
    [ "$(tidemill results j1 | wc -l)" -eq 100000 ]
    rm disk/filler
    until_ok tidemill hash first
}

@test "below the marks a submitter waits, and goes on when there is room" {
    start_small 16MiB
    echo 1 >first
    open_feed
    fill 10000
    until_ok grep -q disk_low coord.err
    echo first >&8
    waits() { tidemill job show j1 | grep -Eq '^tasks +1$'; }
    until_ok waits
    tidemill job show j1 | grep -Eq '^ok +0$' # below the second mark nothing is leased
    rm disk/filler
    exec 8>&-
    wait "$client"
    [ "$(cat out)" = "$(sha256sum first)" ]
}

@test "a full disk: a submitter waits, results are read, and nothing is lost when there is room" {
    start_small 0B # no marks: what comes in fills the disk
    job_of_100000
    tidemill wait j1
    open_feed
    echo first >&8
    one_done() { tidemill job show j2 | grep -Eq '^ok +1$'; }
    until_ok one_done
    fill 0
    [ "$(free_kib)" -lt 100 ]
    yes first | head -150000 >&8 3>&- & # more than what is credited
    feeder=$!
    PIDS+=("$feeder")
    until_ok grep -q disk_full coord.err
    [ "$(tidemill results j1 | wc -l)" -eq 100000 ]
    run -1 --separate-stderr tidemill hash first
    grep -q "disk is full: no job is taken" <<<"$stderr"
    kill -0 "$client" "$COORD" "$WORKER"
    rm disk/filler
    exec 8>&-
    wait "$client"
    [ "$(wc -l <out)" -eq 150001 ]
    [ "$(sort -u out)" = "$(sha256sum first)" ]
    stop "$COORD"
    run -0 tidemill-coordinator check --state "$STATE"
}

@test "a full disk: removing a job gives its room back" {
    start_small 4MiB
    echo 1 >first
    # The names alone are 20 MB, and the first mark is at 8 MiB: what records take beside them
    # depends on how many come at once.
    job_of_100000 "$(printf 'x%.0s' {1..200})"
    tidemill wait j1
    fill 0
    until_ok grep -q disk_low coord.err
    run -1 --separate-stderr tidemill hash first
    tidemill job rm j1
    until_ok tidemill hash first || { df -k disk; ls -l "$STATE"; cat coord.err; false; }
    stop "$COORD"
    run -0 tidemill-coordinator check --state "$STATE"
}

@test "a coordinator killed on a full disk starts on it, and goes on when there is room" {
    start_small 16MiB
    job_of_100000
    fill 0
    kill -9 "$COORD"
    wait_gone "$COORD"
    # It may have been killed while the reserve was let go: then somebody has to make room.
    [ -e "$STATE/reserve" ] || truncate -s -4M disk/filler
    start_coordinator --reserve 16MiB
    tidemill job show j1
    rm disk/filler
    tidemill wait j1
    [ "$(tidemill results j1 | wc -l)" -eq 100000 ]
}

@test "stopped on a full disk with --durability none: it says that something is lost, and so does the next start" {
    start_coordinator --reserve 0B --durability none
    start_worker
    echo 1 >first
    open_feed
    echo first >&8
    until_ok grep -q first out
    fill 0
    yes first | head -150000 >&8 3>&- &
    PIDS+=("$!")
    until_ok grep -q disk_full coord.err
    stop "$COORD"
    local code=0
    wait "$COORD" || code=$?
    [ "$code" -eq 1 ]
    [ "$(grep -c 'tidemill-coordinator: error: what was told of last is not saved: ' coord.err)" -eq 1 ]
    rm disk/filler
    start_coordinator --reserve 0B --durability none 8>&-
    grep -q 'killed_before_saving job=1 ' coord.err
    code=0
    wait "$client" || code=$?
    exec 8>&-
    [ "$code" -eq 1 ]
    grep -Eq '^tidemill: error: the coordinator has lost (job 1|results)' err
}

@test "stopped on a full disk with --durability none: what was told of has the reserve" {
    needs_failpoint tidemill-coordinator store_behind_before
    mkdir points
    TIDEMILL_FAILPOINTS=store_behind_before=hold:1 TIDEMILL_FAILPOINTS_DIR=$T/points \
        start_coordinator --reserve 16MiB --durability none
    start_worker
    joined() { [ "$(tidemill node ls --json | wc -l)" -ge 1 ]; }
    until_ok joined
    echo 1 >first
    open_feed
    echo first >&8
    until_ok grep -q first out # and nothing of it is on disk
    until_ok test -e points/store_behind_before
    fill 0
    kill "$COORD"
    no_answer() { ! timeout 2 tidemill job ls; } # it ends, and waits for its store
    until_ok no_answer
    rm points/store_behind_before
    wait_gone "$COORD"
    wait "$COORD"
    rm disk/filler
    start_coordinator --reserve 16MiB --durability none 8>&-
    run ! grep -q killed_before_saving coord.err
    exec 8>&-
    wait "$client"
    [ "$(cat out)" = "$(sha256sum first)" ]
}

@test "a private cluster needs no room in the runtime directory" {
    unset TIDEMILL_COORDINATOR
    mount -t tmpfs -o size=1m tmpfs run
    echo 1 >first
    [ "$(tidemill hash first)" = "$(sha256sum first)" ]
}

@test "a private cluster whose disk is full says so, and goes on when there is room" {
    unset TIDEMILL_COORDINATOR
    echo 1 >first
    mkfifo feed
    TMPDIR=$T/disk tidemill hash --files-from feed >out 2>err 3>&- &
    client=$!
    exec 8>feed
    echo first >&8
    until_ok grep -q first out
    fill 3000
    until_ok grep -q 'the private coordinator: disk_low' err
    grep -q "hint: make room in $T/disk/tidemill-" err
    echo first >&8
    rm disk/filler
    exec 8>&-
    wait "$client"
    [ "$(wc -l <out)" -eq 2 ]
}
