#!/usr/bin/env bash
# Measures how the cost of sends and syncs grows with rooms, members, history and waiting clients, and writes
# the table of docs/benchmarks.md.
#
#   bench/growth.sh BINARY [options of growth.py, such as --only rooms --percent 10]
#
# With options the results are only printed: a part is not the whole table.
set -euo pipefail
cd "$(dirname "$0")"
. ./servers.sh
trap stop_conduit EXIT

binary=$(realpath "${1:?usage: growth.sh BINARY [--only rooms|history|waiting|members] [--percent N]}")
shift
need python3 python3
need curl curl
ulimit -n "$(ulimit -Hn)"
mkdir -p "$BENCH/results"
out=$BENCH/results/growth.jsonl
if [ $# -gt 0 ]; then out=$BENCH/results/growth-part.jsonl; fi

start_conduit "$binary"
cat >"$out" <<JSON
{"run": {"date": "$(date -u +%Y-%m-%d)", "version": "$("$binary" --version)", "load": "$(cut -d' ' -f1-3 /proc/loadavg)", "machine": $(describe_machine)}}
JSON
timeout 3000 python3 -B growth.py --base "$conduit_url" --pid "$conduit_pid" "$@" | tee -a "$out"
stop_conduit
if [ $# -eq 0 ]; then python3 -B report.py growth "$out" "$root/docs/benchmarks.md"; fi
