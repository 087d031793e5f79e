#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The command line as its contract has it: output, exit codes, JSON, progress, terminals,
# Ctrl-C, first run.

setup() { load common.bash; common_setup; }
teardown() { common_teardown; }

files() {
    mkdir -p many
    (cd many && seq "$1" | split -l 1 -a 5 -d - f)
}

# Runs a command with a terminal on all three descriptors; what it showed is in $shown.
on_terminal() {
    local code=0
    SHELL=/bin/bash script -qec "$1" /dev/null </dev/null >shown.txt 2>&1 3>&- || code=$?
    shown=$(tr -d '\r' <shown.txt)
    return $code
}

# What a terminal's command reads: the name $1, and no end before the terminal shows the pattern $2.
feed_until() {
    echo "$1"
    timeout 60 sh -c 'until grep -q "$1" shown.txt; do sleep 0.05; done' - "$2"
}
export -f feed_until

# A job that cannot end: its inputs come from a pipe that stays open.
open_job() {
    mkfifo feed
    "$@" --files-from feed >out 2>err 3>&- &
    JOB=$!
    PIDS+=("$JOB")
    exec 8>feed
    echo /etc/passwd >&8
}

# It is the program already, and SIGINT is caught.
catches_interrupts() {
    local caught
    [ "$(cat "/proc/$1/comm")" = tidemill ] || return 1
    caught=$(awk '/^SigCgt/ { print $2 }' "/proc/$1/status")
    [ $((0x$caught & 2)) -ne 0 ]
}

# ---- hash -c ----

@test "hash -c says what sha256sum -c says, in every case" {
    make_tree
    tidemill hash -k -r tree >S
    echo changed >tree/one
    rm tree/sub/big
    ours() { tidemill hash -c "$@" 2>/dev/null; }
    theirs() { sha256sum -c "$@" 2>/dev/null; }
    for flags in "" --quiet --status --ignore-missing "--quiet --ignore-missing"; do
        # shellcheck disable=SC2086
        diff <(ours S $flags) <(theirs $flags S)
    done
    run -4 --separate-stderr tidemill hash -c S --status
    [ -z "$output" ]
    run ! grep -q WARNING <<<"$stderr"
    run -4 --separate-stderr tidemill hash -c S
    grep -q 'tree/sub/big: No such file' <<<"$stderr"
    grep -q 'WARNING: 1 computed checksum did NOT match' <<<"$stderr"
    grep -q 'WARNING: 1 listed file could not be read' <<<"$stderr"
}

@test "hash -c: missing alone 3, nothing at all 1, other algorithms, tag lines, damaged lines" {
    make_tree
    tidemill hash -r tree >S
    rm tree/one
    run -3 --separate-stderr tidemill hash -c S
    run -0 --separate-stderr tidemill hash -c S --ignore-missing --quiet
    [ -z "$output" ]
    [ -z "$stderr" ]
    rm -r tree
    run -1 --separate-stderr tidemill hash -c S --ignore-missing
    grep -q 'no file was verified' <<<"$stderr"
    echo nonsense >N
    run -1 --separate-stderr tidemill hash -c N
    grep -q 'no properly formatted' <<<"$stderr"
    make_tree
    tidemill hash -r --tag -a sha256,b2,md5,sha1,sha512 tree >T
    echo nonsense >>T
    run -0 --separate-stderr tidemill hash -c T
    [ "$(grep -c ': OK$' <<<"$output")" -eq "$(($(wc -l <T) - 1))" ]
    grep -q 'WARNING: 1 line is improperly formatted' <<<"$stderr"
    b2sum tree/one >B
    run -0 tidemill hash -a b2 -c B
    tidemill hash -c - <S >/dev/null || [ $? -eq 4 ]
}

# ---- data and the rest ----

@test "stdout is data, stderr the rest; -q and -v; exit 3 says how many" {
    make_tree
    run -3 --separate-stderr tidemill hash tree/one missing
    [ "${#lines[@]}" -eq 1 ]
    grep -q '^tidemill: missing: No such file or directory$' <<<"$stderr"
    grep -q '^tidemill: j1: 1 ok, 1 failed$' <<<"$stderr"
    run -3 --separate-stderr tidemill hash -q tree/one missing
    [ "$stderr" = "tidemill: missing: No such file or directory" ]
    run -0 --separate-stderr tidemill hash tree/one
    [ -z "$stderr" ]
    mkfifo tree/fifo
    run -0 --separate-stderr tidemill hash -v -r tree
    grep -q 'tree: 1 entries skipped' <<<"$stderr"
    grep -q ' ok' <<<"$stderr"
}

@test "--json: the documented fields, failed ones too, names that are not UTF-8" {
    make_tree
    tidemill key identity id >r
    run -3 --separate-stderr tidemill encrypt --json -r "$(cat r)" -o out tree/one missing \
        tree/$'bad\xff\xfeutf8'
    [ -z "$(grep -v '^{' <<<"$stderr")" ]
    python3 - "$output" <<'PY'
import base64, hashlib, json, sys
rows = [json.loads(line) for line in sys.argv[1].splitlines()]
assert len(rows) == 3
for row in rows:
    assert list(row)[0] == "v" and row["v"] == 1, row
    for key in "job task input status class error bytes digests output node attempts seconds".split():
        assert key in row, (key, row)
by = {row["input"]: row for row in rows}
ok = by["tree/one"]
assert ok["status"] == "ok" and ok["job"] == "j1" and ok["attempts"] == 1
assert ok["digests"]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
assert ok["output"].endswith("/out/one.age") and ok["bytes"] == 4
assert by["missing"]["status"] == "failed" and by["missing"]["output"] is None
raw = by["tree/bad\ufffd\ufffdutf8"]
assert base64.b64decode(raw["input_base64"]) == b"tree/bad\xff\xfeutf8"
PY
    run -2 --separate-stderr tidemill hash --json -a nothing x
    python3 -c 'import json,sys; e=json.loads(sys.argv[1]); assert e["code"]==2 and e["error"]' "$stderr"
}

@test "usage errors are 2: bare numbers, bad choices, missing arguments" {
    for line in "hash" "hash --task-timeout 5 x" "fetch --max-size 10 http://h/" "wait" \
        "hash --progress loud x" "job" "job show" "node" "key" "encrypt x" "decrypt x" \
        "results" "fetch --rate fast http://h/" "encrypt -r age1x --output a b c" \
        "up extra" "hash -d -"; do
        # shellcheck disable=SC2086
        run -2 --separate-stderr tidemill $line
        [ -z "$output" ] || { echo "stdout: $line"; false; }
        grep -q '^tidemill: error: ' <<<"$stderr" || { echo "stderr: $line: $stderr"; false; }
    done
    run -2 --separate-stderr tidemill
    run -2 --separate-stderr tidemill-worker --nonsense
    run -2 --separate-stderr tidemill-worker
    run -2 --separate-stderr tidemill-coordinator --nonsense
    run -2 --separate-stderr tidemill-coordinator
}

@test "help and version: every command, exit 0, on stdout" {
    run -0 --separate-stderr tidemill help
    [ -z "$stderr" ]
    for command in $(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$output"); do
        run -0 --separate-stderr tidemill help "$command"
        grep -q "^usage: tidemill $command" <<<"$output"
        diff <(tidemill "$command" --help) <(tidemill help "$command")
    done
    run -0 tidemill --version
    [[ $output =~ ^tidemill\ [0-9] ]]
    run -0 tidemill-worker --version
    run -0 tidemill-coordinator --version
    run -2 tidemill help nonsense
}

# ---- terminals ----

@test "binary is not written to a terminal, text is" {
    tidemill key identity id >r
    R=$(cat r)
    head -c 100 /dev/zero | age -r "$R" -o zeros.age
    echo text | age -r "$R" -o text.age
    run -2 on_terminal "echo x | tidemill encrypt -r $R -"
    on_terminal "echo x | tidemill encrypt -r $R -" || true
    [[ $shown == *"refusing to write binary to a terminal"* ]]
    on_terminal "echo x | tidemill encrypt --armor -r $R -"
    [[ $shown == *"BEGIN AGE ENCRYPTED FILE"* ]]
    run -2 on_terminal "tidemill decrypt -i id - <zeros.age"
    on_terminal "tidemill decrypt -i id - <text.age"
    [[ $shown == *text* ]]
    start_bad_server
    run -2 on_terminal "tidemill fetch http://127.0.0.1:$BAD_PORT/binary"
    on_terminal "tidemill fetch http://127.0.0.1:$BAD_PORT/words"
    [[ $shown == *"/words"* ]]
}

@test "a bar on a terminal only, none when TERM is dumb; no color codes with NO_COLOR" {
    echo words >small
    on_terminal "feed_until 'small' '[█·].*%' | TERM=xterm tidemill hash --files-from -"
    grep -q '%' <<<"$shown"
    on_terminal "feed_until 'small' '[█·].*%' | TERM=xterm NO_COLOR=1 tidemill hash --files-from -"
    run ! grep -q $'\e\[[0-9;]*m' <<<"$shown"
    on_terminal "{ echo small; sleep 1; } | TERM=dumb tidemill hash --files-from -"
    run ! grep -q '%' <<<"$shown"
    { echo small; sleep 1; } | tidemill hash --files-from - 2>err >/dev/null
    [ ! -s err ]
    tidemill hash --progress bar small 2>err >/dev/null
    grep -q '%' err
    tidemill hash --progress none small 2>err >/dev/null
    [ ! -s err ]
}

@test "--dry-run: what would be read and written, and nothing is" {
    files 3
    tidemill key identity id >r
    run -0 --separate-stderr tidemill encrypt --dry-run -r "$(cat r)" --recursive -o safe many
    [ "${#lines[@]}" -eq 3 ]
    [ "$(sort <<<"$output" | head -1)" = "many/f00000 -> $PWD/safe/many/f00000.age" ]
    [ ! -e safe ]
    run -3 --separate-stderr tidemill hash --dry-run many/f00001 missing
    [ "$output" = many/f00001 ]
    [[ $stderr == "tidemill: missing: No such file or directory" ]]
    run -0 tidemill hash --dry-run --json many/f00002
    [ "$output" = '{"v":1,"input":"many/f00002"}' ]
    run -0 tidemill fetch --dry-run http://127.0.0.1:1/a/b
    [ "$output" = "http://127.0.0.1:1/a/b -> -" ]
    tidemill hash -k many/f00001 many/f00002 >sums
    echo changed >many/f00001
    run -0 tidemill hash --dry-run -c sums
    [ "$output" = $'many/f00001\nmany/f00002' ]
    run -2 --separate-stderr tidemill job rm --dry-run all
    [[ $stderr == *"job has no --dry-run"* ]]
    [ ! -e run/tidemill ]
    [ -z "$(ls tmp)" ]
}

@test "--color: of the word error; --no-input is taken" {
    run -2 --separate-stderr tidemill hash --no-input --color always
    [[ $stderr == *$'\e[1;31merror:\e[0m'* ]]
    run -2 --separate-stderr tidemill hash --color auto
    [[ $stderr == "tidemill: error: "* ]]
    run -2 on_terminal "TERM=xterm tidemill hash"
    on_terminal "TERM=xterm tidemill hash" || true
    [[ $shown == *$'\e[1;31merror:'* ]]
    on_terminal "TERM=xterm NO_COLOR=1 tidemill hash" || true
    [[ $shown == "tidemill: error: "* ]]
}

@test "--progress json: an object a line with the counts" {
    files 50
    tidemill hash --progress json -r many 2>err >/dev/null
    python3 - <<'PY'
import json
rows = [json.loads(line) for line in open("err")]
assert rows and rows[-1]["ok"] == 50 and rows[-1]["tasks"] == 50, rows[-1:]
assert all(r["v"] == 1 and r["job"] == "j1" for r in rows)
PY
}

# ---- Ctrl-C ----

@test "Ctrl-C embedded: stops, says how to go on, leaves nothing" {
    open_job tidemill hash
    until_ok grep -q passwd out
    kids=$(children "$JOB")
    kill -INT "$JOB"
    status=0
    wait "$JOB" || status=$?
    [ "$status" -eq 8 ]
    grep -q -- '--state DIR' err
    for kid in $kids; do wait_gone "$kid"; done
    [ -z "$(ls tmp)" ]
}

@test "Ctrl-C with --state: the same command goes on and does only what is missing" {
    files 20
    mkfifo feed
    tidemill hash --state st --files-from feed >out 2>err 3>&- &
    pid=$!
    exec 8>feed
    find many -type f | sort | head -10 >&8
    until_ok eval '[ "$(wc -l <out)" -eq 10 ]'
    kill -INT "$pid"
    status=0
    wait "$pid" || status=$?
    exec 8>&-
    [ "$status" -eq 7 ]
    grep -q 'the same command goes on' err
    tidemill hash --state st --files-from feed >out2 2>err2 3>&- &
    pid=$!
    find many -type f | sort >feed
    wait "$pid"
    sha256sum --quiet --strict -c out2
    [ "$(wc -l <out2)" -eq 20 ]
}

@test "Ctrl-C on a cluster: the first detaches with 7, the second cancels with 8" {
    start_up
    open_job tidemill hash
    until_ok grep -q passwd out
    kill -INT "$JOB"
    until_ok grep -q 'detached; j1' err
    grep -q 'tidemill watch j1' err
    kill -INT "$JOB"
    status=0
    wait "$JOB" || status=$?
    [ "$status" -eq 8 ]
    tidemill job show j1 | grep -q 'state *cancelled'
    exec 8>&-
    rm feed
    open_job tidemill hash
    until_ok grep -q passwd out
    kill -INT "$JOB"
    status=0
    wait "$JOB" || status=$?
    [ "$status" -eq 7 ]
    # What it has is all it gets, since nobody could add to it.
    grep -q 'detached; j2 goes on with the inputs it has (1), and takes no more' err
    tidemill wait j2
    [ "$(tidemill results j2)" = "$(sha256sum /etc/passwd)" ]
}

@test "wait, watch and results --follow: Ctrl-C is 7, --timeout is 7, the job goes on" {
    start_up
    open_job tidemill hash
    until_ok tidemill job show j1
    run -7 --separate-stderr tidemill wait --timeout 100ms j1
    grep -q 'j1: still running' <<<"$stderr"
    for command in "wait j1" "watch j1" "results --follow j1"; do
        # shellcheck disable=SC2086
        tidemill $command >o 2>e 3>&- &
        pid=$!
        until_ok catches_interrupts "$pid"
        kill -INT "$pid"
        status=0
        wait "$pid" || status=$?
        [ "$status" -eq 7 ] || { echo "$command: $status" >&2; cat e >&2; false; }
    done
    exec 8>&-
    wait "$JOB"
    tidemill wait j1
}

# ---- jobs ----

@test "job ls, show, selectors, JSON; results as the command printed them" {
    files 30
    start_up
    for _ in 1 2 3; do tidemill hash -d --name batch -r many; done
    tidemill wait all
    [ "$(tidemill job ls --json | wc -l)" -eq 3 ]
    tidemill job ls --json | python3 -c 'import json,sys
rows = [json.loads(l) for l in sys.stdin]
assert all(r["v"] == 1 and r["name"] == "batch" and r["ok"] == 30 for r in rows)'
    tidemill job ls | grep -q 'batch$'
    tidemill job show 1-2 | grep -c '^job ' | grep -qx 2
    run -0 tidemill wait 1-3
    run -9 --separate-stderr tidemill wait j7
    run -2 --separate-stderr tidemill wait nonsense
    tidemill hash -k -r --tag -a sha256,md5 many >direct
    tidemill hash -d --tag -a sha256,md5 -r many >id
    tidemill wait last
    diff <(sort direct) <(tidemill results last | sort)
    tidemill results j1 -o sums
    sha256sum --quiet --strict -c sums/SHA256SUMS
    tidemill node ls --json | python3 -c 'import json,sys
rows = [json.loads(l) for l in sys.stdin]
assert len(rows) == 1 and rows[0]["state"] == "up" and rows[0]["processes"] >= 1'
}

@test "results --failed shows only those; exit 3 again" {
    files 3
    start_up --root "$T/many"
    run -0 tidemill hash -d many/f00000 /etc/passwd many/f00001
    run -3 --separate-stderr tidemill wait last
    grep -q 'j1: 2 ok, 1 failed (tidemill results j1 --failed)' <<<"$stderr"
    run -3 --separate-stderr tidemill results last
    [ "${#lines[@]}" -eq 2 ]
    run -3 --separate-stderr tidemill results last --failed
    grep -q '^tidemill: /etc/passwd: outside of the worker' <<<"$stderr"
    [ -z "$output" ]
}

@test "decrypting where no node has the identity cannot be placed: 10" {
    tidemill key identity id >r
    echo x >f
    age -r "$(cat r)" -o f.age f
    rm f
    start_up
    run -10 --separate-stderr tidemill decrypt -i id f.age
    grep -q 'cannot be placed' <<<"$stderr"
    [ ! -e f ]
    kill "$UP"
    wait_gone "$UP"
    start_up -i id
    tidemill decrypt -i id f.age
    [ "$(cat f)" = x ]
}

# ---- fetch ----

@test "fetch: names as wget -x has them; --rate and --per-host hold" {
    start_bad_server
    local base=http://127.0.0.1:$BAD_PORT
    printf "$base/%s\n" '' dir/ 'q?a=1&b=2' '../up/./x' 'sp%20ace' >urls
    tidemill fetch -i urls -o got
    (cd "got/127.0.0.1:$BAD_PORT" && find . -type f | LC_ALL=C sort) >names
    printf '%s\n' ./%2E%2E/up/%2E/x ./dir/index.html ./index.html './q?a=1&b=2' ./sp%20ace |
        diff - names
    for i in $(seq 12); do echo "$base/slow/$i"; done | tidemill fetch -i - --per-host 3 --hash sha256 >S
    [ "$(wc -l <S)" -eq 12 ]
    for i in $(seq 5); do echo "$base/paced/$i"; done | tidemill fetch -i - --rate 10/s --hash sha256 >R
    cut -d' ' -f3 R | sort | head -1 | grep -q "^$base/paced/"
    python3 - <<'PY'
rows = [line.split() for line in open("server.log")]
assert max(int(r[3]) for r in rows if "/slow/" in r[1]) == 3
t = sorted(float(r[2]) for r in rows if "/paced/" in r[1])
assert len(t) == 5 and t[-1] - t[0] >= 0.35, t
PY
}

# ---- first run ----

@test "first run: no home, no configuration, no runtime directory" {
    echo x >f
    run -0 env -u HOME -u XDG_RUNTIME_DIR -u XDG_CONFIG_HOME tidemill hash f
    run -0 env XDG_RUNTIME_DIR=/nonexistent tidemill hash f
    run -2 --separate-stderr tidemill job ls
    grep -q 'hint: start one with tidemill up' <<<"$stderr"
    start_up
    run -1 --separate-stderr tidemill up --state other
    grep -q 'listens at .* already' <<<"$stderr"
}
