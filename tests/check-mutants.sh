#!/usr/bin/env bash
# Each planted bug of the simulator says what it is, and applies to the tree as it stands, as
# sim/mutants.sh applies it. No git: the tree may be one without it.
cd "$(dirname "$0")/.." || exit 1
bad=0
for patch in tests/sim/mutants/*.patch; do
    if ! head -1 "$patch" | grep -qE '^[^ ]+: .'; then
        echo "$patch: its first line is no 'RULE: WHAT IS WRONG'" >&2
        bad=1
    fi
    if ! patch --dry-run -s -f -p1 -F0 <"$patch"; then
        echo "$patch: does not apply" >&2
        bad=1
    fi
done
exit $bad
