#!/usr/bin/env bash
# Installs what the tests need (Debian), builds with sanitizers, runs every test and each fuzzer shortly.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential git cmake ninja-build pkg-config clang-format-14 protobuf-c-compiler
    libprotobuf-c-dev libzmq3-dev libsodium-dev libmsgpack-dev libev-dev libsqlite3-dev libssl-dev
    libcurl4-openssl-dev libc-ares-dev uthash-dev libcmocka-dev bats age nginx-light sqlite3
    python3-zmq python3-protobuf python3-msgpack protobuf-compiler)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${packages[@]}" >/dev/null
fi

cmake --preset asan
cmake --build --preset asan
ctest --test-dir build/asan --output-on-failure -j "$(nproc)"

# Where threads or coroutines meet, once more under ThreadSanitizer.
cmake --preset tsan
cmake --build --preset tsan
ctest --test-dir build/tsan --output-on-failure -L threads

# Every decoder against libFuzzer, shortly; longer: tests/fuzz.sh SECONDS.
tests/fuzz.sh 5
