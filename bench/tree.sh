#!/usr/bin/env bash
# SHA-256 of every file of a tree (TREE, /usr) from the page cache; starting the private cluster included.
. "$(dirname "$0")/lib.sh"
tree=${TREE:-/usr}
find "$tree" -type f -printf '%s\t%p\0' >"$SHM/sized"
cut -z -f 2- "$SHM/sized" >"$SHM/list"
files=$(tr -dc '\0' <"$SHM/list" | wc -c)
sum() { awk 'BEGIN { RS = "\0" } { s += $1 } END { printf "%.0f", s }' "$1"; }
bytes=$(sum "$SHM/sized")
gb=$(awk -v b="$bytes" 'BEGIN { print b / 1e9 }')
xargs -0 -P2 -n 64 cat <"$SHM/list" >/dev/null # into the page cache

by_tidemill() { tidemill hash -r "$tree" >"$SHM/ours"; }
by_sha256sum() { xargs -0 -P2 -n 64 sha256sum <"$SHM/tenth" >"$SHM/theirs"; }
ours() { seconds tree.ours by_tidemill; }
bare() { seconds tree.bare bench-bare tree "$SHM/list"; }
# A tenth of the files, of each size as many as there are of it in all: sha256sum is the slow one.
sort -z -n "$SHM/sized" | awk 'BEGIN { RS = ORS = "\0" } NR % 10 == 3' | sort -z -k 2 >"$SHM/sized.tenth"
cut -z -f 2- "$SHM/sized.tenth" >"$SHM/tenth"
xargs_P2() { seconds tree.tenth by_sha256sum; }
turns ours bare xargs_P2
awk -v all="$bytes" -v tenth="$(sum "$SHM/sized.tenth")" '{ print $1 * all / tenth }' "$DISK/samples/tree.tenth" >"$DISK/samples/tree.xargs"

# All digests are those openssl finds, which takes a fraction of sha256sum's time; a tenth of them stand beside the same names.
xargs -0 -P2 -n 4096 sh -c 'openssl dgst -sha256 -r "$@" >"$0.$$"' "$SHM/openssl" <"$SHM/list"
digests() { grep -Eho '^\\?[0-9a-f]{64} ' "$@" | tr -d '\\' | sort; }
cmp <(digests "$SHM/ours") <(digests "$SHM"/openssl.*) >&2 || fail "the digests of $tree differ from those of openssl"
[ -z "$(comm -13 <(sort "$SHM/ours") <(sort "$SHM/theirs"))" ] || fail "the digests of $tree differ from those of sha256sum"

row tree.files "$files" files "$tree, $gb GB"
speed tree.ours "$gb" GB/s "tidemill hash -r $tree, start included"
speed tree.bare "$gb" GB/s "two threads: open, read, EVP, close; the list given"
speed tree.xargs "$gb" GB/s "xargs -P2 -n 64 sha256sum, the list given"
ratio tree.vs_limit tree.bare tree.ours '>=' 0.85 ""
ratio tree.vs_xargs tree.xargs tree.ours '>=' 2.7 ""
