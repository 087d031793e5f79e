#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# encrypt, decrypt: what age writes is read, what is written age reads; damage leaves nothing.

setup() {
    load common.bash
    common_setup
    tidemill key identity id >recipient
    R=$(cat recipient)
}
teardown() { common_teardown; }

@test "a key is age's own, private, and never overwritten" {
    [ "$(age-keygen -y id)" = "$R" ]
    [ "$(tidemill key recipient id)" = "$R" ]
    [ "$(stat -c %a id)" = 600 ]
    run -1 --separate-stderr tidemill key identity id
    grep -q 'exists' <<<"$stderr"
}

@test "a tree there and back; age opens every file" {
    make_tree
    tidemill encrypt -r "$R" --recursive -o enc tree
    tidemill decrypt -i id -r -o dec enc/tree
    diff -r tree dec/tree
    age -d -i id enc/tree/sub/big.age | cmp - tree/sub/big
    [ -z "$(find enc dec -name '.*')" ]
}

@test "files of age and armored ones are opened" {
    make_tree
    age -r "$R" -o a.age tree/sub/big
    age -a -r "$R" -o b.age tree/sub/big
    tidemill decrypt -i id a.age b.age
    cmp a tree/sub/big
    cmp b tree/sub/big
    tidemill encrypt --armor -r "$R" --output c.age tree/sub/big
    head -1 c.age | grep -q 'BEGIN AGE ENCRYPTED FILE'
    age -d -i id c.age | cmp - tree/sub/big
}

@test "every size around a chunk's end, both ways, armored or not" {
    mkdir plain ours theirs
    for size in 0 1 65535 65536 65537 131072 131073; do
        head -c $size /dev/urandom >plain/$size
        age -r "$R" -o theirs/$size.age plain/$size
        age -a -r "$R" -o theirs/$size.asc.age plain/$size
    done
    tidemill encrypt -r "$R" -o ours plain/*
    tidemill encrypt --armor -r "$R" -o armored plain/*
    tidemill decrypt -i id -o back theirs/*
    for size in 0 1 65535 65536 65537 131072 131073; do
        cmp back/$size plain/$size
        cmp back/$size.asc plain/$size
        age -d -i id ours/$size.age | cmp - plain/$size
        age -d -i id armored/$size.age | cmp - plain/$size
    done
}

@test "digests of both sides with --json, and none that nobody asked for" {
    printf plain >f
    use_coordinator
    start_coordinator
    start_worker --identity id
    tidemill encrypt --json -r "$R" f >made
    tidemill decrypt --json -i id --output back f.age >opened
    tidemill encrypt -d -r "$R" --output g.age f
    tidemill wait j3
    tidemill results --json j3 >later
    python3 - <<'PY'
import hashlib, json
def row(name): return json.loads(open(name).read())
def of(path): return {"sha256": hashlib.sha256(open(path, "rb").read()).hexdigest()}
assert row("made")["digests"] == of("f") and row("made")["output_digests"] == of("f.age")
assert row("opened")["digests"] == {} and row("opened")["output_digests"] == of("f")
assert row("later")["digests"] == {} and "output_digests" not in row("later")
PY
}

@test "several recipients: each of them opens it" {
    tidemill key identity id2 >r2
    echo text >f
    tidemill encrypt -r "$R" -r "$(cat r2)" f
    [ "$(age -d -i id f.age)" = text ]
    [ "$(age -d -i id2 f.age)" = text ]
}

@test "streams" {
    head -c 1000000 /dev/urandom >f
    tidemill encrypt -r "$R" - <f | age -d -i id | cmp - f
    age -r "$R" f | tidemill decrypt -i id - | cmp - f
    echo garbage >g
    run -3 --separate-stderr tidemill decrypt -i id - <g
    [ -z "$output" ]
    grep -q '^tidemill: -: not an age file' <<<"$stderr"
}

@test "damaged files are named, leave no output, and the others go on" {
    head -c 200000 /dev/urandom >good
    tidemill encrypt -r "$R" good
    head -c 150000 good.age >cut.age
    cp good.age flipped.age
    python3 - <<'PY'
with open("flipped.age", "r+b") as f:
    f.seek(100000)
    byte = f.read(1)[0]
    f.seek(100000)
    f.write(bytes([byte ^ 1]))
PY
    echo no >garbage.age
    rm good
    run -3 --separate-stderr tidemill decrypt -i id good.age cut.age flipped.age garbage.age
    echo "$stderr"
    [ -f good ]
    [ ! -e cut ]
    [ ! -e flipped ]
    [ ! -e garbage ]
    grep -q '^tidemill: cut.age: .*truncated' <<<"$stderr"
    grep -q '^tidemill: flipped.age: .*not authentic' <<<"$stderr"
    grep -q '^tidemill: garbage.age: not an age file' <<<"$stderr"
    [ -z "$(find . -name '.*tm-*')" ]
}

@test "a wrong identity, a malformed one, a wrong name" {
    echo x >f
    tidemill encrypt -r "$R" f
    rm f
    tidemill key identity other
    run -3 --separate-stderr tidemill decrypt -i other f.age
    grep -q 'f.age: no identity opens it' <<<"$stderr"
    echo AGE-SECRET-KEY-1NONSENSE >bad
    run -2 --separate-stderr tidemill decrypt -i bad f.age
    run -3 --separate-stderr tidemill decrypt -i id recipient
    grep -q 'does not end in .age' <<<"$stderr"
    run -2 --separate-stderr tidemill encrypt -r age1nonsense f.age
}

@test "an output that exists stays, unless --force; two inputs never share one" {
    echo new >f
    echo old >f.age
    run -3 --separate-stderr tidemill encrypt -r "$R" f
    [ "$(cat f.age)" = old ]
    grep -q 'output exists' <<<"$stderr"
    tidemill encrypt --force -r "$R" f
    [ "$(age -d -i id f.age)" = new ]
    mkdir -p a b
    echo 1 >a/x
    echo 2 >b/x
    run -3 --separate-stderr tidemill encrypt -r "$R" -o out a/x b/x # whoever is first
    [ "$(grep -c 'output exists' <<<"$stderr")" -eq 1 ]
    grep -qx '[12]' <(age -d -i id out/x.age)
    run -3 --separate-stderr tidemill encrypt --force -r "$R" -o out a/x b/x
    grep -q 'b/x: another input goes to out/x.age too' <<<"$stderr"
    [ "$(age -d -i id out/x.age)" = 1 ]
}

@test "--sync none: outputs are not synced; without it they are" {
    needs_failpoint tidemill-worker files_sync_before
    tidemill key identity id2 >r2
    mkdir -p in none full back
    for i in $(seq 20); do echo "$i" >"in/$i"; done
    export TIDEMILL_FAILPOINTS=files_sync_before=delay:1,dirs_sync_before=delay:1
    TIDEMILL_FAILPOINTS_DIR=$T/none tidemill encrypt --sync none --recursive -R r2 -o safe in
    [ -z "$(ls -A none)" ]
    TIDEMILL_FAILPOINTS_DIR=$T/none tidemill decrypt --sync none --recursive -i id2 -o back safe/in
    [ -z "$(ls -A none)" ]
    diff -r in back/in
    TIDEMILL_FAILPOINTS_DIR=$T/full tidemill encrypt --recursive -R r2 -o safe2 in
    [ -e full/files_sync_before ]
    [ -e full/dirs_sync_before ]
}

@test "a full disk is said, and nothing half-written stays" {
    [ "$(id -u)" -eq 0 ] || skip "needs root for a small file system"
    mkdir small
    mount -t tmpfs -o size=1m none small || skip "mounts are forbidden here"
    head -c 3000000 /dev/urandom >f
    run --separate-stderr tidemill encrypt -r "$R" --retries 0 --output small/f.age f
    left=$(ls -A small)
    umount small
    [ "$status" -eq 3 ]
    grep -qi 'no space left' <<<"$stderr"
    [ -z "$left" ]
}
