#!/usr/bin/env bash
# Puts the results of a run into README.md, between its two marks: bench/table.sh results.tsv
set -euo pipefail
results=$(realpath "$1")
cd "$(dirname "$0")"
awk -F'\t' -v results="$results" '
    /^<!-- table -->/ { print; print ""; print "| what | value | unit | note |"; print "|---|---:|---|---|"
        while ((getline line <results) > 0) { split(line, f, "\t"); printf "| `%s` | %s | %s | %s |\n", f[1], f[2], f[3], f[4] }
        print ""; skip = 1 }
    /^<!-- end -->/ { skip = 0 }
    !skip { print }' README.md >README.md.new
mv README.md.new README.md
