#!/usr/bin/env bash
# What durability costs: tasks with group commit and fsync, and with --durability none.
. "$(dirname "$0")/lib.sh"
N=$((1000000 / SCALE))
PAIRS=$((PAIRS * 2)) # these are short
cluster full
full=$ENDPOINT
cluster none
none=$ENDPOINT
ours_full() { bench-tasks "$full" rate "$N" | sed 's/tasks.rate/store.full/' | samples; }
ours_none() { bench-tasks "$none" rate "$N" | sed 's/tasks.rate/store.none/' | samples; }
turns ours_full ours_none
figure store.full tasks/s "--durability full: fsync before every acknowledgement"
figure store.none tasks/s "--durability none: the same store, no fsync"
ratio store.full_vs_none store.full store.none '>=' 0.8 ""
