# What every end-to-end test shares. Sourced by the .bats files.
# TM_BIN: the directory of the built programs (ctest sets it).

common_setup() {
    TM_BIN=${TM_BIN:-$BATS_TEST_DIRNAME/../../build/asan/bin}
    PATH=$TM_BIN:$PATH:/usr/sbin # nginx, also for an ordinary user
    export PATH
    unset TIDEMILL_COORDINATOR TIDEMILL_STATE
    T=$(mktemp -d "${BATS_TMPDIR:-/tmp}/tidemill-e2e.XXXXXX")
    export XDG_RUNTIME_DIR=$T/run XDG_CONFIG_HOME=$T/config TMPDIR=$T/tmp
    mkdir -m 700 "$T/run" "$T/config" "$T/tmp"
    cd "$T" || return 1
    PIDS=()
}

common_teardown() {
    local pid
    for pid in "${PIDS[@]}"; do
        kill "$pid" 2>/dev/null
    done
    for pid in "${PIDS[@]}"; do
        wait_gone "$pid" || kill -9 "$pid" 2>/dev/null
    done
    cd /
    rm -rf "$T"
}

# Waits until the command succeeds; fails after two minutes, so that a busy machine passes.
until_ok() {
    local deadline=$((SECONDS + 120))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "never came true: $*" >&2; return 1; }
        sleep 0.05
    done
}

# For a test that stops, holds or kills a program at a named place in its code: needs_failpoint PROGRAM
# NAME. A release has no such places (docs/faults.md), and without them the test would prove nothing. Under ctest
# the build says whether it has them: where it has, a name that is missing is an error.
needs_failpoint() {
    ! TIDEMILL_FAILPOINTS=list "$1" --version 2>&1 | grep -q "^$2 " || return 0
    [ "${TM_FAILPOINTS:-}" = ON ] || skip "a release has no failpoints"
    echo "no failpoint $2 in $1" >&2
    return 1
}

is_empty() { [ -z "$(ls -A "$1")" ]; }
wait_gone() { until_ok not_running "$1"; }
# A zombie has ended too: in some containers nobody asks for its exit code. But not while
# it has threads: they hold its files and locks.
not_running() {
    ! kill -0 "$1" 2>/dev/null ||
        { grep -q '^State:.Z' "/proc/$1/status" && [ "$(ls "/proc/$1/task" | wc -l)" -le 1 ]; }
}

# Processes whose parent is $1 and whose name matches $2.
children() { pgrep -P "$1" ${2:+-f "$2"} || true; }

# A coordinator and a worker of this test's own user directory.
start_up() {
    rm -f "$T/up.out" "$T/up.err" # of an earlier one
    tidemill up --state "$T/state" "$@" >"$T/up.out" 2>"$T/up.err" 3>&- &
    UP=$!
    PIDS+=("$UP")
    until_ok grep -q 'up: ' "$T/up.err" "$T/up.out"
}

# The commands of this test use start_coordinator's.
use_coordinator() { export TIDEMILL_COORDINATOR=ipc://$T/c; }
# A coordinator alone; its pid in COORD.
start_coordinator() {
    rm -f c
    tidemill-coordinator --listen "ipc://$T/c" --state "${STATE:-$T/state}" "$@" 2>>coord.err 3>&- &
    COORD=$!
    PIDS+=("$COORD")
    until_ok test -S c
}
# Its worker w; its pid in WORKER.
start_worker() {
    tidemill-worker --join "ipc://$T/c" --root / --name w --procs 2 "$@" 2>>worker.err 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
}
stop() {
    kill "${2:--TERM}" "$1"
    wait_gone "$1"
}
# Its name is free once the coordinator has missed it for --silence.
restart_worker() {
    ! kill "$1" "$WORKER" 2>/dev/null || wait_gone "$WORKER"
    until_ok eval '! tidemill node show w'
    start_worker "${@:2}"
}

# A number of the JSON object of node w, or of a job: node_number tasks; job_number ok j1.
node_number() { tidemill node show w --json | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
job_number() { tidemill job show "$2" --json | grep -o "\"$1\":[0-9]*" | cut -d: -f2; }
mills_idle() { [ "$(node_number processes_busy)" -eq 0 ]; }
# Pids of the worker's mills that have a file open.
mills_on() {
    local mill
    for mill in $(children "$WORKER"); do
        if find "/proc/$mill/fd" -lname "$1" 2>/dev/null | grep -q .; then echo "$mill"; fi
    done
}
some_mill_on() { [ -n "$(mills_on "$1")" ]; }

# Runs a command as a user who is not root, to whom this test's directory belongs.
as_user() {
    [ "$(id -u)" -eq 0 ] || { "$@"; return; }
    chown -R 65534:65534 "$T"
    HOME=$T setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

# A small tree with names that bite.
make_tree() {
    mkdir -p tree/sub/deep "tree/with space"
    printf 'one\n' >tree/one
    printf '' >tree/empty
    head -c 300000 /dev/urandom >tree/sub/big
    printf 'x' >tree/sub/deep/x
    printf 'y' >"tree/with space/y"
    printf 'nl' >tree/$'new\nline'
    printf 'bs' >'tree/back\slash'
    printf 'raw' >tree/$'bad\xff\xfeutf8'
}

# nginx on a loopback port, serving $T/www; sets PORT. With a tls.crt and tls.key also
# over TLS on TLS_PORT.
start_nginx() {
    mkdir -p www ngx
    local user=''
    [ "$(id -u)" -ne 0 ] || user='user root;' # else its workers could not enter $T
    local port try tls=''
    for try in 1 2 3 4 5 6 7 8; do
        port=$((20000 + RANDOM % 20000))
        [ ! -e tls.crt ] || tls="server { listen 127.0.0.1:$((port + 1)) ssl;
            listen 127.0.0.2:$((port + 1)) ssl; root $T/www;
            ssl_certificate $T/tls.crt; ssl_certificate_key $T/tls.key; }"
        cat >ngx/nginx.conf <<CONF
daemon off; $user worker_processes 1; pid $T/ngx/pid; error_log $T/ngx/error.log;
events { worker_connections 1024; }
http {
    access_log off; client_body_temp_path $T/ngx/b; proxy_temp_path $T/ngx/p;
    fastcgi_temp_path $T/ngx/f; uwsgi_temp_path $T/ngx/u; scgi_temp_path $T/ngx/s;
    server {
        listen 127.0.0.1:$port;
        root $T/www;
        location /loop { return 302 /loop; }
        location /moved { return 301 /small; }
        location /zip/ { gzip on; gzip_min_length 1; gzip_types *; }
    }
    $tls
}
CONF
        nginx -c "$T/ngx/nginx.conf" -p "$T/ngx" 2>/dev/null 3>&- &
        local pid=$!
        if until_ok_or_gone "$pid" "$port"; then
            PIDS+=("$pid")
            PORT=$port TLS_PORT=$((port + 1))
            return 0
        fi
    done
    return 1
}

until_ok_or_gone() {
    while kill -0 "$1" 2>/dev/null; do
        (exec 9<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && return 0
        sleep 0.05
    done
    return 1
}

# A server that misbehaves (badserver.py); sets BAD_PORT. Requests are in server.log.
start_bad_server() {
    python3 "$BATS_TEST_DIRNAME/badserver.py" server.log >bad_port 2>/dev/null 3>&- &
    PIDS+=("$!")
    until_ok grep -q . bad_port
    BAD_PORT=$(cat bad_port)
}

# Temporaries of outputs, below the directories given.
temporaries() { find "$@" -name '.*.tm-*'; }
no_temporaries() { [ -z "$(temporaries "$@")" ]; }
some_temporaries() { [ -n "$(temporaries "$@")" ]; }

many() {
    mkdir -p many
    (cd many && seq "$1" | split -l 1 -a 5 -d - f)
}

# Long enough to be killed in: sparse, so that it costs no disk.
large() { truncate -s 800M large; }
