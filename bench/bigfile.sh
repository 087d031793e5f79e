#!/usr/bin/env bash
# One file of 4 GiB in a tmpfs: digest, encryption, decryption, and the memory they take.
. "$(dirname "$0")/lib.sh"
bytes=$((4 * 1024 * 1024 * 1024 / SCALE))
gb=$(awk -v b="$bytes" 'BEGIN { print b / 1e9 }')
openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2>/dev/null | head -c "$bytes" >"$SHM/f"
age-keygen -o "$SHM/key" 2>/dev/null
recipient=$(age-keygen -y "$SHM/key")

# An output is removed before the next is written, and outside of the measured time.
into_new() { # NAME COMMAND...
    rm -f "$SHM/out"
    seconds "$@"
}
hash_ours() { seconds file.ours tidemill hash "$SHM/f"; }
hash_bare() { seconds file.bare bench-bare file "$SHM/f"; }
encrypt_ours() { into_new encrypt.ours tidemill encrypt -r "$recipient" --output "$SHM/out" "$SHM/f"; }
encrypt_age() { into_new encrypt.age age -r "$recipient" -o "$SHM/out" "$SHM/f"; }
encrypt_bare() { into_new encrypt.bare bench-bare seal "$SHM/f" "$SHM/out"; }
decrypt_ours() { into_new decrypt.ours tidemill decrypt -i "$SHM/key" --output "$SHM/out" "$SHM/f.age"; }
decrypt_age() { into_new decrypt.age age -d -i "$SHM/key" -o "$SHM/out" "$SHM/f.age"; }
decrypt_bare() { into_new decrypt.bare bench-bare open "$SHM/f.sealed" "$SHM/out"; }

turns hash_ours hash_bare
turns encrypt_ours encrypt_age encrypt_bare
mv "$SHM/out" "$SHM/f.sealed"
age -r "$recipient" -o "$SHM/f.age" "$SHM/f"
rm "$SHM/f" # three such files at once are enough
turns decrypt_ours decrypt_age decrypt_bare
rm -f "$SHM/f.sealed" "$SHM/out"

for what in hash encrypt decrypt; do
    case $what in
    hash) set -- file "tidemill hash, one file on one core" ;;
    encrypt) set -- encrypt "tidemill encrypt" ;;
    decrypt) set -- decrypt "tidemill decrypt" ;;
    esac
    speed "$1.ours" "$gb" GB/s "$2, start included"
    speed "$1.bare" "$gb" GB/s "EVP alone, to the same kind of output"
    [ $what = hash ] || speed "$1.age" "$gb" GB/s "age"
done
ratio file.vs_limit file.bare file.ours '>=' 0.95 ""
for what in encrypt decrypt; do
    ratio $what.vs_age $what.age $what.ours '>=' 2.2 ""
    ratio $what.vs_limit $what.bare $what.ours '>=' 0.8 ""
done

# The largest resident memory of each process of a standing cluster, above what it had idle. Pages of a
# file that is mapped belong to the page cache and are not counted.
IDENTITY=$SHM/key
cluster full
rm -f "$SHM/out"
private_kib() { awk '$1 == "RssAnon:" || $1 == "RssShmem:" { s += $2 } END { print s }' "/proc/$1/status" 2>/dev/null; }
declare -A idle most name_of
while read -r pid name; do
    case $name in tidemill*) idle[$pid]=$(private_kib "$pid") most[$pid]=0 name_of[$pid]=$name ;; esac
done < <(family $$)
tidemill decrypt --coordinator "$ENDPOINT" -i "$SHM/key" --output "$SHM/out" "$SHM/f.age" 2>>"$DISK/log" &
job=$!
while kill -0 $job 2>/dev/null; do
    for pid in "${!idle[@]}"; do
        kib=$(private_kib "$pid")
        [ "${kib:-0}" -le "${most[$pid]}" ] || most[$pid]=$kib
    done
    sleep 0.02
done
wait $job || fail "the decryption failed"
for pid in "${!idle[@]}"; do echo "${name_of[$pid]} $(((most[$pid] - idle[$pid]) / 1024))"; done | sort | awk '
    !($1 in m) || $2 > m[$1] { m[$1] = $2 } END { for (i in m) print i, m[i] }' | full_names | while read -r name mib; do
    target "file.memory.$name" "$mib" MiB '<=' 64 "above idle, decrypting $gb GB"
done
cluster_end
