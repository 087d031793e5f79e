#!/usr/bin/env bash
# Installs what the tests need (Debian), builds with sanitizers, runs every test and each fuzzer shortly.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/packages.sh tests

cmake --preset asan
cmake --build --preset asan
ctest --test-dir build/asan --output-on-failure -j "$(nproc)"

# Where threads or coroutines meet, once more under ThreadSanitizer.
cmake --preset tsan
cmake --build --preset tsan
ctest --test-dir build/tsan --output-on-failure -L threads

# Every decoder against libFuzzer, shortly; longer: tests/fuzz.sh SECONDS.
tests/fuzz.sh 5

# What users get: hardened, and working from where it is installed.
cmake --preset release -DTM_WERROR=ON
cmake --build --preset release
ctest --test-dir build/release --output-on-failure -L release
