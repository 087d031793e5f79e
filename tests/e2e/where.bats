#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Where jobs run: labels, --on, --on each, walks by the nodes, and why a job waits.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

# start_node NAME ARGS...: a worker of its own name; its pid in NODE.
start_node() {
    tidemill-worker --join "ipc://$T/c" --name "$1" --procs 1 "${@:2}" 2>>"$1.err" 3>&- &
    NODE=$!
    PIDS+=("$NODE")
}
node_is_up() { tidemill node show "$1" 2>/dev/null | grep -q '^state  *up$'; }
# start_three: s1 (disk=ssd), s2 and s3 (disk=hdd), all with the whole directory as root.
start_three() {
    start_coordinator "$@"
    start_node s1 --root "$T" --label disk=ssd --label site=a
    start_node s2 --root "$T" --label disk=hdd --label site=a
    start_node s3 --root "$T" --label disk=hdd --label site=b
    local n
    for n in s1 s2 s3; do until_ok node_is_up $n; done
}
files_in() { find "$@" -type f -printf x | wc -c; }
walks() { tidemill job ls --json | grep -c '"command":"walk"' || true; }
a_walk_runs() { [ "$(walks)" -gt 0 ]; }
nodes_of() { grep -o '"node":"[^"]*"' | sort | uniq -c | sed 's/^ *//'; }
# explains JOB REASON: that is among what is said of it.
explains() { tidemill explain "$1" --json | grep -q "\"reason\":\"$2\""; }

@test "labels are shown; bad ones and names that could be taken for one are refused" {
    start_three
    echo x >f
    tidemill hash -d --on each --on disk=hdd f
    tidemill job show last | grep -qx 'on  *each,disk=hdd'
    [ "$(tidemill node show s1 --json | grep -o '"labels":"[^"]*"')" = '"labels":"disk=ssd,site=a"' ]
    tidemill node ls | grep -q '^s3 .* disk=hdd,site=b$'
    for bad in disk =x 'a b=c' 'k=a,b'; do
        run -2 tidemill-worker --join "ipc://$T/c" --label "$bad"
        grep -q -- '--label: not a label' <<<"$output"
    done
    for bad in a=b each 'a b'; do
        run -2 tidemill-worker --join "ipc://$T/c" --name "$bad"
        grep -q 'no node can be called' <<<"$output"
    done
    run -2 tidemill hash --on 'a b=c' "$T/c"
    grep -q -- '--on: not a label' <<<"$output"
}

@test "--on: a name, a label, all of several" {
    many 300
    start_three
    tidemill hash --json --on s2 -r many >out
    [ "$(nodes_of <out)" = '300 "node":"s2"' ]
    tidemill hash --json --on disk=hdd --on site=a -r many >out
    [ "$(nodes_of <out)" = '300 "node":"s2"' ]
    tidemill hash --json --on disk=hdd -r many >out
    [ "$(nodes_of <out | wc -l)" -le 2 ]
    [ "$(grep -c '"node":"s1"' out)" -eq 0 ]
    [ "$(wc -l <out)" -eq 300 ]
    tidemill hash --on s3 -r many >sums
    sha256sum -c --quiet sums
    tidemill hash --on s1 -c sums
}

@test "what no node can run: exit 10 at once, and it says what is lacking" {
    start_three
    echo x >f
    tidemill key identity id >r
    age -r "$(cat r)" -o f.age f
    settled() { # by then no node is missed that was starting too
        run --separate-stderr tidemill hash -d --on nowhere f
        [ "$status" -eq 10 ]
    }
    until_ok settled
    jobs=$(tidemill job ls --json | wc -l)
    begin=$SECONDS
    run -10 --separate-stderr tidemill hash --on nowhere f
    grep -q 'cannot be placed: no node is nowhere$' <<<"$stderr"
    grep -q 'hint: tidemill node ls' <<<"$stderr"
    run -10 --separate-stderr tidemill hash --on disk=ssd --on site=b f
    grep -q 'no node is disk=ssd and site=b$' <<<"$stderr"
    run -10 --separate-stderr tidemill hash --on each --on site=c f -o out
    grep -q 'no connected node is meant by --on each' <<<"$stderr"
    run -10 --separate-stderr tidemill decrypt -i id f.age --on s1 --force
    grep -q 'no node has an identity' <<<"$stderr"
    [ $((SECONDS - begin)) -lt 20 ]
    [ "$(tidemill job ls --json | wc -l)" -eq "$jobs" ]
}

@test "--on each: a task of every input on every node, which the result names" {
    many 200
    start_three
    run -2 --separate-stderr tidemill hash --on each -r many
    grep -q 'cannot say which node' <<<"$stderr"
    tidemill hash --on each --json -r many >out
    [ "$(nodes_of <out | tr '\n' ' ')" = '200 "node":"s1" 200 "node":"s2" 200 "node":"s3" ' ]
    tidemill hash --on each --on disk=hdd -r many -o sums
    [ "$(ls sums | tr '\n' ' ')" = 's2 s3 ' ]
    for n in s2 s3; do
        [ "$(wc -l <sums/$n/SHA256SUMS)" -eq 200 ]
        sha256sum -c --quiet sums/$n/SHA256SUMS
    done
    jobs=$(tidemill job ls --json | wc -l)
    run -1 --separate-stderr tidemill hash --on each --on s2 -r many -o sums
    grep -q 'sums/s2/SHA256SUMS exists already' <<<"$stderr"
    [ "$(tidemill job ls --json | wc -l)" -eq "$jobs" ] # said before anything is hashed
    # of many nodes' manifests each is open: as many files as there may be, else it is said at once
    (ulimit -Sn 64 && tidemill hash --on each many/f00000 -o soft)
    [ "$(ls soft | wc -l)" -eq 3 ]
    run -1 --separate-stderr bash -c 'ulimit -n 70; exec tidemill hash -a sha256,b2,md5 --on each many/f00000 -o hard'
    grep -q '9 manifests would be open at once, and 70 files may be' <<<"$stderr"
    [ ! -e hard ]
    # another process prints it in the same way
    tidemill hash -d --on each --on site=a -r many -a sha256,b2
    tidemill wait last
    run -2 tidemill results last
    tidemill results last -o sums2
    [ "$(ls sums2 | tr '\n' ' ')" = 's1 s2 ' ]
    b2sum -c --quiet sums2/s1/B2SUMS
    long=$(printf '%%%.0s' {1..86}) # three bytes each, as a directory
    start_node "$long" --root "$T"
    until_ok node_is_up "$long"
    run -1 --separate-stderr tidemill hash --on each many/f00000 -o sums3
    grep -q 'is too long for a directory' <<<"$stderr"
    [ ! -e sums3 ]
}

@test "--on each: a failure names its node; outputs of one name on each are no conflict" {
    start_coordinator
    # Each has a directory of its own at the same path.
    unshare -rm true || skip "no mount namespaces"
    mkdir data one two
    echo 1 >one/f
    echo 1 >one/only-one
    echo 2 >two/f
    for n in one two; do
        unshare -rm sh -c "mount --bind $T/$n $T/data && exec tidemill-worker --join ipc://$T/c \
            --name $n --procs 1 --root $T/data" 2>>"$n.err" 3>&- &
        PIDS+=("$!")
    done
    for n in one two; do until_ok node_is_up $n; done
    tidemill hash --on each --remote -r data -o sums
    sed 's, data/, ,' sums/one/SHA256SUMS | (cd one && sha256sum -c --quiet)
    sed 's, data/, ,' sums/two/SHA256SUMS | (cd two && sha256sum -c --quiet)
    [ "$(wc -l <sums/one/SHA256SUMS)" -eq 2 ]
    [ "$(wc -l <sums/two/SHA256SUMS)" -eq 1 ]
    run -3 --separate-stderr tidemill hash --on each --remote data/only-one -o sums2
    grep -q 'data/only-one: on two: No such file' <<<"$stderr"
    tidemill key identity id >r
    tidemill encrypt -r "$(cat r)" --on each --remote --recursive data
    [ -z "$(ls data)" ]
    age -d -i id one/f.age | cmp - one/f
    age -d -i id two/f.age | cmp - two/f
    # two inputs to one name are a conflict on one node, and not on two
    tidemill encrypt -r "$(cat r)" --on each --remote --recursive --force data/f
    # what failed is tried again where it failed
    echo 3 >two/only-one
    tidemill hash -d --on each --remote data/only-one data/missing
    run -3 tidemill wait last
    run -3 --separate-stderr tidemill results last --failed
    [ "$(grep -c 'data/missing: on one: No such file' <<<"$stderr")" -eq 1 ]
    [ "$(grep -c 'data/missing: on two: No such file' <<<"$stderr")" -eq 1 ]
    echo 4 >one/missing
    echo 4 >two/missing
    tidemill job retry last
    tidemill wait last
    tidemill results last --json >out
    [ "$(nodes_of <out | tr '\n' ' ')" = '1 "node":"one" 1 "node":"two" ' ]
}

@test "--on each: a node that is gone keeps its tasks waiting, over a restart; explain says so" {
    many 100
    start_three --silence 2s
    stop "$NODE" -KILL # s3
    tidemill node ls --json | grep -q '"name":"s3"' # it may come back
    tidemill hash -d --on each --on disk=hdd -r many
    until_ok eval '[ "$(job_number ok last)" -eq 100 ]'
    until_ok explains last node_away
    tidemill explain last | grep -q '^j1: 100 tasks are for node s3, which is not connected$'
    stop "$COORD" -KILL
    start_coordinator --silence 2s
    until_ok explains last node_away
    [ "$(job_number ok last)" -eq 100 ]
    start_node s3 --root "$T"
    until_ok explains last node_unfit # without its label it is not meant any more
    stop "$NODE"
    start_node s3 --root "$T" --label disk=hdd
    tidemill wait last
    tidemill results last --json >out
    [ "$(nodes_of <out | tr '\n' ' ')" = '100 "node":"s2" 100 "node":"s3" ' ]
    # and cancel ends what waits for one that never comes; its tasks say whose they were
    tidemill node drain s3 # it is meant nevertheless
    tidemill hash -d --on each --on disk=hdd -r many
    until_ok eval '[ "$(job_number ok last)" -eq 100 ]'
    [ "$(job_number tasks last)" -eq 200 ]
    stop "$NODE" -KILL
    until_ok explains last node_away
    run -10 --separate-stderr tidemill hash --on each --on s3 -r many --json
    grep -q 'no connected node is meant by --on each' <<<"$stderr"
    tidemill job cancel last
    run -8 tidemill wait last
    run -8 tidemill results last --json
    grep '"status":"cancelled"' <<<"$output" | nodes_of | grep -q '^100 "node":"s3"$'
}

# Names that bite, for walks: not UTF-8, newlines, empty and unreadable directories, links.
make_odd_tree() {
    make_tree
    mkdir -p tree/hollow/hollower tree/$'odd\n\xff/in' tree/.hidden
    echo q >tree/$'odd\n\xff/in/q'
    echo h >tree/.hidden/h
    ln -s one tree/link
    ln -s sub tree/dirlink
    ln -s / tree/sub/rootlink
    ln -s nowhere tree/dangling
    mkfifo tree/fifo
}

@test "a walk by the nodes finds what a walk here finds" {
    make_odd_tree
    start_three
    tidemill hash -r tree | sort >here
    tidemill hash -r --remote tree | sort >there
    cmp here there
    [ "$(wc -l <here)" -eq "$(files_in tree)" ]
    for named in tree/ ./tree tree/sub/../sub "$T/tree" tree/one tree/link; do
        tidemill hash -r "$named" | sort >here
        tidemill hash -r --remote "$named" | sort >there
        cmp here there
    done
    find tree -type f -print0 | tidemill hash --remote --files-from - -0 | sort >there
    tidemill hash -r tree | sort | cmp - there
    [ "$(walks)" -eq 0 ] # nothing of it is kept
    # outputs go where they go otherwise
    tidemill key identity id >r
    tidemill encrypt -r "$(cat r)" --recursive -o here.d tree
    tidemill encrypt -r "$(cat r)" --recursive --remote -o there.d tree
    diff <(cd here.d && find . | sort) <(cd there.d && find . | sort)
    (unset TIDEMILL_COORDINATOR && tidemill decrypt -i id --recursive --remote -o back there.d/tree)
    diff <(cd tree && find . -type f -exec sha256sum {} + | sort) \
        <(cd back/tree && find . -type f -exec sha256sum {} + | sort)
}

@test "a walk by the nodes: what cannot be read is named, the rest goes on" {
    make_odd_tree
    mkdir tree/shut
    echo x >tree/shut/x
    chmod 0 tree/shut
    start_coordinator
    chmod 777 "$T" c
    as_user tidemill-worker --join "ipc://$T/c" --name n --procs 1 --root "$T/tree" 2>>n.err 3>&- &
    PIDS+=("$!")
    until_ok node_is_up n
    chmod 0 tree/shut
    run -3 --separate-stderr tidemill hash -r --remote tree tree/none /etc
    grep -q '^tidemill: tree/shut: Permission denied$' <<<"$stderr"
    grep -q '^tidemill: tree/none: No such file or directory$' <<<"$stderr"
    grep -q '^tidemill: /etc: outside of the worker' <<<"$stderr"
    grep -q "j[0-9]*: $(files_in tree -not -path '*/shut/*') ok, 3 failed" <<<"$stderr"
    run -3 --separate-stderr tidemill hash --remote tree
    grep -q '^tidemill: tree: Is a directory$' <<<"$stderr"
    run -2 --separate-stderr tidemill hash -r --remote --dry-run tree
    chmod 755 tree/shut
}

@test "a directory of 30,000 files takes several pages; a worker and the coordinator killed in the walk lose none" {
    mkdir -p wide/deep
    (cd wide && seq -f 'a-name-of-some-length-%06g' 30000 | xargs touch)
    (cd wide/deep && seq -f 'another-%06g' 3000 | xargs touch)
    start_coordinator --silence 2s
    start_node s1 --root "$T"
    FIRST=$NODE
    start_node s2 --root "$T"
    until_ok node_is_up s1
    until_ok node_is_up s2
    tidemill node drain s2 # so that s1 has the page,
    kill -STOP $(children "$FIRST") # and keeps it
    tidemill hash -d -r --remote wide >id 3>&- &
    HASH=$!
    until_ok a_walk_runs
    until_ok explains j2 running
    kill -9 "$FIRST"
    tidemill node undrain s2
    until_ok eval '[ "$(job_number tasks j1)" -gt 0 ]'
    stop "$COORD" -KILL
    start_coordinator --silence 2s
    wait "$HASH"
    tidemill wait last
    [ "$(job_number ok j1)" -eq 33000 ]
    tidemill results j1 | sed 's/^[^ ]*  //' | sort | uniq -d | wc -l | grep -qx 0
    diff <(tidemill results j1 | sed 's/^[^ ]*  //' | sort) <(find wide -type f | sort)
}

# A walk that waits: its node is drained. The command's pid in HASH; j1 is its job, j2 the walk.
start_waiting_walk() {
    mkdir wide
    (cd wide && seq -f '%06g' 3000 | xargs touch)
    start_coordinator --silence 2s
    start_node s1 --root "$T" --label disk=ssd
    until_ok node_is_up s1
    tidemill node drain s1
    tidemill hash -r --remote "$@" wide >out 2>err 3>&- &
    HASH=$!
    PIDS+=("$HASH")
    until_ok a_walk_runs
    until_ok explains j2 draining
}
# The exit code of a command of this test, in CODE.
code_of() {
    CODE=0
    wait "$1" || CODE=$?
}
state_of() { tidemill job show "$1" | sed -n 's/^state  *//p'; }

@test "Ctrl-C in a walk by the nodes ends it; the job goes on with what it has" {
    start_waiting_walk
    kill -INT "$HASH"
    code_of "$HASH"
    [ "$CODE" -eq 7 ]
    grep -q 'detached; j1 goes on with the inputs it has (0)' err
    tidemill wait j1
    [ "$(state_of j1)" = done ]
    run -9 tidemill job show j2
}

@test "Ctrl-C while the coordinator does not answer: the command ends all the same" {
    start_waiting_walk
    tidemill hash out >/dev/null 2>err2 3>&- &
    OTHER=$!
    PIDS+=("$OTHER")
    until_ok explains j3 draining
    kill -STOP "$COORD"
    begin=$SECONDS
    kill -INT "$HASH" "$OTHER"
    until_ok grep -q 'Ctrl-C again' err2
    kill -INT "$OTHER" # this one cannot be cancelled now
    until [ $((SECONDS - begin)) -ge 30 ] || { not_running "$HASH" && not_running "$OTHER"; }; do
        sleep 0.05
    done
    took=$((SECONDS - begin))
    kill -CONT "$COORD"
    [ "$took" -lt 20 ]
    code_of "$HASH"
    [ "$CODE" -eq 7 ]
    code_of "$OTHER"
    [ "$CODE" -eq 7 ]
    grep -q 'j3 could not be told' err2
}

@test "a walk that nobody can do any more, or that is cancelled, takes its job along" {
    start_waiting_walk -d --on disk=ssd
    stop "$NODE"
    start_node s1 --root "$T"
    code_of "$HASH"
    [ "$CODE" -eq 10 ]
    grep -q 'no node is disk=ssd' err
    [ "$(state_of j1)" = cancelled ]
    run -9 tidemill job show j2
    for detach in '' -d; do
        tidemill node drain s1
        tidemill hash $detach -r --remote wide >out 2>err 3>&- &
        HASH=$!
        PIDS+=("$HASH")
        until_ok a_walk_runs
        main=$(tidemill job ls --json | grep '"command":"hash"' | tail -1 | grep -o '"id":[0-9]*' | cut -d: -f2)
        walk=j$((main + 1))
        [ "$(tidemill job show "$walk" | sed -n 's/^name  *//p')" = "walk of j$main" ]
        tidemill job show last | grep -q "^job  *j$main$" # a walk is no job that a user made
        tidemill job cancel "$walk"
        code_of "$HASH"
        [ "$CODE" -eq 8 ]
        grep -q "j$main: cancelled, as its walk was" err
        [ "$(state_of "j$main")" = cancelled ]
        run -9 tidemill job show "$walk"
        tidemill node undrain s1
    done
}

@test "explain says why a job waits" {
    start_coordinator
    echo x >f
    tidemill hash -d f
    until_ok explains last no_node
    tidemill explain last | grep -q '^j1: no node is connected$'
    start_node s1 --label disk=ssd # no roots
    until_ok node_is_up s1
    tidemill explain last | grep -q '^j1: no node may use files; start a worker with --root DIR$'
    stop "$NODE"
    tidemill job pause last
    tidemill explain last | grep -q '^j1: it is paused; tidemill job resume j1$'
    tidemill job resume last
    start_node s1 --root "$T" --label disk=ssd
    tidemill wait last
    run -0 tidemill explain j1
    [ "$output" = 'j1: it has ended: done' ]
    run -9 tidemill explain j7
    run -2 tidemill explain
    truncate -s 1T slow
    tidemill hash -d slow
    until_ok explains last running
    tidemill hash -d slow slow slow slow slow slow
    until_ok explains last busy
    tidemill node drain s1
    until_ok explains last draining
    tidemill job cancel all
    tidemill node undrain s1
    # nobody listens there: it is tried again after a while
    tidemill fetch -d --hash sha256 --retries 9 http://127.0.0.1:1/
    until_ok explains last retry
    tidemill fetch -d --hash sha256 --rate 1/m http://127.0.0.1:1/{a,b,c,d}
    until_ok explains last server
    tidemill job cancel last
}

@test "--on each leaves out who can never take its share; what no node can is refused" {
    start_coordinator
    tidemill key identity id >r
    echo x >f
    start_node s1 --root "$T" --identity "$T/id" --coroutines 0
    start_node s2 --root "$T"
    for n in s1 s2; do until_ok node_is_up $n; done
    tidemill encrypt -r "$(cat r)" --on s2 f
    rm -f f
    tidemill decrypt -i id --on each --json f.age >out
    [ "$(nodes_of <out)" = '1 "node":"s1"' ]
    # nobody listens on port 1
    run -3 --separate-stderr tidemill fetch --retries 0 --on each -o got http://127.0.0.1:1/f
    grep -q 'on s2: ' <<<"$stderr"
    [[ $stderr != *'on s1'* ]]
    run -10 --separate-stderr tidemill fetch --on s1 -o got http://127.0.0.1:1/f
    grep -q 'no node fetches' <<<"$stderr"
}
