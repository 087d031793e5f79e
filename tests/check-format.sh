#!/usr/bin/env bash
# Every C file is as clang-format 14 would write it (other versions write other things).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing" >&2; exit 1; }
find . \( -path ./build -o -path ./.git \) -prune -o -name '*.[ch]' -print0 |
    xargs -0 clang-format-14 --dry-run -Werror
