#!/usr/bin/env bash
# Debian packages. `packages.sh build` installs what a build and quickstart.sh need,
# `packages.sh fuzz` also what tests/fuzz.sh needs, `packages.sh tests` all that tests/run.sh
# needs, `packages.sh bench` what bench/run.sh measures with and against. What is there already is left alone; an ordinary user is asked for sudo's password.
set -euo pipefail

wanted=(build-essential cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev
    libzmq3-dev libsodium-dev libmsgpack-dev libev-dev libsqlite3-dev libssl-dev
    libcurl4-openssl-dev zlib1g-dev libxxhash-dev libc-ares-dev uthash-dev libcmocka-dev age python3)
case ${1:-} in
build) ;;
fuzz) wanted+=(clang libclang-rt-14-dev) ;;
tests) wanted+=(bats clang clang-format-14 debootstrap docker-compose docker.io iproute2 iptables libclang-rt-14-dev nginx-light
    procps protobuf-compiler python3-msgpack python3-protobuf python3-xxhash python3-zmq sqlite3 systemd tcpdump) ;;
bench) wanted+=(curl gearman-job-server gnuplot-nox libnats-dev nats-server nginx-light openssl procps sqlite3
    strace wget2) ;;
*) echo "usage: packages.sh build|fuzz|tests|bench" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "no Debian: what is needed is called there: ${wanted[*]}" >&2
    exit 0 # the build says what it does not find
fi
missing=()
for package in "${wanted[@]}"; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed*) ;;
    *) missing+=("$package") ;;
    esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "error: packages are missing, and there is no sudo" >&2
        echo "  hint: as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${#missing[@]} Debian packages (sudo may ask for your password)"
    exec sudo "$0" "$1"
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
placed=
finish() {
    rm -f "$log"
    [ -z "$placed" ] || rm -f "$policy"
}
trap finish EXIT

# Of servers only the program is wanted; nginx, say, must not begin to serve on port 80.
services=()
for package in docker.io:docker nginx-light:nginx gearman-job-server:gearman-job-server nats-server:nats-server; do
    case " ${missing[*]} " in *" ${package%:*} "*) [ -e "/etc/init.d/${package#*:}" ] || services+=("${package#*:}") ;; esac
done
if [ ${#services[@]} -gt 0 ] && [ ! -e "$policy" ]; then
    placed=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "error: apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
if [ ${#services[@]} -gt 0 ] && [ -d /run/systemd/system ]; then
    systemctl --quiet disable "${services[@]}"
fi
echo "installed ${#missing[@]} Debian packages"
