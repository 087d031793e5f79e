#!/usr/bin/env bash
# tests/powerloss.sh [--points N] [--jobs N] [--seed N]
# Cuts the power at N points of a coordinator's life (500), see powerloss/powerloss.py. The
# programs are those in TM_BIN, else the release's; diskshim.so is in the lib beside them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${TM_BIN:-$here/../build/release/bin}" && pwd)
T=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-powerloss.XXXXXX")
status=0
/usr/bin/python3 "$here/powerloss/powerloss.py" --bin "$bin" --lib "$bin/../lib" --dir "$T" "$@" || status=$?
if [ "$status" -eq 0 ]; then rm -rf "$T"; else echo "kept: $T" >&2; fi
exit "$status"
