#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Encrypted links: who has a key that is known gets in, everybody else is told why and gets
# nowhere; keys come by invitation, and change while jobs run.

setup() {
    load common.bash
    common_setup
    CONFIG=$T/config/tidemill # of the client of this test
}
teardown() { common_teardown; }

# A coordinator with encrypted endpoints CLIENTS and WORKERS, and one for this host; SERVER is
# its public key.
start_fleet() {
    SERVER=$(tidemill-coordinator init --state "$T/state")
    rm -f coord.err
    start_coordinator --listen "${CLIENTS:-tcp://127.0.0.1:0}" \
        --listen-workers "${WORKERS:-tcp://127.0.0.1:0}" "$@"
    until_ok grep -q serving coord.err
    CLIENTS=$(sed -n 's/.*listening endpoint=\(tcp:.*\) for=clients$/\1/p' coord.err)
    WORKERS=$(sed -n 's/.*listening endpoint=\(tcp:.*\) for=workers$/\1/p' coord.err)
    export TIDEMILL_COORDINATOR=$CLIENTS WORKERS
}
# On this host, where the socket's directory says who is an admin.
admin() { TIDEMILL_COORDINATOR=ipc://$T/c tidemill "$@"; }

# new_key NAME ROLE FILE: made here, known there.
new_key() { admin key trust "$1" "$(tidemill key gen "$1" --role "$2" -o "$3" 2>/dev/null)" --role "$2"; }
trust_server() { tidemill key trust "$CLIENTS" "${1:-$SERVER}"; }

# The worker w at the encrypted endpoint; its files are in $T/w. Its output in worker.err.
start_keyed_worker() {
    XDG_CONFIG_HOME=$T/w tidemill-worker --join "$WORKERS" --root / --name w --procs 2 "$@" 2>>worker.err 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
}
w_is_up() { admin node ls --json | grep -q '"state":"up"'; }
ready_fleet() {
    start_fleet "$@"
    new_key me client "$CONFIG/client.key"
    trust_server
    new_key w worker "$T/w/tidemill/worker.key"
    tidemill key trust "$WORKERS" "$SERVER" --known-keys "$T/w/tidemill/known_keys"
    start_keyed_worker
    until_ok w_is_up
}

# refused TEXT COMMAND...: exit 5 and one line with the text, and its hint, within 3 s.
refused() {
    local text=$1 from
    shift
    from=$(date +%s%N)
    run -5 --separate-stderr timeout 20 "$@"
    [ $(($(date +%s%N) - from)) -lt 3000000000 ] || { echo "too late: $*" >&2; return 1; }
    [ -z "$output" ]
    grep -q "error: .*$text" <<<"$stderr" || { echo "$stderr" >&2; return 1; }
    [ "$(grep -c '  hint: ' <<<"$stderr")" -eq 1 ]
}

@test "init: a key of the coordinator, once" {
    run -0 --separate-stderr tidemill-coordinator init --state "$T/state"
    [[ $output =~ ^[A-Za-z0-9_-]{43}$ ]]
    [ "$(stat -c %a state/server.key)" = 600 ]
    cp -p state/server.key before
    [ "$(tidemill-coordinator init --state "$T/state")" = "$output" ]
    cmp before state/server.key
    refused 'no server key: .*server.key' tidemill-coordinator --state "$T/other" --listen tcp://127.0.0.1:0
    grep -q "init --state $T/other" <<<"$stderr"
    chmod 640 state/server.key
    refused 'can be read by others' tidemill-coordinator --state "$T/state" --listen tcp://127.0.0.1:0
}

@test "plain tcp is for loopback alone" {
    run -2 --separate-stderr tidemill-coordinator --state "$T/state" --plain --listen tcp://0.0.0.0:7600
    grep -q 'not loopback' <<<"$stderr"
    run -2 --separate-stderr tidemill-coordinator --state "$T/state" --listen "ipc://$T/c" --listen-workers "ipc://$T/w"
    run -2 --separate-stderr tidemill up --listen tcp://0.0.0.0:7600
    grep -q 'tidemill-coordinator init' <<<"$stderr"
}

@test "a job over encrypted links" {
    ready_fleet
    make_tree
    tidemill hash -r tree >SHA256SUMS
    sha256sum -c --quiet SHA256SUMS
    [ "$(wc -l <SHA256SUMS)" -eq "$(find tree -type f -printf x | wc -c)" ]
    grep -q "joined coordinator=$WORKERS" worker.err
}

@test "who gets nowhere is told why, in one line, soon: clients" {
    start_fleet
    key=$CONFIG/client.key
    refused 'encrypts, and no key of it is known' tidemill node ls
    refused 'no key of the coordinator tcp://10.9.8.7:1 is known' tidemill node ls --coordinator tcp://10.9.8.7:1
    trust_server
    refused 'no key: .*client.key' tidemill node ls
    tidemill key gen me --role client -o "$key"
    refused 'does not know this key' tidemill node ls
    grep -q "key trust NAME $(sed -n 's/^public = //p' "$key") " <<<"$stderr"
    chmod 644 "$key"
    refused 'can be read by others' tidemill node ls
    chmod 600 "$key"
    new_key w worker w.key
    refused 'does not know this key' tidemill node ls --key w.key --known-keys "$CONFIG/known_keys"
    other=$(tidemill key gen other --role client)
    trust_server "$other"
    refused "does not match the pinned key: $CLIENTS has not ${other:0:4}...${other:41} (.*known_keys:1)" tidemill node ls
    grep -q 'Nothing was sent' <<<"$stderr"
    stop "$COORD"
    start_coordinator --plain --listen "$CLIENTS"
    refused 'does not encrypt' tidemill node ls
    run ! grep -q garbage coord.err
}

@test "who gets nowhere is told why, in one line, soon: workers" {
    start_fleet
    export XDG_CONFIG_HOME=$T/w
    worker() { tidemill-worker --join "${1:-$WORKERS}" --name w --procs 1; }
    export -f worker
    refused 'encrypts, and no key of it is known' bash -c worker _
    refused 'no key of the coordinator tcp://10.9.8.7:1 is known' bash -c 'worker tcp://10.9.8.7:1'
    tidemill key trust "$WORKERS" "$SERVER"
    refused 'no key: .*worker.key' bash -c worker _
    tidemill key gen w --role worker -o "$T/w/tidemill/worker.key"
    refused 'does not know this key' bash -c worker _
    tidemill key trust "$WORKERS" "$(tidemill key gen other --role worker)"
    refused 'does not match the pinned key' bash -c worker _
}

@test "an address of a network, with frames that nobody can read on the way" {
    unshare -n true 2>/dev/null || skip "no network namespace can be made here"
    unshare -n sleep infinity 3>&- &
    HOLDER=$!
    PIDS+=("$HOLDER")
    in_net() { nsenter -t "$HOLDER" -n "$@"; }
    apart() { [ "$(readlink "/proc/$HOLDER/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
    until_ok apart # else this host would get the address
    in_net ip address add 10.98.7.6/32 dev lo
    in_net ip link set lo up
    # In the background the program takes the place of the shell there, whose id is known and killed.
    local shell=$BASHPID
    become() { if [ "$BASHPID" = "$shell" ]; then in_net "$@"; else exec nsenter -t "$HOLDER" -n "$@"; fi; }
    tidemill-coordinator() { become tidemill-coordinator "$@"; }
    tidemill-worker() { become tidemill-worker "$@"; }
    tidemill() { in_net tidemill "$@"; }
    CLIENTS=tcp://10.98.7.6:7600 WORKERS=tcp://10.98.7.6:7601
    ready_fleet
    [ "$CLIENTS" = tcp://10.98.7.6:7600 ]
    make_tree
    tidemill hash -r tree >SHA256SUMS
    sha256sum -c --quiet SHA256SUMS
}

# ---- invitations ----

# invite ROLE [OPTION]...: a line, in INVITE.
invite() { INVITE=$(admin key invite --role "$@"); }

@test "a worker and a client come by invitation" {
    start_fleet
    invite worker
    [[ $INVITE =~ ^tidemill-invite:[A-Za-z0-9_-]+$ ]]
    WORKERS=$INVITE
    start_keyed_worker
    until_ok w_is_up
    # It is as good as a key, and nobody may read it in /proc.
    run ! grep -q invite "/proc/$WORKER/cmdline"
    [ "$(stat -c %a w/tidemill/worker.key)" = 600 ]
    unset TIDEMILL_COORDINATOR
    invite client
    printf '%s\n' "$INVITE" >invitation
    tidemill key join @invitation --name me 2>said
    grep -q "client.key may use $CLIENTS as me" said
    [ "$(cat "$CONFIG/tidemill.conf")" = "coordinator = $CLIENTS" ]
    make_tree
    tidemill hash -r tree >SHA256SUMS
    sha256sum -c --quiet SHA256SUMS
    tidemill key join @invitation # again: the key that is there is used
    [ "$(wc -l <"$CONFIG/known_keys")" -eq 1 ]
    [ "$(admin key ls --json | grep -c '"name":"me"')" -eq 1 ]
    # Each came in once.
    refused 'used' tidemill key join "$INVITE" --key other.key
    [ ! -e other.key ]
    stop "$WORKER"
    start_keyed_worker
    until_ok w_is_up
}

@test "an invitation is refused: of another cluster, cut short, unknown" {
    start_fleet
    invite client
    refused() { # without a hint
        run -"$1" --separate-stderr tidemill key join "$2"
        grep -q "error: .*$3" <<<"$stderr" || { echo "$stderr" >&2; return 1; }
        [ ! -e "$CONFIG/client.key" ]
    }
    refused 2 "${INVITE%?????}" 'not the whole'
    refused 2 @none 'No such file'
    stop "$COORD"
    rm -r state
    CLIENTS=$CLIENTS WORKERS=$WORKERS start_fleet
    refused 5 "$INVITE" 'not the coordinator that invited'
    [ ! -e "$CONFIG/known_keys" ]
}

@test "an enrolment that is cut off is finished by the same again" {
    needs_failpoint tidemill-worker enrolled
    start_fleet
    invite worker
    WORKERS=$INVITE
    for point in keyfile_written enrolled; do
        TIDEMILL_FAILPOINTS=$point=kill:1 start_keyed_worker
        wait_gone "$WORKER"
        [ ! -e w/tidemill/worker.key ]
    done
    start_keyed_worker
    until_ok w_is_up
    [ "$(admin key ls --json | grep -c '"role":"worker"')" -eq 1 ]
    rm w/tidemill/worker.key.new.tmp-*
    [ "$(ls w/tidemill)" = $'known_keys\nworker.key' ]
}

@test "an invitation is not to be seen in /proc while it is being used" {
    start_fleet
    invite worker --uses 2
    shown() { cat "/proc/$WORKER/cmdline" "/proc/$WORKER/environ" | tr '\0' '\n' | grep -q tidemill-invite; }
    export -n WORKERS
    kill -STOP "$COORD" # it waits for an answer meanwhile
    WORKERS=$INVITE
    start_keyed_worker
    until_ok test -e w/tidemill/worker.key.new
    run ! shown
    stop "$WORKER" -9
    TIDEMILL_JOIN=$INVITE XDG_CONFIG_HOME=$T/v tidemill-worker --root / --name w --procs 2 2>>worker.err 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
    until_ok test -e v/tidemill/worker.key.new
    run ! shown
    kill -CONT "$COORD"
    until_ok w_is_up
    for pid in $WORKER $(children "$WORKER"); do
        run ! grep -q tidemill-invite "/proc/$pid/environ"
    done
}

# ---- keys change while jobs run ----

# A job of which half of the inputs are there, until end_job gives the others.
begin_job() {
    many 200
    mkfifo names
    {
        find many -name '*[0-4]'
        until [ -e others ]; do sleep 0.05; done
        find many -name '*[5-9]'
    } >names 3>&- &
    PIDS+=("$!")
    tidemill hash --files-from names >SHA256SUMS 2>job.err 3>&- &
    JOB=$!
    PIDS+=("$JOB")
    until_ok grep -q . SHA256SUMS
}
end_job() {
    touch others
    wait "$JOB"
    [ "$(wc -l <SHA256SUMS)" -eq 200 ]
    sha256sum -c --quiet SHA256SUMS
}
restart_fleet() {
    stop "$COORD"
    start_fleet
    until_ok w_is_up
}
knows() { [ "$(grep -c "^tcp://" "$1/known_keys")" -eq "$2" ]; }

@test "the coordinator's key is changed under a job" {
    ready_fleet
    begin_job
    next=$(tidemill-coordinator rekey --state "$T/state")
    [ "$next" != "$SERVER" ]
    [ "$(tidemill-coordinator rekey --state "$T/state")" = "$next" ]
    restart_fleet
    until_ok knows "$T/w/tidemill" 2
    until_ok knows "$CONFIG" 2
    run -1 --separate-stderr tidemill-coordinator rekey --finish --state "$T/state"
    grep -q 'another coordinator' <<<"$stderr"
    stop "$COORD"
    [ "$(tidemill-coordinator rekey --finish --state "$T/state")" = "$next" ]
    start_fleet
    [ "$SERVER" = "$next" ]
    until_ok w_is_up
    end_job
    # The old one is nobody's any more.
    tidemill node ls
    grep -qx "$CLIENTS $next" "$CONFIG/known_keys"
    until_ok knows "$CONFIG" 1
    until_ok knows "$T/w/tidemill" 1
    run -1 --separate-stderr tidemill-coordinator rekey --finish --state "$T/state"
    [ "$(ls state/*.key)" = $'state/server-old.key\nstate/server.key' ]
}

@test "a change of the coordinator's key is cut off: the same again finishes it" {
    needs_failpoint tidemill-coordinator rekey_kept
    tidemill-coordinator init --state "$T/state" >now
    tidemill-coordinator rekey --state "$T/state" >next
    run -137 env TIDEMILL_FAILPOINTS=rekey_kept=kill:1 tidemill-coordinator rekey --finish --state "$T/state"
    [ "$(tidemill-coordinator init --state "$T/state")" = "$(cat now)" ]
    tidemill-coordinator rekey --finish --state "$T/state" >finished
    cmp next finished
    [ "$(tidemill-coordinator init --state "$T/state")" = "$(cat next)" ]
}

@test "keys of a client and of a worker are changed under a job" {
    ready_fleet
    begin_job
    new_key w worker w2.key
    stop "$WORKER"
    mv w2.key w/tidemill/worker.key
    start_keyed_worker
    until_ok w_is_up
    new_key me client me2.key
    mv me2.key "$CONFIG/client.key"
    tidemill job show j1 # its owner goes by the name
    end_job
}

@test "a moved state takes its keys along" {
    ready_fleet
    stop "$COORD"
    tidemill-coordinator rekey --state "$T/state" >next
    tidemill-coordinator move --state "$T/state" --to "$T/state2"
    [ "$(stat -c '%n %a' state2/server*)" = $'state2/server-next.key 600\nstate2/server.key 600' ]
    [ "$(ls state)" = $'lock\nmoved-to\nserver-next.key.moved\nserver.key.moved\ntidemill.db.moved' ]
    run -1 --separate-stderr tidemill-coordinator init --state "$T/state"
    mv state old
    mv state2 state
    start_fleet
    until_ok w_is_up
    tidemill node ls
}

# ---- what others see ----

# record WHO PORT: what goes there by the endpoint RECORDED is written to WHO.log.
record() {
    python3 "$BATS_TEST_DIRNAME/recorder.py" "$2" "$1.log" >"$1.port" 3>&- &
    PIDS+=("$!")
    until_ok grep -q . "$1.port"
    RECORDED=tcp://127.0.0.1:$(cat "$1.port")
}

@test "on its way a job shows no path, no URL, no digest and no payload" {
    start_nginx
    mkdir -p www/secret-url-part
    printf 'PAYLOAD-%s' "$RANDOM$RANDOM" >www/secret-url-part/body
    start_fleet
    record client "${CLIENTS##*:}"
    CLIENTS=$RECORDED
    record worker "${WORKERS##*:}"
    WORKERS=$RECORDED
    export TIDEMILL_COORDINATOR=$CLIENTS
    new_key me client "$CONFIG/client.key"
    trust_server
    new_key w worker "$T/w/tidemill/worker.key"
    tidemill key trust "$WORKERS" "$SERVER" --known-keys "$T/w/tidemill/known_keys"
    start_keyed_worker
    until_ok w_is_up
    mkdir secret-path-part
    head -c 3000 /dev/urandom | base64 >secret-path-part/file
    tidemill hash secret-path-part/file >sums
    tidemill fetch "http://127.0.0.1:$PORT/secret-url-part/body" -o out --hash sha256 >fetched
    tidemill job show last --json >/dev/null
    cmp www/secret-url-part/body "out/127.0.0.1:$PORT/secret-url-part/body"
    digest=$(cut -d' ' -f1 sums)
    [ "$digest" = "$(sha256sum <secret-path-part/file | cut -d' ' -f1)" ]
    for log in client.log worker.log; do
        [ "$(stat -c %s $log)" -gt 1000 ]
        grep -aq CURVE "$log" # all of it is there
        for word in secret-path secret-url PAYLOAD hash fetch "$digest" "$(cut -c 1-16 secret-path-part/file)"; do
            run ! grep -aq -- "$word" "$log"
        done
        run ! grep -aqF "$(printf '%b' "$(sed 's/../\\x&/g' <<<"${digest:0:8}")")" "$log"
    done
}

@test "a recorder sees all of it where nothing is encrypted" {
    start_coordinator --plain --listen tcp://127.0.0.1:0
    until_ok grep -q serving coord.err
    port=$(sed -n 's/.*listening endpoint=tcp:.*:\([0-9]*\) for.*/\1/p' coord.err)
    record plain "$port"
    start_worker
    mkdir secret-path-part
    echo x >secret-path-part/file
    tidemill hash secret-path-part/file --coordinator "$RECORDED"
    grep -aq secret-path-part plain.log
}

@test "a secret key is in no log, argument, environment or database" {
    ready_fleet --log-level debug
    invite client
    printf '%s' "$INVITE" >invitation
    XDG_CONFIG_HOME=$T/joined tidemill key join @invitation 2>join.err
    begin_job
    mkdir keys
    mv invitation keys
    for file in state/server.key "$CONFIG/client.key" w/tidemill/worker.key joined/tidemill/client.key; do
        sed -n 's/^secret = //p' "$file" >"keys/$(tr / _ <<<"${file#"$T"/}")"
    done
    [ "$(cat keys/*_* | grep -cE '^[A-Za-z0-9_-]{43}$')" -eq 4 ]
    for pid in $COORD $WORKER $JOB $(children "$WORKER"); do
        cat "/proc/$pid/cmdline" "/proc/$pid/environ" >>seen
    done
    cat state/tidemill.db* coord.err worker.err job.err join.err SHA256SUMS >>seen
    end_job
    stop "$WORKER"
    stop "$COORD"
    cat state/tidemill.db* coord.err worker.err >>seen
    python3 - seen keys <<'P'
import base64, os, sys
seen = open(sys.argv[1], "rb").read()
assert b"tidemill-worker" in seen and b"SQLite format 3" in seen
for name in os.listdir(sys.argv[2]):
    text = open(os.path.join(sys.argv[2], name), "rb").read().strip()
    raw = base64.urlsafe_b64decode(text.split(b":")[-1] + b"==")
    secret = raw[-32:]
    for form in (text, secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="), text[-43:-3]):
        assert form not in seen, name
P
}
