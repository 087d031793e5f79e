#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# PROTOCOL.md is enough to write a client: protocol_client.py, which was written from it,
# against the real programs.

setup() {
    load common.bash
    common_setup
    ENDPOINT=ipc://$T/c
    mkdir proto
    protoc -I "$BATS_TEST_DIRNAME/../../proto" --python_out=proto tidemill.proto
    export PYTHONPATH=$T/proto:$BATS_TEST_DIRNAME PYTHONDONTWRITEBYTECODE=1
}
teardown() { common_teardown; }

start_coordinator() {
    rm -f c
    tidemill-coordinator --listen "$ENDPOINT" --state "$T/state" 2>>coord.err 3>&- &
    COORD=$!
    PIDS+=("$COORD")
    until_ok test -S c
}
start_worker() {
    tidemill-worker --join "$ENDPOINT" --root / --name w --procs 2 2>>worker.err 3>&- &
    WORKER=$!
    PIDS+=("$WORKER")
}

# Debian's python: another one in PATH has not its modules. Its client waits for results for
# ever, as it should; a test must not.
python() { timeout 120 /usr/bin/python3 "$@"; }
client() { python "$BATS_TEST_DIRNAME/protocol_client.py" "$ENDPOINT" "$@"; }
# said FILE KEY: a value of the last line that the client wrote to standard error.
said() { tail -n 1 "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }

# More tasks than one chunk takes. Names in the order of a fixed list.
many_files() {
    make_tree
    for i in $(seq 5000); do echo "$i" >"tree/$i"; done
    find tree -type f -print0 | sort -z >names
    N=$(tr -dc '\0' <names | wc -c)
}

@test "files: chunks, credit, and a cursor that outlives two lost connections" {
    many_files
    start_coordinator
    start_worker
    client hash --drop <names >S 2>err
    sha256sum --quiet --strict -c S
    [ "$(sort -u S | wc -l)" -eq "$N" ]
    [ "$(wc -l <S)" -eq "$N" ]
    [ "$(said err chunks)" -ge 2 ]
    [ "$(said err connections)" -eq 3 ]
    [ "$(said err state)" = JOB_DONE ]
    [ "$(said err ok)" -eq "$N" ]
}

@test "chunks for one node: it alone does their tasks, and the digest covers its name" {
    many_files
    start_coordinator
    start_worker
    tidemill-worker --join "$ENDPOINT" --root / --name v --procs 1 2>>v.err 3>&- &
    PIDS+=("$!")
    for node in v w; do until_ok eval "client query nodes | grep -q '\"name\": \"$node\"'"; done
    client hash --key 000102030405060708090a0b0c0d0e0f --node v <names >S 2>err
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq "$N" ]
    TIDEMILL_COORDINATOR=$ENDPOINT tidemill results --json "j$(said err job)" |
        grep -o '"node":"[^"]*"' | sort -u >by
    [ "$(cat by)" = '"node":"v"' ]
    # The digest is over the name too.
    python - "$ENDPOINT" <<'PY'
import argparse, sys
from protocol_client import Chunk, HashJob, Identity, Refused, keep_talking

class Nameless(Chunk):
    """Its digest is over lens and body alone."""
    def __init__(self, inputs, node):
        super().__init__(inputs)
        self.node = node

class Wrong(HashJob):
    def talk(self, session):
        self.chunks = [Nameless([self._input(name) for name in self.names], b"v")]
        super().talk(session)

off = argparse.Namespace(
    **dict.fromkeys("key inline drop leave cancel task_order".split()), node="v")
try:
    keep_talking(Identity(sys.argv[1]), Wrong([b"names"], off).talk)
    sys.exit("it was taken")
except Refused as refused:
    assert "(code 1, about CHUNK)" in str(refused), refused
PY
}

@test "inline bytes, in task order: the lines of sha256sum itself" {
    many_files
    start_coordinator
    start_worker
    find tree -type f -size -64k -print0 | sort -z >small
    client hash --inline --task-order --drop <small >S 2>err
    xargs -0 sha256sum <small >expected
    cmp S expected
    [ "$(said err chunks)" -ge 2 ]
    [ "$(said err connections)" -eq 3 ]
}

@test "the same key is the same job, done or only begun" {
    many_files
    start_coordinator
    start_worker
    client hash --key 000102030405060708090a0b0c0d0e0f <names >S 2>err
    client hash --key 000102030405060708090a0b0c0d0e0f <names >S2 2>err2
    [ "$(said err job)" -eq "$(said err2 job)" ]
    cmp S S2
    client hash --key 100102030405060708090a0b0c0d0e0f --leave <names 2>err
    [ "$(said err job)" -ne "$(said err2 job)" ]
    client query job "$(said err job)" | grep -q '"state": "open"'
    client hash --key 100102030405060708090a0b0c0d0e0f --task-order <names >S3 2>err2
    [ "$(said err job)" -eq "$(said err2 job)" ]
    xargs -0 sha256sum <names | cmp - S3
    [ "$(client query jobs | wc -l)" -eq 2 ]
}

@test "a cancelled job ends as such, and stays so" {
    many_files
    start_coordinator
    client hash --key 000102030405060708090a0b0c0d0e0f --cancel <names >S 2>err
    [ "$(said err state)" = CANCELLED ]
    [ "$(said err cancelled)" -eq "$N" ]
    [ ! -s S ]
    client query job "$(said err job)" | grep -q '"state": "cancelled", "state_code": 3,'
    client hash --key 000102030405060708090a0b0c0d0e0f <names >S 2>err2
    [ "$(said err2 job)" -eq "$(said err job)" ]
    [ "$(said err2 state)" = CANCELLED ]
    [ ! -s S ]
}

@test "a coordinator killed with -9 and started again is the same one to its client" {
    many_files
    start_coordinator
    client hash <names >S 2>err 3>&- &
    pid=$!
    PIDS+=("$pid")
    is_sealed() { client query jobs | grep -q '"state": "sealed"'; }
    until_ok is_sealed
    kill -9 "$COORD"
    wait_gone "$COORD"
    start_coordinator
    start_worker
    wait "$pid"
    sha256sum --quiet --strict -c S
    [ "$(wc -l <S)" -eq "$N" ]
    [ "$(said err connections)" -ge 2 ]
    client query status | grep -q '"epoch": 2,'
}

@test "an input that is none fails alone, also one of 0 bytes" {
    echo x >x
    start_coordinator
    start_worker
    python - "$ENDPOINT" >out <<'PY'
import argparse, sys
from protocol_client import HashJob, Identity, keep_talking

class Damaged(HashJob):
    def _input(self, name):
        return b"" if name == b"empty" else super()._input(name)

off = argparse.Namespace(
    **dict.fromkeys("key inline drop leave cancel task_order".split()), node="")
for names in [b"empty"], [b"empty", b"x"]:
    job = Damaged(names, off)
    keep_talking(Identity(sys.argv[1]), job.talk)
    print(job.end.count_failed, job.end.count_ok, flush=True)
PY
    [ "$(grep -v '  x$' out)" = $'1 0\n1 1' ]
    grep '  x$' out | sha256sum --strict -c
    kill -0 "$WORKER"
}
