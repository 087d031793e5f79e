#!/usr/bin/env bash
# 20,000 files of 4 KiB and 100 of 10 MiB from nginx on the same cores, written to the disk; ours with digests
# and with records that survive (--state), the peers without.
. "$(dirname "$0")/lib.sh"
small=$((20000 / SCALE))
large=$((100 / SCALE > 4 ? 100 / SCALE : 4))
www=$SHM/www
mkdir -p "$www/s" "$www/b"
random() { openssl enc -aes-128-ctr -K "$1" -iv 00 -in /dev/zero 2>/dev/null | head -c "$2"; }
random 00 $((small * 4096)) | split -b 4096 -a 5 -d - "$www/s/"
random 01 $((large * 10485760)) | split -b 10485760 -a 3 -d - "$www/b/"
chmod -R a+rX "$SHM"
port=$(free_port)
[ "$(id -u)" -ne 0 ] || user='user root;'
cat >"$DISK/nginx.conf" <<CONF
daemon off; ${user:-} worker_processes 2; pid $DISK/nginx.pid; error_log $DISK/nginx.log;
events { worker_connections 16384; multi_accept on; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000;
    client_body_temp_path $DISK/n1; proxy_temp_path $DISK/n2; fastcgi_temp_path $DISK/n3;
    uwsgi_temp_path $DISK/n4; scgi_temp_path $DISK/n5;
    server { listen 127.0.0.1:$port backlog=16384; root $www; }
}
CONF
start nginx -c "$DISK/nginx.conf"
until_ok port_open "$port"
for kind in s b; do
    (cd "$www/$kind" && ls) | awk -v u="http://127.0.0.1:$port/$kind/" '{ print u $1 }' >"$DISK/$kind.urls"
    awk -v o="$DISK/out/" -v half="$DISK/$kind.curl" '{ n = split($0, part, "/");
        printf "url = \"%s\"\noutput = \"%s%s\"\n", $0, o, part[n] >half (NR % 2 + 1) }' "$DISK/$kind.urls"
done

fresh() {
    set_aside "$DISK/out"
    rm -rf "$DISK/state"
    mkdir "$DISK/out"
    sync -f "$DISK/out"
}
# What came is what is there; outside of the measured time.
compare() { # KIND NAME
    local from=$DISK/out
    [ "$2" != ours ] || from=$DISK/out/127.0.0.1:$port/$1
    diff -rq "$www/$1" "$from" >&2 || fail "$2 did not fetch what is there"
}
by_tidemill() { tidemill fetch -i "$DISK/$1.urls" -o "$DISK/out" --hash sha256 --per-host 256 --state "$DISK/state"; }
by_curl() {
    local half pids=()
    for half in 1 2; do
        curl -sS --parallel --parallel-immediate --parallel-max 128 -K "$DISK/$1.curl$half" &
        pids+=($!)
    done
    wait "${pids[0]}" && wait "${pids[1]}"
}
by_wget2() { wget2 -q --max-threads=64 --no-config --no-robots --no-http2 -i "$DISK/$1.urls" -P "$DISK/out"; }
# A tenth of the small ones, and its time ten times: it is the slower peer, and as slow for the last as for the first.
head -n $((small / 10)) "$DISK/s.urls" >"$DISK/tenth.urls"
run() { # KIND NAME FUNCTION
    fresh
    seconds "fetch.$1.$2" "$3" "$1"
    compare "$1" "$2"
}
ours_s() { run s ours by_tidemill; }
curl_s() { run s curl by_curl; }
wget2_s() {
    fresh
    seconds fetch.s.tenth by_wget2 tenth
    awk '{ print $1 * 10 }' "$DISK/samples/fetch.s.tenth" >"$DISK/samples/fetch.s.wget2"
}
ours_b() { run b ours by_tidemill; }
curl_b() { run b curl by_curl; }
wget2_b() { run b wget2 by_wget2; }
turns ours_s curl_s wget2_s
turns ours_b curl_b wget2_b

gb=$(awk -v n="$large" 'BEGIN { print n * 10485760 / 1e9 }')
for what in ours curl wget2; do
    case $what in
    ours) note="tidemill fetch, sha256, files synced, records durable, start included" ;;
    curl) note="two curl --parallel, 128 transfers each" ;;
    wget2) note="wget2 --max-threads=64" ;;
    esac
    speed "fetch.s.$what" "$small" files/s "$small of 4 KiB: $note"
    speed "fetch.b.$what" "$gb" GB/s "$large of 10 MiB: $note"
done
for kind in s b; do
    paste "$DISK/samples/fetch.$kind.curl" "$DISK/samples/fetch.$kind.wget2" |
        awk '{ print $1 < $2 ? $1 : $2 }' >"$DISK/samples/fetch.$kind.best"
    ratio fetch.$kind.vs_best fetch.$kind.best fetch.$kind.ours '>=' 1 "the better of the two in each round"
done
