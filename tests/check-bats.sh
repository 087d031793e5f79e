#!/usr/bin/env bash
# No check of an end-to-end test is one that cannot fail: bash's errexit passes over a command
# behind `!`, and over all but the last of an `&&` list, unless it is the last of its function.
cd "$(dirname "$0")/e2e" || exit 1
bad=0

# forbid WHAT PATTERN: no line of a test is so.
forbid() {
    if grep -nE "$2" ./*.bats | grep -vE '\|\| '; then
        echo "$1" >&2
        bad=1
    fi
}
forbid "write: run ! COMMAND" '^[[:space:]]*! '
forbid "write each check on a line of its own" '^[[:space:]]*(\[|grep |cmp |tidemill |age ).* && '
exit $bad
