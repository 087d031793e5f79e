#!/usr/bin/env bash
# mutants.sh [PATCH...]: applies each planted bug to a copy of the tree, builds the simulator
# only, and runs seeds until it is found. Fails when one is not found, does not apply as it is,
# or when what finds it fails without it too.
# SEEDS: how many at most (100000); MINUTES: and how long (5).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
seeds=${SEEDS:-100000}
minutes=${MINUTES:-5}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
[ $# -gt 0 ] || set -- tests/sim/mutants/*.patch
patches=()
for patch; do patches+=("$(realpath "$patch")"); done

git ls-files | tar c -T - | tar x -C "$copy"
cd "$copy" || exit 1
git init -q . # the index has what each begins with
git add -A
cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE="-O1 -g1 -fsanitize=address" >/dev/null || exit 1
ninja -C build sim >/dev/null || exit 1
cp build/bin/sim build/sound

bad=0
printf '%-28s %-6s %8s  %s\n' mutant found seeds 'what is wrong, and how it shows'
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    what=$(head -1 "$patch")
    found=no n=- how=
    if ! patch -s -f -p1 -F0 -r - --no-backup-if-mismatch <"$patch" >/dev/null; then
        how='does not apply'
    elif ! ninja -C build sim >build/log 2>&1; then
        how="does not build: $(grep -m1 -E 'error|FAILED' build/log)"
    else
        out=$(timeout $((60 * minutes)) build/bin/sim --seeds "$seeds" 2>build/log)
        how=$(grep -m1 '^sim: seed' <<<"$out" | cut -d' ' -f4-)
        if [ -n "$how" ]; then
            found=yes
            seed=$(grep -m1 -oP '^sim: seed \K[0-9]+' <<<"$out")
            n=$((seed + 1))
            build/sound --seed "$seed" >/dev/null 2>&1 || found=no how="without it too: $how"
        elif how=$(grep -m1 -oP 'AddressSanitizer: \S+' build/log); then
            found=yes # it says no seed
        fi
    fi
    [ "$found" = yes ] || bad=1
    printf '%-28s %-6s %8s  %s -> %s\n' "$name" "$found" "$n" "$what" "$how"
    git checkout -q -- .
done
exit $bad
