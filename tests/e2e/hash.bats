#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# hash: manifests that sha256sum, b2sum and md5sum accept; bad input named, the rest goes on.

setup() { load common.bash; common_setup; }
teardown() { common_teardown; }

@test "names that end in NUL need -0, and are not cut in silence" {
    echo a >a
    echo b >b
    run -3 --separate-stderr tidemill hash --files-from <(printf 'a\0b\0')
    [ -z "$output" ]
    grep -q 'NUL.*-0' <<<"$stderr"
}

@test "a tree's manifest is accepted by sha256sum and names every regular file" {
    make_tree
    ln -s one tree/link
    mkfifo tree/fifo
    tidemill hash -r tree >S
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq "$(find tree -type f -printf . | wc -c)" ]
}

@test "names are printed as find prints them" {
    make_tree
    cd tree
    tidemill hash -r . | sort >../got
    find . -type f -print0 | xargs -0 sha256sum | sort >../want
    diff ../want ../got
}

@test "other algorithms agree with their own tools" {
    make_tree
    tidemill hash -r -a blake2b tree >B
    b2sum --quiet --strict -c B
    tidemill hash -r -a md5 tree >M
    md5sum --quiet --strict -c M
    tidemill hash -r -a sha512 tree >L
    sha512sum --quiet --strict -c L
    tidemill hash -r -a sha1 tree >K
    sha1sum --quiet --strict -c K
}

@test "several algorithms: tag lines, or a manifest each under -o" {
    make_tree
    tidemill hash -r --tag -a sha256,b2 tree >T
    [ "$(grep -c '^\\\?SHA256 (' T)" -eq "$(grep -c '^\\\?BLAKE2b (' T)" ]
    tidemill hash -r -a sha256,b2 -o out tree
    sha256sum --quiet --strict -c out/SHA256SUMS
    b2sum --quiet --strict -c out/B2SUMS
}

@test "-k keeps the order of the arguments" {
    for i in $(seq 1 300); do echo "$i" >"f$i"; done
    tidemill hash -k f{1..300} >got
    sha256sum f{1..300} | diff - got
}

@test "a list of NUL-ended names on standard input" {
    make_tree
    find tree -type f -print0 | tidemill hash -0 --files-from - >S
    sha256sum --quiet --strict -c S
}

@test "missing, unreadable and directory inputs: a line each, the others go on, exit 3" {
    make_tree
    run --separate-stderr tidemill hash tree/one missing tree tree/empty
    [ "$status" -eq 3 ]
    [ "${#lines[@]}" -eq 2 ]
    grep -q 'missing: No such file or directory' <<<"$stderr"
    grep -q 'tree: is a directory' <<<"$stderr"
}

@test "checking a manifest: OK lines, 4 on a mismatch" {
    make_tree
    tidemill hash -r tree >S
    tidemill hash -c S >out
    [ "$(grep -c ': OK$' out)" -eq "$(wc -l <S)" ]
    echo changed >tree/one
    run --separate-stderr tidemill hash -c S --quiet
    [ "$status" -eq 4 ]
    [ "$output" = "tree/one: FAILED" ]
}

@test "--json with -o: the objects, and the manifests too" {
    make_tree
    local files
    files=$(find tree -type f -printf x | wc -c)
    run -3 --separate-stderr tidemill hash --json -r -a sha256,b2 -o out tree missing
    [ "$(grep -c '^{"v":1,' <<<"$output")" -eq "${#lines[@]}" ]
    [ "$(grep -c '"status":"ok"' <<<"$output")" -eq "$files" ]
    [ "$(wc -l <out/SHA256SUMS)" -eq "$files" ]
    sha256sum --quiet --strict -c out/SHA256SUMS
    b2sum --quiet --strict -c out/B2SUMS
}

@test "--json: an object a task, failed ones too" {
    make_tree
    run --separate-stderr tidemill hash --json tree/one missing
    [ "$status" -eq 3 ]
    python3 - "$output" <<'PY'
import hashlib, json, sys
rows = {r["input"]: r for r in map(json.loads, sys.argv[1].splitlines())}
assert rows["tree/one"]["digests"]["sha256"] == hashlib.sha256(b"one\n").hexdigest()
assert rows["tree/one"]["status"] == "ok" and rows["tree/one"]["v"] == 1
assert rows["missing"]["status"] == "failed" and rows["missing"]["error"]
PY
}

@test "an unknown algorithm is a usage error with a hint" {
    run --separate-stderr tidemill hash -a sha-256 /etc/passwd
    [ "$status" -eq 2 ]
    grep -q "unknown algorithm 'sha-256' in -a" <<<"$stderr"
    grep -q "did you mean 'sha256'" <<<"$stderr"
}

@test "an embedded run leaves nothing behind, also when killed with -9" {
    make_tree
    tidemill hash -r tree >/dev/null
    [ -z "$(ls -A run)" ]
    mkfifo feed
    tidemill hash -0 --files-from feed >/dev/null 3>&- &
    pid=$!
    exec 8>feed
    printf 'tree/one\0' >&8
    until_ok pgrep -P "$pid" -f tidemill-worker
    kids=$(children "$pid")
    kill -9 "$pid"
    exec 8>&-
    for kid in $kids; do wait_gone "$kid"; done
    until_ok is_empty run
}
