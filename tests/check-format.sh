#!/usr/bin/env bash
# Every C file is as clang-format 14 would write it.
cd "$(dirname "$0")/.." || exit 1
format=$(command -v clang-format-14 || command -v clang-format) || { echo "clang-format is missing" >&2; exit 1; }
git ls-files '*.c' '*.h' | xargs "$format" --dry-run -Werror
