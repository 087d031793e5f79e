#!/usr/bin/env bash
# Includes run one way (base <- proto <- coordinator, worker, client; those three never include
# each other), and each third-party header has one user in the product.
cd "$(dirname "$0")/.." || exit 1
bad=0

# forbid FOLDER PART...: no file of FOLDER includes a header of the parts.
forbid() {
    local folder=$1 part
    shift
    for part; do
        if grep -rnE "^#include \"$part/" "$folder" --include='*.[ch]'; then
            echo "$folder must not include $part" >&2
            bad=1
        fi
    done
}
forbid base proto coordinator worker client
forbid proto coordinator worker client
forbid coordinator worker client
forbid worker coordinator client
forbid client coordinator worker

# only FILE PATTERN: of the product, FILE (a pattern too) alone includes a header that matches.
only() {
    local others
    others=$(grep -rlE "^#include [<\"]$2" base proto coordinator worker client --include='*.[ch]' | grep -vx "$1")
    if [ -n "$others" ]; then
        echo "$2 belongs to $1 alone, but is included by: $others" >&2
        bad=1
    fi
}
# within FILES PATTERN: nobody but FILES (a pattern of paths) includes a header that matches.
within() {
    local others
    others=$(grep -rlE "^#include [<\"]$2" base proto coordinator worker client --include='*.[ch]' | grep -vxE "$1")
    if [ -n "$others" ]; then
        echo "$2 is for $1, but is included by: $others" >&2
        bad=1
    fi
}
only base/loop.c 'ev\.h'
only base/crypto.c 'sodium'
only base/checksum.c 'xxhash\.h'
only 'proto/\(zap\|link\(_curve\|_ask\|_socket\|_queue\|_door\|_state\)\?\)\.[ch]' 'zmq'
only proto/pack.c 'msgpack'
only proto/wire_pb.h '(protobuf-c/|tidemill\.pb-c)'
only coordinator/store_sql.h 'sqlite3'
within 'coordinator/store_[a-z]*\.c' 'coordinator/store_sql\.h'
only worker/ops/evp.c 'openssl/'
only worker/fetch_curl.c 'curl/'
only worker/gunzip.c 'zlib'
only worker/resolve.c 'ares'
exit $bad
