#!/usr/bin/env bash
# 10,000 files of 64 KiB encrypted: to a tmpfs against age, to the disk against writing and one syncfs.
. "$(dirname "$0")/lib.sh"
N=$((10000 / SCALE))
mkdir "$SHM/in" "$SHM/out"
openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c $((N * 65536)) |
    split -b 65536 -a 4 - "$SHM/in/"
age-keygen -o "$SHM/key" 2>/dev/null
recipient=$(age-keygen -y "$SHM/key")
age -r "$recipient" -o "$SHM/one" "$SHM/in/aaaa"
size=$(stat -c %s "$SHM/one")

fresh() { # DIR
    if [ "$1" = "$DISK/out" ]; then set_aside "$1"; else rm -rf "$1"; fi
    mkdir "$1"
    sync -f "$1"
}
ours() { fresh "$SHM/out"; seconds small.tmpfs tidemill encrypt -r "$recipient" --recursive -o "$SHM/out" "$SHM/in"; }
# A tenth of them: a process each takes as long for the last as for the first.
by_age() { (cd "$SHM/in" && find . -type f -printf '%P\0' | head -z -n $((N / 10)) | xargs -0 -P2 -I{} age -r "$recipient" -o "$SHM/out/{}" {}); }
age_xargs() { fresh "$SHM/out"; seconds small.age by_age; }
disk() { fresh "$DISK/out"; seconds small.disk tidemill encrypt -r "$recipient" --recursive -o "$DISK/out" "$SHM/in"; }
disk_nosync() { fresh "$DISK/out"; seconds small.nosync tidemill encrypt --sync none -r "$recipient" --recursive -o "$DISK/out" "$SHM/in"; }
bare() { fresh "$DISK/out"; seconds small.bare bench-bare write "$N" "$size" "$DISK/out"; }
relaxed=
tidemill help encrypt | grep -q -- --sync && relaxed=disk_nosync
turns ours age_xargs disk $relaxed bare

speed small.tmpfs "$N" files/s "tidemill encrypt --recursive to a tmpfs, start included"
speed small.age $((N / 10)) files/s "one age for each file, xargs -P2"
speed small.disk "$N" files/s "to the disk, every file durable"
[ -z "$relaxed" ] || speed small.nosync "$N" files/s "to the disk with --sync none"
speed small.bare "$N" files/s "the same sizes written by two threads, one syncfs"
awk '{ print $1 * 10 }' "$DISK/samples/small.age" >"$DISK/samples/small.age_all"
ratio small.vs_age small.age_all small.tmpfs '>=' 20 ""
ratio small.vs_limit small.bare small.disk '>=' 0.8 "on the disk"
