#!/usr/bin/env bash
# From a clone to results on a bare Debian 12: installs what the build needs, builds, then
# hashes, encrypts, decrypts and fetches real input on a private cluster, and lets the
# standard tools check what came out.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev
    libzmq3-dev libsodium-dev libmsgpack-dev libev-dev libsqlite3-dev libssl-dev
    libcurl4-openssl-dev libc-ares-dev uthash-dev libcmocka-dev age python3)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    echo "== installing Debian packages"
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${packages[@]}" >/dev/null
fi

echo "== building"
cmake --preset release >/dev/null
cmake --build --preset release --target tidemill-client tidemill-coordinator tidemill-worker >/dev/null
bin=$PWD/build/release/bin
PATH=$bin:$PATH

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

echo "== tidemill hash -r /usr/share/doc"
tidemill hash -r /usr/share/doc >"$work/SHA256SUMS"
sha256sum --quiet --strict -c "$work/SHA256SUMS"
echo "   $(wc -l <"$work/SHA256SUMS") files hashed; sha256sum -c accepts the manifest"

echo "== tidemill encrypt, decrypt"
recipient=$(tidemill key identity "$work/identity")
tidemill encrypt -r "$recipient" --recursive -o "$work/encrypted" docs
tidemill decrypt -i "$work/identity" -r -o "$work/decrypted" "$work/encrypted/docs"
diff -r docs "$work/decrypted/docs"
first=$(find docs -type f | head -1)
age -d -i "$work/identity" "$work/encrypted/$first.age" | cmp - "$first"
echo "   $(find "$work/encrypted" -type f | wc -l) files there and back; age -d opens them too"

echo "== tidemill fetch (from a server on this machine)"
python3 -u -m http.server --bind 127.0.0.1 --directory docs 0 >"$work/server" 2>&1 &
server=$!
until port=$(grep -o 'port [0-9]*' "$work/server" | cut -d' ' -f2) && [ -n "$port" ]; do sleep 0.1; done
find docs -type f -printf "http://127.0.0.1:$port/%P\n" >"$work/urls"
(cd "$work" && tidemill fetch -i urls -o fetched --hash sha256 >FETCHED && sha256sum --quiet --strict -c FETCHED)
echo "   $(wc -l <"$work/FETCHED") URLs fetched; sha256sum -c accepts what is on disk"

echo "== done. The programs are in $bin; try: $bin/tidemill help"
