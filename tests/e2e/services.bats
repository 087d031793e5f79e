#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The daemons as services: what they tell their manager, and the units that start them.

setup() {
    load common.bash
    common_setup
    use_coordinator
}
teardown() { common_teardown; }

# Takes the place of the manager: what comes to the socket is a line each in the file.
manager() {
    python3 - "$1" "$2" 3>&- <<'P' &
import os, socket, sys
name, path = sys.argv[1:]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, open(path, "w", buffering=1) as f:
    s.bind("\0" + name[1:] if name[0] == "@" else name)
    f.write("# listens\n")
    while True:
        f.write(s.recv(4096).decode() + "\n")
P
    PIDS+=("$!")
    until_ok grep -q listens "$2"
}
told() { grep -v '^#' "$1" | tr '\n' ' '; }

@test "both daemons say when they are ready, and when they stop" {
    manager "$T/notify" told.c
    manager "@tidemill-test-$$" told.w
    NOTIFY_SOCKET=$T/notify start_coordinator
    until_ok grep -q READY told.c
    [ "$(told told.c)" = 'READY=1 ' ]
    tidemill node ls # ready means that it answers
    NOTIFY_SOCKET=@tidemill-test-$$ start_worker
    until_ok grep -q READY told.w
    until_ok tidemill node show w
    stop "$WORKER"
    [ "$(told told.w)" = 'READY=1 STOPPING=1 ' ]
    stop "$COORD"
    [ "$(told told.c)" = 'READY=1 STOPPING=1 ' ]
}

@test "a daemon that cannot start is not ready" {
    manager "$T/notify" told
    NOTIFY_SOCKET=$T/notify run -1 tidemill-coordinator --listen "ipc://$T/c" --state /proc/none
    [ -z "$(told told)" ]
    NOTIFY_SOCKET=$T/notify run -2 tidemill-worker --join "ipc://$T/c" --root relative
    [ -z "$(told told)" ]
}

@test "a manager that does not hear is no reason to end" {
    for socket in "$T/nobody" relative "/$(printf '%0200d' 0)"; do
        rm -rf coord.err state
        NOTIFY_SOCKET=$socket start_coordinator
        tidemill node ls
        grep -q 'notify socket=' coord.err
        stop "$COORD"
    done
}

# The installed units, with the programs where they were installed to.
installed_units() {
    cmake --install "$TM_BIN/.." --prefix "$T/prefix" >/dev/null
    mkdir units
    for unit in "$T"/prefix/lib/systemd/system/*; do
        sed "s#^ExecStart=tidemill#ExecStart=$T/prefix/bin/tidemill#" "$unit" >"units/${unit##*/}"
    done
    mv units/tidemill-worker@.service units/tidemill-worker@a.service
}

@test "units: systemd finds nothing wrong, and each runs the installed program" {
    installed_units
    [ "$(ls units)" = $'tidemill-coordinator.service\ntidemill-worker@a.service' ]
    for unit in units/*; do
        [ "$(grep -c "^ExecStart=$T/prefix/bin/" "$unit")" -eq 1 ]
        run -0 systemd-analyze verify --recursive-errors=no "$unit"
        [ -z "$output" ] || { echo "$output"; return 1; }
    done
    # It would say so if there were something.
    sed -i 's/^ProtectClock=/ProtectClocks=/' units/tidemill-coordinator.service
    systemd-analyze verify --recursive-errors=no units/tidemill-coordinator.service 2>&1 | grep -q ProtectClocks
}

@test "units: what a service may do is little" {
    installed_units
    for unit in units/*; do
        systemd-analyze security --offline=true --threshold=25 "$unit" >rating || { tail -3 rating; return 1; }
    done
}

# command KEY UNIT: what a unit starts, as a shell would write it.
command_of() { sed -n "s/^$1=//p" "$2"; }

@test "units: their commands make the coordinator's key once, and start daemons with what the environment says" {
    installed_units
    PATH=$T/prefix/bin:$PATH
    export STATE_DIRECTORY=$T/coordinator CACHE_DIRECTORY=$T/cache
    mkdir "$STATE_DIRECTORY" "$CACHE_DIRECTORY"
    eval "$(command_of ExecStartPre units/tidemill-coordinator.service)"
    cp coordinator/server.key kept
    eval "$(command_of ExecStartPre units/tidemill-coordinator.service)"
    cmp coordinator/server.key kept
    manager "$T/notify" told
    TIDEMILL_LISTEN="ipc://$T/c tcp://127.0.0.1:0" TIDEMILL_LISTEN_WORKERS=tcp://127.0.0.1:0 NOTIFY_SOCKET=$T/notify \
        eval "exec $(command_of ExecStart units/tidemill-coordinator.service)" 2>coord.err 3>&- &
    PIDS+=("$!")
    until_ok grep -q READY told
    (umask 077 && tidemill key invite --role worker >invitation)
    export STATE_DIRECTORY=$T/worker
    mkdir "$STATE_DIRECTORY"
    TIDEMILL_NAME=host-a TIDEMILL_JOIN=@$T/invitation \
        eval "exec $(command_of ExecStart units/tidemill-worker@a.service)" 2>worker.err 3>&- &
    PIDS+=("$!")
    until_ok tidemill node show host-a
    [ -e worker/worker.key ]
    [ -e worker/known_keys ]
}
