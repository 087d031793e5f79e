#!/usr/bin/env bash
# usage: check-hardened.sh FILE...
# A release's programs and library have in the file itself what the flags were to give them.
set -euo pipefail
bad=0

# need FILE WHAT PATTERN <<<TEXT, refuse FILE WHAT PATTERN <<<TEXT
need() { grep -qE -- "$3" || { echo "$1: no $2" >&2; bad=1; }; }
refuse() { ! grep -qE -- "$3" || { echo "$1: $2" >&2; bad=1; }; }

[ $# -gt 0 ]
for file; do
    header=$(readelf -hW "$file")
    segments=$(readelf -lW "$file")
    dynamic=$(readelf -dW "$file")
    symbols=$(readelf --dyn-syms -W "$file")
    need "$file" "position-independent code" 'Type: +DYN' <<<"$header"
    case $file in *.so*) ;; *) need "$file" PIE 'FLAGS_1.*PIE' <<<"$dynamic" ;; esac
    need "$file" RELRO GNU_RELRO <<<"$segments"
    need "$file" "binding at start (now)" 'FLAGS.*BIND_NOW' <<<"$dynamic"
    need "$file" "stack without execution" 'GNU_STACK.* RW +0x' <<<"$segments"
    refuse "$file" "a segment is writable and executable" 'LOAD.* RWE ' <<<"$segments"
    refuse "$file" "relocations in code" TEXTREL <<<"$dynamic"
    need "$file" "stack protector" 'UND __stack_chk_fail' <<<"$symbols"
    need "$file" "fortified functions" 'UND __[a-z]+_chk(@|$| )' <<<"$symbols"
    refuse "$file" "looks for libraries outside its own tree" \
        '(RPATH|RUNPATH).*\[(|.*::.*|:.*|.*:|[^$].*|.*:[^$].*)\]' <<<"$dynamic"
done
exit $bad
