#!/usr/bin/env bash
# From a clone to results on a bare Debian 12: installs what the build needs, builds, then
# hashes, encrypts, decrypts and fetches real files on a private cluster, and lets the
# standard tools judge what came out. Leaves build/release and the packages behind.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
server=
work=$(mktemp -d)

finish() {
    local code=$?
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
    [ $code -eq 0 ] || echo "quickstart: failed, see above" >&2
}
trap finish EXIT

section() { printf '\n== %s\n' "$*"; }
fact() { printf '   %s\n' "$*"; }

# Shows a command, then runs it; its seconds are in $took.
run() {
    printf '   $ %s\n' "$1"
    local from=$EPOCHREALTIME
    eval "$1" | sed 's/^/     /'
    took=$(awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $from }")
}

# Runs a noisy command; its output is shown only if it fails.
quiet() {
    if ! "$@" >"$work/log" 2>&1; then
        tail -30 "$work/log" >&2
        return 1
    fi
}

# "N files, N MB" of the regular files below some directories.
amount() {
    find "$@" -type f -printf '%s\n' |
        awk '{ n++; sum += $1 } END { printf "%d files, %.1f MB", n, sum / 1e6 }'
}

section "Packages"
deploy/packages.sh build
fact "all there"

section "Build: optimised and hardened, in build/release"
SECONDS=0
quiet cmake --preset release
quiet cmake --build --preset release --target tidemill-client tidemill-coordinator tidemill-worker
fact "took $SECONDS s"
export PATH=$here/build/release/bin:$PATH
unset "${!TIDEMILL_@}"
export XDG_RUNTIME_DIR=$work/run # a private cluster, also where you have one running
mkdir -m 700 "$XDG_RUNTIME_DIR"

# Real files that are on every machine which can build: a compiler and the system's headers.
cd "$work"
ln -s /usr/lib/gcc compiler
ln -s /usr/include headers

section "Hash: a record for every file of a compiler and its headers"
run "tidemill hash -r compiler headers >SHA256SUMS"
fact "$(amount compiler/ headers/) on $(nproc) cores in $took s"
run "sha256sum --quiet --strict -c SHA256SUMS"
fact "sha256sum accepts all $(wc -l <SHA256SUMS) lines of the manifest"

section "Encrypt to a public key, decrypt with the private one"
run "tidemill key identity key.txt | tee recipient"
run 'tidemill encrypt -r "$(cat recipient)" --recursive -o safe compiler'
fact "$(amount safe) in $took s"
run "tidemill decrypt -i key.txt --recursive -o back safe/compiler"
fact "$(amount back) in $took s"
run "grep ' compiler/' SHA256SUMS | (cd back && sha256sum --quiet --strict -c)"
fact "every file came back as it was"
largest=$(find compiler/ -type f -printf '%s %p\n' | sort -rn | sed -n '1s/[0-9]* //p')
run "age -d -i key.txt safe/$largest.age | cmp - $largest"
fact "age opens them too"

section "Fetch: the Linux headers from a web server on this machine"
python3 -u -m http.server --bind 127.0.0.1 --directory /usr/include/linux 0 >server.log 2>&1 &
server=$!
until port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' server.log) && [ -n "$port" ]; do
    kill -0 "$server" || { cat server.log >&2; exit 1; }
    sleep 0.1
done
find /usr/include/linux -type f -printf "http://127.0.0.1:$port/%P\n" >urls
run "head -2 urls"
run "tidemill fetch -i urls -o mirror --hash sha256 >FETCHED"
fact "$(wc -l <urls) URLs: $(amount mirror) in $took s"
run "sha256sum --quiet --strict -c FETCHED"
run "diff -r /usr/include/linux mirror/127.0.0.1:$port"
fact "what is on disk is what was served, and what the manifest says"

section "All of it worked. What now?"
fact "the programs     $here/build/release/bin (tidemill help)"
fact "to install them  cmake --install build/release (as root; to /usr/local)"
fact "a tour           README.md"
fact "all tests        tests/run.sh"
