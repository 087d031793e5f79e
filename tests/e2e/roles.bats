#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Who may do what on a cluster that is reached over the network: each of these clients and workers
# has a key and a home of its own, and comes over an encrypted link.

setup() { load common.bash; common_setup; use_coordinator; }
teardown() { common_teardown; }

# A coordinator with an encrypted endpoint for clients and one for workers, and its socket, on which
# the operator is; CLIENTS and WORKERS are the endpoints.
start_keyed() {
    rm -f c
    [ -e state/server.key ] || tidemill-coordinator init --state state >server.pub
    tidemill-coordinator --listen "ipc://$T/c" --listen "${CLIENTS:-tcp://127.0.0.1:0}" \
        --listen-workers "${WORKERS:-tcp://127.0.0.1:0}" --state state "$@" 2>>coord.err 3>&- &
    COORD=$!
    PIDS+=("$COORD")
    until_ok test -S c
    until_ok tidemill node ls
    CLIENTS=$(endpoint_for clients) WORKERS=$(endpoint_for workers)
}
endpoint_for() { grep -o "endpoint=tcp://[^ ]* for=$1" coord.err | tail -1 | grep -o 'tcp://[^ ]*'; }

# as WHO COMMAND...: with the key and configuration of WHO; become, in the background: its pid is the
# command's.
as() { (become "$@"); }
become() { exec ${LIMIT:+timeout "$LIMIT"} env -u TIDEMILL_COORDINATOR XDG_CONFIG_HOME="$T/home.$1" "${@:2}"; }
# invited WHO ROLE [OPTION...]: has come by an invitation.
invited() {
    tidemill key invite --role "$2" --name "$1" "${@:3}" >"$1.invite"
    as "$1" tidemill key join "@$1.invite"
}
# A worker with a key; its pid in WORKER.
start_keyed_worker() {
    tidemill key invite --role worker --name "$1" >"$1.invite"
    become "$1" tidemill-worker --join "@$1.invite" --root / --name "$1" --procs 1 2>>"$1.err" 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
    until_ok tidemill node show "$1"
}
# known WHO ROLE [OPTION...]: made a key that an operator trusts.
known() {
    mkdir -p "home.$1/tidemill"
    as "$1" tidemill key gen "$1" --role "$2" -o "home.$1/tidemill/client.key" >"$1.gen"
    as "$1" tidemill key trust "$CLIENTS" "$(cat server.pub)"
    echo "coordinator = $CLIENTS" >"home.$1/tidemill/tidemill.conf"
    [ "$2" = nobody ] || tidemill key trust "$1" "$(public "$1")" --role "$2" "${@:3}"
}
public() { sed -n 's/^public = //p' "home.$1/tidemill/client.key"; }

# Ends with 5 and this on standard error, soon: nobody waits for what will not come.
told() {
    local line=$1
    shift
    LIMIT=5 run -5 --separate-stderr "$@"
    [[ $stderr == "tidemill: error: "*"$line"* ]] || { echo "$stderr"; return 1; }
    [ "$(grep -c error: <<<"$stderr")" -eq 1 ]
}

@test "a key that is unknown, was revoked or has expired gets nowhere, and is told why" {
    start_keyed
    known eve client
    tidemill key revoke eve
    told "the key eve was revoked" as eve tidemill job ls
    told "the key eve was revoked" as eve tidemill hash coord.err
    known ann client --expires 1s
    has_expired() { ! as ann tidemill job ls; }
    until_ok has_expired
    told "the key ann has expired" as ann tidemill job ls
    mkdir -p home.joe/tidemill
    as joe tidemill key gen joe --role client -o home.joe/tidemill/client.key
    as joe tidemill key trust "$CLIENTS" "$(cat server.pub)"
    told "does not know this key" as joe tidemill job ls --coordinator "$CLIENTS"
    # A key for clients is none for workers, wherever it comes.
    run -5 --separate-stderr timeout 5 env XDG_CONFIG_HOME="$T/home.eve" tidemill-worker \
        --join "$CLIENTS" --key home.eve/tidemill/client.key
    grep -q 'denied .*why="the key eve was revoked"' coord.err
    [ "$(tidemill job ls | wc -l)" -eq 1 ]
    # An invitation that nobody may use any more; what it says is an object with --json.
    tidemill key invite --role client --name max --json >max.json
    sed 's/.*"invite":"\([^"]*\)".*/\1/' max.json >max.invite
    tidemill key revoke max
    told "this invitation was withdrawn" as max tidemill key join @max.invite
    [ ! -e home.max/tidemill/client.key ]
}

@test "a client sees, follows and ends its own jobs alone; an admin all; also after a restart" {
    many 20
    start_keyed
    start_keyed_worker store1
    invited alice client
    invited bob client
    invited laptop client --owner alice
    invited root admin
    as alice tidemill hash -d -r many >id
    as alice tidemill wait "$(cat id)"
    [ "$(as bob tidemill job ls | wc -l)" -eq 1 ]
    for sub in "job show" "job cancel" "job pause" "job rm" "results" "wait" "watch"; do
        run -9 --separate-stderr as bob tidemill $sub j1
    done
    [ "$(as laptop tidemill results j1 | sort)" = "$(sha256sum many/* | sort)" ]
    as root tidemill job show j1 | grep -q '^owner  *alice$'
    told "not allowed for role client" as alice tidemill node drain store1
    told "not allowed for role client" as alice tidemill key ls
    as root tidemill node drain store1
    as root tidemill key ls | grep -q '^bob  *client  *valid'
    stop "$COORD"
    start_keyed
    [ "$(as bob tidemill job ls | wc -l)" -eq 1 ]
    [ "$(as alice tidemill results j1 | wc -l)" -eq 20 ]
    as alice tidemill job rm j1
    [ "$(grep -c ' denied .*key="alice" message=\(Drain\|Query\)' coord.err)" -eq 2 ]
}

# Within the second that is promised, and what a busy machine needs besides.
ended_soon() {
    local ms=$((($(date +%s%N) - begun) / 1000000))
    echo "$1 ended $ms ms later"
    [ "$ms" -lt 3000 ]
}

@test "what a connected key does ends when it is revoked; its tasks go to others" {
    large
    start_keyed
    start_keyed_worker store1
    first=$WORKER
    invited alice client
    as alice tidemill hash -d large >id
    is_leased() { [ "$(job_number running j1)" -eq 1 ]; }
    until_ok is_leased
    become alice tidemill watch j1 --progress json 2>follow.err 3>&- &
    follower=$!
    PIDS+=("$follower")
    until_ok grep -q '"tasks":1' follow.err # it is connected, and follows
    start_keyed_worker store2
    tidemill key revoke store1
    begun=$(date +%s%N)
    status=0
    wait "$first" || status=$?
    [ "$status" -eq 5 ]
    ended_soon "the worker"
    grep -q 'error: the key store1 was revoked' store1.err
    until_ok is_leased
    tidemill node show store2 | grep -Eq '^tasks +1$'
    tidemill key revoke "$(sed -n 's/^public = //p' home.alice/tidemill/client.key)"
    begun=$(date +%s%N)
    status=0
    wait "$follower" || status=$?
    ended_soon "the client"
    [ "$status" -eq 5 ]
    grep -q 'error: the key alice was revoked' follow.err
    tidemill wait j1
    [ "$(tidemill results j1)" = "$(sha256sum large)" ]
}

@test "a key is replaced by another of its name, and no job is lost" {
    many 50
    start_keyed
    start_keyed_worker store1
    invited alice client
    as alice tidemill hash -d -r many >id
    old=$(public alice)
    rm home.alice/tidemill/client.key
    invited alice client
    [ "$(public alice)" != "$old" ]
    tidemill key revoke "$old"
    as alice tidemill wait "$(cat id)"
    [ "$(as alice tidemill results j1 | wc -l)" -eq 50 ]
    [ "$(tidemill key ls | grep -c '^alice  *client  *valid')" -eq 1 ]
}

@test "quotas: jobs, stored bytes and priority are refused with a line, an admin has none" {
    many 300
    start_keyed --max-jobs 2 --max-stored 16KiB --max-priority 5
    start_keyed_worker store1
    invited alice client
    invited bob client
    invited root admin
    told "quota of alice: priority 6, and 5 is the highest allowed" \
        as alice tidemill hash --priority 6 many/f00000
    as alice tidemill hash -q --priority 5 many/f00000
    as alice tidemill hash -q many/f00001
    told "quota of alice: 2 jobs are there, 2 may be" as alice tidemill hash many/f00002
    as alice tidemill job rm all
    told "quota of alice: " as alice tidemill hash -r many
    [[ $stderr == *"16 KiB may be"* ]]
    as bob tidemill hash -q many/f00000
    for i in 1 2 3; do as root tidemill hash -q --priority 9 -r many; done
    tidemill hash -q --priority 9 -r many
    # It counts what is on the disk, also after a restart.
    stop "$COORD"
    start_keyed --max-jobs 1
    told "quota of bob: 1 jobs are there, 1 may be" as bob tidemill hash many/f00000
    # A walk is a job too, and what it was for is none without it.
    invited carl client
    told "quota of carl: 1 jobs are there, 1 may be" as carl tidemill hash -r --remote many
    [ "$(as carl tidemill job ls --json | grep -o '"state":"[a-z]*"')" = '"state":"cancelled"' ]
}

@test "a quota of tasks lets submitting wait, and go on as tasks are done" {
    start_keyed --max-tasks 1000
    invited alice client
    seq -f 'http://127.0.0.1:1/%g' 20000 >urls
    become alice tidemill fetch -d -i urls --hash sha256 --retries 0 >id 2>fetch.err 3>&- &
    submitter=$!
    PIDS+=("$submitter")
    has_over() { [ "$(job_number tasks j1)" -ge "$1" ]; }
    until_ok has_over 1000
    as alice tidemill job ls >before
    [ "$(job_number tasks j1)" -le 5096 ] # and the chunk that was on its way
    start_keyed_worker store1
    until_ok has_over 20000
    wait "$submitter"
    run -3 as alice tidemill wait j1
    [ "$(job_number failed j1)" -eq 20000 ]
}
