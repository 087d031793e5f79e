#!/usr/bin/env bash
# Many hosts on one: a coordinator, four workers, a client and a web server, each in a network namespace with an address
# of its own, links encrypted, every worker with its own key. Their networks are cut, made slow and half open, their
# programs killed, drained and restarted, and the coordinator moved to another host, while jobs run; then
# campaign/check.py compares what was asked with what came. Needs root. Exit 77: skipped.
#     TM_BIN: the programs (default: build/asan/bin)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
TM_BIN=$(cd "${TM_BIN:-$here/../build/asan/bin}" && pwd)
export TM_BIN
# In namespaces of its own for networks, mounts and processes: nothing it does is seen outside, or is left.
if [ -z "${TM_HOSTS_INSIDE:-}" ]; then
    new=(unshare --net --mount --pid --fork --kill-child=KILL --mount-proc)
    "${new[@]}" true 2>/dev/null || { echo "skipped: namespaces are forbidden here, so there can be only one host"; exit 77; }
    TM_HOSTS_INSIDE=1 exec "${new[@]}" "$0" "$@"
fi
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /srv
T=/srv
mkdir -p /run/netns /srv/local
PATH=$TM_BIN:/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin:/sbin:/bin
export TIDEMILL_CAMPAIGN=$T
unset "${!TIDEMILL_@}" 2>/dev/null || true
export TIDEMILL_CAMPAIGN=$T PYTHONDONTWRITEBYTECODE=1 # the mark by which the checker finds processes that are left
WORKERS=(w1 w2 w3 w4)
ADMIN=ipc:///run/c # of whom the host of the coordinator belongs to
SILENCE=3s

say() { printf '%3d s  %s\n' "$SECONDS" "$*"; }
die() {
    echo "FAILED: $*" >&2
    tail -n 8 "$T"/log/{coordinator,w?} >&2 || true
    exit 1
}
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
until_ok() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "never came true: $*"
        sleep 0.05
    done
}

# ---- hosts ----

declare -A ADDRESS=([c1]=10.77.0.1 [c2]=10.77.0.2 [w1]=10.77.0.11 [w2]=10.77.0.12 [w3]=10.77.0.13 [w4]=10.77.0.14
    [desk]=10.77.0.20 [web]=10.77.0.30)

# Each has a cable to one switch; the switch's end is called as the host.
make_hosts() {
    local host
    ip link add switch type bridge
    ip link set switch up
    for host in "${!ADDRESS[@]}"; do
        ip netns add "$host"
        ip link add "$host" type veth peer name eth0 netns "$host"
        ip link set "$host" master switch up
        ip -n "$host" addr add "${ADDRESS[$host]}/24" dev eth0
        ip -n "$host" link set eth0 up
        ip -n "$host" link set lo up
        mkdir -p "$T/host/$host"/{config,run,local,spool}
        chmod 700 "$T/host/$host"/{config,run}
    done
    cp /etc/hosts /run/hosts
    mount --bind /run/hosts /etc/hosts
    name_is "${ADDRESS[c1]}"
}
# The name by which all know the coordinator.
name_is() {
    local others
    others=$(grep -v ' mill$' /etc/hosts)
    printf '%s\n%s mill\n' "$others" "$1" >/etc/hosts # the same file: it is mounted
}
# What runs a command on a host, with a configuration of its own; /srv/local is a directory of its own. In AT.
at() { # HOST COMMAND...
    AT=(env "XDG_CONFIG_HOME=$T/host/$1/config" "XDG_RUNTIME_DIR=$T/host/$1/run" ip netns exec "$1" sh -c
        'mount --bind "$0" /srv/local && exec "$@"' "$T/host/$1/local" "${@:2}")
}
on() {
    at "$@"
    "${AT[@]}"
}
# The same in the background; the process is in PID[NAME], what it says in log/NAME.
declare -A PID=()
start() { # NAME HOST COMMAND...
    at "${@:2}"
    "${AT[@]}" >>"$T/log/$1" 2>&1 &
    PID[$1]=$!
}
ended() { ! kill -0 "${PID[$1]}" 2>/dev/null || grep -q '^State:.Z' "/proc/${PID[$1]}/status"; }
stop() { # NAME [SIGNAL]
    local code=0
    kill "${2:--TERM}" "${PID[$1]}"
    until_ok ended "$1"
    { wait "${PID[$1]}" || code=$?; } 2>/dev/null # the shell would tell of a signal
    [ "${2:--TERM}" != -TERM ] || [ $code -eq 0 ] || die "$1 ended with $code"
}

start_coordinator() { # HOST
    rm -f /run/c
    start coordinator "$1" tidemill-coordinator --state "$T/host/$1/state" --silence "$SILENCE" --listen tcp://0.0.0.0:7600 \
        --listen-workers tcp://0.0.0.0:7601 --advertise mill --listen "$ADMIN"
    until_ok test -S /run/c
}
start_worker() {
    start "$1" "$1" tidemill-worker --name "$1" --join "@$T/host/$1/invitation" --root "$T/data:ro" --root "$T/out" \
        --root /srv/local --spool "$T/host/$1/spool" --procs 1 --coroutines 64
}
ask() { tidemill "$@" --coordinator "$ADMIN"; }
state_of() { ask node show "$1" --json | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p'; }
is_up() { [ "$(state_of "$1")" = up ]; }
is_lost() { [ "$(state_of "$1")" != up ]; }
all_up() { local w; for w in "${WORKERS[@]}"; do is_up "$w" || return 1; done; }
joined() { grep -c ' joined ' "$T/log/$1"; }

# ---- jobs ----

declare -A CLIENT=()
# Three jobs of one round, each with its client at the desk: jobs ROUND.
jobs_begin() {
    local kind name
    ROUND=$1
    for kind in hash encrypt fetch; do
        name=$ROUND-$kind
        case $kind in
        hash) set -- hash -r "$T/data/small" ;;
        encrypt) set -- encrypt --json -r "$RECIPIENT" --recursive -o "$T/out/$name.d" "$T/data/mixed" ;;
        fetch) set -- fetch --json -i "$T/urls" -o "$T/out/$name.d" --hash sha256 --rate 50/s ;;
        esac
        mkdir "$T/out/$name.d"
        at desk tidemill "$@" --name "$name"
        "${AT[@]}" >"$T/out/$name.out" 2>"$T/log/$name" &
        CLIENT[$name]=$!
    done
    until_ok under_way "$ROUND-fetch"
}
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
job() { ask job ls --json | grep "\"name\":\"$1\""; }
done_of() { job "$1" | number ok; }
under_way() {
    local n
    n=$(done_of "$1")
    [ -n "$n" ] && [ "$n" -gt 0 ] && [ "$n" -lt "$(wc -l <"$T/urls")" ]
}
goes_on() { # NAME DONE: more than so many have ended
    [ "$(done_of "$1")" -gt "$2" ]
}
# The jobs of the round come to their ends; what became of them goes to the ledger.
jobs_end() {
    local kind name code
    for kind in hash encrypt fetch; do
        name=$ROUND-$kind code=0
        wait "${CLIENT[$name]}" || code=$?
        [ $code -eq 0 ] || die "$name ended with $code: $(cat "$T/log/$name")"
        entry "$name" $kind $code
    done
    say "  all three jobs of $ROUND have ended, their clients with 0"
}
entry() { # NAME KIND EXIT
    printf '{"work":"%s","name":"%s","kind":"%s","exit":%d,"out":"%s","tree":"%s"}\n' "$1" "$1" "$2" "$3" \
        "$T/out/$1.out" "$T/out/$1.d" >>"$T/ledger"
}

make_data() {
    local i w
    mkdir -p "$T"/{data/{small,mixed},www,out,log}
    for i in $(seq 20); do
        mkdir "$T/data/small/d $i"
        (cd "$T/data/small/d $i" && seq "$i" $((i + 9999)) | split -l 100 - f)
    done
    for i in 1 2 3 4 5 6; do truncate -s 200M "$T/data/small/sparse$i"; done
    for i in $(seq 150); do head -c $((i * 2000)) /dev/urandom >"$T/data/mixed/r$i"; done
    for w in "${WORKERS[@]}"; do
        (cd "$T/host/$w/local" && mkdir -p deep/er && seq 300 | split -l 1 -a 3 - f && echo "only of $w" >deep/er/x)
        for i in $(seq 12); do truncate -s "$i"0M "$T/host/$w/local/deep/sparse$i"; done
    done
    for i in $(seq 400); do head -c $((i * 100)) /dev/urandom >"$T/www/u$i"; done
    for i in $(seq 400); do echo "http://${ADDRESS[web]}/u$i"; done >"$T/urls"
    age-keygen -o "$T/identity" 2>/dev/null
    RECIPIENT=$(age-keygen -y "$T/identity")
}
start_web() {
    mkdir /run/ngx
    cat >/run/ngx/conf <<'CONF'
daemon off; user root; worker_processes 1; pid /run/ngx/pid; error_log /run/ngx/error;
events { worker_connections 256; }
http { access_log off; client_body_temp_path /run/ngx/b; proxy_temp_path /run/ngx/p; fastcgi_temp_path /run/ngx/f;
    uwsgi_temp_path /run/ngx/u; scgi_temp_path /run/ngx/s; server { listen 80; root /srv/www; } }
CONF
    start web web nginx -c /run/ngx/conf -p /run/ngx
    until_ok ip netns exec web bash -c '</dev/tcp/127.0.0.1/80'
}

# ---- faults ----

# lost_and_back WORKER WHAT CUT HEAL: a fault under jobs; without the worker they go on, and it comes back by itself.
lost_and_back() {
    local worker=$1 cut=$3 heal=$4 n before
    jobs_begin "$5"
    n=$(joined "$worker")
    eval "$cut"
    until_ok is_lost "$worker"
    before=$(done_of "$ROUND-fetch")
    say "$2: $worker is lost, when $before of $ROUND-fetch were done"
    until_ok goes_on "$ROUND-fetch" "$before"
    eval "$heal"
    until_ok is_up "$worker"
    [ "$(joined "$worker")" -gt "$n" ] || die "$worker is up, and has not joined"
    jobs_end
}
drop() { ip netns exec c1 iptables -w "$1" "$2" "$3" "${ADDRESS[$4]}" -j DROP; } # -A|-D CHAIN -s|-d HOST
cable() { ip link set "$1" "$2"; }                                                # HOST up|down
connections_of() { ip netns exec c1 ss -Htn state established dst "${ADDRESS[$1]}" | wc -l; }

links_cut() {
    lost_and_back w1 "cut: the cable of w1" 'cable w1 down' 'cable w1 up' cable
    lost_and_back w2 "dropped: all packets from w2 to the coordinator" 'drop -A INPUT -s w2' 'drop -D INPUT -s w2' to
    lost_and_back w3 "dropped: all packets from the coordinator to w3" 'drop -A OUTPUT -d w3' 'drop -D OUTPUT -d w3' from
}

# Without its cable nobody hears of a death: the coordinator's connection stays as it was.
half_open() {
    local open n
    jobs_begin half
    n=$(joined w4)
    cable w4 down
    stop w4 -KILL
    open=$(connections_of w4)
    [ "$open" -gt 0 ] || die "the coordinator's connection to w4 is not half open"
    cable w4 up
    start_worker w4
    say "killed: w4 with -9, its cable out; of its $open connections the coordinator has not heard; it starts again"
    until_ok eval '[ "$(joined w4)" -gt $n ]'
    until_ok is_up w4
    jobs_end
}

# A client that dies so has lost nothing that its job had: another one asks for it.
client_half_open() {
    local name code
    jobs_begin desk
    cable desk down
    kill -9 "${CLIENT[desk-hash]}" "${CLIENT[desk-fetch]}"
    { wait "${CLIENT[desk-hash]}" "${CLIENT[desk-fetch]}" || true; } 2>/dev/null
    say "killed: two of the three clients with -9, the cable of their host out; new ones ask for the results"
    cable desk up
    for name in desk-hash desk-fetch; do
        at desk tidemill results --follow $([ $name = desk-hash ] || echo --json) "j$(job $name | number id)"
        "${AT[@]}" >"$T/out/$name.out" 2>"$T/log/$name" &
        CLIENT[$name]=$!
    done
    jobs_end
}

slow() {
    local w n=() i=0
    for w in w1 w2; do n+=("$(joined $w)"); done
    # So much a second each way, as over a poor line; a queue of half a second.
    for w in w1 w2 desk; do
        tc qdisc add dev $w root tbf rate 1mbit burst 16kb latency 500ms
        tc -n $w qdisc add dev eth0 root tbf rate 1mbit burst 16kb latency 500ms
    done
    jobs_begin slow
    say "slow: w1, w2 and the client have 1 Mbit/s each way"
    jobs_end
    for w in w1 w2; do
        [ "$(joined $w)" -eq "${n[$i]}" ] || die "$w was lost behind its slow link"
        i=$((i + 1))
    done
    for w in w1 w2 desk; do
        tc qdisc del dev $w root
        tc -n $w qdisc del dev eth0 root
    done
    say "  neither worker was taken for lost"
}

rolling() {
    local w
    jobs_begin roll
    for w in "${WORKERS[@]}"; do
        ask node drain --wait "$w" >"$T/log/drain" 2>&1
        [ "$(ask node show "$w" --json | number tasks)" -eq 0 ] || die "$w is drained and has tasks"
        stop "$w"
        start_worker "$w"
        until_ok is_up "$w"
    done
    say "restarted: all workers, one after the other, each drained first"
    jobs_end
}

move() {
    local old=${PID[coordinator]} w n=() i=0
    for w in "${WORKERS[@]}"; do n+=("$(joined "$w")"); done
    jobs_begin move
    stop coordinator
    tidemill-coordinator move --state "$T/host/c1/state" --to "$T/host/c2/state" >"$T/log/moved"
    cable c1 down
    name_is "${ADDRESS[c2]}"
    start_coordinator c2
    say "moved: the coordinator to another host with its state ($(cat "$T/log/moved")); its name has another address"
    until_ok all_up
    for w in "${WORKERS[@]}"; do
        [ "$(joined "$w")" -gt "${n[$i]}" ] || die "$w has not joined the coordinator where it is now"
        i=$((i + 1))
    done
    if on c1 tidemill-coordinator --state "$T/host/c1/state" --listen ipc:///run/old >"$T/log/old" 2>&1; then
        die "the old state can be used still (was $old)"
    fi
    jobs_end
}

# The same paths on every host, each with its own files, walked and hashed where they are; one host is away for a while.
each() {
    local w n all=0
    mkdir "$T/each"
    start each desk tidemill hash --remote --on each -r -o "$T/each" --name each /srv/local
    until_ok eval '[ "$(done_of each)" -gt 0 ]'
    cable w2 down
    until_ok is_lost w2
    n=$(done_of each)
    say "cut: the cable of w2, while every host hashes what it alone has; $n files are done"
    ask explain "j$(job each | number id)" | sed 's/^/       /'
    cable w2 up
    until_ok ended each
    wait "${PID[each]}" || die "each ended with $?: $(cat "$T/log/each")"
    for w in "${WORKERS[@]}"; do
        on "$w" sha256sum --quiet --strict -c "$T/each/$w/SHA256SUMS"
        n=$(find "$T/host/$w/local" -type f | sort | sed "s#$T/host/$w/local#/srv/local#" | tee "$T/log/want" | wc -l)
        sed 's/^[0-9a-f]*  //' "$T/each/$w/SHA256SUMS" | sort | cmp - "$T/log/want"
        all=$((all + n))
    done
    say "  sha256sum -c accepts each host's manifest on that host, $all files, each once"
    ask job rm "j$(job each | number id)" >"$T/log/rm" 2>&1
}

# ---- what went over the cables ----

capture_begin() {
    tcpdump --immediate-mode -i switch -U -w "$T/log/cap" 'tcp port 7600 or tcp port 7601 or tcp port 80' 2>"$T/log/tcpdump" &
    PID[tcpdump]=$!
    until_ok grep -q 'listening on' "$T/log/tcpdump"
}
# clear PORT TEXT: how many packets to or from the port have the text.
clear() { tcpdump -r "$T/log/cap" -A "tcp port $1" 2>/dev/null | grep -cF "$2" || true; }
capture_check() {
    local port text digest
    stop tcpdump
    digest=$(sha256sum "$T/www/u1" | cut -d' ' -f1)
    [ "$(clear 80 "GET /u1 ")" -gt 0 ] || die "the capture has not seen what went in clear"
    for port in 7600 7601; do
        [ "$(clear $port "")" -gt 1000 ] || die "the capture has nothing of port $port"
        for text in "$T/data" /srv/local mixed sparse http:// "$digest" sha256 "$RECIPIENT"; do
            [ "$(clear $port "$text")" -eq 0 ] || die "$text went over port $port in clear"
        done
    done
    # A record has its digest as bytes.
    /usr/bin/python3 -c 'import sys; sys.exit(bytes.fromhex(sys.argv[2]) in open(sys.argv[1], "rb").read())' "$T/log/cap" "$digest" ||
        die "a digest went in clear, as bytes"
    say "captured: of $(du -h "$T/log/cap" | cut -f1) on the cables none to the coordinator has a path, a URL, a digest or a recipient in clear"
}

# ---- the way of it ----

make_hosts
make_data
start_web
on c1 tidemill-coordinator init --state "$T/host/c1/state" >"$T/log/init"
start_coordinator c1
for w in "${WORKERS[@]}"; do
    (umask 077 && ask key invite --role worker --name "$w" >"$T/host/$w/invitation" 2>"$T/log/invite")
    start_worker "$w"
done
(umask 077 && ask key invite --role client --name desk >"$T/host/desk/invitation" 2>"$T/log/invite")
on desk tidemill key join "@$T/host/desk/invitation" >"$T/log/join" 2>&1
until_ok all_up
capture_begin
say "up: a coordinator at ${ADDRESS[c1]}, 4 workers and a client on hosts of their own, each enrolled with its own key"

links_cut
half_open
client_half_open
slow
each
rolling
capture_check
move

for w in "${WORKERS[@]}"; do stop "$w"; done
stop coordinator
stop web
tidemill-coordinator check --state "$T/host/c2/state"
/usr/bin/python3 "$here/campaign/check.py" --dir "$T" --state "$T/host/c2/state"
say "nothing was lost"
