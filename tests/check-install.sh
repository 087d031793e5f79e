#!/usr/bin/env bash
# usage: check-install.sh BUILD_DIR COMPILER [FLAG...]
# Installs into a directory of its own, moves that elsewhere, and uses it as a stranger would:
# an example is built with pkg-config alone, and the programs and the library find each other
# without anything in the environment.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift
cc=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cmake --install "$build" --prefix "$work/staged" >install.log || { cat install.log >&2; exit 1; }
mv staged prefix
if grep -rlF "$work/staged" prefix; then
    echo "these know where they were installed" >&2
    exit 1
fi
libdir=$(dirname "$(find "$work/prefix" -name 'libtidemill.so')")

export PKG_CONFIG_PATH=$libdir/pkgconfig
cp "$source"/examples/submit.c .
read -ra flags < <(pkg-config --cflags --libs tidemill)
"${cc[@]}" -Wall -Wextra -Werror -D_GNU_SOURCE -o submit submit.c "${flags[@]}"

# bare COMMAND...: with nothing of the tests' environment.
bare() { env -i PATH=/usr/bin:/bin HOME="$work" LD_LIBRARY_PATH="${libs:-}" "$@"; }

echo tide >file
digest=$(sha256sum <file | cut -d' ' -f1)
libs=$libdir bare ./submit "$work/file" >by-example
grep -q "$digest" by-example
bare prefix/bin/tidemill hash file >SHA256SUMS
sha256sum --quiet --strict -c SHA256SUMS
[ "$(wc -l <SHA256SUMS)" -eq 1 ]
[ "$(bare prefix/bin/tidemill version)" = "tidemill $(pkg-config --modversion tidemill)" ]
