#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# Inputs that are bad in every way: each is one clear line with its name, the others go on,
# exit 3; no output of a failed task, nor a temporary.

setup() {
    load common.bash
    common_setup
}
teardown() { common_teardown; }

# One line on stderr begins so, and only one.
says() {
    [ "$(grep -c -- "$1" <<<"$stderr")" -eq 1 ] || { echo "not once: $1" >&2; echo "$stderr" >&2; return 1; }
}

# A background loop changes a file until the test is over.
keep_changing() {
    (while :; do eval "$1"; done) 2>/dev/null 3>&- &
    PIDS+=("$!")
}

@test "a file that may not be read, as a user who is not root" {
    echo secret >locked
    echo open >readable
    chmod 000 locked
    mkdir shut && echo in >shut/in && chmod 000 shut
    run_as() { "$@"; }
    if [ "$(id -u)" -eq 0 ]; then
        chmod 755 "$T"
        chown 65534 run config
        run_as() { HOME=$T setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
    fi
    run -3 --separate-stderr run_as tidemill hash -r locked readable shut
    chmod 700 shut
    [ "$(cut -c 65- <<<"$output")" = "  readable" ]
    says '^tidemill: locked: Permission denied$'
    says '^tidemill: shut: Permission denied$'
}

@test "a file that grows, and one that is cut, while they are read" {
    echo still >still
    truncate -s 300M grows cut
    keep_changing 'echo >>grows; sleep 0.01'
    keep_changing 'truncate -s 200M cut; truncate -s 300M cut; sleep 0.01'
    run -3 --separate-stderr tidemill hash --retries 0 grows cut still
    [ "$(cut -c 65- <<<"$output")" = "  still" ]
    says '^tidemill: grows: changed while it was read'
    says '^tidemill: cut: changed while it was read'
}

@test "a file that changes while it is encrypted leaves no output" {
    tidemill key identity id >r
    truncate -s 300M grows
    keep_changing 'echo >>grows; sleep 0.01'
    run -3 --separate-stderr tidemill encrypt -r "$(cat r)" --retries 0 grows
    says '^tidemill: grows: changed while it was read'
    [ ! -e grows.age ]
    [ -z "$(find . -name '.*.tm-*')" ]
}

@test "odd inputs: a fifo, a dangling link, a name that is a control sequence" {
    mkfifo fifo
    ln -s nowhere dangling
    run -3 --separate-stderr tidemill hash fifo dangling $'no\nsuch\e[31m' /etc/passwd
    [ "${#lines[@]}" -eq 1 ]
    says '^tidemill: fifo: is not a regular file'
    says '^tidemill: dangling: No such file or directory'
    says '^tidemill: no\\x0asuch\\x1b\[31m: No such file or directory'
}

@test "servers that hang, stall, trickle, cut, lie about gzip, send bombs, redirect to files" {
    start_bad_server
    local base=http://127.0.0.1:$BAD_PORT
    printf "$base/%s\n" fine hang stall trickle cut badgzip cutgzip bomb nothttp redirect >urls
    run -3 --separate-stderr tidemill fetch -i urls -o got --retries 0 --stall 2s \
        --timeout 6s --max-size 1MiB --per-host 16
    echo "$stderr"
    [ "$(find got -type f)" = "got/127.0.0.1:$BAD_PORT/fine" ]
    for what in hang stall trickle cut badgzip cutgzip bomb nothttp redirect; do
        says "^tidemill: $base/$what: "
    done
    says '/stall: .*2 s'
    says '/trickle: .*6 s'
    says '/cut: truncated'
    says "/badgzip: the body's compression is not valid"
    says '/cutgzip: truncated'
    says '/bomb: larger than 1 MiB'
    run ! grep -q root: got -r
}

@test "an error that may pass is tried again, and Retry-After obeyed" {
    start_bad_server
    run -0 tidemill fetch "http://127.0.0.1:$BAD_PORT/twice"
    [ "$output" = "at last" ]
    python3 - <<'PY'
times = [float(l.split()[2]) for l in open("server.log") if "/twice" in l]
assert len(times) == 2 and times[1] - times[0] >= 1, times
PY
}

@test "certificates: a stranger's is refused, a trusted one accepted, a wrong host refused" {
    mkdir www && echo over tls >www/f
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=t \
        -addext subjectAltName=IP:127.0.0.1 -keyout tls.key -out tls.crt 2>/dev/null
    start_nginx
    local url=https://127.0.0.1:$TLS_PORT/f
    run -3 --separate-stderr tidemill fetch --retries 0 "$url"
    [ -z "$output" ]
    says '/f: certificate not valid: '
    [ "$(tidemill fetch --ca-file tls.crt "$url")" = "over tls" ]
    [ "$(TIDEMILL_CA_FILE=$T/tls.crt tidemill fetch "$url")" = "over tls" ]
    run -3 --separate-stderr tidemill fetch --retries 0 --ca-file tls.crt \
        "https://127.0.0.2:$TLS_PORT/f"
    says '/f: certificate not valid: '
    run -3 --separate-stderr tidemill fetch --retries 0 --ca-file nothing "$url"
    says '/f: the CA file cannot be read'
}

@test "age files with chunks in another order, or the last one missing, are not opened" {
    tidemill key identity id >r
    head -c 300000 /dev/urandom >f
    age -r "$(cat r)" -o whole.age f
    python3 - <<'PY'
data = open("whole.age", "rb").read()
start = data.index(b"\n---") + 1
start = data.index(b"\n", start) + 1 + 16
head, body, size = data[:start], data[start:], 65536 + 16
chunks = [body[i:i + size] for i in range(0, len(body), size)]
chunks[0], chunks[1] = chunks[1], chunks[0]
open("swapped.age", "wb").write(head + b"".join(chunks))
open("short.age", "wb").write(head + body[:size * 2])
open("longer.age", "wb").write(data + b"x")
open("headless.age", "wb").write(data[40:])
open("header.age", "wb").write(data[:start])
PY
    : >empty.age
    run -3 --separate-stderr tidemill decrypt -i id ./*.age
    [ "$(cat whole | sha256sum)" = "$(sha256sum <f)" ]
    for name in swapped short longer headless header empty; do
        says "^tidemill: ./$name.age: "
        [ ! -e "$name" ]
    done
    [ -z "$(find . -name '.*.tm-*')" ]
}

@test "a full disk while fetching and decrypting: said, nothing half-written" {
    [ "$(id -u)" -eq 0 ] || skip "needs root for a small file system"
    tidemill key identity id >r
    mkdir www small
    head -c 3000000 /dev/urandom >www/f
    age -r "$(cat r)" -o f.age www/f
    start_nginx
    mount -t tmpfs -o size=1m none small || skip "mounts are forbidden here"
    run --separate-stderr tidemill fetch -o small --retries 0 "http://127.0.0.1:$PORT/f"
    first=$status
    says '/f: .*[Nn]o space left'
    run --separate-stderr tidemill decrypt -i id --retries 0 -o small f.age
    second=$status
    says '^tidemill: f.age: .*[Nn]o space left'
    left=$(find small -type f)
    umount small
    [ "$first" -eq 3 ]
    [ "$second" -eq 3 ]
    [ -z "$left" ]
}

@test "bad identities and recipients are usage errors that name the file" {
    echo x >f
    echo AGE-SECRET-KEY-1NONSENSE >bad
    : >none
    run -2 --separate-stderr tidemill decrypt -i bad f.age
    says '^tidemill: error: bad'
    run -2 --separate-stderr tidemill decrypt -i none f.age
    run -1 --separate-stderr tidemill decrypt -i absent f.age
    says 'absent: No such file'
    printf '# ok\nage1nonsense\n' >R
    run -2 --separate-stderr tidemill encrypt -R R f
    says '^tidemill: error: R:2: '
    [ ! -e f.age ]
}
