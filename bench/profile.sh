#!/usr/bin/env bash
# Shows where a Conduit binary spends its time in one scenario of hsload.
#
#   bench/profile.sh BINARY SCENARIO [hsload options, in place of those below]
#
# Samples the server's threads by perf, by the CPU's counters or, in virtual machines without them, by the CPU clock.
# The set-up of the scenario is sampled, too: choose enough operations to drown it. Prints the functions by their own
# time, then by the time of all that they call; the whole record stays in $BENCH/profile.
set -euo pipefail
cd "$(dirname "$0")"
. ./servers.sh
trap stop_conduit EXIT

binary=$(realpath "${1:?usage: profile.sh BINARY SCENARIO [hsload options]}")
scenario=${2:?a scenario of hsload}
shift 2
options=(-c 16 --users 30 --rooms 50 --history 20 --messages 20000 --requests 500 --ops 500 --page-events 1000
  --state-events 500)
if [ $# -gt 0 ]; then options=("$@"); fi
need perf linux-perf
need curl curl
build_hsload
mkdir -p "$BENCH/profile"
record=$BENCH/profile/$scenario.data
event=cycles
if ! perf stat -e cycles true 2>&1 | grep -qE '[0-9] +cycles'; then event=cpu-clock; fi

start_conduit "$binary"
perf record --quiet -e "$event" -F 499 --call-graph dwarf,16384 -p "$conduit_pid" -o "$record" >&2 &
perf_pid=$!
"$HSLOAD" --label profile --base "$conduit_url" --pid "$conduit_pid" --room-version 11 "${options[@]}" "$scenario"
kill -INT "$perf_pid"
wait "$perf_pid" || true
stop_conduit

echo
echo "== own time of functions"
perf report -i "$record" --no-inline --no-children --stdio --percent-limit 0.7 -g none 2>/dev/null | grep -vE '^#|^$' | head -n 50
echo
echo "== time with all that they call"
perf report -i "$record" --no-inline --children --stdio --percent-limit 2 -g none 2>/dev/null | grep -vE '^#|^$' | head -n 60
