#!/usr/bin/env bash
# The cluster of deploy/compose.yaml in containers: built, brought up, scaled to three workers, worked with while a
# worker's and the coordinator's container are killed, scaled down, and all results checked with standard tools. Needs
# root, the packages of `deploy/packages.sh tests`, and Debian's mirror, from which the base image is made.
#     TM_DOCKER=DIR   keep dockerd's data in DIR, for a quicker next run
# Uses a dockerd that runs, else starts one of its own, with everything of it below a temporary directory. Exit 77: skipped.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
unshare --mount --net true 2>/dev/null || { echo "skipped: namespaces are forbidden here, so no container can run"; exit 77; }
FROM=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' "$here/deploy/Dockerfile" | sort -u)
T=$(mktemp -d "${TMPDIR:-/tmp}/tidemill-compose.XXXXXX")
T=$(realpath "$T")
dockerd='' made=()

say() { printf '%3d s  %s\n' "$SECONDS" "$*"; }
die() { echo "FAILED: $*" >&2; exit 1; }
# Runs a noisy command; its output is shown only if it fails.
quiet() { "$@" >"$T/log" 2>&1 || { tail -40 "$T/log" >&2; die "$*"; }; }
until_ok() {
    local end=$((SECONDS + 120))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "never came true: $*"
        sleep 0.1
    done
}

finish() {
    local code=$? image
    trap - EXIT INT TERM
    [ $code -eq 0 ] || compose logs --no-color --tail=20 >&2 2>/dev/null || true
    [ ! -e "$T/override.yaml" ] || compose down --volumes --remove-orphans --timeout 5 >"$T/down" 2>&1 || cat "$T/down" >&2
    if [ -n "$dockerd" ]; then
        kill "$dockerd" && wait "$dockerd" || true
        umount "$T"/exec/netns/* 2>/dev/null || true # which it leaves
    else
        for image in tidemill-test-origin ${made[@]+"${made[@]}"}; do docker image rm "$image" >/dev/null 2>&1 || true; done
    fi
    [ -n "${KEEP:-}" ] || rm -rf "$T" || true
    [ $code -ne 0 ] || say "all of it is torn down"
    exit $code
}
trap finish EXIT
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
trap 'exit 130' INT TERM

# ---- the engine ----

start_dockerd() {
    local root=${TM_DOCKER:-$T/docker}
    mkdir -p "$root" "$T/exec"
    export DOCKER_HOST=unix://$T/docker.sock
    # No bridge of its own: compose makes one. Containers reach nothing outside, so no packet is forwarded or filtered.
    # A session of its own: who interrupts this script does not take it away from what tears down.
    setsid dockerd --data-root "$root" --exec-root "$T/exec" --pidfile "$T/docker.pid" --host "$DOCKER_HOST" --bridge none \
        --iptables=false --ip-forward=false --ip-masq=false --log-level warn >"$T/dockerd.log" 2>&1 &
    dockerd=$!
    until docker info >/dev/null 2>&1; do
        kill -0 "$dockerd" || { tail -20 "$T/dockerd.log" >&2; die "dockerd ended"; }
        sleep 0.1
    done
}

# Debian 12 slim, as its makers make it: the smallest variant, without documentation and translations. Packages come from
# where this machine's do.
make_base() {
    local mirror root=$T/base
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Origin: Debian' | head -1)
    [ -n "$mirror" ] || die "apt has no source of Debian bookworm to make the base image from: apt-get update, or see sources.list(5)"
    quiet debootstrap --variant=minbase bookworm "$root" "$mirror"
    echo "deb $mirror bookworm main" >"$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::https?::' >"$root/etc/apt/apt.conf.d/90host" || true
    [[ $mirror != https:* ]] || install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'CFG'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
CFG
    find "$root/usr/share/doc" ! -type d ! -name copyright -delete
    rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*
    tar -C "$root" -c . | docker import - "$FROM" >/dev/null
    rm -rf "$root"
    made+=("$FROM" tidemill)
}

image_mb() { echo "$(($(docker image inspect --format '{{.Size}}' "$1") / 1000000)) MB"; }

# Told to docker-compose on top of deploy/compose.yaml: how builds reach the mirror, the origin that is fetched from.
make_override() {
    local args
    args=$(for name in http_proxy https_proxy no_proxy; do [ -z "${!name:-}" ] || echo "$name"; done | paste -sd,)
    cat >"$T/override.yaml" <<YAML
services:
  init:
    build:
      network: host
      args: [$args]
  origin:
    image: tidemill-test-origin
    build:
      context: $T/origin
      network: host
      args: [$args]
    volumes: [$T/www:/srv:ro]
YAML
    mkdir "$T/origin" "$T/www"
    cat >"$T/origin/Dockerfile" <<DOCKER
FROM $FROM
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
RUN echo 'server { listen 80; root /srv; access_log off; }' >/etc/nginx/sites-enabled/default
CMD ["nginx", "-g", "daemon off;"]
DOCKER
}
compose() { docker-compose --project-name "$project" --file "$here/deploy/compose.yaml" --file "$T/override.yaml" "$@"; }
project=tidemill-test-$$

# ---- what is worked on ----

export TIDEMILL_DATA=$T/data TIDEMILL_CPUS=0.5
export TIDEMILL_USER=12345:12345 # no user of this machine, nor of the image
# As a user would; what docker-compose says of it is shown if it fails.
tidemill() { compose run --rm -T client "$@" </dev/null 2>"$T/client" || { cat "$T/client" >&2; return 1; }; }
ask() { docker exec "$(ids coordinator)" tidemill "$@"; }

URLS=1200
make_data() {
    local i
    mkdir -p "$TIDEMILL_DATA"/{many,large}
    for i in $(seq 40); do
        mkdir "$TIDEMILL_DATA/many/d $i"
        (cd "$TIDEMILL_DATA/many/d $i" && seq "$i" $((i + 9000)) | split -l 100 -a 3 - f)
    done
    printf 'a' >"$TIDEMILL_DATA/many/"$'new\nline'
    printf 'b' >"$TIDEMILL_DATA/many/"$'bad\xff\xfe'
    : >"$TIDEMILL_DATA/many/empty"
    mkdir "$TIDEMILL_DATA/sparse"
    for i in 1 2 3 4; do truncate -s ${i}00M "$TIDEMILL_DATA/sparse/s$i"; done
    for i in $(seq 100); do head -c $((i * 100000)) /dev/urandom >"$TIDEMILL_DATA/large/r$i"; done
    for i in $(seq $URLS); do head -c $((i * 30)) /dev/urandom >"$T/www/w$i"; done
    for i in $(seq $URLS); do echo "http://origin/w$i"; done >"$TIDEMILL_DATA/urls"
    age-keygen -o "$T/key" 2>/dev/null
    chown -R "$TIDEMILL_USER" "$TIDEMILL_DATA"
    chmod 755 "$T"
}
n_files() { find "$@" -type f -printf . | wc -c; }

# ---- looking at it ----

number() { # KEY JSON: a number of an object
    grep -o "\"$1\":[0-9]*" <<<"$2" | cut -d: -f2
}
done_of() { # tasks of job $1 that have ended
    local job
    job=$(ask job show "$1" --json)
    echo $(($(number ok "$job") + $(number failed "$job")))
}
total_of() { number tasks "$(ask job show "$1" --json)"; }
ids() { compose ps -q "$1"; }
nodes_up() { ask node ls --json | grep -c '"state":"up"'; }
nodes_are() { [ "$(nodes_up)" -eq "$1" ]; }
busiest() { # the node with the most transfers
    ask node ls --json | sed -n 's/.*"name":"\([0-9a-f]*\)".*"coroutines_busy":\([0-9]*\).*/\2 \1/p' | sort -n | sed -n '$s/.* //p'
}
under_way() { # job $1 has done something, and has something left
    local n all
    n=$(done_of "$1") all=$(total_of "$1")
    [ "$n" -gt 0 ] && [ "$n" -lt "$all" ]
}
temporaries() { find "$TIDEMILL_DATA" -name '.*.tm-*'; }
litter_is_gone() {
    local file
    while IFS= read -r file; do [ ! -e "$file" ] || return 1; done <"$T/litter"
}
healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(ids coordinator)")" = healthy ]; }

# ---- checks: with standard tools, against what was asked for ----

check_manifest() { # FILE DIRECTORY...: each file of the directories once, and its digest right
    local lines
    lines=$(wc -l <"$1")
    (cd "$TIDEMILL_DATA" && sha256sum --quiet --strict -c "$1" && [ "$(n_files "${@:2}")" -eq "$lines" ]) ||
        die "$1: $lines lines, and not just what is in ${*:2}"
    [ "$(sort -u "$1" | wc -l)" -eq "$lines" ] || die "$1 names a file twice"
    say "  ${1##*/}: sha256sum -c accepts $lines lines, each file of ${*:2} once"
}
check_encrypted() { # DIRECTORY
    local file
    while IFS= read -r file; do
        age -d -i "$T/key" "$TIDEMILL_DATA/$1/$file.age" | cmp - "$TIDEMILL_DATA/$file" || die "$1/$file.age"
    done < <(cd "$TIDEMILL_DATA" && find large -type f)
    [ "$(n_files "$TIDEMILL_DATA/$1")" -eq "$(n_files "$TIDEMILL_DATA/large")" ] || die "$1: more or fewer files"
    say "  $1: age -d gives back $(n_files "$TIDEMILL_DATA/large") files, and no other is there"
}
check_fetched() { # DIRECTORY MANIFEST
    diff -r "$T/www" "$TIDEMILL_DATA/$1/origin" || die "$1 is not what the origin has"
    (cd "$TIDEMILL_DATA" && sha256sum --quiet --strict -c "$2") || die "$2"
    [ "$(wc -l <"$2")" -eq $URLS ] || die "$2 has $(wc -l <"$2") lines"
    say "  $1: diff finds the origin's $URLS files, sha256sum -c accepts the manifest"
}

# ---- the way of it ----

docker info >/dev/null 2>&1 || start_dockerd
if ! docker image inspect "$FROM" >/dev/null 2>&1; then
    make_base
    say "base image: $FROM, made with debootstrap, $(image_mb "$FROM")"
fi
make_override
make_data
docker-compose --file "$here/deploy/compose.yaml" config --quiet
quiet compose build
size=$(image_mb tidemill)
[ "${size% MB}" -lt 120 ] || die "the image has $size"
say "image: tidemill, $size, of at most 120"

quiet compose up -d --scale worker=3
until_ok nodes_are 3
until_ok healthy
say "up: a coordinator, which is healthy, and 3 workers, each with its own key:"
ask key ls | sed 's/^/       /'

tidemill hash -r many >"$T/manifest"
check_manifest "$T/manifest" many

# Three jobs at once; a worker dies under them, then the coordinator.
encrypt=$(tidemill encrypt -d --recursive -r "$(age-keygen -y "$T/key")" -o safe large)
hash=$(tidemill hash -d -r many large sparse)
fetch=$(tidemill fetch -d -i urls -o mirror --hash sha256 --rate 40/s)
say "$encrypt encrypts $(total_of "$encrypt") files, $hash hashes $(total_of "$hash"), $fetch fetches $(total_of "$fetch") from nginx in a container"
until_ok under_way "$fetch"
before=$(done_of "$fetch")
victim=$(busiest) # who fetches: one worker has to do with a server at a time
docker kill "$victim" >/dev/null
temporaries >"$T/litter" # the dead worker's, and some that the others are at
say "killed: the container of the worker that fetches, $victim, when $before of $fetch were done"
until_ok eval '[ "$(done_of "$fetch")" -gt $((before + 100)) ]'
before=$(done_of "$fetch")
started=$(docker inspect --format '{{.State.StartedAt}}' "$(ids coordinator)")
kill -9 "$(docker inspect --format '{{.State.Pid}}' "$(ids coordinator)")"
say "killed: the coordinator with -9, when $before of $fetch were done"
until_ok eval '[ "$(docker inspect --format "{{.State.StartedAt}}" "$(ids coordinator)")" != "$started" ]'
until_ok healthy
under_way "$fetch" || die "$fetch was not interrupted"
say "the coordinator is back by itself, and healthy"
docker start "$victim" >/dev/null
until_ok litter_is_gone
say "started again: worker $victim, which has removed the files it was at when it died, of $(wc -l <"$T/litter") half-made ones"
quiet compose up -d --no-recreate --scale worker=1 worker
say "scaled down to $(ids worker | wc -l) worker, when $(done_of "$fetch") of $fetch were done"
for job in $encrypt $hash $fetch; do tidemill wait "$job" || die "$job: some of it failed"; done
say "all three jobs have ended, nothing of them failed"
tidemill results "$hash" >"$T/all"
tidemill results "$fetch" >"$T/fetched"
check_manifest "$T/all" many large sparse
[ -z "$(temporaries)" ] || die "temporaries are left: $(temporaries)"
check_encrypted safe
check_fetched mirror "$T/fetched"

quiet compose stop --timeout 20
compose run --rm --no-deps -T coordinator tidemill-coordinator check --state /var/lib/tidemill >"$T/checked" 2>"$T/check" || { cat "$T/checked" "$T/check" >&2; die "the state is damaged"; }
say "state: $(tail -1 "$T/checked")"
say "nothing was lost: a worker and the coordinator were killed, two workers scaled away, and every task ended once"
